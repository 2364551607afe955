/* SPDX-License-Identifier: MIT */
/* Training runs on paper: what is said about a plan. */
#include "train/paper.h"

#include <math.h>

static double gib(size_t bytes)
{
    return (double)bytes / 0x1p30;
}

static const table_column memory_columns[] = {{"item", "memory"}, {"bytes", NULL}, {"gib", "GiB"}};

void paper_add_memory(table *t, const char *item, size_t bytes)
{
    table_text(t, item);
    table_whole(t, (int64_t)bytes);
    table_real(t, gib(bytes), 3);
}

table *paper_memory_table(const char *const *names, const size_t *bytes, int count)
{
    table *t = table_create(memory_columns, sizeof memory_columns / sizeof *memory_columns);
    for (int i = 0; t && i < count; i++)
        paper_add_memory(t, names[i], bytes[i]);
    return t;
}

void paper_add_sums(table *t, const paper_plan *p)
{
    paper_add_memory(t, "all", p->device);
    if (p->runtime > 0) {
        paper_add_memory(t, "driver and communicators", p->runtime);
        paper_add_memory(t, "in use on a device", paper_needs(p));
    }
}

static const table_column time_columns[] = {
    {"part", "time"}, {"seconds", "seconds"}, {"share", "share"}, {"exposed_s", "exposed s"}, {"wire_mib", "sent MiB"}};

static void add_time(table *t, const char *part, const double figures[4])
{
    table_text(t, part);
    table_real(t, figures[0], 4);
    table_real(t, figures[1], 3);
    table_real(t, figures[2], 4);
    table_real(t, figures[3] / 1048576, 1);
}

/* What is counted of sums over ranks is not beside anything else: all of it is exposed. */
table *paper_time_table(const paper_plan *p, const char *rows)
{
    const char *const names[PAPER_PARTS] = {[PAPER_LINEAR] = "linear layers",
                                            [PAPER_ROWS] = rows,
                                            [PAPER_FORWARD] = "attention forward",
                                            [PAPER_BACKWARD] = "attention backward",
                                            [PAPER_TENSOR] = "sums over tensor ranks",
                                            [PAPER_GRADIENTS] = "gradients and weights over ranks",
                                            [PAPER_OPTIMIZER] = "optimizer"};
    table *t = table_create(time_columns, sizeof time_columns / sizeof *time_columns);
    double exposed = 0, wire = 0;
    for (int i = 0; t && i < PAPER_PARTS; i++) {
        bool sums = i == PAPER_TENSOR || i == PAPER_GRADIENTS, attention = i == PAPER_FORWARD || i == PAPER_BACKWARD;
        double waits = sums ? p->seconds[i] : attention ? p->exposed[i - PAPER_FORWARD] : 0;
        exposed += waits;
        wire += p->wire[i];
        add_time(t, names[i], (double[]){p->seconds[i], p->seconds[i] / p->step, waits, p->wire[i]});
    }
    if (t)
        add_time(t, "step", (double[]){p->step, 1, exposed, wire});
    return t;
}

void paper_verdict(const paper_plan *p, const paper_machine *m, const char *rate, FILE *to)
{
    if (p->known)
        fprintf(to, "\n%s: %.2f of %.2f GiB a rank", p->fits ? "fits" : "does not fit", gib(paper_needs(p)),
                gib(m->memory));
    else
        fprintf(to, "\n%.2f GiB a rank; the machine's memory is not known: --memory GIB says it", gib(paper_needs(p)));
    fprintf(to, "; %.4g s a step, %s", p->step, rate);
    if (!isnan(p->mfu))
        fprintf(to, ", MFU %.1f %% of %.4g TFLOP/s", 100 * p->mfu, p->peak * 1e-12);
    fprintf(to, "\n");
}
