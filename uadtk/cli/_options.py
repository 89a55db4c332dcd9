"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from uadtk.core.errors import UsageError

Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the network runs.")]
Threads = Annotated[int, typer.Option(min=0, max=1024, help="Threads for torch; 0: OMP_NUM_THREADS, or one per core.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Model = Annotated[str, typer.Option(help="A shipped model by name, or a checkpoint (.safetensors).")]
Scorer = Annotated[str | None, typer.Option(help="name:option=value,... in place of the checkpoint's scorer.")]
Cleaner = Annotated[
    list[str] | None, typer.Option(help="In place of the checkpoint's cleaners; repeat it; 'none' for none.")
]
Grid = Annotated[
    Literal["native", "model"], typer.Option(help="The scan's own, or the study's: the slices the network sees.")
]
Trust = Annotated[
    Literal["sform", "qform"] | None, typer.Option(help="Use this part of a NIfTI header that contradicts itself.")
]
Minutes = Annotated[
    float | None,
    typer.Option(min=1e-6, max=1e7, help="Pause after this many minutes; the same command resumes."),
]
Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=3.4e38, help="In its place: mark scores above this value, calibrated on nothing."),
]
Jobs = Annotated[
    int, typer.Option(min=1, max=1024, help="Processes, each with one scan at a time; they share the threads.")
]
Cluster = Annotated[
    str, typer.Option(help="Dask: address of a scheduler (tcp://...) that does the scans, or 'local'; [cluster] extra.")
]
DicomSeg = Annotated[
    bool, typer.Option("--dicom-seg", help="Of DICOM, also write the findings as a DICOM segmentation; [dicom] extra.")
]
DicomSr = Annotated[
    bool, typer.Option("--dicom-sr", help="The same, and a DICOM report of volumes and scores (SR, TID 1500).")
]
Space = Annotated[
    Literal["MNI"] | None, typer.Option(help="Also mask, score and scan in this space; [preprocess,phantom] extras.")
]
Layout = Annotated[
    Literal["flat", "bids"] | None,
    typer.Option(
        help="bids: also a BIDS derivative, OUTPUT/derivatives/uadtk; the default of segment for a BIDS tree."
    ),
]
DicomSc = Annotated[
    bool, typer.Option("--dicom-sc", help="Of DICOM, also write a picture of the findings (SC); [dicom] extra.")
]
Force = Annotated[bool, typer.Option("--force", help="Use even scans that the gate refuses (red).")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Checkpoint to write.")]


def chosen_cleaners(cleaner: list[str] | None) -> list[str] | None:
    """The chain that ``--cleaner`` names; None if it was not given."""
    return None if not cleaner else [] if cleaner == ["none"] else cleaner


def shard_of(text: str) -> tuple[int, int]:
    """``i/n`` with 1 <= i <= n. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    place, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= place <= parts:
        raise UsageError(f"'{text}' is not a part of a cohort", "--shard", "Write --shard 2/8 for the second of eight.")
    return place, parts


def pairs(given: list[str] | None, option: str, meaning: str, example: str) -> dict[str, str]:
    """``A=B`` of an option that is repeated; ``meaning`` names the two. Raises UsageError."""
    for pair in given or []:
        if not all(pair.partition("=")):
            raise UsageError(f"'{pair}' is not {meaning}", option, f"Write {option} {example}.")
    return dict(pair.split("=", 1) for pair in given or [])
