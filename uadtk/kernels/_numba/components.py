"""The component sweep: voxels are added one by one by descending score, and a union-find tracks the components.

The cost of a level is proportional to its voxels, so a thousand thresholds cost the same as one. Three things keep the
cost per voxel low:

* The set of added voxels is a bitset with rows padded to whole bytes: nine two-byte reads give all 27 neighbours.
* Neighbours that touch each other already belong to one component, so after joining one, all that touch it are skipped;
  starting with face neighbours leaves one or two joins of up to 26.
* A root stores size and positives of its component in the word that holds the parent in other nodes, and only
  candidates have nodes: a node's number is the number of candidates before it, a look-up and a population count.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from uadtk.kernels._levels import Levels
from uadtk.kernels._numba._jit import compiled

_BLOCK = 32
_INFINITE = np.uint32(0x7F800000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_ONE = np.int64(1) << np.int64(32)  # a total holds voxels from bit 32 up, positives below
_POSITIVES = _ONE - np.int64(1)


class Candidates(NamedTuple):
    """Voxels above some score. ``places``: index in the padded volume, with the top bit set for positives."""

    shape: tuple[int, int, int]
    positives: int  # in the whole volume
    places: NDArray[np.uint32]
    scores: NDArray[np.float32]


def namespace() -> Any:
    return np


def gather(values: NDArray[np.float32], truth: NDArray[np.uint8] | None, above: np.float32) -> Candidates | None:
    """The voxels with scores > ``above``; None if a score is not finite."""
    depth, height, width = values.shape
    rows, row_truth, positives = values.reshape(depth * height, width), None, 0
    if truth is not None:
        row_truth, positives = truth.reshape(rows.shape), int(np.count_nonzero(truth))
    size = _size_above(rows.reshape(-1), above)
    if size < 0:
        return None
    _, row, plane = padded(values.shape)
    places, scores = np.empty(size, np.uint32), np.empty(size, np.float32)
    _gather(rows, row_truth, above, height, row, plane, places, scores)
    return Candidates((depth, height, width), positives, places, scores)


def sweep(candidates: Candidates, levels: Levels, min_size: int, connectivity: int) -> NDArray[np.int64]:
    """(3, thresholds): voxels, positives and number of the components of at least ``min_size`` voxels."""
    kept = np.zeros((3, levels.size), np.int64)
    order, counts = _sort(candidates.places, candidates.scores, *levels)
    size, row, plane = padded(candidates.shape)
    nodes, present = np.empty(order.size, np.int64), np.zeros(size // 8 + 2, np.uint8)
    numbers = np.zeros((size // 64 + 1, 2), np.uint64)
    _number(candidates.places, numbers)
    neighbours = _neighbours(connectivity)
    offsets = np.array([z * plane + y * row + x for z, y, x in _BOX])
    _sweep(order, counts, nodes, numbers, present, *neighbours, offsets, row // 8, plane // 8, min_size, kept)
    return kept


def padded(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Size of the volume padded by one voxel, its rows to whole bytes of a bitset; its row and plane strides."""
    depth, height, width = shape
    row = -(-(width + 2) // 8) * 8
    plane = row * (height + 2)
    size = plane * (depth + 2)
    if size >= 1 << 31:
        raise ValueError(f"a volume of {shape} is too large: voxel indices have 31 bits")
    return size, row, plane


_BOX = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]


@functools.cache
def _neighbours(connectivity: int) -> tuple[np.uint32, np.uint32, NDArray[np.uint32]]:
    """Bits over ``_BOX``: all neighbours, those that share a face, and for each the ones that do not touch it."""
    most = {6: 1, 18: 2, 26: 3}[connectivity]
    steps = np.array(_BOX)
    apart = np.abs(steps[:, None] - steps[None])
    touches = (apart.max(2) <= 1) & (apart.sum(2) <= most)
    bits = 1 << np.arange(27, dtype=np.int64)
    distance = np.abs(steps).sum(1)
    neighbours, faces = (int(bits[(distance > 0) & (distance <= n)].sum()) for n in (most, 1))
    return np.uint32(neighbours), np.uint32(faces), (~touches @ bits).astype(np.uint32)


@compiled()
def _size_above(values, above):
    """Number of values above ``above``; -1 if one is not finite."""
    bits = values.view(np.uint32)
    size, wrong = 0, np.uint32(0)
    for i in range(values.size):
        size += values[i] > above
        wrong |= np.uint32((bits[i] & _MAGNITUDE) >= _INFINITE)
    return size if wrong == 0 else -1


