/* SPDX-License-Identifier: MIT */
/* ringx: exact attention over sequences that are split over many ranks.
 *
 *     describe → plan → execute
 *
 * A ringx_problem says what is to be computed, ringx_options how, a ringx_comm with whom.  ringx_plan_create is
 * collective: it validates, chooses, writes the schedule, and either succeeds on every rank or fails on every rank.
 * After it, ringx_forward and ringx_backward allocate nothing and decide nothing.
 *
 * Tensors are [batch][token][head][head_dim], of the rank's own tokens; lse is [batch][head][token], float, natural
 * log. A query row that sees no key gives out = 0, lse = -infinity and zero gradients.
 *
 * Threads: a plan and its communicator belong to one thread at a time; different plans on different communicators are
 * independent.  Every function that can fail returns a ringx_status; ringx_last_error() gives this thread's last
 * message.
 */
#ifndef RINGX_H
#define RINGX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RINGX_VERSION_MAJOR 0
#define RINGX_VERSION_MINOR 1
#define RINGX_VERSION_PATCH 0

#if defined(__GNUC__)
#define RINGX_API __attribute__((visibility("default")))
#else
#define RINGX_API
#endif

/* ---- status ---- */

typedef enum ringx_status {
    RINGX_OK = 0,
    RINGX_INVALID,     /* an argument is wrong: the message names it, its value, and what would be right */
    RINGX_UNSUPPORTED, /* legal, but nothing here can do it */
    RINGX_NO_MEMORY,   /* the message says how much was needed */
    RINGX_MISMATCH,    /* ranks disagree: the message names the rank, the field and both values */
    RINGX_PEER_DIED,   /* another rank failed or ended: the message names it */
    RINGX_STALLED,     /* a deadline passed: the message names the step and the ranks waited for */
    RINGX_COMM,        /* the transport reported an error */
    RINGX_DEVICE,      /* the device reported an error */
    RINGX_IO,          /* a file cannot be read or written */
    RINGX_BAD_FILE,    /* a file's contents are wrong */
    RINGX_INTERNAL     /* a defect of this library */
} ringx_status;

RINGX_API const char *ringx_status_name(ringx_status status);
RINGX_API const char *ringx_last_error(void); /* this thread's; never NULL; valid until its next ringx call */
RINGX_API const char *ringx_version(void);    /* "0.1.0" */

/* ---- problem: what is computed ------------------------------------------------------------------------------------
 */

typedef enum ringx_dtype { RINGX_F32 = 0, RINGX_BF16 = 1, RINGX_F16 = 2 } ringx_dtype;

typedef struct ringx_problem {
    size_t size;                       /* sizeof(ringx_problem); RINGX_PROBLEM_INIT sets it */
    int64_t batch;                     /* >= 0 */
    int64_t tokens;                    /* of the whole sequence, over all ranks, >= 0 */
    int64_t q_heads;                   /* a multiple of kv_heads */
    int64_t kv_heads;                  /* >= 1 */
    int64_t head_dim;                  /* of q and k, 1 … 256 */
    int64_t value_dim;                 /* of v and out, 1 … 256; 0: head_dim */
    ringx_dtype dtype;                 /* of q, k, v, out and their gradients; all sums are float */
    double scale;                      /* of q·k; 0: 1/sqrt(head_dim) */
    bool causal;                       /* query p sees keys <= p */
    int64_t window_left, window_right; /* query p sees keys p - left … p + right, both included; -1: unlimited */
    const int64_t *document_starts; /* packed documents: documents + 1 non-decreasing bounds in 0 … tokens.  Queries */
    size_t documents;               /* see keys of their own document only; tokens outside all bounds are padding */
                                    /* and see and are seen by nothing.  documents = 0: one document, no padding */
    double softcap;                 /* scores become softcap·tanh(score/softcap) after scaling; 0: off */
    double dropout;                 /* probability in [0, 1) that a weight is dropped; the others grow by 1/(1-p) */
    uint64_t seed;                  /* of dropout; the mask depends on (seed, batch, head, query, key) alone */
} ringx_problem;

#define RINGX_PROBLEM_INIT                                                                                             \
    {                                                                                                                  \
        .size = sizeof(ringx_problem), .window_left = -1, .window_right = -1                                           \
    }

/* ---- options: how -------------------------------------------------------------------------------------------------
 */

typedef enum ringx_device { RINGX_CPU = 0, RINGX_CUDA = 1 } ringx_device;

