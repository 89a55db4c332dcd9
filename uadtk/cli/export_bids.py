"""Write a folder of segmented scans as a BIDS derivative."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import Overwrite


def export_bids(
    folder: Annotated[Path, typer.Argument(help="The output folder of uadtk segment.")],
    target: Annotated[Path, typer.Argument(help="The derivative, such as derivatives/uadtk.")],
    overwrite: Overwrite = False,
) -> None:
    """Write a folder of segmented scans as a BIDS derivative.

    sub-/ses-/anat/ with masks, label images, their tables and sidecars; score maps, findings and reports beside them.
    Entities of the scans are kept, and their suffix is part of each name, so that FLAIR and T1w of a session differ.
    Files are hard links where the file system allows. The same command again writes what is missing or has changed;
    what you add to dataset_description.json, README and .bidsignore stays. --overwrite writes everything again.

    \b
    Examples:
      uadtk export-bids out/ bids/derivatives/uadtk
    """
    from uadtk.core.errors import UsageError
    from uadtk.io.bids_out import write_bids
    from uadtk.io.results import read_folder

    if not folder.is_dir():
        raise UsageError("no such folder", str(folder), "Name the output folder of uadtk segment.")
    written = write_bids(read_folder(folder), target, overwrite)
    for path in written:
        print(target / path)
    if not written:
        print(f"{target}: nothing has changed", file=sys.stderr)
