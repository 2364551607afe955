/* SPDX-License-Identifier: MIT */
/* Cutting text with PCRE2, one step inside the other: no list of pieces is ever kept. */
#include "gpt/pretokenize.h"
#include "gpt/utf8.h"
#include "shared/report.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MATCH_LIMIT 10000000 /* steps of backtracking for one piece; sane patterns need a few a character */
#define STACK_BYTES (8u << 20)

int pretokenizer_add(pretokenizer *p, split_kind kind, const char *pattern, bool lines)
{
    if (p->count == MAX_STEPS)
        return fail(CODE_BAD_INPUT, "the pre-tokenizer has more than %d steps", MAX_STEPS);
    if (kind == SPLIT_PREFIX) {
        p->steps[p->count++] = (split_step){.kind = kind};
        return CODE_GOOD;
    }
    byte_list translated = {0};
    int error = 0, code = pattern_translate(pattern, &translated);
    if (code) {
        bytes_free(&translated);
        return code;
    }
    PCRE2_SIZE offset = 0;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | (lines ? PCRE2_MULTILINE : 0);
    pcre2_code *made = pcre2_compile(translated.items, translated.count, options, &error, &offset, NULL);
    if (!made) {
        PCRE2_UCHAR why[160] = "";
        pcre2_get_error_message(error, why, sizeof why);
        code = fail(CODE_BAD_INPUT, "pattern '%.200s': %s (byte %zu of it, with classes spelled out)", pattern,
                    (const char *)why, (size_t)offset);
    } else {
        pcre2_jit_compile(made, PCRE2_JIT_COMPLETE); /* where there is none, pcre2_match interprets */
        p->steps[p->count++] = (split_step){.kind = kind, .code = made};
    }
    bytes_free(&translated);
    return code;
}

void pretokenizer_free(pretokenizer *p)
{
    for (size_t i = 0; i < p->count; i++)
        pcre2_code_free(p->steps[i].code);
    *p = (pretokenizer){0};
}

void split_scratch_free(split_scratch *scratch)
{
    pcre2_match_data_free(scratch->data);
    pcre2_match_context_free(scratch->context);
    pcre2_jit_stack_free(scratch->stack);
    for (size_t i = 0; i < MAX_STEPS; i++)
        bytes_free(&scratch->prefixed[i]);
    *scratch = (split_scratch){0};
}

static int make_scratch(split_scratch *s)
{
    if (s->data)
        return CODE_GOOD;
    s->data = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    s->stack = pcre2_jit_stack_create(32 << 10, STACK_BYTES, NULL);
    if (!s->data || !s->context)
        return fail(CODE_NO_MEMORY, "out of memory: room for matching patterns was needed");
    pcre2_set_match_limit(s->context, MATCH_LIMIT);
    if (s->stack) /* NULL also where PCRE2 is built without JIT */
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    return CODE_GOOD;
}

typedef struct walk { /* what the steps share */
    const pretokenizer *made;
    split_scratch *scratch;
    piece_function *function;
    void *user;
} walk;

static int run_step(const walk *w, size_t step, const uint8_t *text, size_t count);

/* The next match that is not empty at or after *begin: [*begin, *end); *begin = count where there is none. */
static int next_match(const walk *w, pcre2_code *code, const uint8_t *text, size_t count, size_t range[2])
{
    split_scratch *s = w->scratch;
    size_t at = range[0];
    while (at < count) {
        int n = pcre2_match(code, text, count, at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, s->data, s->context);
        if (n == PCRE2_ERROR_NOMATCH)
            break;
        if (n < 0) {
            PCRE2_UCHAR why[160] = "";
            pcre2_get_error_message(n, why, sizeof why);
            return fail(CODE_BAD_INPUT, "the pre-tokenizer's pattern cannot be matched: %s", (const char *)why);
        }
        const PCRE2_SIZE *found = pcre2_get_ovector_pointer(s->data);
        if (found[0] >= at && found[1] > found[0]) {
            range[0] = found[0];
            range[1] = found[1];
            return CODE_GOOD;
        }
        at += 1; /* \K has put the ends in odd places: look further on */
        while (at < count && (text[at] & 0xc0) == 0x80)
            at++;
    }
    range[0] = range[1] = count;
    return CODE_GOOD;
}

static int split(const walk *w, size_t step, const uint8_t *text, size_t count)
{
    const split_step *s = &w->made->steps[step];
    size_t done = 0;
    int code = CODE_GOOD;
    while (!code && done < count) {
        size_t range[2] = {done, done};
        code = next_match(w, s->code, text, count, range);
        if (!code && range[0] > done && s->kind != SPLIT_MATCHES)
            code = run_step(w, step + 1, text + done, range[0] - done);
        if (!code && range[1] > range[0] && s->kind != SPLIT_GAPS)
            code = run_step(w, step + 1, text + range[0], range[1] - range[0]);
        done = range[1];
    }
    return code;
}

static int prefix(const walk *w, size_t step, const uint8_t *text, size_t count)
{
    if (count == 0 || text[0] == ' ')
        return run_step(w, step + 1, text, count);
    byte_list *copy = &w->scratch->prefixed[step];
    copy->count = 0;
    int code = bytes_append(copy, " ", 1);
    code = code ? code : bytes_append(copy, text, count);
    return code ? code : run_step(w, step + 1, copy->items, copy->count);
}

static int run_step(const walk *w, size_t step, const uint8_t *text, size_t count)
{
    if (step == w->made->count)
        return w->function(w->user, text, count);
    return w->made->steps[step].kind == SPLIT_PREFIX ? prefix(w, step, text, count) : split(w, step, text, count);
}

int pretokenize(const pretokenizer *p, split_scratch *scratch, const uint8_t *text, size_t count,
                piece_function *function, void *user)
{
    int code = make_scratch(scratch);
    walk w = {.made = p, .scratch = scratch, .function = function, .user = user};
    return code ? code : run_step(&w, 0, text, count);
}
