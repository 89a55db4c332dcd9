// One step of curvature flow, one thread per voxel. The border voxels are replicated outwards: zero flux.

extern "C" __global__ void curvature_flow(const float* source, float* target, double time_step, double kz, double ky,
                                          double kx, int depth, int height, int width) {
    const long long place = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= (long long)depth * height * width) return;
    const int x = place % width, y = place / width % height, z = place / width / height;
    auto at = [&](int dz, int dy, int dx) -> double {
        const int i = max(0, min(depth - 1, z + dz)), j = max(0, min(height - 1, y + dy));
        return source[((long long)i * height + j) * width + max(0, min(width - 1, x + dx))];
    };
    const double here = at(0, 0, 0);
    const double fx = 0.5 * kx * (at(0, 0, 1) - at(0, 0, -1));
    const double fy = 0.5 * ky * (at(0, 1, 0) - at(0, -1, 0));
    const double fz = 0.5 * kz * (at(1, 0, 0) - at(-1, 0, 0));
    const double fxx = kx * kx * (at(0, 0, 1) - 2 * here + at(0, 0, -1));
    const double fyy = ky * ky * (at(0, 1, 0) - 2 * here + at(0, -1, 0));
    const double fzz = kz * kz * (at(1, 0, 0) - 2 * here + at(-1, 0, 0));
    const double fxy = 0.25 * kx * ky * (at(0, -1, -1) - at(0, 1, -1) - at(0, -1, 1) + at(0, 1, 1));
    const double fxz = 0.25 * kx * kz * (at(-1, 0, -1) - at(1, 0, -1) - at(-1, 0, 1) + at(1, 0, 1));
    const double fyz = 0.25 * ky * kz * (at(-1, -1, 0) - at(1, -1, 0) - at(-1, 1, 0) + at(1, 1, 0));
    const double steepness = fx * fx + fy * fy + fz * fz;
    double speed = (fyy + fzz) * fx * fx + (fxx + fzz) * fy * fy + (fxx + fyy) * fz * fz;
    speed -= 2 * (fx * fy * fxy + fx * fz * fxz + fy * fz * fyz);
    const float change = steepness >= 1e-9 ? (float)(speed / steepness) : 0.f;
    target[place] = source[place] + (float)(change * time_step);
}
