"""Make the page of a folder of segmented scans: index.html."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="The output folder of uadtk segment.")],
) -> None:
    """Make the page of a folder of segmented scans: index.html.

    It lists every scan with its status, the gate's light, findings, volume and picture, links to the reports, and marks
    outliers. It is made from what lies in the folder now, and replaces a former one.
    """
    from uadtk.core.errors import UsageError
    from uadtk.report.cohort_page import write_cohort_page

    if not folder.is_dir():
        raise UsageError("no such folder", str(folder), "Name the output folder of uadtk segment.")
    print(write_cohort_page(folder))
