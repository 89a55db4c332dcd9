"""Results as a BIDS derivative: ``sub-/ses-/anat/`` with sidecars, label table and a description of the data set.

What BIDS has no name for (score map, report, provenance) lies beside the rest and is named in ``.bidsignore``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from uadtk.core.errors import DataError, UsageError
from uadtk.io.lookup import lookup_tables
from uadtk.io.memo import generated, read_json
from uadtk.io.names import safe_name
from uadtk.io.readers.bids_names import Name, is_contrast
from uadtk.io.results import FILES, MANIFEST, MNI, ScanState, is_output, key_of, read_manifest, scan_place
from uadtk.io.rows import Row
from uadtk.io.write import remove, staged, within, write_text
from uadtk.version import USE, VERSION

BIDS_VERSION = "1.10.0"
DERIVATIVE = Path("derivatives", "uadtk")
"""In the output folder of ``uadtk segment --layout bids``."""
_ATLAS = "https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009"
_RAW = (  # in BIDS' order; kept
    *("sub", "ses", "sample", "task", "acq", "ce", "trc", "stain", "rec", "dir", "run", "mod", "echo", "flip", "inv"),
    *("mt", "part", "proc", "hemi", "space", "recording", "chunk", "res"),
)
_IGNORED = ("*_statmap.nii.gz", "*_findings.*", "*_provenance.json", "*_report.html", "*_thumbnail.png", "*_xfm.txt")
_README = f"""Lesion masks, numbered findings, score maps and reports of brain MRI, written by uadtk.

