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
from urllib.parse import quote

from uadtk.core.errors import DataError
from uadtk.io.lookup import lookup_tables
from uadtk.io.masks import read_json
from uadtk.io.readers.bids_names import Name
from uadtk.io.results import FILES, MNI, ScanState, key_of, read_folder
from uadtk.io.write import refuse_existing, staged, write_json, write_text
from uadtk.version import VERSION

BIDS_VERSION = "1.10.0"
USE = "For research use. Not a medical device."
DERIVATIVE = Path("derivatives", "uadtk")
"""In the output folder of ``uadtk segment --layout bids``."""
_ATLAS = "https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009"
_RAW = (  # in BIDS' order; kept
    *("sub", "ses", "sample", "task", "acq", "ce", "trc", "stain", "rec", "dir", "run", "mod", "echo", "flip", "inv"),
    *("mt", "part", "proc", "hemi", "space", "recording", "chunk", "res"),
)
_IGNORED = ("*_statmap.nii.gz", "*_findings.*", "*_provenance.json", "*_report.html", "*_thumbnail.png", "*_xfm.txt")
_FOLDER = re.compile(r"(?P<root>.*)/(?P<sub>sub-[^/]+)/(?:(?P<ses>ses-[^/]+)/)?anat/[^/]+")


@dataclass(frozen=True)
class BidsName:
    """``entities`` of the scan; ``desc``: its suffix, after its own ``desc``: what every output repeats.

    ``root``: the data set that the scan lies in, and ``source`` its path there; empty if it lies in none.
    """

    entities: Mapping[str, str]
    contrast: str
    desc: str
    root: str = ""
    source: str = ""

    @classmethod
    def of(cls, name: str, image: str = "") -> BidsName:
        """Of a scan's file or, if that has no BIDS name, of its outputs; if neither has, a subject of that name."""
        lies = _FOLDER.fullmatch(Path(image).as_posix())
        own = Name.parse(Path(image).name)
        read = own if own and own.suffix else Name.parse(name)
        if read is None:
            return cls({"sub": re.sub(r"[^0-9A-Za-z]", "", name) or "x"}, "FLAIR", "FLAIR")
        given, suffix = dict(read.entities), read.suffix
        if suffix.isdecimal():  # output_names numbers scans of one name
            given, suffix = {"run": suffix, **given}, ""
        if lies and lies["ses"]:
            given.setdefault("ses", lies["ses"].removeprefix("ses-"))
        entities = {key: _plain(given[key]) for key in _RAW if key in given}
        contrast = suffix if suffix.isalnum() else "FLAIR"
        desc = (_plain(given["desc"]) if "desc" in given else "") + contrast
        inside = bool(lies and lies["sub"] == f"sub-{given['sub']}")
        root, source = (lies["root"], image[len(lies["root"]) + 1 :]) if lies and inside else ("", "")
        return cls(entities, contrast, desc, root, source)

    @property
    def folder(self) -> Path:
        levels = [f"{key}-{self.entities[key]}" for key in ("sub", "ses") if key in self.entities]
        return Path(*levels, "anat")

    def file(self, key: str) -> str:
        """The name of an output; ``key`` as in ``ScanState.files``."""
        desc, own = self.desc, self.desc.removesuffix(self.contrast)
        if key == "transform_mni":
            return f"{_joined(self.entities)}_from-{desc}_to-{MNI}_mode-image_xfm.txt"
        if key == "scan_mni":
            return f"{_joined(self._in_mni)}_{f'desc-{own}_' if own else ''}{self.contrast}.nii.gz"
        images = {
            "mask": f"label-lesion_desc-{desc}_mask.nii.gz",
            "brain": f"label-brain_desc-{desc}_mask.nii.gz",
            "components": f"desc-{desc}lesions_dseg.nii.gz",
            "score": f"desc-{desc}anomaly_statmap.nii.gz",
            "reconstruction": f"desc-{own}pseudohealthy_{self.contrast}.nii.gz",
            "findings_tsv": f"desc-{desc}_findings.tsv",
            "findings_json": f"desc-{desc}_findings.json",
            "provenance": f"desc-{desc}_provenance.json",
            "report": f"desc-{desc}_report.html",
            "thumbnail": f"desc-{desc}_thumbnail.png",
        }
        entities = self._in_mni if key.endswith("_mni") else self.entities
        kind = key.removesuffix("_mni")
        return f"{_joined(entities)}_{images.get(kind, f'desc-{desc}{kind}_statmap.nii.gz')}"

    @property
    def _in_mni(self) -> dict[str, str]:
        given = {**self.entities, "space": MNI}
        return {key: given[key] for key in _RAW if key in given and key != "res"}


def refuse_same_names(folder: Path, images: Mapping[str, str]) -> None:
    """Before any work: the BIDS names of scans must differ, and from those in ``folder``.

    ``images``: their paths, by the name of their outputs. Raises DataError.
    """
    there = {state.name: _path_of(state) for state in read_folder(folder)}
    _names({**there, **images}, folder / DERIVATIVE)


def _names(images: Mapping[str, str], target: Path) -> dict[str, BidsName]:
    names = {name: BidsName.of(name, image) for name, image in images.items()}
    taken = dict[str, str]()
    for name, made in names.items():
        first = taken.setdefault(str(made.folder / made.file("mask")).casefold(), name)
        if first != name:
            what = f"'{first}' and '{name}' have the same BIDS name"
            raise DataError(what, str(target), "Segment them into different folders.")
    return names


