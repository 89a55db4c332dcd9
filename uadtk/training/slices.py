"""Training slices: prepared once and stored in a memory-mapped file.

They are read in random order, batch by batch, so a cohort may be larger than memory; as much as fits stays in the page
cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uadtk.core import schema
from uadtk.core.errors import DataError
from uadtk.core.finding import Gate
from uadtk.core.model import Batch
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.io.cohort import Cohort, Row, read_row
from uadtk.io.memo import digest_of, remembered, write_memo
from uadtk.io.parts import parts_of
from uadtk.io.read import read_mask
from uadtk.io.rows import FILES, LATER_FILES
from uadtk.io.write import staged, storing
from uadtk.pipeline.admit import prepare_admitted, warn
from uadtk.pipeline.each import each
from uadtk.preparation import Prepared
from uadtk.preparation.gate import wanted_by
from uadtk.preparation.lesion_free import lesion_free, lesion_of, outside_lesion
from uadtk.version import VERSION

MIN_BRAIN_SHARE = 0.02  # of a slice; slices with less are the top of the vertex or the spinal cord
HELD_OUT = 0.2
BRAIN, NORMAL, LESION, KNOWN, HINT, HINTED = 1, 2, 4, 8, 16, 32  # bits of the masks' file
ANNOTATED, PSEUDO, UNLABELLED = 0, 1, 2  # sources of labels
FORMAT = 4  # of the files
ROOM = "Make room or name another folder: --slices."
_FACTS = "slices.json"
_FILES = ("image.f32", "masks.u8", "about.i4")
_COUNT = schema.whole(0, 2**50)
_MEMO = schema.record(
    {
        **dict.fromkeys(("slices", "scans", "pixels"), _COUNT),
        "failed": schema.items(_COUNT, 10**7),
        "gates": schema.items(schema.record({"light": schema.text(), "measured": schema.mapping(schema.plain)}), 10**7),
    }
)


@dataclass(frozen=True)
class Slices:
    """``image`` float32 and ``masks`` uint8 (n, side, side); ``scans``: number of scans they come from.

    ``about`` int32 (n, 3): scan number, ascending; label source; number of lesion pixels.
    ``neighbours``: number of adjacent slices on each side that come with each slice of a batch; edges repeat.
    ``failed``: subjects of scans that could not be used. ``gates``: of the others, light and numbers.
    ``pixel_mm``: size of a pixel in mm, that of the preparation.
    """

    image: NDArray[np.float32]
    masks: NDArray[np.uint8]
    scans: int
    about: NDArray[np.int32]
    pixel_mm: float
    neighbours: int = 0
    failed: tuple[str, ...] = ()
    gates: tuple[dict[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.image)

    def batch(self, rows: NDArray[np.intp], device: str) -> Batch:
        image = torch.from_numpy(_read(self.image, self._beside(rows)))
        bits = torch.from_numpy(_read(self.masks, rows[:, None])).to(device)
        on_device = image.to(device, memory_format=torch.channels_last)
        masks = ((bits & bit) > 0 for bit in (BRAIN, NORMAL, LESION, KNOWN, HINT, HINTED))
        return Batch(on_device, *masks, pixel_mm=self.pixel_mm)

    def _beside(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Each row with its neighbours in the same scan, (B, 1 + 2 * neighbours)."""
        scan = self.about[:, 0]
        first, last = np.searchsorted(scan, scan[rows]), np.searchsorted(scan, scan[rows], "right") - 1
        offsets = np.arange(-self.neighbours, self.neighbours + 1)
        return np.clip(rows[:, None] + offsets, first[:, None], last[:, None])


