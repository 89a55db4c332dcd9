"""Exact 3-D median by merging sorted lists, 16 voxels of a row at a time.

Two planes of output are computed together, two rows at a time. With a box of kz * ky * kx voxels:

1. every input row yields, for each of the two planes, the sorted list of its kz * kx values (``sort_row``);
2. two neighbouring rows are merged once for all boxes that contain both (``merge_pair``);
3. the ky - 1 rows common to two output rows are merged, keeping only ranks that can still be the median; the row that
   belongs to one output row only is included by selecting a single rank (``select_medians``).

Every value in these lists is a vector: the same rank for 16 neighbouring voxels. Numba does not vectorise networks of
this size, so the three steps are intrinsics that emit vector instructions. The box is passed as the lengths of three
tuples, which are part of their type: Numba compiles one version per box size on first use.

Numba's cache does not notice edits of ``networks.py``: delete ``__pycache__`` after editing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from uadtk.kernels._numba._jit import compiled
from uadtk.kernels._numba.median_scratch import LANES, PAIRS, ROWS, Box, scratch
from uadtk.kernels._numba.networks import Network

Volume = NDArray[np.float32]

SLAB = 16  # planes of output for which several boxes share what is loaded
VECTOR = ir.VectorType(ir.FloatType(), LANES)
INDEX = ir.IntType(64)
INFINITY = np.uint32(0x7F800000)
MAGNITUDE = np.uint32(0x7FFFFFFF)


def median3d(volume: NDArray[np.generic], size: Box, mask: NDArray[np.generic] | None, threads: int) -> Volume:
    return blended_median3d(volume, [(1.0, size)], mask, threads)


def blended_median3d(
    volume: NDArray[np.generic], windows: Sequence[tuple[float, Box]], mask: NDArray[np.generic] | None, threads: int
) -> Volume:
    bits = np.require(volume, np.float32, ["C", "W"]).view(np.uint32)  # writable: else compiled again
    inside = np.empty((0, 0, 0), np.bool_) if mask is None else np.require(mask, np.bool_, ["C", "W"])
    out = np.zeros(bits.shape, np.float32)
    if bits.size == 0:
        return out
    depth = len(bits)
    boxes = [([(0,) * width for width in size], np.float32(weight)) for weight, size in windows]
    adds = [weight for weight, _ in windows] != [1]
    # Whole pairs of planes per task, so the result cannot depend on the number of threads.
    step = depth if threads == 1 else max(2, 2 * (depth // (6 * threads)))
    if len(windows) > 1:  # which share what is loaded: a task keeps it all
        step = min(step, SLAB)
    starts = range(0, depth, step)
    reach, pad = (max(size[axis] // 2 for _, size in windows) for axis in (0, 2))

    memories = [scratch(bits.shape, [size for _, size in windows], step) for _ in range(min(threads, len(starts)))]

    def work(start: int) -> bool:
        stop, ready = min(start + step, depth), start
        memory = memories.pop()
        try:
            if len(windows) > 1:
                ready = stop + 2 * reach + 1
                if not load_planes(bits, inside, memory, pad, reach, start, ready):
                    return False
            return all(
                filter_planes(bits, inside, out, *box, weight, adds, start, stop, ready, reach, pad, memory)
                for box, weight in boxes
            )
        finally:
            memories.append(memory)

    if threads == 1:
        valid = all(map(work, starts))
    else:
        with ThreadPoolExecutor(threads) as pool:
            valid = all(pool.map(work, starts))
    if not valid:
        raise ValueError("volume holds NaN" + ("" if mask is None else " inside the mask") + ", which has no median")
    return out


@compiled()
def filter_planes(bits, mask, out, box_z, box_y, box_x, weight, adds, start, stop, ready, reach, pad, memory):
    """Filter planes ``start`` to ``stop``, or add ``weight`` times them; False at the first NaN.

    An empty mask means no mask. ``ready`` is the plane, counted from -reach, before which all are loaded.
    """
    deep = len(box_z) // 2
    for z in range(start, stop, 2):
        last = z + reach + deep + 2
        if ready < last:
            if not load_planes(bits, mask, memory, pad, reach, ready, last):
                return False
            ready = last
        count = min(2, stop - z)
        origin = filter_pair(memory, count, box_z, box_y, box_x, z + reach - deep, pad)
        for i in range(count):
            copy_plane(memory.pair[i], memory.made, origin, mask, out, z + i, weight, adds)
    return True


@compiled()
def load_planes(bits, mask, memory, pad, reach, start, stop):
    """Load planes ``start`` to ``stop``, counted from -reach and mirrored there; False at the first NaN."""
    depth, height, width = bits.shape
    planes, first, last = memory.planes, memory.first, memory.last
    for number in range(start, stop):
        source, slot = mirror(number - reach, depth), number % len(planes)
        for y in range(height):
            if not load_row(bits, mask, source, y, planes[slot, y], pad):
                return False
            first[slot, y], last[slot, y] = span(planes[slot, y], pad, width)
    return True


@njit(nogil=True, inline="always")  # compiled once, as part of filter_planes
def filter_pair(memory, count, box_z, box_y, box_x, number, pad):
    """Compute ``count`` planes of output in columns of 16 voxels, where a box can hold non-zero values.

    The lowest plane of the box is loaded plane ``number``, mirrored by ``pad``.
    Returns the x of the first column; column i is valid in rows made[i, 0] to made[i, 1].
    """
    first, last, left, right, made = memory.first, memory.last, memory.left, memory.right, memory.made
    slots, height = first.shape
    width = memory.pair.shape[2] - LANES
    reach, wide = len(box_y) // 2, len(box_x) // 2
    left[:], right[:] = width, -1
    for i in range(len(box_z) + 1):
        slot = (number + i) % slots
        memory.bases[i] = slot * height * (width + LANES + 2 * pad) + pad - wide
        for y in range(height):
            left[y] = min(left[y], first[slot, y] - wide)
            right[y] = max(right[y], last[slot, y] + wide)
    origin, end = width, 0
    for y in range(height):
        origin, end = min(origin, left[y]), max(end, right[y] + 1)
    origin, end = max(origin, 0), min(end, width)
    made[:] = 0
    for x in range(origin, end, LANES):
        top, bottom = height, -1
        for y in range(height):
            if left[y] < x + LANES and right[y] >= x:
                top, bottom = min(top, y), y
        if bottom >= 0:
            top, bottom = max(0, top - reach), min(height, bottom + reach + 1)
            filter_column(memory, count, box_z, box_y, box_x, pad, x, top, bottom)
            column = (x - origin) // LANES
            made[column, 0], made[column, 1] = top, bottom
    return origin


@njit(nogil=True, inline="always")
def filter_column(memory, count, box_z, box_y, box_x, pad, x, top, bottom):
    """Compute pair[:count, top:bottom, x : x + 16]; one more row if their number is odd."""
    reach = len(box_y) // 2
    height, stride = memory.pair.shape[1] - 1, memory.pair.shape[2]
    source_stride = stride + 2 * pad
    values, medians, lists, pairs = memory.values, memory.medians, memory.lists, memory.pairs
    bases, offsets = memory.bases, memory.offsets
    row, entry = top - reach, 0
    for y in range(top, bottom, 2):
        while row <= y + reach + 1:
            offset = mirror(row, height) * source_stride
            for i in range(len(box_z) + 1):
                offsets[i] = bases[i] + offset + x
            sort_row(box_z, box_x, values, offsets, lists, row)  # type: ignore[call-arg]
            row += 1
        while 2 * entry <= y - top + 2 * reach - 2:
            for plane in range(count):
                merge_pair(box_z, box_x, lists, pairs, plane, top - reach + 1 + 2 * entry, entry)  # type: ignore[call-arg]
            entry += 1
        for plane in range(count):
            place = (plane * (height + 1) + y) * stride + x
            select_medians(box_z, box_y, box_x, lists, pairs, plane, y, (y - top) // 2, medians, place, stride)  # type: ignore[call-arg]


@compiled()
def copy_plane(plane, made, origin, mask, out, z, weight, adds):
    """Copy the computed columns of a plane of output to out[z], inside the mask, or add ``weight`` times them."""
    height, width = out.shape[1:]
    for y in range(height):
        for i in range(len(made)):
            if made[i, 0] <= y < made[i, 1]:
                begin = np.uint64(origin + i * LANES)  # unsigned: no test for indices from the end
                end = min(begin + np.uint64(LANES), np.uint64(width))
                if mask.size == 0 and adds:
                    for x in range(begin, end):
                        out[z, y, x] += weight * plane[y, x]
                elif mask.size == 0:
                    for x in range(begin, end):
                        out[z, y, x] = plane[y, x]
                else:
                    for x in range(begin, end):
                        if mask[z, y, x]:
                            out[z, y, x] = out[z, y, x] + weight * plane[y, x] if adds else plane[y, x]


@compiled()
def load_row(bits, mask, z, y, row, pad):
    """Copy a row into ``row``, zero outside the mask, mirrored by ``pad`` at both ends; False if it holds NaN."""
    source = bits[z, y]
    width = source.size
    middle = row[pad : pad + width]
    if mask.size == 0:
        for x in range(width):
            middle[x] = source[x]
    else:
        inside = mask[z, y]
        for x in range(width):
            middle[x] = source[x] if inside[x] else np.uint32(0)
    for i in range(pad):
        row[pad - 1 - i] = middle[mirror(-1 - i, width)]
        row[pad + width + i] = middle[mirror(width + i, width)]
    nan = False
    for x in range(width):
        nan |= (middle[x] & MAGNITUDE) > INFINITY
    return not nan


@compiled()
def span(row, pad, width):
    """First and last non-zero voxel of a loaded row; (width, -1) if there is none."""
    # Blocks may reach into the mirrored ends: those are zero where the mirrored voxels are.
    first, last = 0, width - 1
    while first < width and is_zero(row, pad + first):
        first += LANES
    if first >= width:
        return width, -1
    while row[pad + first] == 0:
        first += 1
    while is_zero(row, max(0, pad + last + 1 - LANES)):
        last -= LANES
    while row[pad + last] == 0:
        last -= 1
    return first, last


@compiled()
def is_zero(row, start):
    union = np.uint32(0)
    for i in range(np.uint64(start), np.uint64(start + LANES)):  # unsigned: no test for indices from the end
        union |= row[i]
    return union == 0


@compiled()
def mirror(i, n):
    """The index in 0..n-1 that SciPy's ``reflect`` (d c b a | a b c d | d c b a) maps index i to."""
    while i < 0 or i >= n:
        i = -1 - i if i < 0 else 2 * n - 1 - i
    return i


