/* SPDX-License-Identifier: MIT */
/* Drawing: boxes from schedules, Chrome traces (Perfetto), and files that are complete or not there. */
#include "schedule/draw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- boxes ---- */

/* What a step is about: of attention steps the blocks that came from elsewhere, of others the first block. */
static void set_subject(const ringx_schedule *s, const ringx_step *step, ringx_box *box)
{
    const ringx_operand *o = &s->operands[step->operand];
    if (step->operands == 0)
        return;
    bool attention = step->op == RINGX_ATTEND || step->op == RINGX_GRAD;
    bool several = step->op == RINGX_ALLGATHER || step->op == RINGX_REDUCE_SCATTER;
    box->kind = attention ? RINGX_KV : o->kind;
    box->owner = attention ? s->geometry.rank : several ? RINGX_SEVERAL : o->owner;
    for (uint32_t i = 0; attention && i < step->operands; i++) {
        bool moves = o[i].kind == RINGX_Q || o[i].kind == RINGX_QDO || o[i].kind == RINGX_KV;
        if (!moves || o[i].owner == s->geometry.rank || o[i].owner == box->owner)
            continue;
        box->kind = o[i].kind;
        box->owner = box->owner == s->geometry.rank ? o[i].owner : RINGX_SEVERAL;
    }
}

void ringx__boxes(const ringx_schedule *s, const ringx_stamp *stamps, ringx_box *boxes)
{
    for (size_t i = 0; i < s->n_steps; i++) {
        const ringx_step *step = &s->steps[i];
        boxes[i] = (ringx_box){.rank = s->geometry.rank,
                               .step = (int32_t)i,
                               .owner = -1,
                               .slice = s->geometry.cut.slices > 1 ? step->slice : -1,
                               .lane = step->lane,
                               .op = step->op,
                               .begin = stamps[i].begin,
                               .end = stamps[i].end};
        set_subject(s, step, &boxes[i]);
    }
}

void ringx__box_label(const ringx_box *box, char *text, size_t bytes)
{
    const char *op = ringx__op_name((ringx_op)box->op), *kind = ringx__kind_name((ringx_kind)box->kind);
    char of[48] = "", slice[32] = "";
    if (box->owner == RINGX_SEVERAL)
        snprintf(of, sizeof of, " %s of several ranks", kind);
    else if (box->owner >= 0)
        snprintf(of, sizeof of, " %s of rank %d", kind, box->owner);
    if (box->slice >= 0)
        snprintf(slice, sizeof slice, " (slice %d)", box->slice);
    snprintf(text, bytes, "%s%s%s", op, of, slice);
}

/* ---- Chrome trace ---- */

static void write_json(FILE *file, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c == '"' || *c == '\\')
            fprintf(file, "\\%c", *c);
        else if (*c < 0x20)
            fprintf(file, "\\u%04x", *c);
        else
            fputc(*c, file);
}

static void write_names(FILE *file, int ranks)
{
    static const char *const lanes[RINGX_LANES] = {"transfers", "computation"};
    for (int rank = 0; rank < ranks; rank++) {
        fprintf(file, "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"args\":{\"name\":\"rank %d\"}},\n", rank,
                rank);
        fprintf(file, "{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":%d,\"args\":{\"sort_index\":%d}},\n", rank,
                rank);
        for (int lane = 0; lane < RINGX_LANES; lane++)
            fprintf(file, "{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"%s\"}},\n",
                    rank, lane, lanes[lane]);
    }
}

/* Panels follow each other in time. */
void ringx__write_trace(FILE *file, const char *title, const ringx_panel *panels, size_t count)
{
    double offset = 0;
    int ranks = 0;
    fprintf(file, "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"title\":\"");
    write_json(file, title);
    fprintf(file, "\"},\"traceEvents\":[\n");
    for (size_t p = 0; p < count; p++)
        ranks = panels[p].ranks > ranks ? panels[p].ranks : ranks;
    write_names(file, ranks);
    for (size_t p = 0; p < count; p++) {
        double last = 0;
        for (size_t i = 0; i < panels[p].count; i++) {
            const ringx_box *b = &panels[p].boxes[i];
            char label[128];
            ringx__box_label(b, label, sizeof label);
            fprintf(file, "{\"ph\":\"X\",\"name\":\"");
            write_json(file, label);
            fprintf(file, "\",\"cat\":\"");
            write_json(file, panels[p].title);
            fprintf(file, "\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"step\":%d}},\n", b->rank,
                    b->lane, (offset + b->begin) * 1e6, (b->end - b->begin) * 1e6, b->step);
            last = b->end > last ? b->end : last;
        }
        offset += last;
    }
    fprintf(file, "{\"ph\":\"M\",\"name\":\"trace_name\",\"pid\":0,\"args\":{\"name\":\"");
    write_json(file, title);
    fprintf(file, "\"}}\n]}\n");
}

/* ---- files ---- */

static bool ends_with(const char *path, const char *ending)
{
    size_t a = strlen(path), b = strlen(ending);
    return a > b && strcmp(path + a - b, ending) == 0;
}

/* A new file beside path, so that it can be renamed to it. */
static FILE *open_beside(const char *path, char *name, size_t bytes)
{
    for (int i = 0; i < 100; i++) {
        if (snprintf(name, bytes, "%s.%ld.%d.part", path, (long)getpid(), i) >= (int)bytes) {
            errno = ENAMETOOLONG;
            return NULL;
        }
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) {
            FILE *file = fdopen(fd, "w");
            if (!file)
                close(fd);
            return file;
        }
        if (errno != EEXIST)
            return NULL;
    }
    return NULL;
}

static ringx_status finish_file(FILE *file, const char *name, const char *path)
{
    bool good = fflush(file) == 0 && !ferror(file) && fsync(fileno(file)) == 0;
    int error = errno;
    if (fclose(file) != 0 && good) {
        error = errno;
        good = false;
    }
    if (good && rename(name, path) == 0)
        return RINGX_OK;
    error = good ? errno : error;
    unlink(name);
    RINGX_FAIL(RINGX_IO, "%s cannot be written: %s", path, strerror(error));
}

ringx_status ringx__draw(const char *path, const char *title, const ringx_panel *panels, size_t count)
{
    if (!path || !(ends_with(path, ".svg") || ends_with(path, ".json")))
        RINGX_FAIL(RINGX_INVALID, "path is %s; it must end with .svg or .json", path ? path : "NULL");
    char name[4096];
    FILE *file = open_beside(path, name, sizeof name);
    if (!file)
        RINGX_FAIL(RINGX_IO, "%s cannot be written: %s", path, strerror(errno));
    ringx_status status = RINGX_OK;
    if (ends_with(path, ".svg"))
        status = ringx__write_svg(file, title, panels, count);
    else
        ringx__write_trace(file, title, panels, count);
    if (status == RINGX_OK)
        return finish_file(file, name, path);
    fclose(file);
    unlink(name);
    return status;
}
