/* SPDX-License-Identifier: MIT */
/* Timelines as SVG: a panel for each direction, two rows a rank, boxes coloured by operation. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/draw.h"

#define WIDTH       1280.0
#define LEFT        120.0 /* where time begins */
#define RIGHT       24.0
#define PLOT        (WIDTH - LEFT - RIGHT)
#define COMM_ROW    14.0
#define COMPUTE_ROW 20.0
#define RANK_PITCH  (COMM_ROW + COMPUTE_ROW + 10.0)
#define HEADER      52.0
#define PANEL_TOP   34.0 /* title of a panel */
#define PANEL_FOOT  40.0 /* its axis */
#define LEGEND_ROW  22.0
#define LEGEND_ITEM 124.0
#define MOST_RANKS  16
#define GAP         0.6 /* between neighbouring boxes */
#define THINNEST    0.6 /* pixels; thinner boxes are widened, and drawn once where they fall together */
#define BINS        ((size_t)(PLOT / THINNEST) + 2)

static const char *const colours[RINGX_OPS] = {
    [RINGX_PACK] = "#a9cce3",      [RINGX_BROADCAST] = "#2e75b6",     [RINGX_EXCHANGE] = "#1f9e89",
    [RINGX_ALLGATHER] = "#5b5fc7", [RINGX_REDUCE] = "#8e5ea2",        [RINGX_REDUCE_SCATTER] = "#b0559c",
    [RINGX_CONVERT] = "#c5d3e0",   [RINGX_ALLREDUCE_MAX] = "#c39bd3", [RINGX_UNPACK] = "#7fb3d5",
    [RINGX_ATTEND] = "#f28e2b",    [RINGX_FINISH] = "#e9c46a",        [RINGX_RESCALE] = "#c9a227",
    [RINGX_DELTA_] = "#b8b0a8",    [RINGX_CLEAR] = "#d8d3cd",         [RINGX_GRAD] = "#e15759",
    [RINGX_ADD] = "#a0785a",       [RINGX_STORE] = "#cfa37f",         [RINGX_WIPE] = "#dfe6ea",
};

void ringx__write_xml(FILE *file, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        switch (*c) {
        case '&':
            fputs("&amp;", file);
            break;
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        default:
            fputc(*c < 0x20 ? ' ' : *c, file);
        }
}

/* ---- time ---- */

typedef struct ringx_unit {
    const char *name;
    double seconds;
} unit;

static unit unit_of(double seconds)
{
    return seconds >= 2 ? (unit){"s", 1} : seconds >= 2e-3 ? (unit){"ms", 1e-3} : (unit){"µs", 1e-6};
}

/* 1, 2 or 5 times a power of ten, so that about ten ticks fit. */
static double tick_of(double span)
{
    double rough = span / 10, power = pow(10, floor(log10(rough))), lead = rough / power;
    return power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
}

static double last_end(const ringx_panel *p)
{
    double last = 0;
    for (size_t i = 0; i < p->count; i++)
        last = p->boxes[i].end > last ? p->boxes[i].end : last;
    return last;
}

/* ---- panels ---- */

static int shown(const ringx_panel *p)
{
    return p->ranks < MOST_RANKS ? p->ranks : MOST_RANKS;
}

static double panel_height(const ringx_panel *p)
{
    return PANEL_TOP + shown(p) * RANK_PITCH + PANEL_FOOT;
}

static void write_axis(FILE *f, const ringx_panel *p, double top, double span)
{
    unit u = unit_of(span);
    double bottom = top + shown(p) * RANK_PITCH, tick = tick_of(span / u.seconds);
    for (int i = 0; i * tick * u.seconds <= span * (1 + 1e-9); i++) {
        double x = LEFT + i * tick * u.seconds / span * PLOT;
        fprintf(f, "<line class=\"grid\" x1=\"%.2f\" y1=\"%.1f\" x2=\"%.2f\" y2=\"%.1f\"/>\n", x, top - 4, x,
                bottom + 2);
        fprintf(f, "<text class=\"tick\" x=\"%.2f\" y=\"%.1f\">%g%s%s</text>\n", x, bottom + 16, i * tick,
                i == 0 ? " " : "", i == 0 ? u.name : "");
    }
}

