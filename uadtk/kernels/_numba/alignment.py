"""How well the tissues of the average brain explain an image under one transform: the inner loop of the alignment."""

from __future__ import annotations

from uadtk.kernels._numba._jit import compiled


@compiled()
def sums(inside, ranks, matrix, offset, points, tissues, around, square, right):
    """Weighted sums for a regression of ``ranks`` on ``tissues``, and counts for the overlap of the two brains.

    ``points`` (n, 3) lie in the average brain and ``around`` it; ``matrix @ point + offset`` is a voxel. ``square``
    (3, 3) and ``right`` (3,) receive the normal equations. Returns the sums of the weights, of the weighted ranks
    and their squares, of the shares of brain at points within the slices of the scan, how many those are, and the sum
    of the shares at ``around``.
    """
    square[:] = 0.0
    right[:] = 0.0
    total = first = second = common = beyond = 0.0
    covered = 0
    for n in range(len(points)):
        x, y, z = place(matrix, offset, points[n])
        share = linear(inside, x, y, z)
        if -0.5 < z < inside.shape[2] - 0.5:
            covered += 1
            common += share
        if share > 0.5:
            rank = linear(ranks, x, y, z) / share
            total += share
            first += share * rank
            second += share * rank * rank
            for i in range(3):
                right[i] += share * tissues[n, i] * rank
                for j in range(3):
                    square[i, j] += share * tissues[n, i] * tissues[n, j]
    for n in range(len(around)):
        x, y, z = place(matrix, offset, around[n])
        beyond += linear(inside, x, y, z)
    return total, first, second, common, covered, beyond


@compiled()
def place(matrix, offset, point):
    x = matrix[0, 0] * point[0] + matrix[0, 1] * point[1] + matrix[0, 2] * point[2] + offset[0]
    y = matrix[1, 0] * point[0] + matrix[1, 1] * point[1] + matrix[1, 2] * point[2] + offset[1]
    z = matrix[2, 0] * point[0] + matrix[2, 1] * point[1] + matrix[2, 2] * point[2] + offset[2]
    return x, y, z


@compiled()
def linear(volume, x, y, z):
    """The volume at a place, linearly interpolated; 0 off the grid, as SciPy's ``map_coordinates`` has it."""
    a, b, c = volume.shape
    if not (0 <= x <= a - 1 and 0 <= y <= b - 1 and 0 <= z <= c - 1):
        return 0.0
    i, j, k = min(int(x), max(a - 2, 0)), min(int(y), max(b - 2, 0)), min(int(z), max(c - 2, 0))
    p, q, r = min(i + 1, a - 1), min(j + 1, b - 1), min(k + 1, c - 1)
    u, v, w = x - i, y - j, z - k
    low = (volume[i, j, k] * (1 - w) + volume[i, j, r] * w) * (1 - v)
    low += (volume[i, q, k] * (1 - w) + volume[i, q, r] * w) * v
    high = (volume[p, j, k] * (1 - w) + volume[p, j, r] * w) * (1 - v)
    high += (volume[p, q, k] * (1 - w) + volume[p, q, r] * w) * v
    return low * (1 - u) + high * u
