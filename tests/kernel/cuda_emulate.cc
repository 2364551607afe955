/* SPDX-License-Identifier: MIT */
/* The fibers, barriers, copies and products behind cuda_emulate.h, and the few runtime calls that the host code makes.
 */
#include <cudaTypedefs.h>
#include <deque>
#include <map>
#include <vector>

#include "kernel/cuda_mma.cuh"
#include "kernel/cuda_sm90.cuh"

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;
alignas(1024) char base[232448 + 1024];
uint32_t ringx__emulate_exchange[64][32][4];

/* ---- fibers: rsp and the callee-saved registers
 * ---------------------------------------------------------------------- */

extern "C" void emulate_switch(void **save, void *load);
asm(".text\n.globl emulate_switch\nemulate_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

namespace
{

const size_t STACK = 256 << 10;

struct product {
    bool bf16;
    int n;
    bool trans_a, trans_b;
    float *d;
    const uint32_t *words;
    uint64_t a, b;
    int add;
};

struct reduction {
    const CUtensorMap *map;
    uint32_t from;
    int c[4];
};

struct late_copy {
    void *to;
    const void *from;
    size_t bytes;
    bool valid;
};

struct fiber {
    void *stack_pointer;
    std::vector<char> stack;
    bool done;
    const char *why;
    std::vector<product> open;
    std::deque<std::vector<product>> groups;
    std::vector<reduction> reductions;
    std::vector<late_copy> copies;
};

std::vector<fiber> fibers;
size_t current, alive;
void *scheduler;
const std::function<void()> *work;
bool moved;

void entry()
{
    (*work)();
    fibers[current].done = true;
    alive--;
    moved = true;
    emulate_switch(&fibers[current].stack_pointer, scheduler);
    abort();
}

void start(fiber &f)
{
    if (f.stack.empty())
        f.stack.resize(STACK);
    memset(f.stack.data() + STACK - 32768, 0xFF, 32768); /* uninitialised locals are NaN */
    uintptr_t top = ((uintptr_t)f.stack.data() + STACK) & ~(uintptr_t)63;
    void **sp = (void **)top - 1;
    *--sp = (void *)entry;
    sp -= 6;
    memset(sp, 0, 48);
    f.stack_pointer = sp;
    f.done = false;
    f.why = "";
    f.open.clear();
    f.groups.clear();
    f.reductions.clear();
    f.copies.clear();
}

struct barrier {
    int arrived = 0, generation = 0;
};
std::map<std::pair<int, int>, barrier> barriers;

struct mbarrier {
    int count, pending;
    int64_t bytes;
    uint32_t phase;
};
std::map<uint32_t, mbarrier> mbarriers;

} // namespace

void ringx__emulate_moved()
{
    moved = true;
}

void ringx__emulate_yield(const char *why)
{
    uint3 mine = threadIdx;
    fibers[current].why = why;
    emulate_switch(&fibers[current].stack_pointer, scheduler);
    threadIdx = mine;
}

void ringx__emulate(const std::function<void()> &body, dim3 grid, unsigned threads, size_t smem)
{
    if (smem > 232448) {
        printf("emulate: %zu bytes of shared memory\n", smem);
        exit(4);
    }
    work = &body;
    if (fibers.size() < threads)
        fibers.resize(threads);
    gridDim = grid;
    blockDim = dim3(threads);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                if (smem)
                    memset(base, 0xFF, sizeof base);
                barriers.clear();
                mbarriers.clear();
                for (unsigned i = 0; i < threads; i++)
                    start(fibers[i]);
                alive = threads;
                int idle = 0;
                while (alive) {
                    moved = false;
                    for (current = 0; current < threads; current++) {
                        if (fibers[current].done)
                            continue;
                        threadIdx = {(unsigned)current, 0, 0};
                        emulate_switch(&scheduler, fibers[current].stack_pointer);
                    }
                    idle = moved ? 0 : idle + 1;
                    if (idle > 3) {
                        printf("emulate: deadlock in block %u,%u,%u\n", x, y, z);
                        for (unsigned i = 0; i < threads; i += 32)
                            if (!fibers[i].done)
                                printf("  thread %u waits in %s\n", i, fibers[i].why);
                        exit(4);
                    }
                }
                for (unsigned i = 0; i < threads; i++)
                    if (!fibers[i].reductions.empty() || !fibers[i].copies.empty() || !fibers[i].groups.empty() ||
                        !fibers[i].open.empty()) {
                        printf("emulate: thread %u left without waiting for what it issued\n", i);
                        exit(4);
                    }
            }
}