In each anat folder, the masks and label images are BIDS derivatives; score maps, findings, provenance and
reports lie beside them and are named in .bidsignore. {USE}
"""
_NUMBERED = r"(?:_ses-([0-9A-Za-z]+))?(?:_([0-9]+))?"  # as uadtk.io.names adds them to a subject
_FOLDER = re.compile(r"(?P<root>.*)/(?P<sub>sub-[^/]+)/(?:(?P<ses>ses-[^/]+)/)?anat/[^/]+")


@dataclass(frozen=True)
class BidsName:
    """``entities`` of the scan; ``desc``: its suffix, after its own ``desc``: what every output repeats.

    ``person``: the subject before it was made a label. ``root``: the data set that the scan lies in, and ``source`` its
    path there; empty if it lies in none.
    """

    entities: Mapping[str, str]
    contrast: str
    desc: str
    person: str
    root: str = ""
    source: str = ""

    @classmethod
    def of(cls, name: str, image: str = "", subject: str = "", study_date: str = "") -> BidsName:
        """Of a scan's file or, if that has no BIDS name, of its outputs.

        If neither has one, its subject, or one of that name; the session is that in the name of the outputs, or the
        date of the study, and the run their number: it does not depend on which other scans there are.
        """
        lies = _FOLDER.fullmatch(Path(image).as_posix())
        own = Name.parse(Path(image).name)
        read = own if own and own.suffix else Name.parse(name)
        if read is None:
            numbered = re.fullmatch(re.escape(safe_name(subject)) + _NUMBERED, name) if subject else None
            session, run = numbered.groups() if numbered else (None, None)
            person = subject if numbered else name
            found = {"sub": _plain(person).replace("+", "") or "x", "ses": session or study_date, "run": run}
            return cls({key: value for key, value in found.items() if value}, "FLAIR", "FLAIR", person)
        given, suffix = dict(read.entities), read.suffix
        if suffix.isdecimal():  # output_names numbers scans of one name
            given, suffix = {"run": suffix, **given}, ""
        if lies and lies["ses"]:
            given.setdefault("ses", lies["ses"].removeprefix("ses-"))
        entities = {key: _plain(given[key]) for key in _RAW if key in given}
        words = [word for word in (*read.words, suffix) if word]  # sub-01_FLAIR_brain has two
        contrast = next(filter(is_contrast, words), suffix if suffix.isalnum() else "FLAIR")
        others = [given.get("desc", ""), *(word for word in words if word != contrast)]
        desc = "".join(_plain(one) for one in others if one) + contrast
        inside = bool(lies and lies["sub"] == f"sub-{given['sub']}")
        root, source = (lies["root"], image[len(lies["root"]) + 1 :]) if lies and inside else ("", "")
        return cls(entities, contrast, desc, given["sub"], root, source)

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


def refuse_unexportable(folder: Path, names: Iterable[str], rows: Iterable[Row], states: Iterable[ScanState]) -> None:
    """Before any work: whether ``rows``, with outputs of these names in ``folder``, can become a derivative there.

    ``states``: of the scans that the folder holds.

    Raises
    ------
    DataError
        Two have the same BIDS name or are two subjects of one, or one that is in the folder has or is.
    UsageError
        There is a data set that is not ours, or a link to another folder.
    """
    target = within(folder, DERIVATIVE)
    _described(target, overwrite=False)
    pairs = zip(names, rows, strict=True)
    new = {name: BidsName.of(name, os.path.abspath(row.image), row.subject) for name, row in pairs}
    _refuse_equal({**{state.name: _name_of(state) for state in states}, **new}, target)


def _refuse_equal(names: Mapping[str, BidsName], target: Path) -> None:
    taken, people = dict[str, str](), dict[str, str]()
    for name, made in names.items():
        first = taken.setdefault(str(made.folder / made.file("mask")).casefold(), name)
        other = people.setdefault(made.entities["sub"].casefold(), name)
        if first != name or names[other].person != made.person:
            what = f"'{other if first == name else first}' and '{name}' have the same BIDS name"
            raise DataError(what, str(target), "Segment them into different folders.")


def write_bids(states: Iterable[ScanState], target: Path, overwrite: bool = False) -> list[Path]:
    """Write the scans that are done as a BIDS derivative; the files written, relative to ``target``.

    Written are the scans that ``target`` does not have as they are now: by their provenance, the sizes of their files
    and their sidecars. Those of ``states`` that are not done are removed from it; others stay. Files are hard links
    where the file system allows, else copies. ``overwrite``: write all, in place of whatever is there.

    Raises
    ------
    DataError
        No scan is done, or two scans have the same BIDS name, or two subjects.
    UsageError
        There is another data set, or are files of the same names that are not ours, and ``overwrite`` is false.
    """
    states = list(states)
    if not any(state.status == "done" for state in states):
        raise DataError("holds no scan that is done", str(target), "Run uadtk segment first.")
    names = {state.name: _name_of(state) for state in states}
    _refuse_equal(names, target)
    described = _described(target, overwrite)
    links = _links({name.root for name in names.values()} - {""}, target, described)
    written = _describe(target, described, links)
    for state in states:
        name = names[state.name]
        content = _content(state, name, links) if state.status == "done" else {}
        written += _update(target, _former(target, state, name), content, _manifest(name), overwrite)
    return sorted(written)


def _manifest(name: BidsName) -> Path:
    return name.folder / name.file("provenance")


def _former(target: Path, state: ScanState, name: BidsName) -> set[Path]:
    """What an earlier export has written of a scan."""
    listed = read_manifest(target / _manifest(name)).get("files", {})
    keys = {*FILES, *(key_of(file, state.name) for file in listed if is_output(file, state.name))}
    files = [name.folder / name.file(key) for key in keys if not key.startswith("dicom_")]
    images = [file for file in files if file.name.endswith(".nii.gz")]
    files += [_beside(image, ending) for image in images for ending in (".json", ".tsv")]
    return {file for file in files if (target / file).is_file()}


def _update(
    target: Path, former: set[Path], content: Mapping[Path, Path | str], manifest: Path, overwrite: bool
) -> list[Path]:
    """Make the files of one scan what ``content`` says; those written. As one set: its manifest is moved last."""
    if not overwrite and former == content.keys() and all(_same(target / file, one) for file, one in content.items()):
        return []
    ours = manifest in former or not former
    if not content:
        remove(target, sorted(former if ours else (), key=lambda file: file != manifest))  # without it, no set is left
        return []
    with staged(target, overwrite or ours, str(manifest), [target / file for file in former]) as stage:
        for file, one in content.items():
            (stage / file).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(one, str):
                write_text(stage / file, one)
            else:
                _link(one, stage / file)
    return sorted(content)


def _same(there: Path, content: Path | str) -> bool:
    """By content for text and provenance, which names the digests of all others; those by size."""
    if isinstance(content, str):
        return there.read_bytes() == content.encode()
    if content.name.endswith(MANIFEST):
        return there.read_bytes() == content.read_bytes()
    return there.stat().st_size == content.stat().st_size


def _content(state: ScanState, name: BidsName, links: Mapping[str, str]) -> dict[Path, Path | str]:
    """Every file of a scan, by its place in the data set: what to link, or its text.

    Of a scan that is in the atlas's space itself, the files on its own grid are taken: both have the same names.
    """
    content: dict[Path, Path | str] = {}
    records = _sidecars(state, name, links)
    for key, path in sorted(state.files.items(), key=lambda item: not item[0].endswith("_mni")):
        if key.startswith("dicom_"):  # which name the patient
            continue
        place = name.folder / name.file(key)
        content[place] = path
        if key in records:
            content[_beside(place, ".json")] = _json(records[key])
        if key == "components":
            content[_beside(place, ".tsv")] = lookup_tables()["label-lesion_dseg.tsv"]
    return content


def _sidecars(state: ScanState, name: BidsName, links: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    here = f"bids::{name.folder.as_posix()}"
    raw = [f"bids:{links[name.root]}:{name.source}"] if name.root else []
    of_raw = {"Sources": raw} if raw else {}
    grid = "orig" if "space" not in name.entities else raw[0] if raw else None
    own = {"SkullStripped": False, **({"SpatialReference": grid} if grid else {})}
    in_mni = {"SkullStripped": False, "SpatialReference": _ATLAS}
    stripped = state.provenance.get("brain_source") == "already skull-stripped"
    return {
        "mask": {
            **own,
            "Type": "Lesion",
            "Description": "Voxels above the operating point, small components removed",
            "Sources": [f"{here}/{name.file('score')}", *raw],
        },
        "brain": {**own, "Type": "Brain", "Description": "The brain mask that was used", **of_raw},
        "components": {
            **own,
            "Description": "Numbered findings, the largest is 1",
            "Sources": [f"{here}/{name.file('mask')}"],
        },
        "reconstruction": {**own, "SkullStripped": True, "Description": "Pseudo-healthy reconstruction"},
        "mask_mni": {
            **in_mni,
            "Type": "Lesion",
            "Description": "Affine, nearest neighbour; volumes of findings are those in the scan's own space",
            "Sources": [f"{here}/{name.file('mask')}"],
        },
        "scan_mni": {**in_mni, "SkullStripped": stripped, "Description": "Affine, linear", **of_raw},
    }


def _described(target: Path, overwrite: bool) -> dict[str, Any]:
    """``dataset_description.json`` of an earlier export, empty if there is none. Raises UsageError for another's."""
    path = target / "dataset_description.json"
    record = read_json(path)
    if generated(record):
        return record
    if path.exists() and not overwrite:
        what, fix = "describes a data set that uadtk did not make", "Choose another folder, or --overwrite."
        raise UsageError(what, str(path), fix)
    return {}