class Vectors:
    """Loads, stores and networks of vectors in the function that is being compiled."""

    def __init__(self, context, builder):
        self.context, self.builder = context, builder
        self.network = Network(self.low, self.high)

    # Each half is one instruction, and together they permute their arguments in every case, ties and -0.0 included.
    def low(self, a, b):
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def high(self, a, b):
        return self.builder.select(self.builder.fcmp_ordered(">", b, a), b, a)

    def pointer(self, array_type, array, offset):
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return self.builder.gep(data, [offset])

    def load(self, pointer, count, step=LANES):
        vectors = []
        for i in range(count):
            address = self.builder.gep(pointer, [INDEX(i * step)])
            vectors.append(self.builder.load(self.builder.bitcast(address, VECTOR.as_pointer()), align=4))
        return vectors

    def store(self, pointer, vectors):
        for i, vector in enumerate(vectors):
            address = self.builder.gep(pointer, [INDEX(i * LANES)])
            self.builder.store(vector, self.builder.bitcast(address, VECTOR.as_pointer()), align=4)

    def slot(self, plane, number, ring, length):
        """Offset of entry ``number`` (any integer) of the ring of lists of one plane."""
        wrapped = self.builder.and_(number, INDEX(ring - 1))
        entry = self.builder.add(self.builder.mul(plane, INDEX(ring)), wrapped)
        return self.builder.mul(entry, INDEX(length * LANES))