def _read(array: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """``array[rows]``, read from the file in ascending order."""
    order = np.argsort(rows, axis=None)
    back = np.argsort(order)
    return np.asarray(array[rows.ravel()[order]])[back].reshape(*rows.shape, *array.shape[1:])


def train_rows(cohort: Cohort) -> list[Row]:
    """The rows of split ``train``; all rows of a table without splits."""
    split = any(row.split for row in cohort)
    return [row for row in cohort if row.split == "train" or not split]


def split_rows(cohort: Cohort, seed: int) -> tuple[list[Row], list[Row]]:
    """Training and validation rows: by the table's split column, else a random fifth of the subjects is held out."""
    train, held = train_rows(cohort), [row for row in cohort if row.split == "validation"]
    if not train:
        raise DataError("no row with split 'train'", str(cohort.source), "Name the splits train, validation and test.")
    if not held:
        subjects = sorted({row.subject for row in train})
        if len(subjects) < 2:
            raise DataError("needs at least two subjects, one to validate on", str(cohort.source))
        order = np.random.default_rng(seed).permutation(len(subjects))
        chosen = {subjects[i] for i in order[: max(1, round(HELD_OUT * len(subjects)))]}
        held = [row for row in train if row.subject in chosen]
        train = [row for row in train if row.subject not in chosen]
    return train, held


def to_learn(rows: Sequence[Row], unlabelled: bool) -> list[Row]:
    """The labelled scans and, on request, the unlabelled ones. Raises DataError if none is labelled."""
    if not any(row.lesion_mask for row in rows):
        raise DataError("no scan to train on is labelled", "lesion_mask", "Name lesion masks in the cohort table.")
    return [row for row in rows if unlabelled or row.lesion_mask]


def to_judge(rows: Sequence[Row]) -> list[Row]:
    """Manually annotated scans; if there are none, those with pseudo-labels. Raises DataError without either."""
    labelled = [row for row in rows if row.lesion_mask]
    if not labelled:
        raise DataError("no scan to validate on is labelled", "lesion_mask", "Give some the split validation.")
    return [row for row in labelled if not row.label_source] or labelled


def load_slices(
    rows: Sequence[Row],
    recipe: Preparation,
    masked: bool,
    run: Run,
    what: str,
    cache: Path,
    statistics: Mapping[str, Any] | None = None,
) -> Slices:
    """The slices of all scans: read from the folder ``cache`` if they were prepared before, else prepared into it.

    ``masked``: all slices, known lesions marked not normal; else lesion-free slices only. ``statistics``: of the scans
    that these should be like, for the gate. A scan that fails, or that the gate refuses, is reported and left out, and
    tried again next time; if it then succeeds, all slices are prepared again.

    Raises
    ------
    DataError
        No scan gave a slice.
    StorageError
        The disk is full.
    """
    work = _Work(recipe, masked, statistics or {})
    key = {**slices_key(rows, recipe, masked), "gate": [wanted_by(work.statistics), run.worst]}
    folder = cache / digest_of(key)[:16]
    facts = _stored(folder, key)
    if facts is not None and facts["failed"]:
        again = [rows[place] for place in facts["failed"]]
        outcomes = list(each(again, work, run, what, alone=False))
        if any(outcome.error is None for outcome in outcomes):
            facts = None
    if facts is None:
        with staged(folder, overwrite=True, manifest=_FACTS) as stage, storing(cache, "prepared slices", ROOM):
            found = _prepare_all(rows, work, run, what, stage)
            if slices_key(rows, recipe, masked)["images"] != key["images"]:
                raise DataError("a scan changed while it was prepared", what, "Run the command again.")
            facts = write_memo(stage / _FACTS, FORMAT, key, found)
    shape = (facts["slices"], recipe.pixels, recipe.pixels)
    image = np.memmap(folder / "image.f32", "<f4", "r", shape=shape)
    about = np.fromfile(folder / "about.i4", "<i4").reshape(-1, 3)
    masks = np.memmap(folder / "masks.u8", "u1", "r", shape=shape)
    failed = tuple(rows[place].subject for place in facts["failed"])
    return Slices(image, masks, facts["scans"], about, recipe.pixel_mm, failed=failed, gates=tuple(facts["gates"]))


def slices_key(rows: Sequence[Row], recipe: Preparation, masked: bool) -> dict[str, Any]:
    """Everything that the slices of these rows, and their order, depend on."""
    return {
        "cohort": Cohort(tuple(rows), "").digest(),
        "images": [[row.image.name, *map(_changed, _files(row))] for row in rows],
        "preparation": recipe.identity(),
        "masked": masked,
        "uadtk": VERSION,
    }


def _files(row: Row) -> list[Path]:
    """The image and its masks."""
    return [path for name in (*FILES, *LATER_FILES) if (path := getattr(row, name)) is not None]


def _changed(path: Path) -> int:
    """Modification time: a file replaced by another of the same size is prepared again."""
    try:
        return max(file.stat().st_mtime_ns for file in parts_of(path))
    except (OSError, ValueError, DataError):
        return 0


def _stored(folder: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """The memo, if it exists and the files have the sizes it records. It is written last, so they are complete."""
    facts = remembered(folder / _FACTS, FORMAT, key, _MEMO)
    try:
        sizes = [(folder / name).stat().st_size for name in _FILES]
    except OSError:
        return None
    whole = facts is not None and sizes == [facts["pixels"] * 4, facts["pixels"], facts["slices"] * 12]
    return facts if whole else None


@dataclass(frozen=True)
class _Work:
    """Prepares the slices of a row: images, bits of masks, and what the gate sees."""

    recipe: Preparation
    masked: bool
    statistics: Mapping[str, Any]

    def __call__(self, _: int, row: Row, run: Run) -> tuple[NDArray[np.float32], NDArray[np.uint8], Gate]:
        name = str(row.image)
        scan, brain_mask = read_row(row, run)
        prepared, gate = prepare_admitted(scan, brain_mask, self.recipe, self.statistics, run, name)
        warn(gate, name, run)
        lesion = lesion_of(row, scan, run)
        usable = outside_lesion(scan, lesion) if self.masked else lesion_free(row, scan, lesion)
        abnormal = prepared.touched(~usable)
        wanted = with_brain(prepared.brain)
        if not self.masked:
            wanted &= ~abnormal.any(axis=(1, 2))
        bits = prepared.brain * np.uint8(BRAIN) | ~abnormal * np.uint8(NORMAL) | _labels(row, scan, lesion, prepared)
        return prepared.image[wanted], bits[wanted], gate


def _prepare_all(rows: Sequence[Row], work: _Work, run: Run, what: str, folder: Path) -> dict[str, Any]:
    """Write the slices scan by scan, with one scan in memory. ``failed``: indices of scans that could not be used."""
    slices, scans, failed, gates = 0, 0, list[int](), list[dict[str, Any]]()
    with ExitStack() as open_files:
        images, masks, about = (open_files.enter_context((folder / name).open("wb")) for name in _FILES)
        for outcome in each(rows, work, run, what):
            if outcome.error is not None:
                failed.append(outcome.place)
                continue
            image, bits, gate = outcome.result
            gates.append({"light": gate.light, "measured": dict(gate.measured)})
            images.write(np.ascontiguousarray(image, "<f4").data)
            masks.write(np.ascontiguousarray(bits).data)
            about.write(_about(scans, outcome.row, bits).data)
            slices, scans = slices + len(image), scans + (len(image) > 0)
    if not slices:
        raise DataError(f"no slice to use for {what}", fix="See the lines above; are the scans lesion-free anywhere?")
    pixels = slices * work.recipe.pixels**2
    return {"slices": slices, "scans": scans, "pixels": pixels, "failed": failed, "gates": gates}


def with_brain(brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the slices (n, side, side) show enough brain to learn from."""
    return np.asarray(brain.mean(axis=(1, 2)) >= MIN_BRAIN_SHARE)


def _labels(row: Row, scan: Scan, lesion: Mask | None, prepared: Prepared) -> NDArray[np.uint8]:
    """Bits of the labels of a labelled scan, or of the suspected lesions of an unlabelled one."""

    def on_own_grid(path: Path | None) -> NDArray[np.bool_]:
        if path is None:
            return np.zeros(scan.shape, dtype=bool)
        return read_mask(path, like=scan, may_be_empty=True).voxels

    if lesion is not None:
        unsure = prepared.touched(on_own_grid(row.ignore_mask))
        return prepared.to_slices(lesion.voxels) * np.uint8(LESION) | ~unsure * np.uint8(KNOWN)
    hint = prepared.to_slices(on_own_grid(row.prior_mask))
    return hint * np.uint8(HINT) | np.uint8(HINTED if row.prior_mask else 0)


def _about(scan: int, row: Row, bits: NDArray[np.uint8]) -> NDArray[np.int32]:
    source = (PSEUDO if row.label_source else ANNOTATED) if row.lesion_mask else UNLABELLED
    lesion = np.count_nonzero(bits & LESION, axis=(1, 2))
    return np.stack([np.full_like(lesion, scan), np.full_like(lesion, source), lesion], axis=1).astype("<i4")
