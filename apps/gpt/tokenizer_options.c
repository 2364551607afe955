/* SPDX-License-Identifier: MIT */
/* Tokenizers as options ask for them. */
#include "gpt/tokenizer_options.h"

int tokenizer_from_settings(tokenizer **made, const tokenizer_settings *s)
{
    *made = NULL;
    if (!s->file && s->kind != TOKENIZER_BYTES)
        return fail(CODE_USAGE, "vocab-file is missing; it names the tokenizer's file (CharLevelTokenizer needs none)");
    return tokenizer_open(made, (tokenizer_kind)s->kind, s->file, s->merges);
}

encode_options encoding_from_settings(const tokenizer *t, const tokenizer_settings *s)
{
    bool as_package = tokenizer_parses_special(t);
    return (encode_options){.invalid = (invalid_utf8)s->invalid,
                            .parse_special = s->parse_special.set ? s->parse_special.value : as_package,
                            .add_special = s->add_special.set ? s->add_special.value : as_package};
}
