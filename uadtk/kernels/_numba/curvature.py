"""Curvature flow: one pass per iteration from one padded volume to another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels._numba._jit import compiled


def curvature_flow(
    volume: NDArray[np.generic],
    iterations: int,
    time_step: float,
    spacing: tuple[float, float, float],
    threads: int,
) -> NDArray[np.float32]:
    flow = np.array(volume, dtype=np.float32, order="C")
    if not np.isfinite(flow).all():
        raise ValueError("volume is not finite")
    if flow.size == 0 or iterations == 0:
        return flow
    source = np.pad(flow, 1, mode="edge")
    target = np.empty_like(source)
    ends = np.linspace(1, len(source) - 1, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(iterations):

            def work(begin: int, end: int, source=source, target=target) -> None:
                advance(source, target, time_step, *spacing, begin, end)

            if threads == 1:
                work(*ends)
            else:
                list(pool.map(work, ends[:-1], ends[1:]))
            target[0], target[-1] = target[1], target[-2]
            source, target = target, source
    return source[1:-1, 1:-1, 1:-1].copy()


@compiled()
def advance(source, target, time_step, dz, dy, dx, begin, end):
    height, width = source.shape[1:]
    for z in range(begin, end):
        for y in range(1, height - 1):
            advance_row(
                source[z - 1, y - 1], source[z - 1, y], source[z - 1, y + 1],
                source[z, y - 1], source[z, y], source[z, y + 1],
                source[z + 1, y - 1], source[z + 1, y], source[z + 1, y + 1],
                target[z, y, 1 : width - 1], time_step, 1 / dz, 1 / dy, 1 / dx,
            )  # fmt: skip
            target[z, y, 0], target[z, y, width - 1] = target[z, y, 1], target[z, y, width - 2]
        target[z, 0] = target[z, 1]
        target[z, height - 1] = target[z, height - 2]


@compiled(error_model="numpy")
def advance_row(mm, mo, mp, om, oo, op, pm, po, pp, out, time_step, kz, ky, kx):
    """One row of output. Input rows are named by their offsets in z and y: minus (m), zero (o), plus (p)."""
    for x in range(out.size):
        here = np.float64(oo[x + 1])
        west, east = np.float64(oo[x]), np.float64(oo[x + 2])
        north, south = np.float64(om[x + 1]), np.float64(op[x + 1])
        below, above = np.float64(mo[x + 1]), np.float64(po[x + 1])
        fx, fy, fz = 0.5 * kx * (east - west), 0.5 * ky * (south - north), 0.5 * kz * (above - below)
        fxx = kx * kx * (east - 2 * here + west)
        fyy = ky * ky * (south - 2 * here + north)
        fzz = kz * kz * (above - 2 * here + below)
        fxy = 0.25 * kx * ky * (np.float64(om[x]) - np.float64(op[x]) - np.float64(om[x + 2]) + np.float64(op[x + 2]))
        fxz = 0.25 * kx * kz * (np.float64(mo[x]) - np.float64(po[x]) - np.float64(mo[x + 2]) + np.float64(po[x + 2]))
        fyz = (
            0.25
            * ky
            * kz
            * (np.float64(mm[x + 1]) - np.float64(pm[x + 1]) - np.float64(mp[x + 1]) + np.float64(pp[x + 1]))
        )
        steepness = fx * fx + fy * fy + fz * fz
        speed = (fyy + fzz) * fx * fx + (fxx + fzz) * fy * fy + (fxx + fyy) * fz * fz
        speed -= 2 * (fx * fy * fxy + fx * fz * fxz + fy * fz * fyz)
        change = np.float32(speed / steepness) if steepness >= 1e-9 else np.float32(0)
        out[x] = oo[x + 1] + np.float32(change * time_step)
