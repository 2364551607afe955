/* SPDX-License-Identifier: MIT */
/* Training runs on paper: machines, places of ranks, and what depends on neither model. */
#include "train/paper.h"

#include "shared/numbers.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- the machine ---- */

static ringx_device device_of(ringx_device wanted)
{
    const ringx_kernel_entry *kernel;
    for (size_t i = 0; wanted == RINGX_CUDA && (kernel = ringx_kernel_at(i)) != NULL; i++)
        if (kernel->device == RINGX_CUDA)
            return RINGX_CUDA;
    return RINGX_CPU;
}

int paper_machine_find(paper_machine *m, const paper_options *o, ringx_device device)
{
    *m = (paper_machine){.efficiency = o->efficiency, .device = device_of(device)};
    m->name = o->machine ? o->machine : device == RINGX_CUDA ? "h200x8" : "local";
    if (strchr(m->name, '/') && access(m->name, F_OK) != 0)
        return fail(CODE_MISSING, "%s: there is no such file", m->name);
    int code = fail_status(ringx_machine_describe(m->name, &m->figures), "machine");
    m->memory = o->memory > 0 ? (size_t)(o->memory * 0x1p30) : m->figures.device_memory;
    return code;
}

/* ---- ranks ---- */

void paper_lay_out(paper_plan *p, const int size[AXES], const int order[AXES])
{
    int stride = 1;
    memcpy(p->size, size, sizeof p->size);
    for (int i = 0; i < AXES; i++) {
        p->stride[order[i]] = stride;
        stride *= size[order[i]];
    }
}

int paper_context_in_node(const paper_plan *p, const paper_machine *m)
{
    int per = m->figures.ranks_per_node, ranks = p->size[AXIS_CONTEXT];
    int here = per ? per / p->stride[AXIS_CONTEXT] : ranks;
    here = here < 1 ? 1 : here < ranks ? here : ranks;
    return ranks % here == 0 ? here : 1;
}

void paper_describe_attention(char text[PAPER_TEXT], const ringx_plan_info *info)
{
    snprintf(text, PAPER_TEXT, "%.40s, %.20s layout, kernel %.20s", info->preset, info->layout, info->kernel);
}

bool paper_add_place(paper_plan *p, int tensor, int context, zero_paper share, size_t bytes)
{
    bool most = false;
    if (share.elements > p->most_parameters)
        p->most_parameters = share.elements;
    share.ranks = (size_t)p->size[AXIS_CONTEXT] * (size_t)p->size[AXIS_DATA];
    for (int d = 0; d < p->size[AXIS_DATA]; d++) {
        share.rank = (size_t)(context + p->size[AXIS_CONTEXT] * d);
        zero_memory optimizer = zero_memory_of(&share);
        if (bytes + optimizer.device <= p->device)
            continue;
        most = true;
        p->device = bytes + optimizer.device, p->optimizer = optimizer;
        p->fullest = tensor * p->stride[AXIS_TENSOR] + context * p->stride[AXIS_CONTEXT] + d * p->stride[AXIS_DATA];
    }
    return most;
}

/* ---- time ---- */

int paper_all_reduce(const paper_plan *p, const paper_machine *m, axis along, double bytes, double *seconds)
{
    double scatter = 0, gather = 0, n = p->size[along], wire = (n - 1) / n * bytes;
    int code = fail_status(
        ringx_machine_transfer(m->name, RINGX_OP_REDUCE_SCATTER, (int)n, p->stride[along], wire, &scatter), "forecast");
    if (!code)
        code = fail_status(ringx_machine_transfer(m->name, RINGX_OP_ALLGATHER, (int)n, p->stride[along], wire, &gather),
                           "forecast");
    *seconds = scatter + gather;
    return code;
}

int paper_gradient_time(paper_plan *p, const paper_machine *m, const paper_sums *s)
{
    double n = (double)p->size[AXIS_CONTEXT] * p->size[AXIS_DATA], elements = (double)p->most_parameters;
    double gradients = (n - 1) / n * elements * 4, sums = s->stage == 2 ? (double)s->steps : 1, sum = 0, gather = 0;
    double weights = (n - 1) / n * elements * (s->stage ? (double)dtype_bytes(s->dtype) : 4);
    int near = p->stride[AXIS_CONTEXT] < p->stride[AXIS_DATA] ? p->stride[AXIS_CONTEXT] : p->stride[AXIS_DATA];
    if (n < 2)
        return CODE_GOOD;
    int code = fail_status(ringx_machine_transfer(m->name, RINGX_OP_REDUCE_SCATTER, (int)n, near, gradients, &sum),
                           "forecast of gradients");
    if (!code)
        code = fail_status(ringx_machine_transfer(m->name, RINGX_OP_ALLGATHER, (int)n, near, weights, &gather),
                           "forecast of weights");
    /* whole gradients are gathered as they are summed, weights after the update */
    double travels = s->stage ? sum : sum + gather, rest = fmax(travels - s->beside, 0);
    rest = s->beside > 0 ? fmax(rest, s->last * travels) : travels;
    p->seconds[PAPER_GRADIENTS] = sums * rest + (s->stage ? gather : 0);
    p->wire[PAPER_GRADIENTS] = sums * gradients + weights;
    return code;
}

/* Reads and writes of gradient, master, moments and weight; the norm; gradients to zero. */
static double optimizer_bytes(const paper_plan *p, ringx_dtype dtype)
{
    double own = (double)p->optimizer.states, e = (double)dtype_bytes(dtype);
    return own * (4 + 3 * 8 + (p->optimizer.master > 0 ? 4 + e : 0)) + 4 * own + 4 * (double)p->most_parameters;
}

void paper_own_time(paper_plan *p, const paper_machine *m, double flops, double bytes, ringx_dtype dtype)
{
    double memory = m->figures.memory_gbs * 1e9;
    p->seconds[PAPER_LINEAR] = flops / (m->figures.matrix_flops * m->efficiency);
    p->seconds[PAPER_ROWS] = bytes / memory;
    p->seconds[PAPER_OPTIMIZER] = optimizer_bytes(p, dtype) / memory;
}

size_t paper_needs(const paper_plan *p)
{
    return p->device + p->runtime;
}

void paper_finish(paper_plan *p, const paper_machine *m, double tflops)
{
    p->runtime = m->figures.driver_memory + (p->ranks > 1 ? m->figures.comm_memory : 0);
    p->known = m->memory > 0;
    p->fits = !p->known || paper_needs(p) <= m->memory;
    p->step = 0;
    for (int i = 0; i < PAPER_PARTS; i++)
        p->step += p->seconds[i];
    p->peak = tflops > 0 ? tflops * 1e12 : m->figures.peak_flops;
}