@compiled()
def _gather(rows, truth, above, height, row_step, plane_step, places, scores):
    found = 0
    for r in range(rows.shape[0]):
        row = rows[r]
        begin = (r // height + 1) * plane_step + (r % height + 1) * row_step + 1
        for start in range(0, row.size, _BLOCK):
            block = row[start : start + _BLOCK]
            some = np.uint32(0)
            for j in range(block.size):
                some |= np.uint32(block[j] > above)
            if some == 0:
                continue
            for j in range(block.size):
                if block[j] > above:
                    positive = np.uint32(0) if truth is None else np.uint32(truth[r, start + j])
                    places[found] = np.uint32(begin + start + j) | (positive << np.uint32(31))
                    scores[found] = block[j]
                    found += 1


@compiled()
def _sort(places, scores, thresholds, first, low, scale, steps, size):
    """Places by descending level, and the number per level: a counting sort."""
    last_bin = np.float32(first.size - 1)
    level = np.empty(scores.size, np.int32)
    counts = np.zeros(size + 1, np.int64)
    for i in range(scores.size):
        place = min(max((scores[i] - low) * scale, np.float32(0)), last_bin)
        k = first[np.uint32(np.int32(place))]
        for step in range(steps - 1, -1, -1):
            half = np.int32(1 << step)
            k += np.int32(scores[i] > thresholds[np.uint32(k + half - np.int32(1))]) * half
        level[i] = k
        counts[np.uint32(k)] += 1
    start = np.empty(size + 1, np.int64)
    before = 0
    for k in range(size, -1, -1):
        start[k] = before
        before += counts[k]
    order = np.empty(places.size, np.uint32)
    for i in range(places.size):
        k = np.uint32(level[i])
        order[np.uint64(start[k])] = places[i]
        start[k] += 1
    return order, counts


@intrinsic
def _lowest_bit(typing_context, word):
    """Index of the lowest set bit of a non-zero uint32."""

    def generate(context, builder, signature, args):
        zeros = builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))
        return builder.zext(zeros, ir.IntType(64))

    return types.int64(types.uint32), generate


@intrinsic
def _bits_set(typing_context, word):
    """Number of set bits of a uint64."""

    def generate(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@compiled()
def _number(places, numbers):
    """Per 64 places of the padded volume: a bit for each candidate, and the number of candidates before."""
    for i in range(places.size):
        place = places[i] & _MAGNITUDE
        word = place >> np.uint32(6)
        if numbers[word, 0] == 0:
            numbers[word, 1] = i
        numbers[word, 0] |= np.uint64(1) << np.uint64(place & np.uint32(63))


@compiled()
def _number_of(place, numbers):
    word = np.uint64(place >> 6)
    before = (np.uint64(1) << np.uint64(place & 63)) - np.uint64(1)
    return np.int64(numbers[word, 1] + _bits_set(numbers[word, 0] & before))  # type: ignore[call-arg]


@compiled()
def _sweep(order, counts, nodes, numbers, present, neighbours, faces, apart, offsets, row, plane, min_size, kept):
    """``nodes``: parent's place, or for a root ~(size << 32 | positives)."""
    voxels, positives, components = np.int64(0), np.int64(0), np.int64(0)
    entered = np.int64(0)
    for level in range(counts.size - 1, 0, -1):
        for _ in range(counts[level]):
            word = order[entered]
            entered += 1
            place = np.int64(word & _MAGNITUDE)
            shift, byte = np.uint32((place - 1) & 7), (place - 1) >> 3
            around = np.uint32(0)
            for z in range(3):
                for y in range(3):
                    b = byte + (z - 1) * plane + (y - 1) * row
                    three = (np.uint32(present[b]) | (np.uint32(present[b + 1]) << np.uint32(8))) >> shift
                    around |= (three & np.uint32(7)) << np.uint32(9 * z + 3 * y)
            around &= neighbours
            present[place >> 3] |= np.uint8(1 << (place & 7))

            root = _number_of(place, numbers)
            total = _ONE | np.int64(word >> np.uint32(31))
            nodes[root] = ~total
            if min_size == 1:
                voxels += 1
                positives += total & _POSITIVES
                components += 1
            while around != 0:
                near = around & faces
                n = _lowest_bit(near if near != 0 else around)  # type: ignore[call-arg, var-annotated]
                around &= apart[n]
                other = _number_of(place + offsets[n], numbers)
                other_total = nodes[other]
                while other_total >= 0:  # up to the root, halving the path
                    up = nodes[other_total]
                    if up >= 0:
                        nodes[other] = up
                        other = up
                        other_total = nodes[up]
                    else:
                        other = other_total
                        other_total = up
                if other == root:
                    continue
                other_total = ~other_total
                both = total + other_total
                size, other_size = total >> 32, other_total >> 32
                if other_size >= min_size:
                    if size >= min_size:
                        components -= 1
                    else:
                        voxels += size
                        positives += total & _POSITIVES
                elif size >= min_size:
                    voxels += other_size
                    positives += other_total & _POSITIVES
                elif size + other_size >= min_size:
                    voxels += size + other_size
                    positives += both & _POSITIVES
                    components += 1
                if other_size >= size:
                    nodes[root] = other
                    root = other
                else:
                    nodes[other] = root
                total = both
            nodes[root] = ~total
        kept[0, level - 1] = voxels
        kept[1, level - 1] = positives
        kept[2, level - 1] = components
