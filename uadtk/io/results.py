"""A folder of segmentations, as its manifests describe it: which scans are done, which failed, and why.

The files of a scan are one set. Its manifest, ``<name>_provenance.json``, is written last and names every file of the
set with size and SHA-256; a set is replaced only behind a manifest that says so (``uadtk.io.write.staged``). So after a
kill at any moment a reader sees the old set, the new one, or an unfinished one, and never a mixture. A scan that could
not be segmented leaves ``<name>_failure.json`` instead, until it succeeds.

``summary.tsv``, the cohort page and the decision which scans a repeated command still has to do all come from
:func:`read_scan` and :func:`read_folder`. Trust no file of a folder that ``ScanState.files`` does not name::

    for scan in read_folder(Path("out")):
        print(scan.name, scan.status, scan.light, scan.findings, scan.volume_ml, scan.error)
        if scan.status == "done":
            show(scan.files["mask"], scan.files["report"], scan.provenance["gate"]["reasons"])
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from uadtk.core import schema
from uadtk.core.errors import GateError, UadtkError
from uadtk.core.finding import LIGHTS
from uadtk.core.text import shown
from uadtk.io.memo import read_json, sha256_of
from uadtk.io.unfinished import UNFINISHED
from uadtk.io.write import staged, write_text

MNI = "MNI152NLin2009aSym"
"""The name that BIDS has for the space of ICBM 2009a."""
FILES = {
    "mask": "label-lesion_mask.nii.gz",
    "score": "desc-anomaly_statmap.nii.gz",
    "reconstruction": "desc-pseudohealthy_FLAIR.nii.gz",
    "components": "label-lesion_dseg.nii.gz",
    "brain": "desc-brain_mask.nii.gz",
    "findings_json": "findings.json",
    "findings_tsv": "findings.tsv",
    "provenance": "provenance.json",
    "report": "report.html",
    "thumbnail": "thumbnail.png",
    "dicom_seg": "seg.dcm",
    "dicom_sr": "sr.dcm",
    "dicom_sc": "sc.dcm",
    "mask_mni": f"space-{MNI}_label-lesion_mask.nii.gz",
    "score_mni": f"space-{MNI}_desc-anomaly_statmap.nii.gz",
    "scan_mni": f"space-{MNI}_FLAIR.nii.gz",
    "transform_mni": f"from-orig_to-{MNI}_mode-image_xfm.txt",
}
_MAP = re.compile(r"desc-[^/\0]{1,200}_statmap\.nii\.gz")  # of a scorer's own
_PARTS = ("checkpoint", "files", "found", "gate", "input", "options", "plugins", "versions")
MANIFEST, FAILURE = "provenance.json", "failure.json"
SUMMARY, SHARD = "summary.tsv", "summary_shard-{}-of-{}.tsv"
HEADER = "name\tstatus\tfindings\tvolume_ml\treport_or_error\tgate"

Status = Literal["done", "failed", "unfinished"]


@dataclass(frozen=True)
class ScanState:
    """What a folder holds of one scan.

    Attributes
    ----------
    status
        ``done``: the set is complete, and every file has the size that the manifest names. ``failed``: the last try did
        not succeed; an older result, if there is one, is still in ``files``. ``unfinished``: the process was killed
        while the set was moved into place, or files of it are missing or were changed; the same command repairs it.
    image
        Path of the scan as the command named it.
    light
        Of the gate: green, amber or red; empty if a failure came before the gate.
    findings, volume_ml
        Number and total of the findings of a scan that is done.
    error
        Why it is not done, on one line.
    files
        The files to trust, by ``mask``, ``score``, ``report`` and the other keys of ``FILES`` or names of maps.
    provenance
        Content of the manifest; empty if there is none.
    failure
        Content of the record of a failure; empty if there is none.
    before
        It was done before the run that asked for it, and was not done again.
    """

    folder: Path
    name: str
    status: Status
    image: str = ""
    light: str = ""
    findings: int = 0
    volume_ml: float = 0.0
    error: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    failure: Mapping[str, Any] = field(default_factory=dict)
    before: bool = False

    def row(self) -> str:
        """Its line of ``summary.tsv``."""
        if self.status != "done":
            return f"{self.name}\t{self.status}\t\t\t{self.error}\t{self.light}"
        report = shown(str(self.files.get("report", "")))
        return f"{self.name}\t{self.status}\t{self.findings}\t{self.volume_ml:.3f}\t{report}\t{self.light}"


def output_paths(folder: Path, name: str, maps: Sequence[str] = ()) -> dict[str, Path]:
    """Where each output goes: ``<folder>/<name>_<suffix>``; further maps of a scorer become ``desc-<map>_statmap``."""
    extra = {key: f"desc-{key}_statmap.nii.gz" for key in maps if key not in FILES}
    return {key: folder / f"{name}_{suffix}" for key, suffix in {**FILES, **extra}.items()}


def read_folder(folder: Path) -> list[ScanState]:
    """Every scan of which the folder holds a manifest or a failure, sorted by name. A folder that is not there: none.

    Sizes are compared, contents are not: :func:`altered` does that.
    """
    states = (read_scan(folder, name) for name in sorted(_stamps(folder)))
    return [state for state in states if state is not None]


def read_scan(folder: Path, name: str) -> ScanState | None:
    """The state of one scan; None if the folder has neither manifest nor failure of it."""
    manifest, failure = read_manifest(folder / f"{name}_{MANIFEST}"), read_manifest(folder / f"{name}_{FAILURE}")
    if not manifest and not failure:
        return None
    files, wrong = _files(folder, name, manifest)
    found = _mapping(manifest, "found")
    source = _mapping(manifest, "input") or _mapping(failure, "input")
    if failure:
        status: Status = "failed"
        light, error = _light(failure), shown(str(failure.get("error", "")))
    else:
        status, error = ("unfinished", wrong) if wrong else ("done", "")
        light = _light(_mapping(manifest, "gate"))
    return ScanState(
        folder=folder,
        name=name,
        status=status,
        image=str(source.get("path", "")),
        light=light,
        findings=int(_number(found, "findings")),
        volume_ml=_number(found, "volume_ml"),
        error=error,
        files={} if wrong else files,
        provenance=manifest,
        failure=failure,
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest, or the record of a failure, whose parts are mappings where they are there; empty if it is none."""
    record = read_json(path)
    try:
        schema.plain(record, "manifest")
    except ValueError:
        return {}
    return {key: {} if key in _PARTS and not isinstance(value, dict) else value for key, value in record.items()}


