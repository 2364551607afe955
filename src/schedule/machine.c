/* SPDX-License-Identifier: MIT */
/* Machine descriptions: YAML through libyaml, strict, bounded in size and depth. */
#include "schedule/machine.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/names.h"

#define MAX_BYTES (64 * 1024)

typedef enum ringx_field_type { TEXT, COUNT, NUMBER, RATE, SHARE } field_type; /* SHARE: a rate by head_dim */

typedef struct ringx_field {
    const char *name;
    field_type type;
    size_t offset;
    double low, high;
    bool required;
} field;

#define FIELD(name, type, low, high, required)                                                                         \
    {                                                                                                                  \
#name, type, offsetof(ringx_machine, name), low, high, required                                                \
    }

static const field fields[] = {
    {"name", TEXT, offsetof(ringx_machine, name), 0, 0, true},
    FIELD(ranks_per_node, COUNT, 0, 1e6, true),
    FIELD(cores_per_node, COUNT, 0, 1e6, false),
    FIELD(threads_per_rank, COUNT, 1, 1e6, false),
    FIELD(transfer_cores, NUMBER, 0, 1e6, false),
    FIELD(compute_slowdown, NUMBER, 0, 0.99, false),
    {"forward_gflops", RATE, offsetof(ringx_machine, forward), 1e-6, 1e12, true},
    {"backward_gflops", RATE, offsetof(ringx_machine, backward), 1e-6, 1e12, true},
    FIELD(forward_by_dim, SHARE, 1e-3, 1e3, false),
    FIELD(backward_by_dim, SHARE, 1e-3, 1e3, false),
    FIELD(step_overhead_us, NUMBER, 0, 1e9, true),
    FIELD(memory_gbs, NUMBER, 1e-6, 1e9, true),
    FIELD(intra_latency_us, NUMBER, 0, 1e9, true),
    FIELD(intra_gbs, NUMBER, 1e-6, 1e9, true),
    FIELD(inter_latency_us, NUMBER, 0, 1e9, false),
    FIELD(inter_gbs, NUMBER, 1e-6, 1e9, false),
    FIELD(nics_per_node, COUNT, 1, 1e6, false),
    FIELD(broadcast_gbs, NUMBER, 1e-6, 1e9, false),
    FIELD(reduce_gbs, NUMBER, 1e-6, 1e9, false),
    FIELD(allgather_gbs, NUMBER, 1e-6, 1e9, false),
    FIELD(reduce_scatter_gbs, NUMBER, 1e-6, 1e9, false),
    FIELD(exchange_gbs, NUMBER, 1e-6, 1e9, false),
    FIELD(matrix_gflops, NUMBER, 1e-6, 1e12, false),
    FIELD(peak_gflops, NUMBER, 1e-6, 1e12, false),
    FIELD(device_memory_gib, NUMBER, 1e-6, 1e9, false),
    FIELD(driver_gib, NUMBER, 0, 1e9, false),
    FIELD(communicator_gib, NUMBER, 0, 1e9, false),
};
#define FIELDS (sizeof fields / sizeof *fields)

static const char *field_name(size_t i)
{
    return i < FIELDS ? fields[i].name : NULL;
}

typedef struct ringx_reader { /* one description being read */
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    const char *origin;
    ringx_machine *machine;
    bool seen[FIELDS];
} reader;

static int line_of(const reader *r)
{
    return (int)r->event.start_mark.line + 1;
}

static ringx_status next_event(reader *r)
{
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event))
        RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: %s", r->origin, (int)r->parser.problem_mark.line + 1,
                   r->parser.problem ? r->parser.problem : "is not YAML");
    return RINGX_OK;
}

static const char *scalar(const reader *r)
{
    return r->event.type == YAML_SCALAR_EVENT ? (const char *)r->event.data.scalar.value : NULL;
}

static ringx_status expect(reader *r, yaml_event_type_t type, const char *what)
{
    RINGX_TRY(next_event(r));
    if (r->event.type != type)
        RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: %s is expected here", r->origin, line_of(r), what);
    return RINGX_OK;
}

