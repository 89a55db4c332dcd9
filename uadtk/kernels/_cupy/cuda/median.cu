// Exact median of a box of KZ * KY * KX voxels; the widths are compile-time options.
//
// A thread computes rows y and y + 1 at its x, as uadtk/kernels/_numba/median.py does with vectors: rows of the box
// become sorted lists of KZ * KX values, the KY - 1 rows common to both boxes are merged in pairs, keeping only ranks
// that can still be the median, and the row that belongs to one box only is included by selecting a single rank.
// All loops have constant bounds and are unrolled: the lists live in registers.

constexpr int LENGTH = KZ * KX;
constexpr int RANK = LENGTH * KY / 2;
constexpr int LOWEST = RANK > LENGTH ? RANK - LENGTH : 0;

template <int N> struct List {
    float v[N > 0 ? N : 1];
};

// List::v[FIRST], and every STEP-th after it, COUNT in all.
template <int FIRST, int STEP, int COUNT, int N> __device__ __forceinline__ List<COUNT> take(const List<N>& list) {
    List<COUNT> out;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) out.v[i] = list.v[FIRST + STEP * i];
    return out;
}

// Batcher's odd-even merge of two sorted lists of any lengths.
template <int N, int M> __device__ __forceinline__ List<N + M> merge(const List<N>& a, const List<M>& b) {
    if constexpr (N == 0) {
        return b;
    } else if constexpr (M == 0) {
        return a;
    } else if constexpr (N == 1 && M == 1) {
        return {{fminf(a.v[0], b.v[0]), fmaxf(a.v[0], b.v[0])}};
    } else {
        constexpr int EVEN = (N + 1) / 2 + (M + 1) / 2, ODD = N / 2 + M / 2, PAIRS = ODD < EVEN ? ODD : EVEN - 1;
        const auto even = merge(take<0, 2, (N + 1) / 2>(a), take<0, 2, (M + 1) / 2>(b));
        const auto odd = merge(take<1, 2, N / 2>(a), take<1, 2, M / 2>(b));
        List<N + M> out;
        out.v[0] = even.v[0];
#pragma unroll
        for (int i = 0; i < PAIRS; ++i) {
            out.v[1 + 2 * i] = fminf(odd.v[i], even.v[i + 1]);
            out.v[2 + 2 * i] = fmaxf(odd.v[i], even.v[i + 1]);
        }
#pragma unroll
        for (int i = PAIRS + 1; i < EVEN; ++i) out.v[PAIRS + i] = even.v[i];
#pragma unroll
        for (int i = PAIRS; i < ODD; ++i) out.v[EVEN + i] = odd.v[i];
        return out;
    }
}

// The voxels that a thread's boxes cover: offsets into the volume, mirrored at its borders.
struct Window {
    const float* volume;
    long long planes[KZ];
    long long rows[KY + 1];
    int columns[KX];

    __device__ __forceinline__ float at(int i, int j, int k) const { return volume[planes[i] + rows[j] + columns[k]]; }
};

// Values FIRST to FIRST + COUNT of the KZ * KX values of a row, sorted; merged along x first, then along z.
template <int FIRST, int COUNT> __device__ __forceinline__ List<COUNT> sorted(const Window& window, int row) {
    if constexpr (COUNT == 1) {
        return {{window.at(FIRST / KX, row, FIRST % KX)}};
    } else {
        constexpr int UNIT = COUNT > KX ? KX : 1, HALF = (COUNT / UNIT + 1) / 2 * UNIT;
        return merge(sorted<FIRST, HALF>(window, row), sorted<FIRST + HALF, COUNT - HALF>(window, row));
    }
}

// Ranks LOWEST to RANK of the rows 1 to KY - 1. PAIR pairs of rows have been merged so far, without the DROPPED lowest.
template <int PAIR, int DROPPED, int N> __device__ __forceinline__ auto common(const Window& window, const List<N>& merged) {
    if constexpr (PAIR == KY / 2) {
        return merged;
    } else {
        constexpr int TO_COME = (KY / 2 - PAIR - 1) * 2 * LENGTH;
        constexpr int START = LOWEST - TO_COME > DROPPED ? LOWEST - TO_COME : DROPPED;
        constexpr int ALL = DROPPED + N + 2 * LENGTH, STOP = RANK + 1 < ALL ? RANK + 1 : ALL;
        const auto pair = merge(sorted<0, LENGTH>(window, 2 * PAIR + 1), sorted<0, LENGTH>(window, 2 * PAIR + 2));
        const auto next = merge(merged, pair);
        return common<PAIR + 1, START>(window, take<START - DROPPED, 1, STOP - START>(next));
    }
}

// Rank RANK of the row that only this box holds and of the common ones: min of max(a[i-1], b[j-1]) over i + j = rank + 1.
template <int N> __device__ __forceinline__ float select(const List<N>& a, const List<LENGTH>& b) {
    constexpr int TAKEN = RANK - LOWEST + 1;
    float best = INFINITY;
#pragma unroll
    for (int i = 0; i <= TAKEN; ++i) {
        const int j = TAKEN - i;
        if (i > N || j > LENGTH) continue;
        const float top = i == 0 ? b.v[j - 1] : j == 0 ? a.v[i - 1] : fmaxf(a.v[i - 1], b.v[j - 1]);
        best = fminf(best, top);
    }
    return best;
}

// The index in 0..n-1 that SciPy's `reflect` (d c b a | a b c d | d c b a) maps index i to.
__device__ __forceinline__ int mirror(int i, int n) {
    while (i < 0 || i >= n) i = i < 0 ? -1 - i : 2 * n - 1 - i;
    return i;
}

extern "C" __global__ void median(const float* volume, float* out, int depth, int height, int width) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = 2 * (blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= width || y >= height) return;
    for (int z = blockIdx.z; z < depth; z += gridDim.z) {
        Window window{volume};
#pragma unroll
        for (int i = 0; i < KZ; ++i) window.planes[i] = (long long)mirror(z + i - KZ / 2, depth) * height * width;
#pragma unroll
        for (int i = 0; i <= KY; ++i) window.rows[i] = (long long)mirror(y + i - KY / 2, height) * width;
#pragma unroll
        for (int i = 0; i < KX; ++i) window.columns[i] = mirror(x + i - KX / 2, width);

        unsigned union_of_bits = 0;
#pragma unroll
        for (int i = 0; i < KZ * (KY + 1) * KX; ++i)
            union_of_bits |= __float_as_uint(window.at(i / (KX * (KY + 1)), i / KX % (KY + 1), i % KX));
        float first = 0, second = 0;
        if (union_of_bits) {
            const auto shared = common<0, 0>(window, List<0>{});
            first = select(shared, sorted<0, LENGTH>(window, 0));
            second = select(shared, sorted<0, LENGTH>(window, KY));
        }
        const long long place = ((long long)z * height + y) * width + x;
        out[place] = first;
        if (y + 1 < height) out[place + width] = second;
    }
}
