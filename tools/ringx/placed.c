/* SPDX-License-Identifier: MIT */
/* Copies of a rank's memory on its device. */
#include "placed.h"

#include "command.h"

static int place(placed *p, placed_block *block, void *host, size_t bytes)
{
    *block = (placed_block){.host = host, .there = host, .bytes = bytes};
    if (p->device == RINGX_CPU || !host)
        return CODE_GOOD;
    return fail_status(ringx_memory_alloc(p->device, bytes, &block->there), "%zu bytes on the device", bytes);
}

/* The address in the copy of an address in the original. */
static void *moved(const placed_block *block, void *address)
{
    return address ? (char *)block->there + ((char *)address - (char *)block->host) : NULL;
}

static ringx_tensor moved_tensor(const placed *p, const field *f, tensor_id id)
{
    ringx_tensor t = f->tensor;
    t.data = moved(&p->field[id], t.data);
    return t;
}

int placed_create(placed *p, ringx_device device, const field f[TENSORS], const guarded *workspace)
{
    *p = (placed){.device = device};
    for (int id = 0; id < TENSORS; id++) {
        int code = place(p, &p->field[id], f[id].memory, f[id].memory ? f[id].bytes + 2 * FIELD_GUARD : 0);
        if (code)
            return code;
    }
    int code = place(p, &p->workspace, workspace->memory, workspace->bytes + 2 * FIELD_GUARD);
    p->args = (ringx_args){.size = sizeof(ringx_args),
                           .q = moved_tensor(p, &f[T_Q], T_Q),
                           .k = moved_tensor(p, &f[T_K], T_K),
                           .v = moved_tensor(p, &f[T_V], T_V),
                           .out = moved_tensor(p, &f[T_OUT], T_OUT),
                           .lse = moved_tensor(p, &f[T_LSE], T_LSE).data,
                           .dout = moved_tensor(p, &f[T_DOUT], T_DOUT),
                           .dq = moved_tensor(p, &f[T_DQ], T_DQ),
                           .dk = moved_tensor(p, &f[T_DK], T_DK),
                           .dv = moved_tensor(p, &f[T_DV], T_DV),
                           .workspace = moved(&p->workspace, workspace->data),
                           .workspace_bytes = workspace->bytes};
    return code;
}

void placed_destroy(placed *p)
{
    for (int id = 0; id <= TENSORS; id++) {
        placed_block *block = id < TENSORS ? &p->field[id] : &p->workspace;
        if (block->there != block->host)
            ringx_memory_free(p->device, block->there);
        *block = (placed_block){.host = NULL};
    }
}

static int copy(const placed *p, const placed_block *block, bool up)
{
    if (block->there == block->host)
        return CODE_GOOD;
    void *to = up ? block->there : block->host, *from = up ? block->host : block->there;
    return fail_status(ringx_memory_copy(p->device, to, from, block->bytes), "copying %zu bytes", block->bytes);
}

static int copy_all(const placed *p, bool up)
{
    int code = copy(p, &p->workspace, up);
    for (int id = 0; id < TENSORS && !code; id++)
        code = copy(p, &p->field[id], up);
    return code;
}

int placed_upload(const placed *p)
{
    return copy_all(p, true);
}

int placed_upload_workspace(const placed *p)
{
    return copy(p, &p->workspace, true);
}

int placed_download(const placed *p)
{
    return copy_all(p, false);
}
