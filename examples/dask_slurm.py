"""A cohort on a Slurm cluster through Dask:   python examples/dask_slurm.py cohort.tsv out/

Workers are started as jobs and replaced when they die; their scans are tried again. Needs ``uadtk[cluster]`` and
``dask-jobqueue``; ``cluster`` may be any other kind of Dask cluster.
"""

from __future__ import annotations

import sys
from typing import Any

import uadtk


def main(cohort: str, output: str, cluster: Any = None) -> int:
    """Segment a cohort; returns the number of scans that failed."""
    if cluster is None:
        from dask_jobqueue import SLURMCluster

        cluster = SLURMCluster(cores=1, memory="4GB", walltime="04:00:00")
        cluster.adapt(maximum=100)
    model = uadtk.open("scalespace", cluster=cluster.scheduler_address)
    failed = 0
    for name, outcome in model.segment_cohort(cohort, output):
        failed += outcome.error is not None
        print(name, outcome.error or f"{outcome.result.findings} findings", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]) > 0)
