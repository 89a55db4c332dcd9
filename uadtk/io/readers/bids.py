"""BIDS trees: the FLAIR images of all subjects, their entries in participants.tsv, and their masks.

By entities, as the standard defines them: a name is ``key-value`` pairs and a suffix, a file without an entity applies
to all of its values, and metadata of a folder are those of the folders below. The tree may be raw data with
``derivatives/``, or a derivative itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uadtk.core.errors import BackendError, DataError
from uadtk.io.masks import OWN_SPACES, Candidate, Notes, grid_of, kind_of, with_masks
from uadtk.io.memo import generated_here
from uadtk.io.names import IMAGE
from uadtk.io.own import is_own, may_be_own
from uadtk.io.read import located
from uadtk.io.readers.bids_names import RAW, Name, is_contrast, lesion_labels, sidecar
from uadtk.io.rows import Row, group_of, split_of
from uadtk.io.table import known_columns, read_sheet, values_of, word

_VERSION = frozenset(("space", "res", "den", "desc", "label", "seg", "atlas"))
_MASKS = ("mask", "roi", "dseg", "probseg", "msk")
_ELSEWHERE = ("func", "dwi", "perf", "fmap", "pet", "swi")  # brain masks there are not of a FLAIR
_TABLE = ("group", "site", "split", "collection")


def is_bids(folder: Path) -> bool:
    """It has a folder of a subject, or is one."""
    return any(folder.glob("sub-*/")) or _is_subject(folder)


def _is_subject(folder: Path) -> bool:
    inside = (found.is_dir() for pattern in ("anat", "ses-*/anat") for found in folder.glob(pattern))
    return folder.absolute().name.startswith("sub-") and any(inside)


def bids_rows(root: Path) -> tuple[list[Row], list[str]]:
    """Rows and notes. ``root``: the tree, or the folder of one subject in it.

    Raises
    ------
    DataError
        No FLAIR image, a participants' table that cannot be used, two masks or two versions of an image.
    """
    subjects = sorted(path for path in root.glob("sub-*") if path.is_dir())
    whole = bool(subjects)
    if not whole:
        subjects, root = [root.absolute()], root.absolute().parent
    notes, rows = Notes(), list[Row]()
    ignored, people, bases = _ignored(root), _participants(root), _bases(root)
    for subject in subjects:
        images = _images(root, subject, ignored, notes)
        _refuse_versions(images, subject)
        masks = _masks(bases, subject) if images else []
        for image in images:
            row = Row(subject.name, image.path, **_facts(people, image.name))
            rows.append(_complete(row, image, images, masks, notes))
    if not rows:
        reasons = "; ".join(f"{reason}: {', '.join(items[:3])}" for reason, items in notes.found.items())
        what = f"no FLAIR images in the BIDS tree ({reasons or 'no subject'})"
        raise DataError(what, fix="Expected sub-*/[ses-*/]anat/*_FLAIR.nii.gz.")
    for who in sorted({f"sub-{who}" for who, _ in people} - {path.name for path in subjects}) if whole else ():
        notes.add("in participants.tsv, but not in the tree", who)
    return rows, list(notes.lines(root))


@dataclass(frozen=True)
class _Image:
    path: Path
    name: Name


def _images(root: Path, subject: Path, ignored: Any, notes: Notes) -> list[_Image]:
    """The FLAIR images of a subject."""
    found, others = list[_Image](), set[str]()
    for path in sorted(p for pattern in ("anat/*", "ses-*/anat/*") for p in subject.glob(pattern)):
        if not IMAGE.search(path.name) or path.name.startswith("."):
            continue
        suffix = IMAGE.sub("", path.name).rpartition("_")[2]
        if suffix != "FLAIR":
            others |= set() if suffix in _MASKS else {suffix}
            continue
        if is_own(path):
            continue
        name = _placed(path, subject)
        if name is None:
            notes.add("its name is not that of an image of its folder's subject and session; not taken", path)
        elif ignored(path):
            notes.add("excluded by .bidsignore; not taken", path)
        elif name.entities.get("part", "mag") != "mag":
            notes.add("no magnitude image; not taken", path)
        else:
            found.append(_Image(path, name))
    if not found:
        has = f" (it has {', '.join(sorted(others))})" if others else " (it has no image in anat/)"
        notes.add("no FLAIR image of a subject", subject.name + has)
    return found


def _placed(path: Path, subject: Path) -> Name | None:
    """The name of an image with the session of its folder; None if the two contradict each other."""
    name = Name.parse(path.name)
    if name is None or f"sub-{name.entities['sub']}" != subject.name:
        return None
    session = path.parent.parent.name.removeprefix("ses-") if path.parent.parent != subject else None
    stated = name.entities.get("ses")
    if session is None or stated == session:
        return name
    return replace(name, entities={**name.entities, "ses": session}) if stated is None else None


def _refuse_versions(images: Sequence[_Image], subject: Path) -> None:
    """Images that differ only in what was done to them (space, desc) are one scan."""
    seen: dict[tuple[tuple[str, str], ...], Path] = {}
    for image in images:
        key = tuple(sorted((k, v) for k, v in image.name.entities.items() if k not in _VERSION))
        if key in seen:
            raise DataError(
                f"two versions of one scan, {seen[key].name} and {image.path.name}",
                str(subject),
                "Name the right one in a cohort table.",
            )
        seen[key] = image.path


@dataclass(frozen=True)
class _Mask:
    """``rest``: its name without the entities of raw data, which tells what it is. ``root`` of its data set."""

    path: Path
    name: Name
    kind: str
    rest: str
    labels: tuple[int, ...] | None
    sources: tuple[Name, ...]


def _bases(root: Path) -> list[Path]:
    """The tree and the data sets in its derivatives, without those that are ours."""
    found, level = [root], [root / "derivatives"]
    for _ in range(3):
        level = [p for p in level if p.is_dir() and not p.name.startswith(("sub-", "uadtk")) and not generated_here(p)]
        found += level
        level = sorted(inside for folder in level for inside in folder.iterdir())
    return found


def _masks(bases: Sequence[Path], subject: Path) -> list[_Mask]:
    """All masks of a subject, in the tree and in its derivatives, but not our own."""
    files = ((path, base) for base in bases for path in sorted((base / subject.name).rglob("*_*.nii*")))
    found = [_mask(path, base) for path, base in files]
    return [mask for mask in found if mask is not None]


def _mask(path: Path, root: Path) -> _Mask | None:
    name = Name.parse(path.name)
    if name is None or name.suffix not in _MASKS or not IMAGE.search(path.name) or is_own(path):
        return None
    made = [f"{key}-{value}" for key, value in name.entities.items() if key not in RAW and key != "space"]
    words = [one for one in name.words if not is_contrast(one)]
    rest = "_".join([*made, *words, name.suffix])
    kind: str = kind_of(rest)
    about = sidecar(path, name, root)
    if kind in ("unknown", "other") and str(about.get("Type", "")).lower() in ("brain", "lesion"):
        kind = str(about["Type"]).lower()
    labels = lesion_labels(path, name, root) if name.suffix == "dseg" else None
    kind = "lesion" if labels else kind
    if may_be_own(path):
        kind = "unknown" if kind == "lesion" else "other"
    stated = [about.get(key) for key in ("Sources", "RawSources")]
    listed = [one for each in stated for one in (each if isinstance(each, list) else [each]) if isinstance(one, str)]
    sources = tuple(n for one in listed if (n := Name.parse(one.rpartition("/")[2])) is not None)
    if kind == "other" or (kind == "brain" and path.parent.name in _ELSEWHERE):
        return None
    return _Mask(path, name, kind, rest, labels, sources)


def _complete(row: Row, image: _Image, images: Sequence[_Image], masks: Sequence[_Mask], notes: Notes) -> Row:
    brain, lesion, doubtful = list[Candidate](), list[Candidate](), list[Path]()
    for mask in masks:
        own = _is_for(mask, image, images)
        if own is None:
            continue
        if mask.kind == "unknown":
            doubtful.append(mask.path)
        else:
            rank = (mask.name.suffix != "dseg") + 2 * (mask.name.raw() == image.name.raw()) + 4 * own
            (brain if mask.kind == "brain" else lesion).append(Candidate(mask.path, own, rank))
    row = with_masks(row, brain, lesion, doubtful, notes)
    return replace(row, lesion_labels=next((m.labels for m in masks if m.path == row.lesion_mask), None))


def _is_for(mask: _Mask, image: _Image, images: Sequence[_Image]) -> bool | None:
    """True: it is a mask of this image. False: of its subject and session, but in another space or of another image.

    None: it is of another image here.

    Raises
    ------
    DataError
        It could be that of several images here.
    """
    fitting = [one for one in images if mask.name.within(one.name)]
    exact = [one for one in fitting if mask.name.raw() == one.name.raw()]
    fitting = exact or fitting
    if image not in fitting:
        orphan = not fitting and mask.name.raw().get("ses", "") in ("", image.name.entities.get("ses", ""))
        return False if orphan else None
    space, own_space = mask.name.entities.get("space"), image.name.entities.get("space")
    other = [one for one in (*mask.name.words, *(source.suffix for source in mask.sources)) if is_contrast(one)]
    if space != own_space and (space or "").lower() not in OWN_SPACES:
        return False
    if other and "FLAIR" not in other:
        return False
    if space is None and _is_on_another_image(mask, image):
        return False
    if len(fitting) > 1:
        return _only_by_grid(mask, image, fitting)
    return True


def _only_by_grid(mask: _Mask, image: _Image, images: Sequence[_Image]) -> bool | None:
    grid = grid_of(mask.path)
    found = [one for one in images if grid and (own := grid_of(one.path)) and own.same_grid(grid)]
    if len(found) == 1:
        return True if found == [image] else None
    if mask.kind == "brain":
        return False
    raise DataError(
        f"could be the mask of {images[0].path.name} and of {images[1].path.name}",
        str(mask.path),
        "Name masks in a cohort table.",
    )


def _is_on_another_image(mask: _Mask, image: _Image) -> bool:
    """It is not on the image's grid, but on that of another image of the session: the T1w's mask, most often."""
    grid, own = grid_of(mask.path), grid_of(image.path)
    if grid is None or own is None or own.same_grid(grid):
        return False
    for folder in {image.path.parent, mask.path.parent}:
        for path in sorted(folder.iterdir()):
            name = Name.parse(path.name)
            if name and IMAGE.search(path.name) and name.suffix not in (*_MASKS, "FLAIR") and _same(path, grid):
                return True
    return False


def _same(path: Path, grid: Any) -> bool:
    found = grid_of(path)
    return found is not None and bool(found.same_grid(grid))


def _ignored(root: Path) -> Any:
    """Whether ``.bidsignore`` excludes an image. Masks are never asked for: many are listed there for their names."""
    path = root / ".bidsignore"
    if not path.is_file():
        return lambda _: False
    try:
        from pathspec import GitIgnoreSpec
    except ImportError as error:
        raise BackendError("needs 'pathspec' to read .bidsignore", str(path), "pip install pathspec") from error
    spec = GitIgnoreSpec.from_lines(path.read_text(encoding="utf-8", errors="replace").splitlines())
    return lambda file: spec.match_file(os.fspath(file.relative_to(root)))


People = dict[tuple[str, str | None], dict[str, str]]


def _participants(root: Path) -> People:
    """What ``participants.tsv`` and ``sub-*/sub-*_sessions.tsv`` say, by subject and session."""
    people: People = {}
    if os.path.lexists(path := root / "participants.tsv"):
        for who, facts in _people(path, "subject"):
            people[who.removeprefix("sub-"), None] = facts
    for path in sorted(root.glob("sub-*/sub-*_sessions.tsv")):
        for session, facts in _people(path, "session_id"):
            people[path.parent.name.removeprefix("sub-"), session.removeprefix("ses-")] = facts
    return people


def _people(path: Path, key: str) -> Iterator[tuple[str, dict[str, str]]]:
    with located(path):
        sheet = read_sheet(path)
        places = known_columns(sheet.columns, (key, *_TABLE), (key,))
    seen: dict[str, dict[str, str]] = {}
    for where, cells in sheet.lines:
        values = {name: word(cell) for name, cell in values_of(cells, places, where).items()}
        if key not in values:
            raise DataError(f"no {key}", where, "Fill in the cell or remove the line.")
        who = values.pop(key)
        if seen.setdefault(who, values) != values:
            raise DataError(f"'{who}' has two lines that differ", where, "Remove one, or describe sessions apart.")
    yield from seen.items()


def _facts(people: People, name: Name) -> dict[str, Any]:
    who, session = name.entities["sub"], name.entities.get("ses")
    facts = people.get((who, None), {}) | (people.get((who, session), {}) if session else {})
    canonical = {"group": group_of, "split": split_of}
    return {key: canonical.get(key, str)(value) for key, value in facts.items()}
