"""Files that unpack to far more than they can need, or name as their voxels what never ends: refused, in no memory."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest

from uadtk.checkpoint import load
from uadtk.core import machine
from uadtk.core.errors import DataError, OutOfMemoryError, UadtkError
from uadtk.io.cohort import read_cohort
from uadtk.io.read import read_scan
from uadtk.io.readers import dicom_limits, others

pydicom = pytest.importorskip("pydicom", reason="needs pip install uadtk[dicom]")
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian  # noqa: E402

from tests import dicom_writer as dw  # noqa: E402
from tests.io.test_reader_dicom import AFFINE, assert_same, numbers  # noqa: E402

ZEROS_MB = 100  # more than any limit for these files, and packed in 0.1 MB
EXTRA_MB = 80  # of memory that refusing may take
PRIVATE = bytes.fromhex("09001010") + b"OB\0\0" + (ZEROS_MB << 20).to_bytes(4, "little")


def zeros(packer: Any, last: bytes = b"") -> bytes:
    parts = [packer.compress(bytes(1 << 20)) for _ in range(ZEROS_MB)]
    return b"".join([*parts, packer.compress(last), packer.flush()])


def image(folder: Path, syntax: UID = DeflatedExplicitVRLittleEndian) -> Path:
    data = dw.slices(numbers(), AFFINE)
    for one in data:
        one.file_meta.TransferSyntaxUID = syntax
    return dw.write(folder, data)


def test_deflated_dicom_is_read(tmp_path):
    assert_same(read_scan(image(tmp_path / "d")), numbers(), AFFINE)
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for file in (tmp_path / "d").iterdir():
            packed.write(file, file.name)
    assert_same(read_scan(tmp_path / "d.zip"), numbers(), AFFINE)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_deflated_dicom_cut_short(tmp_path, share):
    path = next(image(tmp_path / "d").iterdir())
    raw = path.read_bytes()
    path.write_bytes(raw[: 400 + int(share * (len(raw) - 400))])
    with pytest.raises(DataError, match=r"cut short|damaged"):
        read_scan(path)


def refused(path: Path, why: str) -> None:
    with pytest.raises(DataError, match=why):
        read_scan(path)


def refused_in_no_memory(path: Path, why: str) -> None:
    """In a process of its own, whose peak of memory is compared with that before."""
    code = (
        "import resource, sys; from pathlib import Path; from uadtk.io.read import read_scan\n"
        "from uadtk.core.errors import UadtkError\nimport pydicom.pixels, nibabel, scipy.io\n"
        "def peak(): print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)\npeak()\n"
        "try: read_scan(Path(sys.argv[1]))\nexcept UadtkError as error: print(error.one_line())\npeak()"
    )
    found = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    before, line, after = found.stdout.splitlines()
    assert why in line
    assert int(after) - int(before) < EXTRA_MB


@pytest.mark.parametrize("place", ["before", "behind"])
def test_zeros_in_a_deflated_file(tmp_path, place):
    """Before the pixels or behind them."""
    path = next(image(tmp_path / "d").iterdir())
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = path.read_bytes()
    (length,) = np.frombuffer(raw, "<u4", 1, 140)
    own = zlib.decompress(raw[144 + int(length) :], -15)
    pixels = own.index(bytes.fromhex("e07f1000"))
    first, last = (own[:pixels], own[pixels:]) if place == "before" else (own, b"")
    parts = [packer.compress(first + PRIVATE), zeros(packer, last)]
    path.write_bytes(raw[: 144 + int(length)] + b"".join(parts))
    how = refused_in_no_memory if place == "behind" else refused
    how(path, "more than the 34 MB that it can need")


def test_a_zip_with_a_member_of_zeros(tmp_path):
    source = next(dw.write(tmp_path / "s", dw.slices(numbers(), AFFINE)).iterdir())
    with (
        zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open(source.name, "w") as member,
    ):
        member.write(source.read_bytes() + PRIVATE)
        for _ in range(ZEROS_MB):
            member.write(bytes(1 << 20))
    refused(tmp_path / "s.zip", "more than the 34 MB that it can need")


def test_a_file_with_more_beside_its_pixels_than_it_can_need(tmp_path):
    path = next(dw.write(tmp_path / "s", dw.slices(numbers(), AFFINE)).iterdir())
    with path.open("ab") as file:
        file.write(PRIVATE)
        file.truncate(path.stat().st_size + (ZEROS_MB << 20))
    refused_in_no_memory(path, "holds more than the 34 MB that it can need")


ITEM, ITEM_END = bytes.fromhex("feff00e0"), bytes.fromhex("feff0de000000000")
FRAMES = bytes.fromhex("00523092") + b"SQ\0\0"  # PerFrameFunctionalGroupsSequence


def sequence(content: bytes) -> bytes:
    return FRAMES + len(content).to_bytes(4, "little") + content


def endless(items: bytes) -> bytes:
    return FRAMES + b"\xff" * 4 + items + bytes.fromhex("feffdde000000000")


CROWDED = {
    "items": sequence((ITEM + bytes(4)) * 600_000),
    "items that end": endless((ITEM + b"\xff" * 4 + ITEM_END) * 3_000),
    "elements": b"".join(bytes.fromhex("0900") + n.to_bytes(2, "little") + b"SH\0\0" for n in range(0x1000, 0x8000)),
    "bytes": sequence(ITEM + (20 << 20).to_bytes(4, "little") + bytes(20 << 20)),
}


@pytest.mark.parametrize("kind", CROWDED)
@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_takes_long_to_parse(tmp_path, monkeypatch, kind, packed):
    if kind in ("items that end", "elements"):
        monkeypatch.setattr(dicom_limits, "MOST_PARTS", 20_000)
    path = next(dw.write(tmp_path / "d", [dw.slices(numbers(), AFFINE)[0]]).iterdir())
    raw = path.read_bytes()
    pixels = raw.index(bytes.fromhex("e07f1000"))
    path.write_bytes(raw[:pixels] + CROWDED[kind] + raw[pixels:])
    if packed:
        with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, path.name)
        path = tmp_path / "d.zip"
    refused(path, "header is larger than that of any scan")


def endless_throughout(data: Any) -> None:
    """Sequences and items without lengths, which pydicom parses at once."""
    for element in data:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                endless_throughout(item)


def test_a_header_of_thousands_of_frames_is_not_too_large(tmp_path, monkeypatch):
    frames = 100
    voxels, step = np.arange(4 * frames).reshape(2, 2, frames).astype("u2"), np.diag([1.0, 1, 1, 1])
    data = dw.enhanced(voxels, step)
    for group in data.PerFrameFunctionalGroupsSequence:
        for n in range(7):  # as many as scanners write
            one = pydicom.Dataset()
            one.PatientID, one.StudyDate, one.EchoTime = "x", "20200101", "3"
            group.add_new((0x0021, 0x1000 + n), "SQ", [one])
    endless_throughout(data)
    path = dw.write(tmp_path, [data])
    monkeypatch.setattr(dicom_limits, "MOST_PARTS", dicom_limits.MOST_PARTS * frames // 5_000)
    looks = Mock(side_effect=pydicom.Dataset.private_block, autospec=True)
    monkeypatch.setattr(pydicom.Dataset, "private_block", lambda *about: looks(*about))
    assert read_scan(path).shape == (2, 2, frames)
    assert looks.call_count < 20  # each sorts all attributes


def test_frames_by_the_million(tmp_path):
    data = dw.slices(numbers(), AFFINE)[0]
    data.NumberOfFrames = 10**6
    refused(dw.write(tmp_path / "d", [data]), "1000000 frames, more than a scan has")


SIZED = {
    "1.2.840.10008.1.2.4.90": b"\xff\x4f\xff\x51" + (47).to_bytes(2, "big") + b"\0\0",  # JPEG 2000
    "1.2.840.10008.1.2.4.70": b"\xff\xd8\xff\xe0\0\x04ab\xff\xc3\0\x0b\x10",  # JPEG, behind another segment
    "1.2.840.10008.1.2.4.80": b"\xff\xd8\xff\xf7\0\x0b\x10",  # JPEG-LS
}


@pytest.mark.parametrize("syntax", SIZED)
@pytest.mark.parametrize("wrapped", [False, True])
def test_packed_pixels_that_state_another_size(tmp_path, syntax, wrapped):
    """A decoder would allocate what they state: 12 GB for this one."""
    if syntax.endswith("90"):
        tail = b"".join(n.to_bytes(4, "big") for n in (40000, 40000, 0, 0, 40000, 40000, 0, 0)) + b"\0\1\x0f\1\1"
    else:
        tail = b"\x9c\x40\x9c\x40\1\1\x11\0"
    frame = SIZED[syntax] + tail + bytes(100)
    if wrapped and syntax.endswith("90"):
        small = SIZED[syntax] + b"".join(n.to_bytes(4, "big") for n in (9, 7, 0, 0, 9, 7, 0, 0)) + b"\0\1\x0f\1\1"
        frame = b"\0\0\0\x0cjP  \r\n\x87\n" + small + frame  # the first in a box is not that which is decoded
    elif wrapped:
        frame = frame[:2] + b"\xff\xff\xff\xff" + frame[2:]  # any number of FF may lead to a marker
    data = dw.slices(numbers(), AFFINE)[0]
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.PixelData = encapsulate([frame])
    data["PixelData"].VR = "OB"
    path = next(dw.write(tmp_path / "d", [data]).iterdir())
    refused(path, "its packed pixels are of 40000 x 40000, its header is of 9 x 7")


def test_run_lengths_longer_than_the_image(tmp_path):
    data = dw.slices(numbers(), AFFINE)[0]
    data.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.5")
    header = np.array([2, 64, 64 + (1 << 22), *[0] * 13], "<u4").tobytes()
    data.PixelData = encapsulate([header + b"\x81\0" * (1 << 22)])  # half a GB of zeros
    data["PixelData"].VR = "OB"
    path = next(dw.write(tmp_path / "d", [data]).iterdir())
    refused(path, "its packed pixels are larger than unpacked ones")


def test_a_size_that_no_memory_holds(tmp_path, monkeypatch):
    data = dw.slices(numbers(), AFFINE)[0]
    data.Rows = data.Columns = 60000
    path = next(dw.write(tmp_path / "d", [data]).iterdir())
    monkeypatch.setattr(machine, "free_memory", lambda: 2 * 10**9)
    with pytest.raises(OutOfMemoryError, match="takes about 43"):
        read_scan(path)


@pytest.mark.parametrize("name", ["t.tsv", "c.safetensors"])
def test_files_of_a_size_that_they_cannot_have(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UadtkError, match="is too large: more than"):
        load(tmp_path / name) if name[0] == "c" else read_cohort(tmp_path / name)


def analyze(folder: Path) -> Path:
    kind: Any = nib.Spm2AnalyzeImage
    header = kind.header_class()
    header.set_data_shape((9, 7, 6))
    header.set_data_dtype("i2")
    header.set_zooms((1, 1, 1))
    (folder / "a.hdr").write_bytes(header.binaryblock)
    (folder / "a.img").write_bytes(numbers().astype("<i2").tobytes(order="F"))
    return folder / "a.img"


def test_the_affine_of_analyze_as_a_file_of_zeros(tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    path = analyze(tmp_path)
    savemat(tmp_path / "a.mat", {"mat": np.eye(4), "M": np.eye(4)}, do_compression=True)
    assert read_scan(path).shape == (9, 7, 6)
    savemat(tmp_path / "a.mat", {"mat": np.eye(4), "M": np.zeros(ZEROS_MB << 17)}, do_compression=True)
    refused(path, "its a.mat is too large for an affine")


@pytest.mark.parametrize("kind", ["analyze", "minc2"])
def test_sizes_in_headers_of_nibabels_formats(tmp_path, monkeypatch, kind):
    if kind == "analyze":
        path = analyze(tmp_path)
        header = nib.Spm2AnalyzeImage.header_class(path.with_suffix(".hdr").read_bytes())  # type: ignore[attr-defined]
        header.set_data_shape((2000, 2000, 1000))
        path.with_suffix(".hdr").write_bytes(header.binaryblock)
    else:
        path = minc2(tmp_path, (2000, 2000, 1000))
    monkeypatch.setattr(machine, "free_memory", lambda: 2 * 10**9)
    with pytest.raises(OutOfMemoryError, match="takes about 48"):
        read_scan(path)


def minc2(folder: Path, shape: tuple[int, int, int], **stored: Any) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "m.mnc", "w") as file:
        for name, length in zip(("zspace", "yspace", "xspace"), shape, strict=True):
            axis = file.create_dataset(f"minc-2.0/dimensions/{name}", data=0)
            for key, value in (("start", 0.0), ("step", 1.0), ("length", length), ("spacing", np.bytes_("regular__"))):
                axis.attrs[key] = value
            axis.attrs["direction_cosines"] = np.eye(3)[["xspace", "yspace", "zspace"].index(name)]
        image = file.create_dataset("minc-2.0/image/0/image", shape, "i2", **stored)
        image.attrs["dimorder"], image.attrs["valid_range"] = np.bytes_("zspace,yspace,xspace"), np.array([0.0, 3e4])
        for name in ("image-max", "image-min"):
            scale = file.create_dataset(f"minc-2.0/image/0/{name}", data=float(name == "image-max"))
            scale.attrs["dimorder"] = np.bytes_("")
    return folder / "m.mnc"


def test_minc_with_voxels_in_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    path = minc2(tmp_path, (6, 7, 9), external=[(str(tmp_path / "pipe"), 0, 6 * 7 * 9 * 2)])
    with pytest.raises(DataError, match="its voxels are in another file"):
        read_scan(path)


def test_packed_minc1_of_zeros(tmp_path, monkeypatch):
    netcdf = pytest.importorskip("scipy.io").netcdf_file
    with netcdf(tmp_path / "m.mnc", "w") as file:
        for axis, name in enumerate(("zspace", "yspace", "xspace")):
            file.createDimension(name, (6, 7, 9)[axis])
            variable = file.createVariable(name, "d", ())
            variable.step, variable.start, variable.spacing = 1.0, 0.0, b"regular__"
            variable.direction_cosines = np.eye(3)[2 - axis]
        image = file.createVariable("image", "h", ("zspace", "yspace", "xspace"))
        image.signtype, image.valid_range, image[:] = b"signed__", np.array([0.0, 32000.0]), numbers((6, 7, 9))
        for name in ("image-max", "image-min"):
            file.createVariable(name, "d", ("zspace",))[:] = float(name == "image-max")
    path = tmp_path / "p.mnc.gz"
    path.write_bytes(gzip.compress((tmp_path / "m.mnc").read_bytes()))
    np.testing.assert_array_equal(read_scan(path).voxels, read_scan(tmp_path / "m.mnc").voxels)
    path.write_bytes(path.read_bytes() + zeros(zlib.compressobj(9, zlib.DEFLATED, 31)))
    monkeypatch.setattr(others, "_MOST_MINC1", 34 << 20)
    refused(path, "more than the 36 MB")


NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 9 7 6\n"
    "space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\nendian: little\n"
)
META = (
    "ObjectType = Image\nNDims = 3\nDimSize = 9 7 6\nElementSpacing = 1 1 1\n"
    "TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementType = MET_SHORT\n"
)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nhdr", NRRD + "data file: pipe\n"),
        ("a.nhdr", NRRD + "data file: /dev/zero\n"),
        ("a.nhdr", NRRD + "data file: -\n"),
        ("a.nhdr", NRRD + "data file: LIST\npipe\n"),
        ("a.mhd", META + "ElementDataFile = pipe\n"),
        ("a.mhd", META + "  ElementDataFile : pipe\n"),
        ("a.mhd", META + "ElementDataFile = LIST\npipe\n"),
    ],
)
def test_voxels_in_what_is_no_file(tmp_path, name, header):
    pytest.importorskip("SimpleITK")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / name).write_text(header)
    with pytest.raises(DataError, match="which is no file"):
        read_scan(tmp_path / name)


@pytest.mark.parametrize(("name", "header"), [("a.nhdr", NRRD), ("a.mhd", META)])
def test_a_name_behind_a_header_that_does_not_end(tmp_path, name, header):
    pytest.importorskip("SimpleITK")
    os.mkfifo(tmp_path / "pipe")
    line = "# filled up\n" if name == "a.nhdr" else "Comment = filled up\n"
    end = "data file: pipe\n" if name == "a.nhdr" else "ElementDataFile = pipe\n"
    (tmp_path / name).write_text(header + line * 100_000 + end)
    with pytest.raises(DataError, match=r"does not end|has no ElementDataFile"):
        read_scan(tmp_path / name)
