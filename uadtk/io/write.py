"""Atomic writing of files: written to a temporary folder beside the target, flushed to disk, then renamed.

A killed process leaves at most a hidden ``.uadtk-...`` folder, here or in TMPDIR, which a later run removes.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import StorageError, UadtkError, UsageError
from uadtk.core.text import ESCAPED
from uadtk.core.volume import Header, Volume
from uadtk.io.deflate import packed
from uadtk.io.locks import flush, flush_folder, locked
from uadtk.io.unfinished import JOURNAL, UNFINISHED, is_unfinished, unfinished
from uadtk.version import VERSION

Part = bytes | memoryview
HIDDEN = ".uadtk-"
_STAGES: set[Path] = set()  # of this process; a name alone proves nothing, anybody may have a folder .uadtk-data
_HOST = re.sub(r"\W+", "_", platform.node())  # not every file system shares locks between machines
_PLANES = 16  # converted at once
_GRACE_S, _WEEK_S = 10.0, 7 * 86400.0
_next_sweep: dict[Path, float] = {}
ROOM = "Set TMPDIR to a folder with room."
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def refuse_existing(paths: Iterable[str | os.PathLike[str]], overwrite: bool) -> None:
    """Check for existing outputs before any work is done. Those of a set that a kill left unfinished are no obstacle.

    Raises
    ------
    UsageError
        One of the paths exists and may not be overwritten, is a folder, or is no name that the file system allows.
    """
    for path in map(Path, paths):
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"cannot be written ({error.strerror})", str(path), "Choose another output.") from None
        if path.is_dir():
            raise UsageError("is a folder; expected a file", str(path), "Choose another output.")
        if not overwrite and not is_unfinished(path):
            raise UsageError("output exists", str(path), "Pass --overwrite to replace it.")


def refuse_file(path: Path, overwrite: bool) -> None:
    """Before any work: the output must not exist, and its folder must exist and be writable. Raises UsageError."""
    refuse_existing([path], overwrite)
    parent = path.absolute().parent
    if not parent.is_dir():
        raise UsageError("no such folder", str(parent), "Create it first.")
    if not os.access(parent, os.W_OK):
        raise UsageError("the folder is not writable", str(parent), "Choose another output.")


def refuse_folder(folder: Path) -> None:
    """Before any work: files can be made in a folder, which need not exist yet. Raises UsageError."""
    fix = "Choose another output."
    try:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
        if not there.is_dir():
            raise UsageError("is a file; expected a folder", str(there), fix)
        os.lstat(folder / ("n" * 60))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(f"cannot be used ({error.strerror})", str(folder), fix) from None
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError("the folder is not writable", str(there), fix)


def within(folder: Path, *names: str | Path) -> Path:
    """The path of something that we write below an output folder that the user named, which itself may be a link.

    Raises
    ------
    UsageError
        A part of it below ``folder`` is a link: whoever planted it would choose where we write, and what is replaced.
    """
    path = folder
    for part in Path(*names).parts:
        path /= part
        if part == "..":
            raise UsageError("leads out of the output folder", str(path), "Choose another name.")
        if path.is_symlink():
            what = "is a link, and links below an output folder are not followed"
            raise UsageError(what, str(path), "Remove it, or name its target as the output.")
    return path


def remove(folder: Path, files: Iterable[Path]) -> None:
    """Remove files, if they are there, given by their paths in an output folder. Raises as ``within``, or OSError."""
    for file in files:
        (within(folder, file.parent) / file.name).unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes | Iterable[Part], named: bool = False) -> None:
    """Write a file, whole or in parts, atomically, replacing an existing one; missing folders are created.

    ``named`` by the user: a link is written through and a pipe written to; else, planted ones are replaced.

    Raises
    ------
    UadtkError
        The disk is full, or the path is not writable. An existing file is then unchanged.
    """
    where = Path(path)
    place = Path(os.path.realpath(where)) if named else Path(os.path.realpath(where.parent)) / where.name
    with _writing(where):
        planted = not named and (place.is_symlink() or place.is_fifo())
        if place.exists() and not place.is_file() and not planted:  # /dev/stdout, a pipe: cannot be renamed onto
            _put(place, data)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        if not _STAGES.isdisjoint(place.parents):  # flushed and renamed later
            _put(place, data)
            return
        with _hidden(place.parent) as hidden:
            _replace(hidden / "data", data, place)


def write_text(path: str | os.PathLike[str], text: str, named: bool = False) -> None:
    """UTF-8, line ends as they are; bytes of file names that are not UTF-8 are escaped. Raises as ``write_bytes``."""
    write_bytes(path, text.encode(errors=ESCAPED), named)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON, indented by 2, keys in the given order, with a final newline. Raises as ``write_bytes``.

    NumPy numbers, arrays and paths become numbers, lists and strings. NaN raises ``ValueError``: JSON has no NaN.
    Bytes of file names that are not UTF-8 are escaped so that ``json.load`` gives the path back.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"
    write_bytes(path, text.encode(errors="backslashreplace"))


@dataclass(frozen=True)
class Meaning:
    """What a header says of an image for viewers: its kind, a name of at most 15 bytes, the range to show."""

    intent: Literal["label", "estimate", "none"]
    name: str
    low: float = 0.0
    high: float = 0.0  # both 0: the viewer decides


def write_nifti(
    path: str | os.PathLike[str], volume: Volume, header: Header | None = None, meaning: Meaning | None = None
) -> None:
    """Write NIfTI-1: bool as uint8, integers as uint8, int16 or int32, everything else as float32. Raises as above.

    The same volume gives the same bytes (``uadtk.io.deflate`` has the conditions). Names that end in ``.gz`` are
    compressed. The affine becomes the sform (rounded to float32), and also the qform if its axes are orthogonal, since
    a qform cannot represent shears.
    """
    parts = _nifti(volume, header or volume.header, meaning)
    write_bytes(path, packed(parts) if str(path).endswith(".gz") else parts)


def nifti_bytes(volume: Volume) -> bytes:
    """The content of an uncompressed file that ``write_nifti`` writes."""
    return b"".join(_nifti(volume, volume.header))


@contextmanager
def staged(
    folder: str | os.PathLike[str], overwrite: bool = False, manifest: str = "", replaces: Iterable[Path] = ()
) -> Iterator[Path]:
    """A hidden folder for several files, which are moved to ``folder`` together when the block succeeds.

    If the block raises, none of its files remain, nor does ``folder`` if it is new. Subfolders are moved too. Write
    with the functions of this module, so that a full disk is reported as such.

    ``manifest``: the JSON file of the set that readers go by. While the files are moved, one that names them as
    ``unfinished`` stands in its place, so that a set of which a kill left old and new files is not taken for either;
    without a manifest, a hidden file does, so that the same command may replace them (``uadtk.io.unfinished``).
    ``replaces``: files of the set that was there; those that the new one does not have are removed.

    Raises
    ------
    UsageError
        A file to be moved exists in ``folder`` and ``overwrite`` is false; call ``refuse_existing`` before long work.
    UadtkError
        The disk is full, or ``folder`` is not writable.
    """
    folder = Path(folder)
    with _writing(folder):
        made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        with ExitStack() as stack:
            with _writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                stage = stack.enter_context(_hidden(folder))
            yield stage
            with _writing(folder):
                _move(stage, folder, overwrite, manifest, replaces)
    except BaseException:
        for empty in made:
            with suppress(OSError):  # another process has written there
                empty.rmdir()
        raise


def _move(stage: Path, folder: Path, overwrite: bool, manifest: str, replaces: Iterable[Path]) -> None:
    files = sorted((p for p in stage.rglob("*") if not p.is_dir()), key=lambda p: (p == stage / manifest, p))
    targets = [folder / p.relative_to(stage) for p in files]
    names = [str(p.relative_to(stage)) for p in files]
    parents = {within(folder, *Path(name).parts[:-1]) for name in names}
    for parent in parents:
        parent.mkdir(parents=True, exist_ok=True)
    for file in files:
        flush(file)
    with locked(folder, wait=True):  # two processes must not mix their sets
        refuse_existing(targets, overwrite)
        mark = folder / (manifest or JOURNAL)
        others = set() if manifest else unfinished(folder).difference(names)

        def move() -> None:
            left = [(file, target) for file, target in zip(files, targets, strict=True) if file.exists()]
            if left and (manifest or len(files) > 1):
                _mark(mark, [*names, *others])
            remove(folder, (path.relative_to(folder) for path in {*replaces}.difference(targets)))
            for file, target in left:
                file.replace(target)
            for parent in parents:
                flush_folder(parent)
            if others:
                _mark(mark, others)
            elif not manifest:
                mark.unlink(missing_ok=True)

        try:
            move()
        except BaseException as ended:
            if not isinstance(ended, Exception):  # a signal: what remains is milliseconds, and half a set is none
                move()
            raise


def _mark(place: Path, names: Iterable[str]) -> None:
    with _hidden(place.parent) as hidden:
        _replace(hidden / "data", json.dumps({UNFINISHED: list(names)}).encode(), place)


def _put(place: Path, data: bytes | Iterable[Part]) -> None:
    with place.open("wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def _replace(beside: Path, data: bytes | Iterable[Part], place: Path) -> None:
    _put(beside, data)
    flush(beside)
    beside.replace(place)
    flush_folder(place.parent)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        shown = Path(*(part for part in path.parts if not part.startswith(HIDDEN)))
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a file is where a folder should be" if in_the_way else error.strerror or error
        what, where = f"cannot be written ({reason})", str(shown)
        if error.errno in _FULL:
            raise StorageError(what, where, "Make room or choose another place.") from error
        raise UadtkError(what, where, "Choose another place for the output.") from error


@contextmanager
def storing(folder: Path, what: str, fix: str) -> Iterator[None]:
    """For files that only this run reads, written in place: an OSError becomes a StorageError about ``what``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or f"not all could be written: {error}"  # as NumPy reports a full disk
        raise StorageError(f"{what} cannot be stored there ({reason})", str(folder), fix) from error


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder for scores, in TMPDIR. Raises StorageError if it cannot be made or is full."""
    try:
        place = Path(tempfile.gettempdir())
    except OSError:
        place = Path(os.environ.get("TMPDIR", "the temporary folder"))
    with storing(place, "scores", ROOM), _hidden(place) as folder:
        yield folder


@contextmanager
def _hidden(folder: Path) -> Iterator[Path]:
    """A temporary folder on the same file system, locked while its process lives and removed at the end."""
    _sweep(folder)
    hidden = folder / f"{HIDDEN}{_HOST}-{secrets.token_hex(8)}"
    inside = Path(os.path.realpath(hidden))
    try:
        hidden.mkdir(mode=0o700)
        _STAGES.add(inside)
        with locked(hidden):
            yield hidden
    finally:
        _STAGES.discard(inside)
        try:
            shutil.rmtree(hidden, ignore_errors=True)
        except BaseException:  # a signal, in the middle of it
            shutil.rmtree(hidden, ignore_errors=True)
            raise


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind: hidden folders of this user that no process holds a lock on.

    Of other machines, whose locks may not be seen here, after a week: every container is another machine. Without locks
    (Windows, some network file systems) a folder may belong to a running process, so none is removed.
    """
    start = time.monotonic()
    if start < _next_sweep.get(folder, 0.0):
        return
    for hidden in folder.glob(f"{HIDDEN}*-*"):
        with suppress(OSError):
            found = hidden.lstat()
            grace_s = _GRACE_S if hidden.name.startswith(f"{HIDDEN}{_HOST}-") else _WEEK_S
            mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
            if not (stat.S_ISDIR(found.st_mode) and mine and time.time() - found.st_mtime > grace_s):
                continue  # somebody else's, or created but perhaps not locked yet
            with locked(hidden) as sure:
                if sure:
                    shutil.rmtree(hidden, ignore_errors=True)
    end = time.monotonic()
    _next_sweep[folder] = end + 100 * (end - start)  # listing a folder of a million files is not for every write


