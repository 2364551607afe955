/* SPDX-License-Identifier: MIT */
/* Log lines, operation counts, and the live line. */
#include "train/train_log.h"

#include "train/checkpoint.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- where lines go ---- */

/* Standard output is what a user sees: the file alone may fail. */
static ssize_t write_both(void *file, const char *text, size_t bytes)
{
    size_t written = fwrite(text, 1, bytes, stdout);
    fflush(stdout);
    fwrite(text, 1, bytes, file);
    fflush(file);
    return written == bytes ? (ssize_t)bytes : -1;
}

static int close_file(void *file)
{
    return fclose(file);
}

int log_open(FILE **log, const char *folder)
{
    char path[PATH_MAX];
    *log = stdout;
    if (!folder)
        return CODE_GOOD;
    int code = folder_make(folder);
    if (code)
        return code;
    if (snprintf(path, sizeof path, "%s/train.log", folder) >= (int)sizeof path)
        return fail(CODE_CANNOT_WRITE, "log_dir: the path is longer than %d bytes", PATH_MAX);
    FILE *file = fopen(path, "ae");
    if (!file)
        return fail(CODE_CANNOT_WRITE, "%s: cannot be opened: %s", path, strerror(errno));
    FILE *both = fopencookie(file, "w", (cookie_io_functions_t){.write = write_both, .close = close_file});
    if (!both) {
        fclose(file);
        return fail(CODE_NO_MEMORY, "out of memory for a log");
    }
    setvbuf(both, NULL, _IOLBF, BUFSIZ);
    *log = both;
    return CODE_GOOD;
}

void log_close(FILE *log)
{
    if (log && log != stdout)
        fclose(log);
}

/* ---- lines ---- */

static void print_flops(FILE *to, double flops)
{
    static const char *const units[] = {"", "KFLOPS", "MFLOPS", "GFLOPS", "TFLOPS", "PFLOPS", "EFLOPS", "ZFLOPS"};
    size_t unit = 0;
    for (; unit < 7 && fabs(flops) >= 1000; unit++)
        flops /= 1000;
    fprintf(to, "%3.1f%s", flops, units[unit]);
}

void log_step_print(FILE *to, const log_step *s)
{
    fprintf(to, " samples/sec: %.3f | iteration %8lld/%8lld | elapsed time per iteration (ms): %.1f |",
            s->samples_per_s, (long long)s->iteration, (long long)s->iterations, s->iteration_ms);
    fprintf(to, " learning rate: %.3E | approx flops per GPU: ", s->lr);
    print_flops(to, s->flops_per_rank);
    fprintf(to, " |");
    if (!isnan(s->mfu))
        fprintf(to, " MFU: %.2f%% | HFU: %.2f%% |", 100 * s->mfu, 100 * s->hfu);
    fprintf(to, " lm_loss: %.6E |", s->lm_loss);
    if (!isnan(s->loss_scale))
        fprintf(to, " loss scale: %.1f |", s->loss_scale);
    fprintf(to, " number of skipped iterations: %3lld | number of nan iterations: %3lld |\n", (long long)s->skipped,
            (long long)s->not_finite);
    fflush(to);
}

void log_timers_print(FILE *to, const log_timer *timers, size_t count)
{
    fprintf(to, "time (ms)");
    for (size_t i = 0; i < count; i++)
        fprintf(to, " | %s: %.2f", timers[i].name, timers[i].ms);
    fprintf(to, "\n");
    fflush(to);
}

double memory_mb(bool most)
{
    char line[256];
    double kb = 0;
    FILE *from = fopen("/proc/self/status", "re");
    while (from && fgets(line, sizeof line, from))
        if (sscanf(line, most ? "VmHWM: %lf" : "VmRSS: %lf", &kb) == 1)
            break;
    if (from)
        fclose(from);
    return kb / 1024;
}

void log_memory_print(FILE *to, int64_t iterations)
{
    double now = memory_mb(false), most = memory_mb(true);
    fprintf(
        to,
        "after %lld iterations memory (MB) | allocated: %.1f | max allocated: %.1f | reserved: %.1f | max reserved: "
        "%.1f\n",
        (long long)iterations, now, most, now, most);
    fflush(to);
}

void log_evaluation_print(FILE *to, const char *chart, int64_t iteration, double loss)
{
    char text[256], dashes[260];
    int n = snprintf(text, sizeof text,
                     " %.16s results at iteration %lld | lm_loss value: %.6E | lm_loss_ppl value: %.6E | ", chart,
                     (long long)iteration, loss, exp(loss));
    memset(dashes, '-', (size_t)n + 1);
    dashes[n + 1] = '\0';
    fprintf(to, "%s\n%s\n%s\n", dashes, text, dashes);
    fflush(to);
}

double flops_as_logged(const flop_shape *f)
{
    double rest = 1 + f->tokens / (6 * f->width) + f->vocabulary / (16 * f->layers * f->width);
    return 24 * (f->recompute ? 4 : 3) * f->batch * f->tokens * f->layers * f->width * f->width * rest;
}

double flops_exact(const flop_shape *f, bool with_recompute)
{
    double projections = f->width * f->head_dim * (2 * f->heads + 2 * f->kv_heads);
    double layer = projections + 3 * f->width * f->inner;
    double again = with_recompute && f->recompute ? 4.0 / 3 : 1, attention_again = f->keep_attention ? 1 : again;
    double layers = f->layers * (6 * layer * again + 6 * f->heads * f->head_dim * f->tokens * attention_again);
    double head = 6 * f->width * f->vocabulary;
    return f->batch * f->tokens * (layers + head);
}

/* ---- live line ---- */

static bool drawn;

void live_line(int64_t iteration, int64_t iterations, double loss, double tokens_per_s, double mfu, double left_s)
{
    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[Kstep %lld/%lld  loss %.4f  %.0f tokens/s", (long long)iteration, (long long)iterations,
            loss, tokens_per_s);
    if (!isnan(mfu))
        fprintf(stderr, "  MFU %.1f %%", 100 * mfu);
    fprintf(stderr, "  %.0f MB  %lld:%02lld:%02lld left", memory_mb(false), (long long)left_s / 3600,
            (long long)left_s / 60 % 60, (long long)left_s % 60);
    fflush(stderr);
    drawn = true;
}

void live_clear(void)
{
    if (drawn)
        fputs("\r\033[K", stderr);
    drawn = false;
}
