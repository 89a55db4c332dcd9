// Histograms of the halves of float32 bit patterns. Zeros, most of a residual volume, would all contend for one
// counter, so each thread counts its own and each warp sums them. `mask` may be null. See _cupy/quantiles.py.

typedef unsigned long long counter;

static __device__ void add_of_warp(counter* to, unsigned count) {
    for (int distance = 16; distance > 0; distance /= 2) count += __shfl_down_sync(0xffffffffu, count, distance);
    if (threadIdx.x % 32 == 0 && count) atomicAdd(to, (counter)count);
}

extern "C" __global__ void upper_halves(const unsigned* __restrict__ values, const unsigned char* __restrict__ mask,
                                        long long n, counter* counts) {
    unsigned zeros = 0;
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        if (mask && !mask[i]) continue;
        unsigned value = values[i];
        if (value == 0) ++zeros;
        else atomicAdd(&counts[value >> 16], (counter)1);
    }
    add_of_warp(counts, zeros);
}

extern "C" __global__ void lower_halves(const unsigned* __restrict__ values, const unsigned char* __restrict__ mask,
                                        long long n, unsigned first, unsigned second, counter* counts) {
    unsigned zeros = 0;
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        if (mask && !mask[i]) continue;
        unsigned value = values[i], half = value >> 16;
        if (value == 0) { ++zeros; continue; }
        if (half == first) atomicAdd(&counts[value & 0xffffu], (counter)1);
        if (half == second) atomicAdd(&counts[65536 + (value & 0xffffu)], (counter)1);
    }
    add_of_warp(counts, first == 0 ? zeros : 0);
    add_of_warp(counts + 65536, second == 0 ? zeros : 0);
}