void ringx__emulate_barrier(int kind, int id, int threads, bool wait, const char *why)
{
    barrier &b = barriers[{kind, id}];
    int generation = b.generation;
    moved = true;
    if (++b.arrived == threads) {
        b.arrived = 0;
        b.generation++;
    } else if (wait) {
        while (b.generation == generation)
            ringx__emulate_yield(why);
    }
}

/* ---- mbarriers ----------------------------------------------------------------------------------------------------
 */

static void settle(mbarrier &b)
{
    if (b.pending == 0 && b.bytes == 0) {
        b.phase ^= 1;
        b.pending = b.count;
    }
    moved = true;
}

static mbarrier &mbarrier_at(uint32_t bar)
{
    auto found = mbarriers.find(bar);
    if (found == mbarriers.end() || bar % 8) {
        printf("emulate: no mbarrier at %u\n", bar);
        exit(4);
    }
    return found->second;
}

void mbar_init(uint32_t bar, int count)
{
    mbarriers[bar] = {count, count, 0, 0};
}

void mbar_expect(uint32_t bar, uint32_t bytes)
{
    mbarrier_at(bar).bytes += bytes;
    mbar_arrive(bar);
}

void mbar_arrive(uint32_t bar)
{
    mbarrier &b = mbarrier_at(bar);
    if (--b.pending < 0) {
        printf("emulate: too many arrivals at mbarrier %u\n", bar);
        exit(4);
    }
    settle(b);
}

void mbar_wait(uint32_t bar, uint32_t parity)
{
    while (mbarrier_at(bar).phase == parity)
        ringx__emulate_yield("mbarrier");
    moved = true;
}

/* ---- bulk copies ----------------------------------------------------------------------------------------------------
 */