static void write_rows(FILE *f, const ringx_panel *p, double top)
{
    for (int rank = 0; rank < shown(p); rank++) {
        double y = top + rank * RANK_PITCH;
        fprintf(f, "<text class=\"rank\" x=\"10\" y=\"%.1f\">rank %d</text>\n", y + 22, rank);
        fprintf(f, "<text class=\"lane\" x=\"%.0f\" y=\"%.1f\">transfers</text>\n", LEFT - 8, y + 11);
        fprintf(f, "<text class=\"lane\" x=\"%.0f\" y=\"%.1f\">compute</text>\n", LEFT - 8, y + COMM_ROW + 14);
        fprintf(f, "<rect class=\"row\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n", LEFT, y, PLOT,
                COMM_ROW + COMPUTE_ROW);
    }
}

static void write_box(FILE *f, const ringx_box *b, double top, double span)
{
    char label[128];
    unit u = unit_of(span);
    double x = LEFT + b->begin / span * PLOT, width = (b->end - b->begin) / span * PLOT;
    double y = top + b->rank * RANK_PITCH + (b->lane == RINGX_COMM_LANE ? 0 : COMM_ROW);
    double height = b->lane == RINGX_COMM_LANE ? COMM_ROW : COMPUTE_ROW;
    ringx__box_label(b, label, sizeof label);
    fprintf(f,
            "<rect class=\"o%d\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"><title>rank %d, step %d: ", b->op,
            x, y + 0.5, width > 4 * GAP ? width - GAP : fmax(width, THINNEST), height - 1, b->rank, b->step);
    ringx__write_xml(f, label);
    fprintf(f, "&#10;%.4g … %.4g %s, %.4g %s</title></rect>\n", b->begin / u.seconds, b->end / u.seconds, u.name,
            (b->end - b->begin) / u.seconds, u.name);
    /* The name, and whose block, where they fit at about 5.6 pixels a character. */
    const char *name = ringx__op_name((ringx_op)b->op);
    if (b->owner >= 0)
        snprintf(label, sizeof label, "%s %d", name, b->owner);
    else
        snprintf(label, sizeof label, "%s", name);
    if (width < 5.6 * (double)strlen(label) + 6)
        return;
    fprintf(f, "<text class=\"box\" x=\"%.2f\" y=\"%.1f\">%s</text>\n", x + width / 2, y + height / 2 + 3.5, label);
}

static ringx_status write_boxes(FILE *f, const ringx_panel *p, double top, double span)
{
    bool *drawn = calloc((size_t)shown(p) * RINGX_LANES * BINS, sizeof *drawn); /* [rank][lane][bin] */
    if (!drawn)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to draw %zu steps", p->count);
    for (size_t i = 0; i < p->count; i++) {
        const ringx_box *b = &p->boxes[i];
        if (b->rank < 0 || b->rank >= shown(p) || b->lane >= RINGX_LANES || b->op >= RINGX_OPS ||
            !(b->begin >= 0 && b->end >= b->begin))
            continue;
        size_t bin = (size_t)(b->begin / span * PLOT / THINNEST);
        bool *here = &drawn[((size_t)b->rank * RINGX_LANES + b->lane) * BINS + bin];
        bool thin = (b->end - b->begin) / span * PLOT < THINNEST;
        if (!thin || !*here)
            write_box(f, b, top, span);
        *here = *here || thin;
    }
    free(drawn);
    return RINGX_OK;
}

