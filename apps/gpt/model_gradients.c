/* SPDX-License-Identifier: MIT */
/* The model's gradients: all parameters one after the other, or split.
 *
 * Split, each unit has a window: the layers two in turn, so that one can be emptied while the next is written; what
 * follows the layers has that of the embedding, which comes last.  A tied embedding is written first and last and has
 * its window for itself. */
#include "gpt/model_parts.h"

#include <stdlib.h>

static size_t unit_end(const gpt_model *m, size_t unit)
{
    size_t units = (size_t)m->config.layers + 2;
    return unit + 1 < units ? m->units[unit + 1].first : m->elements;
}

static size_t unit_elements(const gpt_model *m, size_t unit)
{
    return unit_end(m, unit) - m->units[unit].first;
}

/* Windows; returns how many elements they have together. */
static size_t place_windows(gpt_model *m)
{
    zero_unit *units = m->units;
    size_t layers = (size_t)m->config.layers, last = layers + 1;
    size_t words = unit_elements(m, 0), ends = unit_elements(m, last), layer = layers ? unit_elements(m, 1) : 0;
    units[last].place = m->config.tied ? words : 0;
    units[0].after = m->config.tied ? m->elements : units[last].first;
    ends = m->config.tied ? words + ends : ends > words ? ends : words;
    for (size_t l = 0; l < layers; l++) {
        units[1 + l].place = ends + l % 2 * layer;
        units[1 + l].after = l + 2 < layers ? units[3 + l].first : m->elements;
    }
    return ends + (layers < 2 ? layers : 2) * layer;
}

int model_gradients_lay_out(gpt_model *m)
{
    size_t layers = (size_t)m->config.layers, count = layers + 2;
    if (!m->units)
        m->units = allocate(count * sizeof *m->units);
    if (!m->units)
        return CODE_NO_MEMORY;
    for (size_t u = 0; u < count; u++) {
        size_t parameter =
            u == 0 ? 0 : parameter_of((int64_t)u - 1, INPUT_NORM); /* of the layer after the last: its norm */
        m->units[u].first = m->units[u].place = m->parameters[parameter].offset;
        m->units[u].after = m->elements;
    }
    m->gradient_elements = m->run.forward_only ? 0 : m->run.split_gradients ? place_windows(m) : m->elements;
    for (size_t u = 0, i = 0; u < count; u++)
        for (; i < m->n_parameters && m->parameters[i].offset < unit_end(m, u); i++)
            m->parameters[i].place = m->units[u].place + (m->parameters[i].offset - m->units[u].first);
    return CODE_GOOD;
}

int model_gradients_create(gpt_model *m)
{
    ringx_device device = m->on.ops->device;
    size_t before = m->gradient_elements;
    void *made = NULL;
    TRY(model_gradients_lay_out(m));
    if (m->gradients && (m->gradient_elements == before || m->run.forward_only)) {
        m->gradient_elements = before;
        return CODE_GOOD;
    }
    ringx_memory_free(device, m->gradients);
    m->gradients = NULL;
    size_t bytes = m->gradient_elements * sizeof *m->gradients;
    if (!bytes)
        return CODE_GOOD;
    TRY(fail_status(ringx_memory_alloc(device, bytes, &made), "gradients"));
    m->gradients = made;
    return m->on.ops->zero(&m->on, made, bytes);
}

size_t gpt_model_units(const gpt_model *m, const zero_unit **units)
{
    *units = m->units;
    return (size_t)m->config.layers + 2;
}

/* ---- who watches ---- */

void gpt_model_watch(gpt_model *m, const gpt_watch *watch)
{
    m->watch = watch ? *watch : (gpt_watch){0};
}

int model_claim(const gpt_model *m, size_t parameter)
{
    return m->watch.claim ? m->watch.claim(m->watch.context, m->parameters[parameter].offset) : CODE_GOOD;
}

int model_ready(const gpt_model *m, size_t parameter)
{
    return m->watch.ready ? m->watch.ready(m->watch.context, m->parameters[parameter].offset) : CODE_GOOD;
}