typedef struct ringx_options {
    size_t size;            /* sizeof(ringx_options); RINGX_OPTIONS_INIT sets it */
    const char *preset;     /* a name from ringx_preset_at(); NULL: "auto", chosen by forecast */
    const char *algorithm;  /* overrides the preset's: kvgather, kvbcast, qbcast, ring, headswap */
    const char *layout;     /* overrides the preset's: contiguous, zigzag, striped */
    int lookahead;          /* overrides the preset's: transfers issued this many stages ahead; -1: the preset's */
    int slices;             /* groups of kv heads done one after the other, 1 … kv_heads; 0: chosen */
    int head_ranks;         /* headswap: ranks that share the heads, a divisor of the ranks; 0: chosen */
    int ranks_per_node;     /* 0: discovered; of a study the machine's */
    ringx_dtype wire;       /* of partial results on the wire; RINGX_F32 keeps them exact */
    size_t workspace_limit; /* bytes; 0: none.  Met, or refused with the smallest that would fit */
    ringx_device device;
    const char *kernel;  /* a name from ringx_kernel_at(); NULL: the best that supports the problem */
    int threads;         /* of the compute lane; 0: OpenMP's default */
    double timeout;      /* seconds a wait for other ranks may take; 0: RINGX_TIMEOUT, else 300 */
    const char *machine; /* description used to choose and to forecast (docs/machines); NULL: built-in */
    bool forward_only;   /* the plan can do no backward; its workspace may be smaller */
    bool deterministic;  /* bitwise equal from run to run even where that is slower (CPUs always are) */
    bool timeline;       /* record when each step ran: ringx_plan_timeline */
    void *stream;        /* CUDA: the caller's cudaStream_t */
} ringx_options;

#define RINGX_OPTIONS_INIT                                                                                             \
    {                                                                                                                  \
        .size = sizeof(ringx_options), .lookahead = -1                                                                 \
    }

/* ---- communicators: with whom --------------------------------------------------------------------------------------
 * ringx_mpi.h and ringx_nccl.h make further ones.  A communicator outlives the plans made with it. */

typedef struct ringx_comm ringx_comm;

RINGX_API ringx_status ringx_comm_self(ringx_comm **comm);
/* Ranks as threads of this process: comms[0 … ranks-1], one for each thread to use. */
RINGX_API ringx_status ringx_comm_threads(int ranks, ringx_comm **comms);
/* Collective over the processes that a launcher started and told their places: RANK, WORLD_SIZE, MASTER_ADDR and
 * MASTER_PORT (as torchrun does), else SLURM_PROCID, SLURM_NTASKS, SLURM_JOB_NODELIST and SLURM_JOB_ID.  They meet at
 * rank 0's host, on port RINGX_PORT if that is set, within RINGX_TIMEOUT seconds (300), and talk over TCP. */
RINGX_API ringx_status ringx_comm_from_environment(ringx_comm **comm);
/* Wraps another one and makes its calls fail, for tests.  plan: semicolon-separated rules
 * "rank=R|*,call=N|*,kind=error|delay:SECONDS|drop" (R: the rank it happens on, N: the how-manyeth call from 0).
 * Destroying it destroys the inner one. */
RINGX_API ringx_status ringx_comm_faulty(ringx_comm *inner, const char *plan, ringx_comm **comm);
/* Collective, for what programs tell each other beside their plans: host memory, the same size on all ranks, within
 * RINGX_TIMEOUT seconds (300).  Every rank's bytes to all, in rank order; root's bytes to all. */
RINGX_API ringx_status ringx_comm_gather(ringx_comm *comm, const void *mine, size_t bytes, void *all);
RINGX_API ringx_status ringx_comm_broadcast(ringx_comm *comm, void *data, size_t bytes, int root);
RINGX_API int ringx_comm_rank(const ringx_comm *comm);
RINGX_API int ringx_comm_ranks(const ringx_comm *comm);
RINGX_API void ringx_comm_destroy(ringx_comm *comm); /* NULL is fine */

/* ---- plan ---------------------------------------------------------------------------------------------------------
 */

typedef struct ringx_plan ringx_plan;

typedef struct ringx_traffic { /* of one direction, of this rank, by the schedule */
    uint64_t wire_bytes;       /* that this rank sends, in an ideal implementation of each collective */
    uint64_t messages;         /* communication steps */
    uint64_t steps;            /* all steps */
    int slices;                /* groups of kv heads done one after the other */
    double flops;              /* 4·d per live (query, key, head) forward, 2.5 times that backward */
} ringx_traffic;

typedef struct ringx_plan_info {
    const char *preset, *algorithm, *layout, *kernel, *transport;            /* names; valid while the plan lives */
    int rank, ranks, lookahead, slices, head_ranks, ranks_per_node, threads; /* slices: of the pass with more */
    int64_t local_tokens;
    size_t workspace_bytes; /* exact */
    ringx_traffic forward, backward;
} ringx_plan_info;

/* Collective.  Copies what it needs from problem and options. */
RINGX_API ringx_status ringx_plan_create(ringx_plan **plan, const ringx_problem *problem, const ringx_options *options,
                                         ringx_comm *comm);
