/* SPDX-License-Identifier: MIT */
/* local: one rank, one kernel a slice. */
#include "algo/algo.h"

void ringx__local_forward(ringx_schedule *s, const ringx_geometry *g)
{
    (void)g;
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_Q), kv = ringx__user(s, RINGX_KV), out = ringx__user(s, RINGX_OUT);
    ringx_span state = ringx__fresh(ringx__block(s, "state", 0, RINGX_STATE, g->rank));

    ringx__attend(s, &state, &q, 1, &kv, 1);
    ringx__finish(s, &state, &out, 1, 0);
}

void ringx__local_backward(ringx_schedule *s, const ringx_geometry *g)
{
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_QDO), kv = ringx__user(s, RINGX_KV);
    ringx_span dq = ringx__block(s, "dq", 0, RINGX_DQ, g->rank);
    ringx_span dkv = ringx__block(s, "dkv", 0, RINGX_DKV, g->rank);

    ringx__clear(s, dq);
    ringx__clear(s, dkv);
    ringx__grad(s, &q, &dq, 1, &kv, &dkv, 1);
    ringx__store(s, dq);
    ringx__store(s, dkv);
}
