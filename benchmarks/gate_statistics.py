"""Store in a checkpoint what its training scans are like, for the gate; the weights and their digest stay.

    python benchmarks/gate_statistics.py ../shared/data/cohort.tsv uadtk/weights/scalespace.safetensors

Reads the rows of split ``train``; ``uadtk train`` does the same for new checkpoints.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from uadtk import checkpoint as checkpoints
from uadtk.core.run import Run
from uadtk.io.cohort import read_cohort, read_row
from uadtk.preparation.brain import find_brain
from uadtk.preparation.gate import numbers, statistics_of


def main() -> None:
    cohort, path = read_cohort(sys.argv[1]).split("train"), Path(sys.argv[2])
    before = checkpoints.load(path)
    measured = []
    for row in cohort:
        scan, brain_mask = read_row(row, Run())
        measured.append(numbers(scan, find_brain(scan, brain_mask)[0]))
    statistics = statistics_of(measured)
    after = replace(before, training={**before.training, checkpoints.STATISTICS: statistics})
    after.save(path)
    assert checkpoints.load(path).digest == before.digest
    print(statistics)


if __name__ == "__main__":
    main()
