/* SPDX-License-Identifier: MIT */
/* The options that several subcommands share. */
#include "command.h"

const char *const dtype_names[] = {"f32", "bf16", "f16", NULL}; /* by ringx_dtype */
const char *const device_names[] = {"cpu", "cuda", NULL};       /* by ringx_device */
const char *const comm_names[] = {"default", "threads", "mpi", "self", "env", NULL};
const char *const mask_names[] = {"full", "causal", "window-causal", "window", "packed", NULL};

const option options_common[] = {
    {.name = "json", .text = "print JSON instead of text", .kind = OPTION_FLAG, .field = FIELD(json)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0},
};

const option options_mask[] = {
    {"causal", NULL, "query p sees keys up to p only", OPTION_SWITCH, FIELD(causal), 0, 0, 0, NULL},
    {"window", "L,R", "query p sees keys p-L to p+R; -1: unlimited", OPTION_WINDOW, FIELD(window), FIELD(window_set), 0,
     0, NULL},
    {"docs", "A,B,…", "packed documents: their starts and the end of the last; tokens outside are padding",
     OPTION_STARTS, FIELD(docs), FIELD(docs_set), 0, 0, NULL},
    {"softcap", "X", "scores become X·tanh(score/X); 0: off", OPTION_REAL, FIELD(softcap), FIELD(softcap_set), 0, 1e30,
     NULL},
    {"scale", "X", "factor of q·k; 0: 1/sqrt(head_dim)", OPTION_REAL, FIELD(scale), FIELD(scale_set), -1e30, 1e30,
     NULL},
    {"dropout", "P", "probability that a weight is dropped", OPTION_REAL, FIELD(dropout), 0, 0, 0.999999, NULL},
    {"seed", "N", "of random numbers (default 1)", OPTION_UNSIGNED, FIELD(seed), 0, 0, 0, NULL},
    {0},
};

const option options_sizes[] = {
    {"batch", "N", "sequences (default 1)", OPTION_INTEGER, FIELD(batch), 0, 0, 1e9, NULL},
    {"seq", "N", "tokens of the whole sequence (default 4096)", OPTION_INTEGER, FIELD(tokens), 0, 0, 1e15, NULL},
    {"heads", "N", "query heads (default 8)", OPTION_INTEGER, FIELD(q_heads), 0, 1, 1e6, NULL},
    {"kv-heads", "N", "key and value heads, a divisor of --heads (default --heads)", OPTION_INTEGER, FIELD(kv_heads), 0,
     1, 1e6, NULL},
    {"head-dim", "N", "of q and k (default 64)", OPTION_INTEGER, FIELD(head_dim), 0, 1, 256, NULL},
    {"value-dim", "N", "of v and out (default --head-dim)", OPTION_INTEGER, FIELD(value_dim), 0, 1, 256, NULL},
    {"dtype", "NAME", "f32, bf16 or f16 (default f32)", OPTION_CHOICE, FIELD(dtype), 0, 0, 0, dtype_names},
    {0},
};

const option options_how[] = {
    {"algorithm", "NAME", "instead of the preset's", OPTION_ALGORITHM, FIELD(algorithm), 0, 0, 0, NULL},
    {"layout", "NAME", "instead of the preset's: contiguous, zigzag, striped", OPTION_LAYOUT, FIELD(layout), 0, 0, 0,
     NULL},
    {"lookahead", "N", "transfers issued N stages ahead; -1: the preset's", OPTION_INTEGER, FIELD(lookahead), 0, -1, 8,
     NULL},
    {"slices", "N", "groups of kv heads done one after the other; 0: chosen", OPTION_INTEGER, FIELD(slices), 0, 0, 1e6,
     NULL},
    {"head-ranks", "N", "ulysses, usp: ranks that share the heads; 0: chosen", OPTION_INTEGER, FIELD(head_ranks), 0, 0,
     1e6, NULL},
    {"ranks-per-node", "N", "0: discovered; on paper the machine's", OPTION_INTEGER, FIELD(ranks_per_node), 0, 0, 1e6,
     NULL},
    {"wire", "NAME", "dtype of partial results on the wire (default f32: exact)", OPTION_CHOICE, FIELD(wire), 0, 0, 0,
     dtype_names},
    {"workspace-limit", "BYTES", "met, or refused with the smallest that would fit", OPTION_BYTES,
     FIELD(workspace_limit), 0, 0, 0, NULL},
    {"device", "NAME", "cpu or cuda (default cpu)", OPTION_CHOICE, FIELD(device), 0, 0, 0, device_names},
    {"kernel", "NAME", "instead of the best one: a name from ringx info", OPTION_KERNEL, FIELD(kernel), 0, 0, 0, NULL},
    {"threads", "N", "of each rank; 0: cores shared out among the ranks", OPTION_INTEGER, FIELD(threads), 0, 0, 4096,
     NULL},
    {"timeout", "S", "seconds to wait for other ranks; 0: RINGX_TIMEOUT, else 300", OPTION_REAL, FIELD(timeout), 0, 0,
     1e9, NULL},
    {"machine", "FILE", "a machine description or a built-in one, for choosing and forecasting (default local)",
     OPTION_TEXT, FIELD(machine), 0, 0, 0, NULL},
    {0},
};

const option options_launch[] = {
    {"comm", "NAME", "threads, mpi, env or self (default: mpi under mpirun or srun, env under torchrun, else threads)",
     OPTION_CHOICE, FIELD(comm), 0, 0, 0, comm_names},
    {"gpu", "LIST", "the GPU of each rank of a node, in turn (default: all that are visible)", OPTION_TEXT, FIELD(gpus),
     0, 0, 0, NULL},
    {"transport", "NAME",
     "between GPUs: nccl, staged (default: copies by the GPUs themselves, else NCCL if every rank has its own, else "
     "staged)",
     OPTION_CHOICE, FIELD(transport), 0, 0, 0, transport_names},
    {"fault", "RULES", "make transfers fail: rank=R|*,call=N|*,kind=error|delay:SECONDS|drop;…", OPTION_TEXT,
     FIELD(fault), 0, 0, 0, NULL},
    {0},
};
