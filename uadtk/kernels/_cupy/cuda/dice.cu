// Voxels per level, as uadtk/kernels/_levels.py defines it. Zeros, most of a score volume, are counted per block.

extern "C" __global__ void count(const float* __restrict__ values, const unsigned char* __restrict__ truth,
                                 long long n, const float* __restrict__ thresholds, const int* __restrict__ first,
                                 int bins, float low, float scale, int steps, int level_of_zero,
                                 unsigned long long* counts, int* wrong) {
    __shared__ unsigned int zeros[2];
    if (threadIdx.x < 2) zeros[threadIdx.x] = 0;
    __syncthreads();
    unsigned int own[2] = {0, 0};
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        float value = values[i];
        if (value == 0.0f) {
            ++own[truth[i]];
            continue;
        }
        if (!(fabsf(value) <= 3.402823466e38f)) {
            *wrong = 1;
            continue;
        }
        int level = first[(int)fminf(fmaxf((value - low) * scale, 0.0f), (float)(bins - 1))];
        for (int half = 1 << (steps - 1); half; half >>= 1)
            if (value > thresholds[level + half - 1]) level += half;
        atomicAdd(&counts[2 * (long long)level + truth[i]], 1ull);
    }
    if (own[0]) atomicAdd(&zeros[0], own[0]);
    if (own[1]) atomicAdd(&zeros[1], own[1]);
    __syncthreads();
    if (threadIdx.x < 2 && zeros[threadIdx.x])
        atomicAdd(&counts[2 * (long long)level_of_zero + threadIdx.x], (unsigned long long)zeros[threadIdx.x]);
}
