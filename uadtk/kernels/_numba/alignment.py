"""How well the tissues of the average brain explain an image under one transform: the inner loop of the alignment."""

from __future__ import annotations

import numpy as np

from uadtk.kernels._numba._jit import compiled


@compiled()
def explained_and_overlap(both, matrix, offset, points, tissues, around, ridge):
    """Share of the variance of the ranks that a regression on the tissues explains, and Dice overlap of the two brains.

    ``both`` (x, y, z, 2): share of brain, and ranks times that share. ``points`` (n, 3) lie in the average brain and
    ``around`` it; ``matrix @ point + offset`` is a voxel. Points with more than half of brain count in the regression,
    by their share of it; those within the slices, in the overlap.
    """
    square, right = np.zeros((3, 3)), np.zeros(3)
    flat, shape = both.ravel(), both.shape[:3]
    total = first = second = common = beyond = 0.0
    covered = 0
    for n in range(len(points)):
        x, y, z = place(matrix, offset, points[n])
        share, rank = linear(flat, shape, x, y, z)
        if -0.5 < z < both.shape[2] - 0.5:
            covered += 1
            common += share
        if share > 0.5:
            total += share
            first += rank
            second += rank * rank / share
            for i in range(3):
                right[i] += tissues[n, i] * rank
                for j in range(i, 3):
                    square[i, j] += share * tissues[n, i] * tissues[n, j]
    for n in range(len(around)):
        x, y, z = place(matrix, offset, around[n])
        beyond += linear(flat, shape, x, y, z)[0]
    for i in range(3):
        for j in range(i):
            square[i, j] = square[j, i]
    found = solved(square, right, ridge * (total + 1e-9))
    unexplained = second
    for i in range(3):
        unexplained -= 2 * found[i] * right[i]
        for j in range(3):
            unexplained += found[i] * square[i, j] * found[j]
    explained = 1 - unexplained / (second - first * first / (total + 1e-9) + 1e-9)
    return explained, 2 * common / (covered + common + beyond + 1e-9)


@compiled()
def solved(square, right, ridge):
    """The solution of three equations with a positive definite matrix, ``ridge`` added to its diagonal."""
    rows = np.empty((3, 4))
    for i in range(3):
        for j in range(3):
            rows[i, j] = square[i, j]
        rows[i, i] += ridge
        rows[i, 3] = right[i]
    for i in range(3):
        for j in range(3):
            if j != i:
                share = rows[j, i] / rows[i, i]
                for k in range(i, 4):
                    rows[j, k] -= share * rows[i, k]
    return rows[:, 3] / np.array([rows[0, 0], rows[1, 1], rows[2, 2]])


@compiled()
def place(matrix, offset, point):
    x = matrix[0, 0] * point[0] + matrix[0, 1] * point[1] + matrix[0, 2] * point[2] + offset[0]
    y = matrix[1, 0] * point[0] + matrix[1, 1] * point[1] + matrix[1, 2] * point[2] + offset[1]
    z = matrix[2, 0] * point[0] + matrix[2, 1] * point[1] + matrix[2, 2] * point[2] + offset[2]
    return x, y, z


@compiled()
def linear(flat, shape, x, y, z):
    """Both values at a place, linearly interpolated; 0 off the grid, as SciPy's ``map_coordinates`` has it.

    ``flat``: values of a volume of that shape, (x, y, z, 2), in one line.
    """
    a, b, c = shape
    if not (0 <= x <= a - 1 and 0 <= y <= b - 1 and 0 <= z <= c - 1):
        return 0.0, 0.0
    i, j, k = min(int(x), max(a - 2, 0)), min(int(y), max(b - 2, 0)), min(int(z), max(c - 2, 0))
    u, v, w = x - i, y - j, z - k
    right, ahead, up = 2 * b * c * min(a - 1, 1), 2 * c * min(b - 1, 1), 2 * min(c - 1, 1)
    start = 2 * ((i * b + j) * c + k)
    first, second = pair(flat, start, up, (1 - u) * (1 - v), w)
    for at, weight in (
        (start + ahead, (1 - u) * v),
        (start + right, u * (1 - v)),
        (start + right + ahead, u * v),
    ):
        one, two = pair(flat, at, up, weight, w)
        first += one
        second += two
    return first, second


@compiled()
def pair(flat, at, up, weight, w):
    """What two neighbours along z add to both values."""
    low, high = np.uint64(at), np.uint64(at + up)  # unsigned: no test for indices below 0
    below, above = weight * (1 - w), weight * w
    one = np.uint64(1)
    return below * flat[low] + above * flat[high], below * flat[low + one] + above * flat[high + one]
