/* SPDX-License-Identifier: MIT */
/* Llama models as Hugging Face keeps them: config.json, and safetensors files, one or several with an index. */
#ifndef GPT_HF_FILES_H
#define GPT_HF_FILES_H

#include "gpt/model.h"

#include <jansson.h>

/* Reads config.json of transformers 4 and 5; what the model cannot do is refused by name. */
int hf_config_read(gpt_config *c, const char *path);
int hf_config_parse(gpt_config *c, const char *path, json_t *root); /* the same from its text; path is for messages */
/* path: a safetensors file, or the folder of model.safetensors or model.safetensors.index.json.  This rank's parts of
 * all parameters; a missing, misshapen or unknown tensor is an error. */
int hf_weights_read(gpt_model *m, const char *path);

/* Collective over the model's groups: config.json and model.safetensors, in the model's dtype, into a folder that is
 * made if it is not there. */
int hf_write(gpt_model *m, const char *folder);
json_t *hf_config_json(const gpt_config *c, ringx_dtype dtype); /* what config.json holds; NULL: out of memory */

#endif