static ringx_status read_number(const reader *r, const field *f, double *value)
{
    const char *text = scalar(r);
    char *end = NULL;
    *value = text ? strtod(text, &end) : NAN;
    bool whole = f->type != COUNT || *value == floor(*value);
    if (!text || end == text || *end || !(*value >= f->low && *value <= f->high) || !whole)
        RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: %s is %s%s%s; it must be a %snumber from %g to %g", r->origin,
                   line_of(r), f->name, text ? "'" : "", text ? text : "no scalar", text ? "'" : "",
                   f->type == COUNT ? "whole " : "", f->low, f->high);
    return RINGX_OK;
}

/* One number for all sizes, or a list of [tokens, number] with tokens ascending.  The current event is its first. */
static ringx_status read_rate(reader *r, const field *f, ringx_rate *rate)
{
    const char *of = f->type == SHARE ? "head_dim" : "tokens";
    const field at = {.name = of, .type = NUMBER, .low = 1, .high = 1e12};
    char end[64];
    snprintf(end, sizeof end, "the end of a [%s, number] pair", of);
    *rate = (ringx_rate){.points = 0};
    if (r->event.type == YAML_SCALAR_EVENT) {
        rate->points = 1;
        rate->tokens[0] = 1;
        return read_number(r, f, &rate->gflops[0]);
    }
    if (r->event.type != YAML_SEQUENCE_START_EVENT)
        RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: %s must be a number or a list of [%s, number]", r->origin, line_of(r),
                   f->name, of);
    for (;;) {
        RINGX_TRY(next_event(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            break;
        size_t n = rate->points;
        if (n == RINGX_RATE_POINTS)
            RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: %s has more than %d points", r->origin, line_of(r), f->name,
                       RINGX_RATE_POINTS);
        if (r->event.type != YAML_SEQUENCE_START_EVENT)
            RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: %s must be a list of [%s, number]", r->origin, line_of(r), f->name,
                       of);
        RINGX_TRY(next_event(r));
        RINGX_TRY(read_number(r, &at, &rate->tokens[n]));
        RINGX_TRY(next_event(r));
        RINGX_TRY(read_number(r, f, &rate->gflops[n]));
        RINGX_TRY(expect(r, YAML_SEQUENCE_END_EVENT, end));
        if (n > 0 && !(rate->tokens[n] > rate->tokens[n - 1]))
            RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: the %s of %s must ascend", r->origin, line_of(r), of, f->name);
        rate->points++;
    }
    if (rate->points == 0)
        RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: %s is an empty list", r->origin, line_of(r), f->name);
    return RINGX_OK;
}

static ringx_status read_value(reader *r, const field *f)
{
    char *at = (char *)r->machine + f->offset;
    double number = 0;
    RINGX_TRY(next_event(r));
    if (r->event.type == YAML_ALIAS_EVENT)
        RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: aliases are not allowed", r->origin, line_of(r));
    if (f->type == RATE || f->type == SHARE)
        return read_rate(r, f, (ringx_rate *)(void *)at);
    if (f->type == TEXT) {
        const char *text = scalar(r);
        if (!text || !*text || strlen(text) >= sizeof r->machine->name)
            RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: %s must be 1 … %zu characters", r->origin, line_of(r), f->name,
                       sizeof r->machine->name - 1);
        memcpy(at, text, strlen(text) + 1);
        return RINGX_OK;
    }
    RINGX_TRY(read_number(r, f, &number));
    if (f->type == COUNT)
        *(int64_t *)(void *)at = (int64_t)number;
    else
        *(double *)(void *)at = number;
    return RINGX_OK;
}

static ringx_status check_complete(const reader *r)
{
    for (size_t i = 0; i < FIELDS; i++)
        if (fields[i].required && !r->seen[i])
            RINGX_FAIL(RINGX_BAD_FILE, "%s: %s is missing", r->origin, fields[i].name);
    if (r->machine->ranks_per_node > 0 && r->machine->inter_gbs <= 0)
        RINGX_FAIL(RINGX_BAD_FILE, "%s: inter_gbs is missing; ranks_per_node 0 says that there is one node", r->origin);
    return RINGX_OK;
}