static ringx_status write_panel(FILE *f, const ringx_panel *p, double y)
{
    double span = last_end(p);
    unit u = unit_of(span);
    fprintf(f, "<text class=\"panel\" x=\"10\" y=\"%.1f\">", y + 18);
    ringx__write_xml(f, p->title);
    fprintf(f, "<tspan class=\"note\" dx=\"12\">%.4g %s", span / u.seconds, u.name);
    if (p->ranks > MOST_RANKS)
        fprintf(f, ", ranks 0 … %d of %d", MOST_RANKS - 1, p->ranks);
    fprintf(f, "</tspan></text>\n");
    span = span > 0 ? span : 1e-6;
    write_rows(f, p, y + PANEL_TOP);
    write_axis(f, p, y + PANEL_TOP, span);
    return write_boxes(f, p, y + PANEL_TOP, span);
}

/* ---- legend and frame ---- */

static size_t ops_used(const ringx_panel *panels, size_t count, bool used[RINGX_OPS])
{
    size_t n = 0;
    for (size_t p = 0; p < count; p++)
        for (size_t i = 0; i < panels[p].count; i++)
            if (panels[p].boxes[i].op < RINGX_OPS)
                used[panels[p].boxes[i].op] = true;
    for (int op = 0; op < RINGX_OPS; op++)
        n += used[op];
    return n;
}

static void write_legend(FILE *f, const bool used[RINGX_OPS], double y)
{
    int n = 0, per_row = (int)((WIDTH - 20) / LEGEND_ITEM);
    for (int op = 0; op < RINGX_OPS; op++) {
        if (!used[op])
            continue;
        double x = 10 + n % per_row * LEGEND_ITEM, row = y + n / per_row * LEGEND_ROW;
        fprintf(f, "<rect class=\"o%d\" x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"12\"/>\n", op, x, row);
        fprintf(f, "<text class=\"legend\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", x + 20, row + 10,
                ringx__op_name((ringx_op)op));
        n++;
    }
}

static void write_head(FILE *f, const char *title, double height, const bool used[RINGX_OPS])
{
    fprintf(f,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\""
            " font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\">\n<title>",
            WIDTH, height, WIDTH, height);
    ringx__write_xml(f, title);
    fprintf(f, "</title>\n<style>\n"
               ".grid{stroke:#d5dae0;stroke-width:1}\n.row{fill:#f4f6f8}\n"
               ".tick{font-size:11px;fill:#5a6570;text-anchor:middle}\n"
               ".rank{font-size:12px;fill:#26323d}\n.lane{font-size:9px;fill:#8a95a0;text-anchor:end}\n"
               ".panel{font-size:14px;font-weight:bold;fill:#26323d}\n"
               ".note{font-weight:normal;fill:#5a6570}\n.legend{font-size:12px;fill:#26323d}\n"
               ".box{font-size:9px;fill:#fff;text-anchor:middle;pointer-events:none}\n");
    for (int op = 0; op < RINGX_OPS; op++)
        if (used[op])
            fprintf(f, ".o%d{fill:%s}\n", op, colours[op]);
    fprintf(f, "</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
               "<text x=\"10\" y=\"30\" font-size=\"18\" fill=\"#26323d\">");
    ringx__write_xml(f, title);
    fprintf(f, "</text>\n");
}

ringx_status ringx__write_svg(FILE *f, const char *title, const ringx_panel *panels, size_t count)
{
    bool used[RINGX_OPS] = {false};
    size_t ops = ops_used(panels, count, used), per_row = (size_t)((WIDTH - 20) / LEGEND_ITEM);
    double height = HEADER + LEGEND_ROW * (double)((ops + per_row - 1) / per_row) + 12, y = HEADER;
    for (size_t p = 0; p < count; p++)
        height += panel_height(&panels[p]);
    write_head(f, title, height, used);
    for (size_t p = 0; p < count; p++) {
        RINGX_TRY(write_panel(f, &panels[p], y));
        y += panel_height(&panels[p]);
    }
    write_legend(f, used, y + 4);
    fprintf(f, "</svg>\n");
    return RINGX_OK;
}
