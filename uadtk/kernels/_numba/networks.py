"""Sorting networks, written once over an abstract exchange.

Values are anything for which ``low(a, b)`` and ``high(a, b)`` are defined: LLVM vectors in the median kernel, plain
numbers in its tests. The sequence of comparisons does not depend on the values, so a network runs on 16 voxels at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Op = Callable[[Any, Any], Any]


class Network:
    """Networks built from the two halves of an exchange."""

    def __init__(self, low: Op, high: Op) -> None:
        self.low, self.high = low, high

    def exchange(self, a: Any, b: Any) -> list[Any]:
        return [self.low(a, b), self.high(a, b)]

    def sort(self, values: Sequence[Any]) -> list[Any]:
        """Merge sort; optimal in exchanges for up to 8 values (Knuth, TAOCP 3, 5.3.4)."""
        return self.merge_all([[value] for value in values])

    def merge(self, a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
        """Merge two sorted lists of any lengths (Batcher's odd-even merge)."""
        if not a or not b:
            return [*a, *b]
        if len(a) == len(b) == 1:
            return self.exchange(a[0], b[0])
        even, odd = self.merge(a[::2], b[::2]), self.merge(a[1::2], b[1::2])
        pairs = min(len(odd), len(even) - 1)
        out = even[:1]
        for i in range(pairs):
            out += self.exchange(odd[i], even[i + 1])
        return out + even[pairs + 1 :] + odd[pairs:]

    def merge_all(self, lists: Sequence[Sequence[Any]]) -> list[Any]:
        """Merge sorted lists pairwise, as a tree."""
        if not lists:
            return []
        if len(lists) == 1:
            return list(lists[0])
        half = (len(lists) + 1) // 2
        return self.merge(self.merge_all(lists[:half]), self.merge_all(lists[half:]))

    def middle(self, lists: Sequence[Sequence[Any]], first: int, last: int) -> list[Any]:
        """Ranks ``first`` to ``last`` of the union of sorted lists.

        After each merge, values at either end that the remaining lists cannot bring into that range are dropped.
        """
        total = sum(map(len, lists))
        merged: list[Any] = []
        seen = dropped = 0
        for values in lists:
            merged = self.merge(merged, values)
            seen += len(values)
            start = max(first - (total - seen), dropped)
            merged = merged[start - dropped : last + 1 - dropped]
            dropped = start
        return merged

    def select(self, a: Sequence[Any], b: Sequence[Any], rank: int) -> Any:
        """Rank ``rank`` (from 0) of the union of two sorted lists: min of max(a[i-1], b[j-1]) over i + j = rank + 1."""
        best = None
        for i in range(rank + 2):
            j = rank + 1 - i
            if i > len(a) or j > len(b):
                continue
            top = b[j - 1] if i == 0 else a[i - 1] if j == 0 else self.high(a[i - 1], b[j - 1])
            best = top if best is None else self.low(best, top)
        return best
