from __future__ import annotations

import gzip
import os
import shutil
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk import registry
from uadtk.core.errors import DataError
from uadtk.core.volume import Scan, Volume
from uadtk.io.read import read_mask, read_scan, read_volume

SHAPE = (5, 6, 4)
VOXELS = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def save(
    path: Path, voxels: np.ndarray = VOXELS, affine: np.ndarray | None = None, kind: type = nib.Nifti1Image
) -> Path:
    nib.save(kind(voxels, np.eye(4) if affine is None else affine), path)
    return path


def patched(path: Path, offset: int, layout: str, *values: float) -> Path:
    """The same uncompressed file with some bytes of its header replaced."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, offset, *values)
    path.write_bytes(data)
    return path


def refused(path: Path, reader=read_scan) -> str:
    """The one-line error shown to the user, which names the file and ends with a fix."""
    with pytest.raises(DataError) as caught:
        reader(path)
    assert caught.value.exit_code == 3
    assert caught.value.where == str(path)
    assert caught.value.fix
    line = caught.value.one_line()
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr", "a.img", "a.hdr.gz", "A.HDR"])
def test_the_kinds_of_file_nibabel_writes(tmp_path, name):
    kind = nib.Nifti1Image if "nii" in name else nib.Nifti1Pair
    save(tmp_path / name.lower(), kind=kind)
    for path in list(tmp_path.iterdir()) if name.isupper() else []:
        path.rename(tmp_path / path.name.upper())
    scan = read_scan(tmp_path / name)
    assert isinstance(scan, Scan)
    assert scan.voxels.dtype == np.float32
    assert scan.voxels.flags.writeable
    np.testing.assert_array_equal(scan.voxels, VOXELS)


def test_content_decides_not_the_name(tmp_path):
    plain, packed = save(tmp_path / "a.nii"), save(tmp_path / "b.nii.gz")
    plain.rename(tmp_path / "plain.nii.gz")
    packed.rename(tmp_path / "packed.bin")
    for name in ("plain.nii.gz", "packed.bin"):
        np.testing.assert_array_equal(read_scan(tmp_path / name).voxels, VOXELS)


def test_nifti2(tmp_path):
    np.testing.assert_array_equal(read_scan(save(tmp_path / "a.nii.gz", kind=nib.Nifti2Image)).voxels, VOXELS)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"]),
    order=st.sampled_from("<>"),
    slope=st.floats(-100, 100),
    inter=st.floats(-1000, 1000),
    packed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_values_are_those_of_nibabel(tmp_path_factory, dtype, order, slope, inter, packed, seed):
    stored = np.random.default_rng(seed).integers(0, 120, SHAPE).astype(order + dtype)
    path = tmp_path_factory.mktemp("v") / "a.nii"
    nib.save(nib.Nifti1Image(stored, np.eye(4), nib.Nifti1Header(endianness=order), dtype=stored.dtype), path)
    patched(path, 112, order + "ff", slope, inter)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
        path = path.rename(path.with_suffix(".nii.gz"))
    image = nib.load(path)
    assert image.header.endianness == order
    assert image.get_data_dtype() == stored.dtype
    expected = image.get_fdata()
    largest = max(120 * abs(slope), abs(inter), 120.0)
    np.testing.assert_allclose(read_volume(path).voxels, expected, rtol=0, atol=2e-7 * largest)


def test_slope_and_intercept_by_hand(tmp_path):
    path = save(tmp_path / "a.nii", VOXELS.astype(np.int16))
    patched(path, 112, "<ff", 0.5, -3.0)
    np.testing.assert_array_equal(read_scan(path).voxels, VOXELS * 0.5 - 3)
    patched(path, 112, "<ff", 0.0, -3.0)  # the standard: slope 0 is no scaling
    np.testing.assert_array_equal(read_scan(path).voxels, VOXELS)
    assert "intercept" in refused(patched(path, 112, "<ff", 0.5, np.inf))


def test_wide_integers_are_scaled_before_they_are_rounded(tmp_path):
    stored = (2**30 + np.arange(np.prod(SHAPE), dtype=np.int32)).reshape(SHAPE)
    path = patched(save(tmp_path / "a.nii", stored), 112, "<ff", 1.0, -(2.0**30))
    np.testing.assert_array_equal(read_scan(path).voxels.ravel(), np.arange(np.prod(SHAPE)))


def test_no_sform_no_qform_is_spacing_alone(tmp_path):
    image = nib.Nifti1Image(VOXELS, None)
    image.header.set_zooms((0.47, 0.47, 8.0))
    nib.save(image, tmp_path / "a.nii")
    assert nib.load(tmp_path / "a.nii").header["sform_code"] == 0
    scan = read_scan(tmp_path / "a.nii")
    np.testing.assert_allclose(scan.spacing_mm, (0.47, 0.47, 8.0), rtol=1e-6)
    np.testing.assert_array_equal(scan.affine, nib.load(tmp_path / "a.nii").affine)


def test_sform_before_qform(tmp_path):
    image = nib.Nifti1Image(VOXELS, None)
    image.set_qform(np.diag([2.0, 2, 2, 1]), code=1)
    nib.save(image, tmp_path / "q.nii")
    shifted = np.diag([2.0, 2, 2, 1])
    shifted[:3, 3] = 3
    image.set_sform(shifted, code=4)
    nib.save(image, tmp_path / "s.nii")
    assert read_scan(tmp_path / "q.nii").affine[:3, 3].tolist() == [0, 0, 0]
    assert read_scan(tmp_path / "s.nii").affine[:3, 3].tolist() == [3, 3, 3]


@pytest.mark.parametrize("tail", [(1,), (1, 1)])
def test_one_frame_is_dropped(tmp_path, tail):
    path = save(tmp_path / "a.nii.gz", VOXELS.reshape(SHAPE + tail))
    assert read_scan(path).shape == SHAPE


@pytest.mark.parametrize(("tail", "frames"), [((3,), 3), ((1, 2), 2), ((2, 5), 10)])
def test_several_frames(tmp_path, tail, frames):
    line = refused(save(tmp_path / "a.nii.gz", np.zeros(SHAPE + tail, np.float32)))
    assert f"holds {frames} volumes" in line
    assert "fslroi" in line


def test_two_dimensions(tmp_path):
    assert "has 2 axes" in refused(save(tmp_path / "a.nii", VOXELS[..., 0]))


def test_complex_and_colour(tmp_path):
    assert "complex" in refused(save(tmp_path / "a.nii", VOXELS.astype(np.complex64)))
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "colour" in refused(save(tmp_path / "b.nii", colour))


def test_missing_empty_folder_text(tmp_path):
    assert "no such file" in refused(tmp_path / "a.nii.gz")
    (tmp_path / "empty.nii.gz").touch()
    assert "empty (0 bytes)" in refused(tmp_path / "empty.nii.gz")
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "text.nii.gz").write_text("subject\timage\n" * 100)
    assert "not a NIfTI" in refused(tmp_path / "text.nii.gz")
    (tmp_path / "packed.nii.gz").write_bytes(gzip.compress(b"short"))
    assert "not a NIfTI" in refused(tmp_path / "packed.nii.gz")


def test_link_to_nowhere(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to(".git/annex/objects/x")
    assert "is a link to a file that is not there" in refused(tmp_path / "a.nii.gz")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permission_for_real(tmp_path):
    save(tmp_path / "a.nii").chmod(0)
    assert "Permission denied" in refused(tmp_path / "a.nii")


def test_permission(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii")

    def denied(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    line = refused(path)
    assert "cannot be read (Permission denied)" in line


@pytest.mark.parametrize("keep", [4, 40, 0.5, -1, -9])
def test_truncated_gzip(tmp_path, keep):
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).random((20, 20, 20), dtype=np.float32))
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    assert "cut short" in refused(path)


def test_truncated_plain(tmp_path):
    path = save(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:-1])
    assert f"requires {352 + 4 * VOXELS.size} bytes, it has {351 + 4 * VOXELS.size}" in refused(path)


@pytest.mark.parametrize("place", [1000, 20_000, -6])
def test_damaged_gzip(tmp_path, place):
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).random((20, 20, 20), dtype=np.float32))
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    assert "damaged gzip" in refused(path)


@pytest.mark.parametrize(
    ("offset", "layout", "values", "words"),
    [
        (70, "<h", (9999,), "corrupt header (data code 9999"),  # datatype
        (40, "<hh", (3, -5), "corrupt header"),  # dim
        (40, "<h", (0,), "corrupt header"),  # no axes
        (42, "<hhh", (32000, 32000, 32000), "cut short"),  # more voxels than any scan
        (108, "<f", (np.nan,), "corrupt header"),  # vox_offset
        (108, "<f", (100.0,), "corrupt header"),
        (108, "<f", (np.inf,), "corrupt header"),  # nibabel cannot word its own message
        (344, "<i", (0,), "not a NIfTI"),  # magic
    ],
)
def test_corrupt_header(tmp_path, offset, layout, values, words):
    assert words in refused(patched(save(tmp_path / "a.nii"), offset, layout, *values))


def test_impossible_quaternion(tmp_path):
    image = nib.Nifti1Image(VOXELS, None)
    image.set_qform(np.eye(4), code=1)
    nib.save(image, tmp_path / "a.nii")
    assert "corrupt header" in refused(patched(tmp_path / "a.nii", 256, "<fff", 3.0, 3.0, 3.0))


def test_odd_headers_are_repaired_quietly(tmp_path, capfd, caplog):
    path = patched(save(tmp_path / "a.nii", affine=np.diag([2.0, 2, 2, 1])), 72, "<h", 7)  # bitpix
    patched(path, 76, "<ffff", 0, 0, 0, 0)  # qfac, and no spacing: the sform has it
    patched(path, 252, "<h", 77)  # qform_code
    assert read_scan(path).spacing_mm == (2, 2, 2)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("spacing", [0.0, 0.001, 500.0, np.nan, np.inf])
@pytest.mark.parametrize("form", ["sform", "none"])
def test_spacing(tmp_path, spacing, form):
    path = save(tmp_path / "a.nii")
    if form == "sform":
        patched(path, 280, "<ffff", spacing, 0, 0, 0)
    else:
        patched(path, 252, "<hh", 0, 0)
        patched(path, 80, "<f", spacing)
    line = refused(path)
    assert "spacing" in line or "not finite" in line
    assert "header" in line


def test_pair_with_one_half(tmp_path):
    save(tmp_path / "a.hdr", kind=nib.Nifti1Pair)
    (tmp_path / "a.img").rename(tmp_path / "b.img")
    assert ".img" in refused(tmp_path / "a.hdr")
    assert "b.hdr is missing" in refused(tmp_path / "b.img")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_not_finite(tmp_path, value):
    voxels = VOXELS.astype(np.float64)
    voxels[1, 2, 3] = voxels[4, 0, 0] = value
    line = refused(save(tmp_path / "a.nii", voxels))
    assert "2 voxels" in line
    assert "(1, 2, 3)" in line


def test_nan_around_the_image_is_nothing_and_inside_it_is_refused(tmp_path):
    """As after resampling a turned box; a slice that is lost in the middle is no border."""
    x, y, z = np.meshgrid(*(np.arange(20) - 9.5,) * 3, indexing="ij")
    box = (np.abs(0.8 * x + 0.6 * y) < 8) & (np.abs(0.8 * y - 0.6 * x) < 7) & (np.abs(z) < 9)
    image = np.where(box, 100 + x, np.nan).astype(np.float32)
    scan = read_scan(save(tmp_path / "a.nii", image))
    np.testing.assert_array_equal(scan.voxels, np.where(box, image, 0))
    assert scan.notes == (
        f"{np.count_nonzero(~box)} voxels around the image are NaN, as outside a field of view: taken as 0",
    )
    infinite = np.where(np.isnan(image), np.inf, image)
    lost = image.copy()
    lost[:, :, 10] = np.nan
    for wrong in (infinite, lost, np.full_like(image, np.nan)):
        assert "voxels are NaN, infinite" in refused(save(tmp_path / "b.nii", wrong))


def test_constant(tmp_path):
    assert "every voxel is 7" in refused(save(tmp_path / "a.nii", np.full(SHAPE, 7, np.uint8)))
    assert read_volume(tmp_path / "a.nii").shape == SHAPE


@pytest.mark.parametrize(("dtype", "inside"), [("u1", 1), ("u1", 255), ("i2", 42), ("f4", 0.75), ("f8", 1)])
def test_mask_of_any_type(tmp_path, dtype, inside):
    voxels = np.zeros(SHAPE, dtype)
    voxels[1:3] = inside
    if voxels.dtype.kind == "f":
        voxels[3] = 0.5  # not above 0.5
    scan = read_scan(save(tmp_path / "scan.nii"))
    mask = read_mask(save(tmp_path / "mask.nii.gz", voxels), scan)
    assert mask.voxels.dtype == bool
    assert mask.voxels.sum() == 2 * 6 * 4
    assert mask.voxels[1:3].all()


def test_mask_takes_the_scans_affine_within_tolerance(tmp_path):
    scan = read_scan(save(tmp_path / "scan.nii"))
    near = np.eye(4)
    near[0, 3] = 0.005
    mask = read_mask(save(tmp_path / "mask.nii", VOXELS, near), scan)
    np.testing.assert_array_equal(mask.affine, scan.affine)


def test_mask_on_another_grid(tmp_path):
    scan = read_scan(save(tmp_path / "scan.nii", affine=np.diag([1, 1, 5, 1])))
    moved = np.diag([-1.0, 1, 5, 1])
    for mask in (save(tmp_path / "a.nii", VOXELS[:, :-1]), save(tmp_path / "b.nii", VOXELS, moved)):
        line = refused(mask, lambda path: read_mask(path, scan))
        assert "5 x 6 x 4 voxels of 1 x 1 x 5 mm, axes RAS" in line
        assert "nearest neighbour" in line
    assert "axes LAS" in line
    assert "5 x 5 x 4" in refused(tmp_path / "a.nii", lambda path: read_mask(path, scan))


def test_empty_mask(tmp_path):
    scan = read_scan(save(tmp_path / "scan.nii"))
    path = save(tmp_path / "mask.nii", np.zeros(SHAPE, np.uint8))
    assert "mask is empty" in refused(path, lambda p: read_mask(p, scan))
    assert not read_mask(path, scan, may_be_empty=True).voxels.any()


def test_nan_in_a_mask(tmp_path):
    scan = read_scan(save(tmp_path / "scan.nii"))
    path = save(tmp_path / "mask.nii", np.where(VOXELS == 33, np.nan, VOXELS))
    assert "1 voxels are NaN" in refused(path, lambda p: read_mask(p, scan))


class _Reader:
    """Stands in for ``registry.hooks()`` with a single reader plugin."""

    def __init__(self, answer):
        self.answer = answer

    def uadtk_read(self, path):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_plugins_read_what_is_no_nifti(tmp_path, monkeypatch):
    (tmp_path / "a.xyz").write_bytes(b"something else")
    monkeypatch.setattr(registry, "hooks", lambda: _Reader(Volume(VOXELS.astype(np.int16), np.eye(4))))
    for path in (tmp_path / "a.xyz", tmp_path):  # a folder may be a DICOM series
        scan = read_scan(path)
        assert scan.voxels.dtype == np.float32
        np.testing.assert_array_equal(scan.voxels, VOXELS)
    np.testing.assert_array_equal(read_scan(save(tmp_path / "own.nii", VOXELS + 1)).voxels, VOXELS + 1)


@pytest.mark.parametrize("error", [KeyError("x"), DataError("no pixels"), OSError(5, "Input/output error")])
def test_a_failing_plugin_is_one_line(tmp_path, monkeypatch, error):
    (tmp_path / "a.xyz").write_bytes(b"something else")
    monkeypatch.setattr(registry, "hooks", lambda: _Reader(error))
    with pytest.raises(DataError) as caught:
        read_scan(tmp_path / "a.xyz")
    assert caught.value.where == str(tmp_path / "a.xyz")
    assert any(word in caught.value.what for word in ("KeyError", "no pixels", "Input/output error"))


def test_nothing_reads_it(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"something else")
    line = refused(tmp_path / "a.xyz")
    assert "not a NIfTI" in line
    assert "Convert it" in line


def _data() -> Path:
    folder = Path(os.environ.get("UADTK_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
    if not (folder / "cohort.tsv").exists():
        pytest.skip(f"no real scans at {folder}; set UADTK_TEST_DATA")
    return folder


def test_a_real_scan(tmp_path):
    folder = _data() / "wmh/2516038876"
    scan = read_scan(folder / "flair.nii.gz")
    expected = nib.load(folder / "flair.nii.gz")
    np.testing.assert_array_equal(scan.voxels, expected.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(scan.affine, expected.affine)
    assert read_mask(folder / "lesion.nii.gz", scan).voxels.any()
    shutil.copy(folder / "flair.nii.gz", tmp_path / "cut.nii.gz")
    with (tmp_path / "cut.nii.gz").open("rb+") as file:
        file.truncate(100_000)
    assert "cut short" in refused(tmp_path / "cut.nii.gz")
