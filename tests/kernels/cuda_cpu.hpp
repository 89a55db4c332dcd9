// Runs the product's CUDA source on the CPU: a CUDA thread is a loop iteration or, where the source synchronises
// threads, a coroutine (ucontext) that yields at the barrier. Everything happens on one OS thread, so atomics are plain
// operations. Blocks and threads take turns in a shuffled but fixed order: code that counts on an order shows it.
// Stricter than a GPU: a barrier that not all threads of the block reach, or reach at different lines, is an error.
#pragma once
#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#include <ucontext.h>

struct dim3 { unsigned x = 1, y = 1, z = 1; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;
static std::vector<unsigned char> cu_shared;  // what `extern __shared__` points to

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __syncthreads() cu_wait(CuState::at_block, __LINE__, 0)
#define __syncwarp(...) cu_wait(CuState::at_warp, __LINE__, cu_mask(__VA_ARGS__))
using std::max;
using std::min;

// ---- coroutines
enum class CuState { ready, at_block, at_warp, done };
struct CuFiber {
    ucontext_t context;
    CuState state;
    int line;
    unsigned mask;
};
static constexpr size_t CU_STACK = 128 << 10;
static std::vector<CuFiber> cu_fibers;
static std::unique_ptr<char[]> cu_stacks;
static ucontext_t cu_scheduler;
static unsigned cu_self;  // linear thread index in the block
static std::function<void()> cu_body;
static uint64_t cu_exchange[1024];

inline unsigned cu_mask(unsigned mask = 0xffffffffu) {
    unsigned threads = blockDim.x * blockDim.y * blockDim.z, lanes = std::min(32u, threads - cu_self / 32 * 32);
    return lanes == 32 ? mask : mask & ((1u << lanes) - 1);
}
inline void cu_wait(CuState state, int line, unsigned mask) {
    CuFiber& self = cu_fibers[cu_self];
    self.state = state, self.line = line, self.mask = mask;
    swapcontext(&self.context, &cu_scheduler);
}
static void cu_entry() {
    cu_body();
    cu_fibers[cu_self].state = CuState::done;
    swapcontext(&cu_fibers[cu_self].context, &cu_scheduler);
}
static void cu_become(unsigned thread) {
    cu_self = thread;
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / (blockDim.x * blockDim.y)};
}
// Lets go of every complete barrier; returns an error if nobody can go on.
static const char* cu_release(unsigned threads) {
    auto waits = [&](unsigned t, CuState state) { return cu_fibers[t].state == state; };
    unsigned done = 0, at_block = 0, released = 0;
    for (unsigned t = 0; t < threads; ++t) done += waits(t, CuState::done), at_block += waits(t, CuState::at_block);
    if (done == threads) return nullptr;
    if (at_block == threads) {
        for (unsigned t = 0; t < threads; ++t) {
            if (cu_fibers[t].line != cu_fibers[0].line) return "threads of a block wait at different __syncthreads()";
            cu_fibers[t].state = CuState::ready;
        }
        return nullptr;
    }
    for (unsigned t = 0; t < threads; ++t) {
        if (!waits(t, CuState::at_warp)) continue;
        unsigned first = t / 32 * 32, mask = cu_fibers[t].mask, arrived = 0;
        if (!(mask >> (t - first) & 1)) return "a lane calls a warp function with a mask that leaves it out";
        for (unsigned lane = 0; lane < 32 && first + lane < threads; ++lane) {
            bool same = waits(first + lane, CuState::at_warp) && cu_fibers[first + lane].mask == mask;
            arrived |= unsigned(same) << lane;
        }
        if ((arrived & mask) != mask) continue;
        for (unsigned lane = 0; lane < 32; ++lane)
            if (mask >> lane & 1) cu_fibers[first + lane].state = CuState::ready, ++released;
    }
    return released ? nullptr : "a barrier that not every thread reaches (early return or divergent branch)";
}
static const char* cu_run_block(unsigned threads, const std::vector<unsigned>& order) {
    for (unsigned t = 0; t < threads; ++t) {
        CuFiber& fiber = cu_fibers[t];
        getcontext(&fiber.context);
        fiber.context.uc_stack = {&cu_stacks[t * CU_STACK], 0, CU_STACK};
        fiber.context.uc_link = nullptr;
        fiber.state = CuState::ready;
        makecontext(&fiber.context, cu_entry, 0);
    }
    for (;;) {
        bool live = false;
        for (unsigned t : order)
            if (cu_fibers[t].state == CuState::ready) {
                cu_become(t);
                swapcontext(&cu_scheduler, &cu_fibers[t].context);
            }
        for (unsigned t = 0; t < threads; ++t) live |= cu_fibers[t].state != CuState::done;
        if (!live) return nullptr;
        if (const char* error = cu_release(threads)) return error;
    }
}

