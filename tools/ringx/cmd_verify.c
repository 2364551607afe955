/* SPDX-License-Identifier: MIT */
/* ringx verify: random cases against the float64 definition; with --oracle, files against every preset. */
#include "verify.h"
#include "shared/options.h"
#include "shared/table.h"

#include <stdio.h>
#include <string.h>

void tally_begin(tally *t, const settings *s, const char *what, uint64_t total)
{
    *t = (tally){.settings = s, .failures = json_array()};
    pthread_mutex_init(&t->lock, NULL);
    if (launch_speaks())
        progress_begin(what, total);
}

static void print_failure(tally *t, const char *title, const char *what, const char *why, const char *reproduce)
{
    if (!launch_speaks())
        return;
    if (t->settings->json) {
        json_array_append_new(t->failures, json_pack("{s:s, s:s, s:s, s:s}", "case", title, "what", what, "why", why,
                                                     "reproduce", reproduce));
        return;
    }
    progress_clear();
    printf("%s failed: %s\n  %s\n  %s\n", title, why, what, reproduce);
    fflush(stdout);
}

void tally_add(tally *t, int code, const char *title, const char *what, const char *why, const char *reproduce)
{
    pthread_mutex_lock(&t->lock);
    if (code) {
        t->code = t->failed == 0 || t->code == code ? code : CODE_WRONG;
        t->failed++;
        print_failure(t, title, what, why, reproduce);
    } else {
        t->passed++;
    }
    char note[64];
    snprintf(note, sizeof note, "%llu failed", (unsigned long long)t->failed);
    progress_step(t->passed + t->failed + t->skipped, note);
    pthread_mutex_unlock(&t->lock);
}

void tally_skip(tally *t)
{
    pthread_mutex_lock(&t->lock);
    t->skipped++;
    pthread_mutex_unlock(&t->lock);
}

bool tally_stopped(tally *t)
{
    pthread_mutex_lock(&t->lock);
    bool stopped = t->failed >= MAX_FAILURES;
    pthread_mutex_unlock(&t->lock);
    return stopped;
}

int tally_end(tally *t, json_t *more)
{
    progress_end();
    int code = t->failed ? t->code : CODE_GOOD;
    pthread_mutex_destroy(&t->lock);
    if (t->failed)
        failure_set(""); /* each failure has been printed */
    json_t *all = json_pack("{s:s, s:s, s:I, s:I, s:I, s:o}", "command", "verify", "version", ringx_version(), "passed",
                            (json_int_t)t->passed, "failed", (json_int_t)t->failed, "skipped", (json_int_t)t->skipped,
                            "failures", t->failures);
    if (more)
        json_object_update(all, more);
    json_decref(more);
    int printed = CODE_GOOD;
    if (t->settings->json && launch_speaks()) {
        printed = json_emit(all);
    } else {
        json_decref(all);
        if (launch_speaks()) {
            if (t->skipped)
                printf("%llu were skipped after %d failures\n", (unsigned long long)t->skipped, MAX_FAILURES);
            printf("%llu passed, %llu failed\n", (unsigned long long)t->passed, (unsigned long long)t->failed);
        }
    }
    return code ? code : printed;
}

/* ---- a command that runs one case again ---- */

typedef struct line {
    char *text;
    size_t bytes, used;
} line;

/* Quoted for a shell where it needs to be. */
static void append(line *l, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=,./:+";
    bool quote = word[strspn(word, plain)] != '\0';
    int n = snprintf(l->text + l->used, l->bytes - l->used, "%s%s%s%s", l->used ? " " : "", quote ? "'" : "", word,
                     quote ? "'" : "");
    l->used = n < 0 || l->used + (size_t)n >= l->bytes ? l->bytes - 1 : l->used + (size_t)n;
}

/* --name or --name=value */
static bool is_option(const char *argument, const char *name)
{
    size_t n = strlen(name);
    return strncmp(argument, "--", 2) == 0 && strncmp(argument + 2, name, n) == 0 &&
           (argument[2 + n] == '\0' || argument[2 + n] == '=');
}