RINGX_API void ringx_plan_destroy(ringx_plan *plan); /* local; NULL is fine */

/* Collective.  Says where the workspace of all later executes will be: at least ringx_plan_workspace(plan) bytes,
 * aligned to 128, which outlive the plans of all ranks, or their next attach.  GPUs of one host whose ranks are
 * processes then copy blocks into each other's workspaces by copy engines, at a link's full speed and without
 * multiprocessors; the workspace must be memory that cudaMalloc gave.  Elsewhere nothing changes; without attaching,
 * all transfers are the communicator's.  Fails on every rank or on none. */
RINGX_API ringx_status ringx_plan_attach(ringx_plan *plan, void *workspace);
RINGX_API void ringx_plan_describe(const ringx_plan *plan, ringx_plan_info *info);
RINGX_API size_t ringx_plan_workspace(const ringx_plan *plan);     /* bytes, exact */
RINGX_API int64_t ringx_plan_local_tokens(const ringx_plan *plan); /* tokens this rank holds, may be 0 */
/* Global position of each local token, ascending: positions[0 … local_tokens-1]. */
RINGX_API void ringx_plan_positions(const ringx_plan *plan, int64_t *positions);

/* ---- execute ------------------------------------------------------------------------------------------------------
 */

typedef struct ringx_tensor {
    void *data;        /* aligned to its dtype; may be NULL where the tensor has no elements */
    int64_t stride[3]; /* of batch, token, head, in elements; all 0: packed.  head_dim is always contiguous */
} ringx_tensor;

typedef struct ringx_args {
    size_t size;             /* sizeof(ringx_args); RINGX_ARGS_INIT sets it */
    ringx_tensor q, k, v;    /* in */
    ringx_tensor out;        /* forward: result; backward: in */
    float *lse;              /* forward: result; backward: in.  [batch][q_heads][local tokens], packed */
    ringx_tensor dout;       /* backward: in */
    ringx_tensor dq, dk, dv; /* backward: results, overwritten */
    void *workspace;         /* at least ringx_plan_workspace(plan) bytes, aligned to 128; contents do not matter */
    size_t workspace_bytes;
} ringx_args;

#define RINGX_ARGS_INIT                                                                                                \
    {                                                                                                                  \
        .size = sizeof(ringx_args)                                                                                     \
    }

/* Collective.  On a CPU they return when done; with CUDA they enqueue on the plan's stream and return. */
RINGX_API ringx_status ringx_forward(ringx_plan *plan, const ringx_args *args);
RINGX_API ringx_status ringx_backward(ringx_plan *plan, const ringx_args *args);

/* Waits until everything executed so far is done (CPU: it already is); with CUDA the place to learn of late errors. */
RINGX_API ringx_status ringx_plan_wait(ringx_plan *plan);

/* Measured by the last execute (CUDA: with options.timeline, after ringx_plan_wait; CPU: seconds; summed waits of the
 * compute lane for the communication lane). */
typedef struct ringx_timing {
    double total_s, exposed_s, compute_s, transfer_s;
} ringx_timing;
RINGX_API void ringx_plan_timing(const ringx_plan *plan, ringx_timing *forward, ringx_timing *backward);

/* ---- devices: which one a rank uses is the caller's choice, made before its plans ---- */

/* How many of a kind there are for this process: 1 CPU; 0 GPUs where this build or this machine has none. */
RINGX_API ringx_status ringx_device_count(ringx_device device, int *count);
/* Makes one of them, 0 … count-1, the current one of the calling thread. */
RINGX_API ringx_status ringx_device_use(ringx_device device, int index);

/* ---- memory of a device: for callers without one of their own ----
 * Allocations are aligned to 128 bytes.  Copies go between any two memories and are done on return. */
RINGX_API ringx_status ringx_memory_alloc(ringx_device device, size_t bytes, void **memory);
RINGX_API void ringx_memory_free(ringx_device device, void *memory); /* NULL is fine */
RINGX_API ringx_status ringx_memory_copy(ringx_device device, void *to, const void *from, size_t bytes);

/* ---- whole tensors and shards -------------------------------------------------------------------------------------
 * A global tensor is [outer][tokens][width bytes], a shard [outer][local tokens][width bytes], both packed; for lse
 * outer = batch·heads and width = 4.  Pure copies. */
RINGX_API void ringx_shard(const ringx_plan *plan, int64_t outer, size_t width, const void *global, void *local);
/* Collective: every rank's shard is written to its place in root's global tensor (ignored on other ranks). */
RINGX_API ringx_status ringx_unshard(ringx_plan *plan, int64_t outer, size_t width, const void *local, void *global,
                                     int root);

#ifdef __cplusplus
}
#endif
#endif
