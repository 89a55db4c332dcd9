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
from uadtk.io.cohort import read_cohort
from uadtk.preparation.gate import STATISTICS
from uadtk.training.statistics import scan_statistics


def main() -> None:
    cohort, path = read_cohort(sys.argv[1]).split("train"), Path(sys.argv[2])
    before = checkpoints.load(path)
    statistics = scan_statistics(list(cohort), Run())
    after = replace(before, training={**before.training, STATISTICS: statistics})
    after.save(path)
    assert checkpoints.load(path).digest == before.digest
    print(statistics)


if __name__ == "__main__":
    main()
