// One thread per voxel; neighbouring threads read neighbouring voxels of every sample. See _cupy/residual.py.

// The residual max(d, low * d) of one sample; flags a difference that is NaN or infinite.
static __device__ double residual(float x, float reconstruction, double low, int* invalid) {
    double d = (double)x - (double)reconstruction;
    if (!(fabs(d) <= 1e39)) *invalid = 1;
    return fmax(d, low * d);
}

static __device__ void sums(const float* image, const unsigned char* mask, const float* batch, int* invalid, double low,
                            long long samples, long long n, long long i, double* total, double* square) {
    *total = 0, *square = 0;
    if (!mask[i]) return;
    float x = image[i];
    for (long long s = 0; s < samples; ++s) {
        double r = residual(x, batch[s * n + i], low, invalid);
        *total += r;
        *square += r * r;
    }
}

extern "C" __global__ void add(const float* __restrict__ image, const unsigned char* __restrict__ mask,
                               const float* __restrict__ batch, double* total, double* square, int with_square,
                               int* invalid, double low, long long samples, long long n) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n || !mask[i]) return;
    double t, q;
    sums(image, mask, batch, invalid, low, samples, n, i, &t, &q);
    total[i] += t;
    if (with_square) square[i] += q;
}

extern "C" __global__ void at_once(const float* __restrict__ image, const unsigned char* __restrict__ mask,
                                   const float* __restrict__ batch, float* mean, float* variance, int with_variance,
                                   int* invalid, double low, long long samples, long long n) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n || !mask[i]) return;
    double t, q;
    sums(image, mask, batch, invalid, low, samples, n, i, &t, &q);
    double average = t / (double)samples;
    mean[i] = (float)average;
    if (with_variance) variance[i] = (float)fmax(q / (double)samples - average * average, 0.0);
}

extern "C" __global__ void finish(const double* __restrict__ total, const double* __restrict__ square,
                                  const long long* count_z, const long long* count_y, const long long* count_x,
                                  int variance, float* out, long long nz, long long ny, long long nx) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= nz * ny * nx) return;
    long long count = count_z[i / (ny * nx)] + count_y[i / nx % ny] + count_x[i % nx];
    if (count < 1) count = 1;  // nothing added: the sums are 0
    double mean = total[i] / (double)count;
    out[i] = (float)(variance ? fmax(square[i] / (double)count - mean * mean, 0.0) : mean);
}