static ringx_status read_all(reader *r)
{
    RINGX_TRY(expect(r, YAML_STREAM_START_EVENT, "YAML"));
    RINGX_TRY(expect(r, YAML_DOCUMENT_START_EVENT, "a description of 'key: value' lines"));
    RINGX_TRY(expect(r, YAML_MAPPING_START_EVENT, "a description of 'key: value' lines"));
    for (;;) {
        RINGX_TRY(next_event(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            break;
        size_t i;
        if (!scalar(r))
            RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: a key is expected here", r->origin, line_of(r));
        if (ringx__name_find("key", scalar(r), field_name, &i) != RINGX_OK)
            return ringx__context(RINGX_BAD_FILE, "%s, line %d", r->origin, line_of(r));
        if (r->seen[i])
            RINGX_FAIL(RINGX_BAD_FILE, "%s, line %d: %s is there twice", r->origin, line_of(r), fields[i].name);
        r->seen[i] = true;
        RINGX_TRY(read_value(r, &fields[i]));
    }
    RINGX_TRY(expect(r, YAML_DOCUMENT_END_EVENT, "the end"));
    RINGX_TRY(expect(r, YAML_STREAM_END_EVENT, "the end (there must be one document)"));
    return check_complete(r);
}

ringx_status ringx__machine_parse(ringx_machine *machine, const char *text, size_t bytes, const char *origin)
{
    *machine = (ringx_machine){.threads_per_rank = 1, .nics_per_node = 1};
    reader r = {.origin = origin, .machine = machine};
    if (bytes > MAX_BYTES)
        RINGX_FAIL(RINGX_BAD_FILE, "%s has more than %d bytes; a machine description is shorter", origin, MAX_BYTES);
    if (!yaml_parser_initialize(&r.parser))
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to read %s", origin);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    ringx_status status = read_all(&r);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return status;
}

/* ---- where descriptions come from ---- */

static const char *built_in(size_t i)
{
    return ringx__machine_texts[i].name;
}

static ringx_status read_file(const char *path, char *text, size_t *bytes)
{
    size_t nearest;
    FILE *file = fopen(path, "rb");
    if (!file) {
        const char *reason = strerror(errno);
        if (strchr(path, '/') || strchr(path, '.'))
            RINGX_FAIL(RINGX_IO, "machine description %s cannot be read: %s", path, reason);
        return ringx__name_find("machine", path, built_in, &nearest); /* not a path by its looks: a misspelt name */
    }
    *bytes = fread(text, 1, MAX_BYTES + 1, file);
    bool bad = ferror(file) != 0;
    fclose(file);
    if (bad)
        RINGX_FAIL(RINGX_IO, "machine description %s cannot be read", path);
    return RINGX_OK;
}

ringx_status ringx__machine_load(ringx_machine *machine, const char *name)
{
    name = name ? name : "local";
    for (size_t i = 0; built_in(i); i++)
        if (strcmp(built_in(i), name) == 0)
            return ringx__machine_parse(machine, ringx__machine_texts[i].text, strlen(ringx__machine_texts[i].text),
                                        name);
    char *text = malloc(MAX_BYTES + 1);
    if (!text)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to read %s", name);
    size_t bytes = 0;
    ringx_status status = read_file(name, text, &bytes);
    if (status == RINGX_OK)
        status = ringx__machine_parse(machine, text, bytes, name);
    free(text);
    return status;
}

double ringx__machine_rate(const ringx_rate *rate, double tokens)
{
    size_t i = 0;
    while (i < rate->points && rate->tokens[i] < tokens)
        i++;
    if (i == 0 || i == rate->points)
        return 1e9 * rate->gflops[i == 0 ? 0 : i - 1];
    double from = log(rate->tokens[i - 1]), to = log(rate->tokens[i]), part = (log(tokens) - from) / (to - from);
    return 1e9 * (rate->gflops[i - 1] + part * (rate->gflops[i] - rate->gflops[i - 1]));
}

double ringx__machine_share(const ringx_rate *by_dim, double head_dim)
{
    return by_dim->points ? ringx__machine_rate(by_dim, head_dim) * 1e-9 : 1;
}
