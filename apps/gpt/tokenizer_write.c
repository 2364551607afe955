/* SPDX-License-Identifier: MIT */
/* Writing a tokenizer.json. */
#include "gpt/bpe_train.h"
#include "gpt/byte_alphabet.h"
#include "gpt/pretokenize.h"
#include "shared/report.h"

#include <string.h>

/* A JSON text; its bytes are UTF-8. */
static void put_text(FILE *to, const uint8_t *text, size_t count)
{
    fputc('"', to);
    for (size_t i = 0; i < count; i++) {
        if (text[i] == '"' || text[i] == '\\')
            fprintf(to, "\\%c", text[i]);
        else if (text[i] < 32)
            fprintf(to, "\\u%04x", text[i]);
        else
            fputc(text[i], to);
    }
    fputc('"', to);
}

static int put_token(FILE *to, const vocabulary *v, int64_t id)
{
    size_t length = 0;
    const uint8_t *bytes = vocabulary_token(v, id, &length);
    byte_list text = {0};
    int code = v->tokens[id].byte_level ? alphabet_encode(bytes, length, &text) : bytes_append(&text, bytes, length);
    if (!code)
        put_text(to, text.items, text.count);
    bytes_free(&text);
    return code;
}

static void put_head(FILE *to, const bpe_plan *plan, bool llama3)
{
    fputs("{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [", to);
    for (size_t i = 0; i < plan->n_special; i++) {
        fprintf(to, "%s\n    {\"id\": %zu, \"content\": ", i ? "," : "", i);
        put_text(to, (const uint8_t *)plan->special[i], strlen(plan->special[i]));
        fputs(", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
              "\"special\": true}",
              to);
    }
    fputs("\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": ", to);
    if (llama3) {
        fputs("{\"type\": \"Sequence\", \"pretokenizers\": [\n    {\"type\": \"Split\", \"pattern\": {\"Regex\": ", to);
        put_text(to, (const uint8_t *)pattern_llama3, strlen(pattern_llama3));
        fputs("}, \"behavior\": \"Isolated\", \"invert\": false},\n    ", to);
    }
    fprintf(to,
            "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": %s}%s,\n",
            llama3 ? "false" : "true", llama3 ? "\n  ]}" : "");
    fputs("  \"post_processor\": null,\n"
          "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
          "\"use_regex\": true},\n"
          "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
          "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
          "    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n    \"vocab\": {",
          to);
}

int tokenizer_write(const char *path, const bpe_trained *trained, const bpe_plan *plan, bool llama3)
{
    text_file file;
    const vocabulary *v = &trained->words;
    int code = text_create(&file, path);
    if (code)
        return code;
    put_head(file.to, plan, llama3);
    for (size_t id = 0; !code && id < v->count; id++) {
        fprintf(file.to, "%s\n      ", id ? "," : "");
        code = put_token(file.to, v, (int64_t)id);
        fprintf(file.to, ": %zu", id);
    }
    fputs("\n    },\n    \"merges\": [", file.to);
    for (size_t i = 0; !code && i < trained->n_merges; i++) {
        fprintf(file.to, "%s\n      [", i ? "," : "");
        code = put_token(file.to, v, trained->merges[i].left);
        fputs(", ", file.to);
        code = code ? code : put_token(file.to, v, trained->merges[i].right);
        fputc(']', file.to);
    }
    fputs("\n    ]\n  }\n}\n", file.to);
    return text_finish(&file, code);
}