@intrinsic
def sort_row(typing, box_z, box_x, values, offsets, lists, row):
    """Write entry ``row`` of ``lists`` for both planes, from the kz + 1 runs of values at ``offsets``."""
    kz, kx = box_z.count, box_x.count

    def generate(context, builder, signature, args):
        _, _, values_type, offsets_type, lists_type, _ = signature.args
        _, _, values_, offsets_, lists_, row_ = args
        vectors = Vectors(context, builder)
        network = vectors.network
        runs = []
        for i in range(kz + 1):
            offset = builder.load(vectors.pointer(offsets_type, offsets_, INDEX(i)))
            runs.append(network.sort(vectors.load(vectors.pointer(values_type, values_, offset), kx, step=1)))
        shared = network.merge_all([network.merge(runs[i], runs[i + 1]) for i in range(1, kz, 2)])
        for plane, own in enumerate((runs[0], runs[kz])):
            slot = vectors.slot(INDEX(plane), row_, ROWS, kz * kx)
            vectors.store(vectors.pointer(lists_type, lists_, slot), network.merge(shared, own))
        return context.get_dummy_value()

    return types.void(box_z, box_x, values, offsets, lists, row), generate


@intrinsic
def merge_pair(typing, box_z, box_x, lists, pairs, plane, row, pair):
    """Write entry ``pair`` of ``pairs``: entries ``row`` and ``row + 1`` of ``lists``, merged."""
    length = box_z.count * box_x.count

    def generate(context, builder, signature, args):
        _, _, lists_type, pairs_type, *_ = signature.args
        _, _, lists_, pairs_, plane_, row_, pair_ = args
        vectors = Vectors(context, builder)
        entries = []
        for number in (row_, builder.add(row_, INDEX(1))):
            slot = vectors.slot(plane_, number, ROWS, length)
            entries.append(vectors.load(vectors.pointer(lists_type, lists_, slot), length))
        slot = vectors.slot(plane_, pair_, PAIRS, 2 * length)
        vectors.store(vectors.pointer(pairs_type, pairs_, slot), vectors.network.merge(*entries))
        return context.get_dummy_value()

    return types.void(box_z, box_x, lists, pairs, plane, row, pair), generate