void verify_command_line(const settings *s, int ranks, const char *const *without, const char *more, char *text,
                         size_t bytes)
{
    line l = {text, bytes, 0};
    char count[16];
    if (launch_kind(s) == COMM_MPI) {
        snprintf(count, sizeof count, "%d", ranks);
        append(&l, "mpirun");
        append(&l, "-n");
        append(&l, count);
    } else if (launch_kind(s) == COMM_ENV) {
        snprintf(count, sizeof count, "%d", ranks);
        append(&l, "torchrun");
        append(&l, "--no-python");
        append(&l, "--nproc-per-node");
        append(&l, count);
    }
    append(&l, "ringx");
    append(&l, "verify");
    for (int i = 0; i < s->given.count; i++) {
        bool drop = is_option(s->given.items[i], "json");
        bool value = false;
        for (int j = 0; without[j] && !drop; j++) {
            drop = is_option(s->given.items[i], without[j]);
            value = drop && !strchr(s->given.items[i], '=');
        }
        if (value)
            while (i + 1 < s->given.count && strncmp(s->given.items[i + 1], "--", 2) != 0)
                i++;
        else if (!drop)
            append(&l, s->given.items[i]);
    }
    if (l.used + 1 < bytes)
        snprintf(text + l.used, bytes - l.used, " %s", more);
}

/* ---- the command ---- */

static const option verify_options[] = {
    {"cases", "N", "random cases (default 1000); the first go through every preset, mask and dtype", OPTION_INTEGER,
     FIELD(cases), 0, 0, 1e12, NULL},
    {"seed", "N", "of the cases (default 1)", OPTION_UNSIGNED, FIELD(seed), 0, 0, 0, NULL},
    {"only", "K", "run case K alone", OPTION_INTEGER, FIELD(only), 0, 0, 1e12, NULL},
    {"oracle", "FILE…", "compare with the results in these safetensors files instead of random cases", OPTION_FILES,
     FIELD(oracle), 0, 0, 0, NULL},
    {"ranks", "A-B", "numbers of ranks to draw from (default 1-4; with mpi: the launcher's)", OPTION_RANGE,
     FIELD(ranks), FIELD(ranks_set), 1, 64, NULL},
    {"preset", "LIST", "presets, comma separated, or all (default all)", OPTION_PRESETS, FIELD(presets), 0, 0, 0, NULL},
    {"mask", "LIST", "of full, causal, window-causal, window, packed, or all (default all)", OPTION_CHOICES,
     FIELD(masks), 0, 0, 0, mask_names},
    {"dtype", "LIST", "of f32, bf16, f16, or all (default all; --oracle: f32 and bf16)", OPTION_CHOICES, FIELD(dtypes),
     FIELD(dtypes_set), 0, 0, dtype_names},
    {"forward-only", NULL, "no gradients", OPTION_FLAG, FIELD(forward_only), 0, 0, 0, NULL},
    {0},
};

static const option_group groups[] = {{"What is verified", verify_options},
                                      {"With whom", options_launch},
                                      {"How (drawn at random where not given)", options_how},
                                      {"Output", options_common},
                                      {NULL, NULL}};

static void defaults(void *settings_of_command)
{
    settings *s = settings_of_command;
    s->ranks[0] = 1;
    s->ranks[1] = 4;
    presets_all(&s->presets);
}

static int run(void *settings_of_command)
{
    settings *s = settings_of_command;
    int code = settings_check(s, false);
    if (code)
        return code;
    return s->oracle.count ? verify_oracle(s) : verify_random(s);
}

const program_command command_verify = {
    .options =
        {.program = "ringx",
         .name = "verify",
         .text = "compare results with the float64 definition, or with oracle files",
         .help = "Tensors have random strides, and every byte around them and the workspace is NaN or a guard.\n"
                 "A failure prints what was computed and a command that computes it again.  Exit code 1: a result is\n"
                 "wrong; where only transfers failed (--fault), their own code.  The last line: N passed, M failed.\n",
         .groups = groups,
         .defaults = defaults,
         .run = run},
    .settings_bytes = sizeof(settings),
};
