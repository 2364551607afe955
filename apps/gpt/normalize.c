/* SPDX-License-Identifier: MIT */
/* Normal forms by utf8proc. */
#include "gpt/normalize.h"
#include "shared/report.h"

#include <stdlib.h>
#include <utf8proc.h>

const char *const normal_form_names[] = {"NFD", "NFC", "NFKD", "NFKC", NULL};

static int one_form(normal_form form, byte_list *text)
{
    static const int options[FORMS] = {
        [FORM_NFD] = UTF8PROC_DECOMPOSE,
        [FORM_NFC] = UTF8PROC_COMPOSE,
        [FORM_NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
        [FORM_NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
    };
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t n = utf8proc_map(text->items, (utf8proc_ssize_t)text->count, &made,
                                      (utf8proc_option_t)(UTF8PROC_STABLE | options[form]));
    if (n < 0)
        return fail(n == UTF8PROC_ERROR_NOMEM ? CODE_NO_MEMORY : CODE_BAD_INPUT, "the text cannot be normalized: %s",
                    utf8proc_errmsg(n));
    text->count = 0;
    int code = bytes_append(text, made, (size_t)n);
    free(made);
    return code;
}

int normalize(const normalizer *n, const uint8_t *text, size_t count, byte_list *into)
{
    into->count = 0;
    int code = bytes_append(into, text, count);
    for (size_t i = 0; !code && count && i < n->count; i++)
        code = one_form(n->forms[i], into);
    return code;
}
