"""Results as a BIDS derivative: ``sub-/ses-/anat/`` with sidecars, label table and a description of the data set.

What BIDS has no name for (score map, report, provenance) lies beside the rest and is named in ``.bidsignore``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uadtk.core.errors import DataError, UsageError
from uadtk.io.lookup import lookup_tables
from uadtk.io.results import ScanState
from uadtk.io.write import staged, write_json, write_text
from uadtk.version import VERSION

BIDS_VERSION = "1.10.0"
USE = "For research use. Not a medical device."
_RAW = ("sub", "ses", "acq", "ce", "rec", "dir", "run", "echo", "part")  # in BIDS' order; kept
_IGNORED = ("*_statmap.nii.gz", "*_findings.*", "*_provenance.json", "*_report.html", "*_thumbnail.png")


@dataclass(frozen=True)
class BidsName:
    """``entities`` of the scan; ``contrast``: its suffix, which every output repeats in ``desc``."""

    entities: Mapping[str, str]
    contrast: str
    known: bool = True  # the scan's own name is BIDS

    @classmethod
    def of(cls, name: str) -> BidsName:
        """Of an output's name; a scan whose name is not BIDS becomes a subject of that name."""
        *parts, suffix = name.split("_")
        pairs = [part.partition("-") for part in parts]
        entities = {key: re.sub(r"[^0-9A-Za-z+]", "", value) for key, dash, value in pairs if dash and key in _RAW}
        if "sub" not in entities or not suffix.isalnum():
            return cls({"sub": re.sub(r"[^0-9A-Za-z]", "", name) or "x"}, "FLAIR", known=False)
        return cls(entities, suffix)

    @property
    def folder(self) -> Path:
        levels = [f"{key}-{self.entities[key]}" for key in ("sub", "ses") if key in self.entities]
        return Path(*levels, "anat")

    @property
    def stem(self) -> str:
        return "_".join(f"{key}-{self.entities[key]}" for key in _RAW if key in self.entities)

    def file(self, key: str) -> str:
        """The name of an output; ``key`` as in ``ScanState.files``."""
        images = {
            "mask": f"label-lesion_desc-{self.contrast}_mask.nii.gz",
            "brain": f"label-brain_desc-{self.contrast}_mask.nii.gz",
            "components": f"desc-{self.contrast}lesions_dseg.nii.gz",
            "score": f"desc-{self.contrast}anomaly_statmap.nii.gz",
            "reconstruction": f"desc-pseudohealthy_{self.contrast}.nii.gz",
            "findings_tsv": f"desc-{self.contrast}_findings.tsv",
            "findings_json": f"desc-{self.contrast}_findings.json",
            "provenance": f"desc-{self.contrast}_provenance.json",
            "report": f"desc-{self.contrast}_report.html",
            "thumbnail": f"desc-{self.contrast}_thumbnail.png",
        }
        return f"{self.stem}_{images.get(key, f'desc-{self.contrast}{key}_statmap.nii.gz')}"


def write_bids(states: Iterable[ScanState], target: Path, overwrite: bool = False) -> list[Path]:
    """Write the scans that are done as a BIDS derivative; the files written, relative to ``target``.

    Files are hard links where the file system allows, else copies.

    Raises
    ------
    DataError
        No scan is done, or two scans have the same BIDS name.
    UsageError
        An output exists and ``overwrite`` is false.
    """
    done = [state for state in states if state.status == "done"]
    if not done:
        raise DataError("holds no scan that is done", str(target), "Run uadtk segment first.")
    names: dict[tuple[Path, str, str], str] = {}
    for state in done:
        name = BidsName.of(state.name)
        key = (name.folder, name.stem, name.contrast)
        if key in names:
            what = f"'{names[key]}' and '{state.name}' have the same BIDS name"
            raise DataError(what, str(target), "Export them to different folders.")
        names[key] = state.name
    if (target / "dataset_description.json").exists() and not overwrite:
        raise UsageError("output exists", str(target / "dataset_description.json"), "Pass --overwrite to replace it.")
    with staged(target, overwrite) as stage:
        for state in done:
            _write_scan(stage, state)
        _write_description(stage)
        return sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())


def _write_scan(stage: Path, state: ScanState) -> None:
    name = BidsName.of(state.name)
    folder = stage / name.folder
    folder.mkdir(parents=True, exist_ok=True)
    for key, path in state.files.items():
        if not key.startswith("dicom_"):  # which names the patient
            _link(path, folder / name.file(key))
    common = {"SkullStripped": False, "SpatialReference": "orig"}
    here, raw = f"bids::{name.folder.as_posix()}", f"bids:raw:{name.folder.as_posix()}/{state.name}.nii.gz"
    sidecars: dict[str, dict[str, Any]] = {
        "mask": {
            "Type": "Lesion",
            "Description": "Voxels above the operating point, small components removed",
            "Sources": [f"{here}/{name.file('score')}"],
        },
        "brain": {
            "Type": "Brain",
            "Description": "The brain mask that was used",
            **({"Sources": [raw]} if name.known else {}),
        },
        "components": {
            "Description": "Numbered findings, the largest is 1",
            "Sources": [f"{here}/{name.file('mask')}"],
        },
        "reconstruction": {"Description": "Pseudo-healthy reconstruction", "SkullStripped": True},
    }
    for key, record in sidecars.items():
        if key in state.files:
            write_json(folder / name.file(key).replace(".nii.gz", ".json"), {**common, **record})
    if "components" in state.files:
        table = lookup_tables()["label-lesion_dseg.tsv"]
        write_text(folder / name.file("components").replace(".nii.gz", ".tsv"), table)


def _write_description(stage: Path) -> None:
    record = {
        "Name": "uadtk lesion segmentations",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "DatasetLinks": {"raw": "../.."},
        "GeneratedBy": [{"Name": "uadtk", "Version": VERSION, "Description": USE}],
    }
    write_text(stage / "dataset_description.json", json.dumps(record, indent=2) + "\n")
    write_text(stage / ".bidsignore", "\n".join(_IGNORED) + "\n")
    readme = (
        "Lesion masks, numbered findings, score maps and reports of brain MRI, written by uadtk export-bids.\n\n"
        "In each anat folder, the masks and label images are BIDS derivatives; score maps, findings, provenance and\n"
        f"reports lie beside them and are named in .bidsignore. {USE}\n"
    )
    write_text(stage / "README", readme)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