// ---- launch, called from Python with the arguments as cuLaunchKernel takes them: pointers to values
static std::vector<unsigned> cu_shuffled(unsigned n, unsigned seed) {
    std::vector<unsigned> order(n);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), std::minstd_rand(seed));
    return order;
}
static const char* cu_launch(const unsigned* grid, const unsigned* block, size_t shared, bool synchronises,
                             std::function<void()> body) {
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
    unsigned threads = block[0] * block[1] * block[2], blocks = grid[0] * grid[1] * grid[2];
    if (threads < 1 || threads > 1024 || block[2] > 64) return "a block has 1 to 1024 threads, at most 64 along z";
    if (blocks < 1 || grid[1] > 65535 || grid[2] > 65535) return "an empty grid, or over 65535 blocks along y or z";
    if (shared > 48 << 10) return "more than 48 KiB of dynamic shared memory";
    cu_shared.assign(shared, 0xff);
    cu_body = std::move(body);
    if (synchronises && cu_fibers.size() < threads) {
        cu_fibers = std::vector<CuFiber>(threads);
        cu_stacks.reset(new char[threads * CU_STACK]);
    }
    const std::vector<unsigned> order = cu_shuffled(threads, 7);
    for (unsigned b : cu_shuffled(blocks, 11)) {
        blockIdx = {b % grid[0], b / grid[0] % grid[1], b / (grid[0] * grid[1])};
        if (!synchronises)
            for (unsigned t : order) cu_become(t), cu_body();
        else if (const char* error = cu_run_block(threads, order))
            return error;
    }
    return nullptr;
}
template <class T> std::string cu_code() {  // as numpy writes kind and size: f4, i8, u1; pointers p:f4, const ones c:f4
    if constexpr (std::is_pointer_v<T>) {
        using E = std::remove_pointer_t<T>;
        return (std::is_const_v<E> ? "c:" : "p:") + cu_code<std::remove_cv_t<E>>();
    } else if constexpr (!std::is_arithmetic_v<T>) {
        return "any";
    } else {
        char kind = std::is_same_v<T, bool> ? 'b' : std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
        return kind + std::to_string(sizeof(T));
    }
}
template <class... P> const char* cu_signature(void (*)(P...)) {
    static std::string text;
    text.clear();
    ((text += cu_code<P>() + " "), ...);
    return text.c_str();
}
template <class... P, size_t... I> std::function<void()> cu_bind(void (*f)(P...), void** a, std::index_sequence<I...>) {
    return [=] { f(*static_cast<P*>(a[I])...); };
}
template <class... P> std::function<void()> cu_bind(void (*f)(P...), void** a) {
    return cu_bind(f, a, std::index_sequence_for<P...>());
}
#define CU_EXPORT(name, synchronises)                                                                     \
    extern "C" const char* cu_signature_##name() { return cu_signature(name); }                           \
    extern "C" const char* cu_launch_##name(const unsigned* g, const unsigned* b, size_t s, void** a) {   \
        return cu_launch(g, b, s, synchronises, cu_bind(name, a));                                        \
    }

// ---- device functions
template <class T, class U> T atomicAdd(T* p, U v) { T old = *p; *p = T(old + T(v)); return old; }
template <class T, class U> T atomicSub(T* p, U v) { T old = *p; *p = T(old - T(v)); return old; }
template <class T, class U> T atomicMin(T* p, U v) { T old = *p; *p = std::min(old, T(v)); return old; }
template <class T, class U> T atomicMax(T* p, U v) { T old = *p; *p = std::max(old, T(v)); return old; }
template <class T, class U> T atomicOr(T* p, U v) { T old = *p; *p = T(old | T(v)); return old; }
template <class T, class U> T atomicAnd(T* p, U v) { T old = *p; *p = T(old & T(v)); return old; }
template <class T, class U> T atomicExch(T* p, U v) { T old = *p; *p = T(v); return old; }
template <class T, class U, class V> T atomicCAS(T* p, U expected, V v) {
    T old = *p;
    if (old == T(expected)) *p = T(v);
    return old;
}
template <class To, class From> To cu_bits(From v) {
    static_assert(sizeof(To) == sizeof(From));
    To out;
    std::memcpy(&out, &v, sizeof v);
    return out;
}
inline unsigned __float_as_uint(float v) { return cu_bits<unsigned>(v); }
inline int __float_as_int(float v) { return cu_bits<int>(v); }
inline float __uint_as_float(unsigned v) { return cu_bits<float>(v); }
inline float __int_as_float(int v) { return cu_bits<float>(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
template <class T> T __ldg(const T* p) { return *p; }
inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- warp functions: lanes swap values through cu_exchange, with a barrier before and after reading
template <class T> T cu_shuffle(unsigned mask, T v, unsigned lane) {
    unsigned first = cu_self / 32 * 32, me = cu_self;
    cu_exchange[me] = 0;
    std::memcpy(&cu_exchange[me], &v, sizeof v);
    cu_wait(CuState::at_warp, __LINE__, cu_mask(mask));
    T out = v;
    if (lane < 32 && cu_mask(mask) >> lane & 1) std::memcpy(&out, &cu_exchange[first + lane], sizeof out);
    cu_wait(CuState::at_warp, __LINE__, cu_mask(mask));
    return out;
}
template <class T> T __shfl_sync(unsigned m, T v, int lane) { return cu_shuffle(m, v, unsigned(lane) % 32); }
template <class T> T __shfl_down_sync(unsigned m, T v, unsigned d) { return cu_shuffle(m, v, cu_self % 32 + d); }
template <class T> T __shfl_up_sync(unsigned m, T v, unsigned d) { return cu_shuffle(m, v, cu_self % 32 - d); }
template <class T> T __shfl_xor_sync(unsigned m, T v, unsigned x) { return cu_shuffle(m, v, (cu_self % 32) ^ x); }
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    unsigned first = cu_self / 32 * 32, lanes = cu_mask(mask), bits = 0;
    cu_exchange[cu_self] = predicate != 0;
    cu_wait(CuState::at_warp, __LINE__, lanes);
    for (unsigned lane = 0; lane < 32; ++lane)
        if (lanes >> lane & 1) bits |= unsigned(cu_exchange[first + lane]) << lane;
    cu_wait(CuState::at_warp, __LINE__, lanes);
    return bits;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == cu_mask(mask); }
