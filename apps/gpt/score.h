/* SPDX-License-Identifier: MIT */
/* How probable a model finds texts. */
#ifndef GPT_SCORE_H
#define GPT_SCORE_H

#include "gpt/model.h"

/* Collective over the model's groups, the same on all ranks: *nll = Σ −ln p(ids[i] | the ids before it) over
 * i = first … count-1, first >= 1.  Prepares the model for a run of its own. */
int gpt_score(gpt_model *m, const int32_t *ids, int64_t count, int64_t first, double *nll);

#endif