def _nifti(volume: Volume, claims: Header, meaning: Meaning | None = None) -> Iterator[Part]:
    """In parts, so that no second volume is in memory where the file's type is another."""
    import nibabel as nib

    stored = _stored(volume.voxels)
    header: Any = nib.Nifti1Header(endianness="<")  # type: ignore[no-untyped-call]
    header.set_data_dtype(stored)
    header.set_data_shape(volume.shape)
    header.set_xyzt_units("mm")
    header.set_zooms(volume.spacing_mm)
    if claims.sform_code:
        header.set_sform(volume.affine, code=claims.sform_code)
    qform = volume.affine if claims.qform is None else claims.qform
    axes = qform[:3, :3] / np.linalg.norm(qform[:3, :3], axis=0)
    if claims.qform_code and np.abs(axes.T @ axes - np.eye(3)).max() < 1e-5:
        header.set_qform(qform, code=claims.qform_code)
    if claims.qform is not None:  # set_qform has set the spacing to that of the qform
        header.set_zooms(volume.spacing_mm)
    if meaning:
        header.set_intent(meaning.intent, name=meaning.name)
        header["cal_min"], header["cal_max"] = meaning.low, meaning.high
        header["descrip"] = f"uadtk {VERSION}: {meaning.name}"
    header.set_slope_inter(1.0, 0.0)
    header.set_data_offset(header.single_vox_offset)
    yield header.binaryblock + b"\0\0\0\0"
    for k in range(0, volume.shape[2], _PLANES):
        yield volume.voxels[:, :, k : k + _PLANES].astype(stored, copy=False).ravel(order="F").view(np.uint8).data


def _stored(voxels: NDArray[Any]) -> np.dtype[Any]:
    """Little-endian, the smallest type that common readers support."""
    if voxels.dtype.kind not in "iu" or voxels.dtype == np.uint8:
        return np.dtype("u1" if voxels.dtype in (bool, np.uint8) else "<f4")
    low, high = int(voxels.min()), int(voxels.max())
    if not -(2**31) <= low <= high < 2**31:
        raise ValueError(f"labels from {low} to {high} do not fit into 32 bits")
    return np.dtype("<i2" if low >= -(2**15) and high < 2**15 else "<i4")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} is not JSON-serialisable")