@intrinsic
def select_medians(typing, box_z, box_y, box_x, lists, pairs, plane, row, pair, medians, place, stride):
    """Write the medians of output rows ``row`` and ``row + 1``, whose common rows are the pairs from ``pair`` on.

    They go to ``place`` in ``medians`` and ``stride`` further on.
    """
    length, reach = box_z.count * box_x.count, box_y.count // 2
    rank = length * box_y.count // 2
    lowest = max(0, rank - length)

    def generate(context, builder, signature, args):
        _, _, _, lists_type, pairs_type, _, _, _, medians_type, _, _ = signature.args
        _, _, _, lists_, pairs_, plane_, row_, pair_, medians_, place_, stride_ = args
        vectors = Vectors(context, builder)
        entries = []
        for i in range(reach):
            slot = vectors.slot(plane_, builder.add(pair_, INDEX(i)), PAIRS, 2 * length)
            entries.append(vectors.load(vectors.pointer(pairs_type, pairs_, slot), 2 * length))
        common = vectors.network.middle(entries, lowest, rank)
        for own, offset in ((-reach, place_), (reach + 1, builder.add(place_, stride_))):
            slot = vectors.slot(plane_, builder.add(row_, INDEX(own)), ROWS, length)
            values = vectors.load(vectors.pointer(lists_type, lists_, slot), length)
            median = vectors.network.select(common, values, rank - lowest)
            vectors.store(vectors.pointer(medians_type, medians_, offset), [median])
        return context.get_dummy_value()

    return types.void(box_z, box_y, box_x, lists, pairs, plane, row, pair, medians, place, stride), generate