def write_bids(states: Iterable[ScanState], target: Path, overwrite: bool = False) -> list[Path]:
    """Write the scans that are done as a BIDS derivative; the files written, relative to ``target``.

    Files are hard links where the file system allows, else copies. With ``overwrite``, what was there of these scans is
    removed, be they done or not; other scans stay.

    Raises
    ------
    DataError
        No scan is done, or two scans have the same BIDS name.
    UsageError
        An output exists and ``overwrite`` is false.
    """
    states = list(states)
    done = [state for state in states if state.status == "done"]
    if not done:
        raise DataError("holds no scan that is done", str(target), "Run uadtk segment first.")
    names = _names({state.name: _path_of(state) for state in states}, target)
    refuse_existing([target / "dataset_description.json"], overwrite)
    links = {root: f"raw{n or ''}" for n, root in enumerate(sorted({name.root for name in names.values()} - {""}))}
    former = [path for state in states for path in _former(target, state, names[state.name])] if overwrite else []
    with staged(target, overwrite, replaces=former) as stage:
        for state in done:
            _write_scan(stage, state, names[state.name], links)
        _write_description(stage, {link: _relative(root, target) for root, link in links.items()})
        return sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())


def _former(target: Path, state: ScanState, name: BidsName) -> list[Path]:
    """What an earlier export may have written of a scan."""
    folder = target / name.folder
    listed = read_json(folder / name.file("provenance")).get("files")
    keys = {*FILES, *(key_of(str(file), state.name) for file in listed or ())} - {"dicom_seg", "dicom_sr"}
    files = [folder / name.file(key) for key in sorted(keys)]
    images = [file for file in files if file.name.endswith(".nii.gz")]
    return [*files, *(_beside(image, ending) for image in images for ending in (".json", ".tsv"))]


def _write_scan(stage: Path, state: ScanState, name: BidsName, links: Mapping[str, str]) -> None:
    folder = stage / name.folder
    folder.mkdir(parents=True, exist_ok=True)
    for key, path in state.files.items():
        if not key.startswith("dicom_"):  # which names the patient
            _link(path, folder / name.file(key))
    here = f"bids::{name.folder.as_posix()}"
    raw = [f"bids:{links[name.root]}:{name.source}"] if name.root else []
    grid = "orig" if "space" not in name.entities else raw[0] if raw else None
    common = {"SkullStripped": False, **({"SpatialReference": grid} if grid else {})}
    sidecars: dict[str, dict[str, Any]] = {
        "mask": {
            "Type": "Lesion",
            "Description": "Voxels above the operating point, small components removed",
            "Sources": [f"{here}/{name.file('score')}", *raw],
        },
        "brain": {
            "Type": "Brain",
            "Description": "The brain mask that was used",
            **({"Sources": raw} if raw else {}),
        },
        "components": {
            "Description": "Numbered findings, the largest is 1",
            "Sources": [f"{here}/{name.file('mask')}"],
        },
        "reconstruction": {"Description": "Pseudo-healthy reconstruction", "SkullStripped": True},
    }
    stripped = state.provenance.get("brain_source") == "already skull-stripped"
    in_mni: dict[str, dict[str, Any]] = {
        "mask_mni": {
            "SkullStripped": False,
            "SpatialReference": _ATLAS,
            "Type": "Lesion",
            "Description": "Affine, nearest neighbour; volumes of findings are those in the scan's own space",
            "Sources": [f"{here}/{name.file('mask')}"],
        },
        "scan_mni": {
            "SkullStripped": stripped,
            "SpatialReference": _ATLAS,
            "Description": "Affine, linear",
            **({"Sources": raw} if raw else {}),
        },
    }
    for key, record in in_mni.items():
        if key in state.files:
            write_json(_beside(folder / name.file(key), ".json"), record)
    for key, record in sidecars.items():
        if key in state.files:
            write_json(_beside(folder / name.file(key), ".json"), {**common, **record})
    if "components" in state.files:
        table = lookup_tables()["label-lesion_dseg.tsv"]
        write_text(_beside(folder / name.file("components"), ".tsv"), table)


def _write_description(stage: Path, links: Mapping[str, str]) -> None:
    record = {
        "Name": "uadtk lesion segmentations",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        **({"DatasetLinks": links, "SourceDatasets": [{"URL": url} for url in links.values()]} if links else {}),
        "GeneratedBy": [{"Name": "uadtk", "Version": VERSION, "Description": USE}],
    }
    write_text(stage / "dataset_description.json", json.dumps(record, indent=2) + "\n")
    write_text(stage / ".bidsignore", "\n".join(_IGNORED) + "\n")
    readme = (
        "Lesion masks, numbered findings, score maps and reports of brain MRI, written by uadtk.\n\n"
        "In each anat folder, the masks and label images are BIDS derivatives; score maps, findings, provenance and\n"
        f"reports lie beside them and are named in .bidsignore. {USE}\n"
    )
    write_text(stage / "README", readme)


def _beside(image: Path, ending: str) -> Path:
    return image.with_name(image.name.removesuffix(".nii.gz") + ending)


def _path_of(state: ScanState) -> str:
    source = state.provenance.get("input")
    absolute = source.get("absolute") if isinstance(source, Mapping) else None
    return absolute if isinstance(absolute, str) else state.image


def _joined(entities: Mapping[str, str]) -> str:
    return "_".join(f"{key}-{value}" for key, value in entities.items())


def _relative(root: str, target: Path) -> str:
    return quote(Path(os.path.relpath(root, target)).as_posix(), errors="surrogateescape")


def _plain(value: str) -> str:
    return re.sub(r"[^0-9A-Za-z+]", "", value) or "x"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