def _links(roots: Iterable[str], target: Path, described: Mapping[str, Any]) -> dict[str, str]:
    """A name for each data set that scans lie in; those of an earlier export keep theirs, which sidecars contain."""
    names = {url: name for name, url in _known(described).items()}
    free = (name for name in chain(["raw"], (f"raw{n}" for n in count(1))) if name not in names.values())
    return {root: names.get(_url(root, target)) or next(free) for root in sorted(roots)}


def _known(described: Mapping[str, Any]) -> dict[str, Any]:
    links = described.get("DatasetLinks")
    return {name: url for name, url in links.items() if isinstance(url, str)} if isinstance(links, dict) else {}


def _describe(target: Path, described: Mapping[str, Any], links: Mapping[str, str]) -> list[Path]:
    """Write what describes the data set, and keep what people have added to it; the files that have changed."""
    known = {**_known(described), **{link: _url(root, target) for root, link in links.items()}}
    record = {
        "Name": "uadtk lesion segmentations",
        **described,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        **({"DatasetLinks": known, "SourceDatasets": [{"URL": url} for url in known.values()]} if known else {}),
        "GeneratedBy": [{"Name": "uadtk", "Version": VERSION, "Description": USE}],
    }
    ignored = target / ".bidsignore"
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.is_file() else []
    texts = {
        "dataset_description.json": _json(record),
        ".bidsignore": "\n".join([*lines, *(one for one in _IGNORED if one not in lines)]) + "\n",
        **({} if (target / "README").exists() else {"README": _README}),
    }
    there = {name: (target / name).read_bytes() for name in texts if (target / name).is_file()}
    changed = {Path(name): text for name, text in texts.items() if there.get(name) != text.encode()}
    if changed:
        with staged(target, overwrite=True) as stage:
            for file, text in changed.items():
                write_text(stage / file, text)
    return sorted(changed)


def _beside(image: Path, ending: str) -> Path:
    return image.with_name(image.name.removesuffix(".nii.gz") + ending)


def _name_of(state: ScanState) -> BidsName:
    source = state.provenance.get("input") or state.failure.get("input")
    given = source if isinstance(source, Mapping) else {}
    facts = given.get("facts")
    date = str(facts.get("StudyDate", "")).replace(".", "") if isinstance(facts, Mapping) else ""
    subject = given.get("subject")
    return BidsName.of(
        state.name,
        str(scan_place(state.folder, given)) if given else state.image,
        subject if isinstance(subject, str) else "",
        date if re.fullmatch("[0-9]{8}", date) else "",
    )


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2) + "\n"


def _joined(entities: Mapping[str, str]) -> str:
    return "_".join(f"{key}-{value}" for key, value in entities.items())


def _url(root: str, target: Path) -> str:
    """Relative, so that both may be moved together, unless they share no folder: then both are moved apart."""
    root, here = os.path.abspath(root), os.path.abspath(target)
    if os.path.commonpath([root, here]) == os.path.sep:
        return Path(root).as_uri()
    return quote(Path(os.path.relpath(root, here)).as_posix(), errors="surrogateescape")


def _plain(value: str) -> str:
    """What BIDS allows of a value. Letters of other alphabets become part of a digest, so that names stay different."""
    whole = unicodedata.normalize("NFC", value)
    plain = re.sub(r"[^0-9A-Za-z+]", "", whole)
    if any(character.isalnum() for character in whole if not character.isascii()):
        plain += hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:8]
    return plain or "x"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