namespace
{

struct emulated_map {
    char *data;
    uint64_t size[4], stride[3];
    uint32_t box[2], element, swizzle;
};

uint32_t swizzled(uint32_t address)
{
    return address ^ ((address >> 7 & 7) << 4);
}

CUresult encode(CUtensorMap *to, CUtensorMapDataType type, cuuint32_t rank, void *data, const cuuint64_t *size,
                const cuuint64_t *stride, const cuuint32_t *box, const cuuint32_t *steps, CUtensorMapInterleave,
                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill)
{
    emulated_map m = {(char *)data, {}, {}, {box[0], box[1]}, type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4u : 2u, 0};
    static_assert(sizeof m <= sizeof *to, "");
    bool fine = rank == 4 && (uintptr_t)data % 16 == 0 && box[0] * m.element == 128 && box[1] >= 1 && box[1] <= 256 &&
                box[2] == 1 && box[3] == 1 && swizzle == CU_TENSOR_MAP_SWIZZLE_128B && (uintptr_t)to % 64 == 0;
    for (int i = 0; i < 4; i++) {
        fine = fine && size[i] >= 1 && size[i] <= (UINT64_C(1) << 32) && steps[i] == 1;
        m.size[i] = size[i];
        if (i < 3) {
            fine = fine && stride[i] % 16 == 0 && stride[i] < (UINT64_C(1) << 40);
            m.stride[i] = stride[i];
        }
    }
    memcpy(to, &m, sizeof m);
    return fine ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Calls each(pointer or NULL where out of bounds, shared address) for the elements of a box. */
template <typename F> emulated_map walk_box(const CUtensorMap *map, uint32_t at, const int (&c)[4], F &&each)
{
    emulated_map m;
    memcpy(&m, map, sizeof m);
    if (at % 1024) {
        printf("emulate: a box at %u, not a multiple of 1024\n", at);
        exit(4);
    }
    for (uint32_t row = 0; row < m.box[1]; row++)
        for (uint32_t col = 0; col < m.box[0]; col++) {
            uint64_t i = (uint64_t)c[0] + col, j = (uint64_t)c[1] + row, k = (uint64_t)c[2], l = (uint64_t)c[3];
            bool in = i < m.size[0] && j < m.size[1] && k < m.size[2] && l < m.size[3];
            char *p = in ? m.data + i * m.element + j * m.stride[0] + k * m.stride[1] + l * m.stride[2] : nullptr;
            each(p, swizzled(at + row * 128 + col * m.element));
        }
    return m;
}

} // namespace

void tma_load(uint32_t to, const CUtensorMap *map, uint32_t bar, int c0, int c1, int c2, int c3, uint64_t)
{
    emulated_map m = walk_box(map, to, {c0, c1, c2, c3}, [](char *from, uint32_t address) {
        uint16_t x = 0;
        if (from)
            memcpy(&x, from, 2);
        memcpy(smem_pointer(address), &x, 2);
    });
    mbarrier &b = mbarrier_at(bar);
    b.bytes -= (int64_t)m.box[0] * m.box[1] * m.element;
    settle(b);
}

void tma_reduce_add(const CUtensorMap *map, uint32_t from, int c0, int c1, int c2, int c3)
{
    fibers[current].reductions.push_back({map, from, {c0, c1, c2, c3}});
}

void ringx__emulate_bulk_wait()
{
    for (const reduction &r : fibers[current].reductions)
        walk_box(r.map, r.from, {r.c[0], r.c[1], r.c[2], r.c[3]}, [](char *to, uint32_t address) {
            float x;
            memcpy(&x, smem_pointer(address), 4);
            if (to)
                *(float *)to += x;
        });
    fibers[current].reductions.clear();
    moved = true;
}

/* ---- matrix products ------------------------------------------------------------------------------------------------
 */

static float number(bool bf16, uint16_t bits)
{
    if (bf16) {
        uint32_t x = (uint32_t)bits << 16;
        float f;
        memcpy(&f, &x, 4);
        return f;
    }
    return __half2float(__half(__half_raw{bits}));
}

/* Element (row, k) of an operand by descriptor: the layouts of the PTX manual for 128-byte swizzle. */
static float element(bool bf16, uint64_t descriptor, bool row_major_contiguous, int row, int k)
{
    uint32_t start = (uint32_t)(descriptor & 0x3FFF) << 4, group = (uint32_t)(descriptor >> 16 & 0x3FFF) << 4;
    uint32_t eight = (uint32_t)(descriptor >> 32 & 0x3FFF) << 4, at;
    if (row_major_contiguous)
        at = start + (uint32_t)row / 64 * group + (uint32_t)row % 64 * 2 + (uint32_t)k / 8 * eight +
             (uint32_t)k % 8 * 128;
    else
        at = start + (uint32_t)row / 8 * eight + (uint32_t)row % 8 * 128 + (uint32_t)k * 2;
    uint16_t bits;
    memcpy(&bits, smem_pointer(swizzled(at)), 2);
    return number(bf16, bits);
}

static void multiply(size_t first, size_t group, size_t which)
{
    const product &p = fibers[first].groups[group][which];
    static float a[64][16], b[256][16];
    for (int k = 0; k < 16; k++) {
        for (int n = 0; n < p.n; n++)
            b[n][k] = element(p.bf16, p.b, p.trans_b, n, k);
        for (int m = 0; m < 64; m++) {
            if (p.words) {
                size_t thread = (size_t)(m / 16 * 32 + m % 8 * 4 + k % 8 / 2);
                uint32_t word = fibers[first + thread].groups[group][which].words[k / 8 * 2 + m % 16 / 8];
                a[m][k] = number(p.bf16, (uint16_t)(word >> k % 2 * 16));
            } else {
                a[m][k] = element(p.bf16, p.a, p.trans_a, m, k);
            }
        }
    }
    for (int m = 0; m < 64; m++)
        for (int n = 0; n < p.n; n++) {
            const product &q = fibers[first + (size_t)(m / 16 * 32 + m % 8 * 4 + n % 8 / 2)].groups[group][which];
            float &d = q.d[n / 8 * 4 + m % 16 / 8 * 2 + n % 2];
            float sum = p.add ? d : 0;
            for (int k = 0; k < 16; k++)
                sum += a[m][k] * b[n][k];
            d = sum;
        }
}

void ringx__emulate_product(bool bf16, int n, bool trans_a, bool trans_b, float *d, const uint32_t *a_words, uint64_t a,
                            uint64_t b, int add)
{
    fibers[current].open.push_back({bf16, n, trans_a, trans_b, d, a_words, a, b, add});
}

void wgmma_commit()
{
    fiber &f = fibers[current];
    f.groups.push_back(f.open);
    f.open.clear();
}

void ringx__emulate_products(int left)
{
    int warpgroup = (int)threadIdx.x / 128;
    ringx__emulate_barrier(3, warpgroup, 128, true, "wgmma.wait (arrive)");
    size_t first = (size_t)warpgroup * 128;
    if (threadIdx.x % 128 == 0) {
        while (fibers[first].groups.size() > (size_t)left) {
            for (size_t i = 0; i < fibers[first].groups[0].size(); i++)
                multiply(first, 0, i);
            for (size_t t = 0; t < 128; t++)
                fibers[first + t].groups.pop_front();
        }
    }
    ringx__emulate_barrier(3, warpgroup + 100, 128, true, "wgmma.wait (done)");
}

/* ---- mma.sync -------------------------------------------------------------------------------------------------------
 */

void ringx__emulate_copy(ringx_shared to, const void *from, size_t bytes, bool valid)
{
    if (to % bytes || (valid && (uintptr_t)from % bytes)) {
        printf("emulate: an unaligned copy of %zu bytes\n", bytes);
        exit(4);
    }
    fibers[current].copies.push_back({(void *)to, from, bytes, valid});
}

void ringx__emulate_copies()
{
    for (const late_copy &c : fibers[current].copies) {
        if (c.valid)
            memcpy(c.to, c.from, c.bytes);
        else
            memset(c.to, 0, c.bytes);
    }
    fibers[current].copies.clear();
}

static const void *row_of_lane[64][32];
static uint32_t fragments[64][32][6];

void ringx__emulate_load(uint32_t (&r)[4], const void *row, bool transposed)
{
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4 * 2;
    row_of_lane[warp][lane] = row;
    __syncwarp();
    for (unsigned i = 0; i < 4; i++) {
        uint16_t x[2];
        for (unsigned e = 0; e < 2; e++) {
            unsigned line = transposed ? t + e : g, place = transposed ? g : t + e;
            memcpy(&x[e], (const char *)row_of_lane[warp][8 * i + line] + 2 * place, 2);
        }
        r[i] = x[0] | (uint32_t)x[1] << 16;
    }
    __syncwarp();
}

void ringx__emulate_multiply(bool bf16, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4 * 2;
    memcpy(fragments[warp][lane], a, 16);
    fragments[warp][lane][4] = b0;
    fragments[warp][lane][5] = b1;
    __syncwarp();
    for (unsigned e = 0; e < 4; e++) {
        float sum = 0;
        for (unsigned k = 0; k < 16; k++) {
            uint32_t x = fragments[warp][g * 4 + k % 8 / 2][k / 8 * 2 + e / 2];
            uint32_t y = fragments[warp][(t + e % 2) * 4 + k % 8 / 2][4 + k / 8];
            sum += number(bf16, (uint16_t)(x >> k % 2 * 16)) * number(bf16, (uint16_t)(y >> k % 2 * 16));
        }
        d[e] += sum;
    }
    __syncwarp();
}

/* ---- runtime calls
 * ---------------------------------------------------------------------------------------------------- */

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = aligned_alloc(1024, (bytes + 1023) / 1024 * 1024 + 1024);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void *p)
{
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    memset(p, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = nullptr;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t)
{
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
    return cudaMemset(p, value, bytes);
}
cudaError_t cudaMemset2DAsync(void *p, size_t pitch, int value, size_t width, size_t height, cudaStream_t)
{
    for (size_t i = 0; i < height; i++)
        memset((char *)p + i * pitch, value, width);
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind)
{
    memcpy(to, from, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t)
{
    return cudaMemcpy(to, from, bytes, kind);
}
cudaError_t cudaDeviceSynchronize(void)
{
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t)
{
    return "emulated";
}
cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int)
{
    *value = attribute == cudaDevAttrMultiProcessorCount            ? 3
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 232448
                                                                    : 9;
    return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *, void **f, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *result)
{
    *f = (void *)encode;
    *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *)
{
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t)
{
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t)
{
    *ms = 1;
    return cudaSuccess;
}
}
