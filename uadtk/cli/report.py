"""Make the page and the summary of a folder of segmented scans: index.html, summary.tsv."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="The output folder of uadtk segment.")],
) -> None:
    """Make the page and the summary of a folder of segmented scans: index.html, summary.tsv.

    The page lists every scan with its status, the gate's light, findings, volume and picture, links to the reports, and
    marks outliers. Both are made from what lies in the folder now, whichever shards (segment --shard) have written it,
    and replace former ones. Shards without a summary are named on stderr.
    """
    from uadtk.core.errors import UsageError
    from uadtk.io.results import SUMMARY, Summary, missing_shards
    from uadtk.pipeline.run import say
    from uadtk.report.cohort_page import write_cohort_page

    if not folder.is_dir():
        raise UsageError("no such folder", str(folder), "Name the output folder of uadtk segment.")
    summary = Summary(folder / SUMMARY, [])
    page = write_cohort_page(folder, summary.states)
    summary.write()
    if missing := missing_shards(folder):
        say(f"{folder}: no summary of shard {', '.join(missing)}: it has not been run here, or did not get to a scan")
    print(page)
