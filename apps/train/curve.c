/* SPDX-License-Identifier: MIT */
/* The losses of a run over its iterations, as a picture. */
#include "train/curve.h"

#include "shared/plot.h"
#include "shared/report.h"

#include <math.h>
#include <stdlib.h>

int curve_add(curve *c, double iteration, double train, double valid)
{
    if (c->points == c->room) {
        size_t room = 2 * c->room + 16;
        for (int i = 0; i < 3; i++) {
            double *more = realloc(c->values[i], room * sizeof *more);
            if (!more)
                return fail(CODE_NO_MEMORY, "no memory for %zu points of a curve", room);
            c->values[i] = more;
        }
        c->room = room;
    }
    const double point[3] = {iteration, train, valid};
    for (int i = 0; i < 3; i++)
        c->values[i][c->points] = point[i];
    c->points++;
    return CODE_GOOD;
}

void curve_free(curve *c)
{
    for (int i = 0; i < 3; i++)
        free(c->values[i]);
    *c = (curve){.points = 0};
}

int curve_plot(const curve *c, const curve_labels *labels, double reference, const char *path)
{
    plot p = {.title = "Loss over iterations",
              .x_label = "iteration",
              .y_label = labels->unit,
              .x = c->values[0],
              .points = c->points,
              .n_series = 2,
              .series = {{"training (last step)", c->values[1]}, {"validation", c->values[2]}}};
    double *line = allocate(c->points * sizeof *line);
    if (!line)
        return CODE_NO_MEMORY;
    for (size_t i = 0; i < c->points; i++)
        line[i] = reference;
    if (!isnan(reference)) {
        plot_series *level = &p.series[p.n_series++];
        snprintf(level->name, sizeof level->name, "%s", labels->reference);
        level->y = line;
    }
    int code = plot_write(&p, path);
    free(line);
    return code;
}