def is_output(file: Any, name: str) -> bool:
    """Whether a text from a manifest is the name of a file that uadtk writes for that scan, and of no other's."""
    suffix = file.removeprefix(f"{name}_") if isinstance(file, str) and file.startswith(f"{name}_") else ""
    return suffix in FILES.values() or bool(_MAP.fullmatch(suffix))


def files_of(stage: Path) -> dict[str, Any]:
    """The entry ``files`` of a manifest: size and digest of each file of a staged set."""
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(stage.iterdir())}


def scan_place(folder: Path, source: Mapping[str, Any]) -> Path:
    """Where the scan of a result in ``folder`` is now, by the ``input`` of its manifest.

    Where it lies from there, as the two may have been moved or copied together; if there is nothing, where it was.
    """
    relative, absolute = (str(source.get(key) or "") for key in ("relative", "absolute"))
    near = Path(os.path.abspath(folder / relative))
    return near if relative and os.path.exists(near) else Path(absolute or str(source.get("path", "")))


def with_place(source: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The ``input`` of a manifest, with what ``scan_place`` needs."""
    absolute = source.get("absolute")
    return {**source, **({"relative": os.path.relpath(absolute, os.path.abspath(folder))} if absolute else {})}


def former_files(folder: Path, name: str) -> list[Path]:
    """Files that belong to the former set of a scan, or to a set that was left unfinished, and its record of failure.

    Other files of the same names may be somebody's own; nor is one ours that a manifest names but uadtk never writes.
    """
    manifest = read_manifest(folder / f"{name}_{MANIFEST}")
    named = [*_mapping(manifest, "files"), *_list(manifest, UNFINISHED)]
    if not named and "uadtk" in _mapping(manifest, "versions"):  # of an older version, which listed none
        named = [path.name for path in output_paths(folder, name).values()]
    own = {file for file in named if is_output(file, name)} | ({f"{name}_{MANIFEST}"} if named else set())
    return [folder / file for file in sorted({*own, f"{name}_{FAILURE}"})]


def series_in(source: Mapping[str, Any]) -> str:
    """What a manifest's ``input`` says of the DICOM series that was read; empty if it was none."""
    return str(source.get("series") or _mapping(source, "facts").get("SeriesInstanceUID") or "")


def altered(state: ScanState) -> list[str]:
    """Files of a set that are there with another content than the manifest names; reads all of them."""
    named = _mapping(state.provenance, "files").items()
    own = ((file, facts) for file, facts in named if is_output(file, state.name) and isinstance(facts, dict))
    there = [(state.folder / file, facts) for file, facts in own]
    return [path.name for path, facts in there if path.is_file() and sha256_of(path) != facts.get("sha256")]


def summary_table(states: Iterable[ScanState]) -> str:
    """``summary.tsv`` of these scans."""
    return "\n".join([HEADER, *(state.row() for state in states)]) + "\n"


def missing_shards(folder: Path) -> list[str]:
    """The parts ``i/n`` of a cohort that have no summary in the folder, though others of n have."""
    pattern = re.compile(re.escape(SHARD).replace(r"\{\}", "([0-9]{1,6})"))
    there = {(int(one[2]), int(one[1])) for path in folder.iterdir() if (one := pattern.fullmatch(path.name))}
    return [f"{i}/{n}" for n in sorted({n for n, _ in there}) for i in range(1, n + 1) if (n, i) not in there]


def failed(folder: Path, name: str, image: Path, error: UadtkError | None) -> ScanState:
    """The state of the scan ``image`` whose last try ended with ``error``, with the record of it that was written."""
    light = error.light if isinstance(error, GateError) else ""
    record = read_manifest(folder / f"{name}_{FAILURE}")
    return ScanState(folder, name, "failed", str(image), light, error=error.one_line() if error else "", failure=record)


class Summary:
    """``summary.tsv`` of a folder while its scans ``names`` are being done: theirs first, then all others it holds.

    It is written again as scans are added, as often as that costs little, and by ``write`` and ``renew``.
    """

    def __init__(self, path: Path, names: Sequence[str], whole: bool = True) -> None:
        """``whole``: with everything that the folder holds; else with ``names`` alone."""
        self.path, self.names = path, names
        self._seen = _stamps(path.parent) if whole else {}
        self._states = {state.name: state for state in (read_folder(path.parent) if whole else ())}
        self._pace = Pace()

    @property
    def states(self) -> list[ScanState]:
        """All of them, sorted by name."""
        return [self._states[name] for name in sorted(self._states)]

    def add(self, state: ScanState) -> None:
        self._states[state.name] = state
        self._seen[state.name] = _stamp(self.path.parent, state.name)
        if self._pace.due():
            self.write()

    def renew(self) -> None:
        """Write it with what other processes have added to the folder meanwhile, or removed.

        Only scans of which the manifest or the record of a failure is another than before are read again: that costs
        0.3 s in a folder of 2,000, of which reading all takes 1 s or more.
        """
        there = _stamps(self.path.parent)
        for name in {*there, *self._seen}:
            if there.get(name, ()) != self._seen.get(name, ()):
                state = read_scan(self.path.parent, name)
                self._states.pop(name, None)
                self._states |= {name: state} if state else {}
        self._seen = {name: there.get(name, ()) for name in {*there, *self._states}}
        self.write()

    def write(self) -> None:
        own = [self._states[name] for name in self.names if name in self._states]
        others = sorted(self._states.keys() - set(self.names))
        with self._pace.counted(), staged(self.path.parent, overwrite=True) as stage:
            write_text(stage / self.path.name, summary_table([*own, *(self._states[name] for name in others)]))


class Pace:
    """Of work that is repeated so often that a twentieth of the time goes into it."""

    def __init__(self) -> None:
        self._due = 0.0

    def due(self) -> bool:
        return time.monotonic() >= self._due

    @contextmanager
    def counted(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        end = time.monotonic()
        self._due = end + 20 * (end - start)


Stamp = tuple[tuple[str, int, int, int], ...]


def _stamps(folder: Path) -> dict[str, Stamp]:
    """Of each scan of the folder: what differs once its manifest or record of failure was written again."""
    names = {path.name.removesuffix(f"_{end}") for end in (MANIFEST, FAILURE) for path in folder.glob(f"*_{end}")}
    return {name: stamp for name in names if (stamp := _stamp(folder, name))}


def _stamp(folder: Path, name: str) -> Stamp:
    found = []
    for end in (MANIFEST, FAILURE):
        with suppress(OSError):
            facts = (folder / f"{name}_{end}").stat()
            found.append((end, facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return tuple(found)


def _files(folder: Path, name: str, manifest: Mapping[str, Any]) -> tuple[dict[str, Path], str]:
    """The set's files by key; and what is wrong with the set, empty if nothing is."""
    if not manifest:
        return {}, ""
    if UNFINISHED in manifest:
        return {}, "was interrupted while its files were moved into place"
    named = _mapping(manifest, "files")
    if not named:
        return {}, "has no list of its files: written by an older uadtk, or not by uadtk"
    found = {}
    for file, facts in named.items():
        if not is_output(file, name):
            return {}, f"its manifest names {shown(file[:80])}, which is no file of it"
        path = folder / file
        try:
            size = path.stat().st_size
        except (OSError, ValueError):
            return {}, f"lacks {shown(path.name)}"
        if not isinstance(facts, dict) or size != facts.get("bytes"):
            return {}, f"{shown(path.name)} was changed after uadtk wrote it"
        found[key_of(path.name, name)] = path
    return {**found, "provenance": folder / f"{name}_{MANIFEST}"}, ""


def key_of(file: str, name: str) -> str:
    """``mask`` for ``<name>_label-lesion_mask.nii.gz``, the name of the map for one of a scorer's own."""
    suffix = file.removeprefix(f"{name}_")
    known = {file: key for key, file in FILES.items()}
    return known.get(suffix, suffix.removeprefix("desc-").partition("_")[0])


def _mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _light(record: Mapping[str, Any]) -> str:
    return next((light for light in LIGHTS if light == record.get("light")), "")


def _number(record: Mapping[str, Any], key: str) -> float:
    value = record.get(key)
    return float(value) if isinstance(value, int | float) and abs(value) < 2**53 else 0.0


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    return value if isinstance(value, list) else []
