"""The same images in many formats and states: what uadtk, nibabel, SimpleITK and dcm2niix make of them.

    python -m benchmarks.formats > benchmarks/formats.md      (from the repository's root; a minute)

Every image is written from one phantom whose voxels and place are known, so "right" means the right intensity at the
right place in the patient (order of axes aside), not agreement with a tool. Needs the extras dicom, formats and
phantom, and dcm2niix (Debian: apt-get install dcm2niix).
"""

from __future__ import annotations

import bz2
import gzip
import re
import shutil
import subprocess
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from tests import dicom_writer as dw
from tests.io.test_reader_dicom import packaged
from uadtk.core.errors import UadtkError
from uadtk.io.read import read_scan
from uadtk.phantom import icbm, make

Image = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """``path`` holds ``truth``; None where no reader can know one volume: then refusing, or saying so, is right."""

    name: str
    path: Path
    truth: Image | None


def phantom() -> Image:
    """FLAIR-like, 3 x 3 x 6 mm, uint16, axes LAS, turned by 17 degrees about an oblique axis."""
    scan = make(0, icbm(), lesions="ms", slice_mm=6, in_plane_mm=3).scan
    voxels = np.clip(scan.voxels / scan.voxels.max() * 4000, 0, 4000).astype("u2")
    affine = scan.affine.copy()
    affine[:3, :3] = Rotation.from_rotvec(0.3 * np.array([0.6, -0.5, 0.62])).as_matrix() @ affine[:3, :3]
    return voxels, affine


def turned(image: Image, axes: tuple[int, int, int]) -> Image:
    """The same image with its axes in another order: slices along the last."""
    voxels, affine = image
    return np.ascontiguousarray(voxels.transpose(axes)), affine[:, [*axes, 3]]


def other_formats(folder: Path, image: Image) -> list[Case]:
    voxels, affine = image
    signed = voxels.astype("i2")
    cases = []

    def case(name: str, file: str, write: Callable[[Path], object], truth: Image | None = image) -> None:
        path = folder / name.replace("/", "-").replace(" ", "_").replace(":", "") / file
        path.parent.mkdir()
        write(path)
        cases.append(Case(name, path, truth))

    nifti = nib.Nifti1Image(signed, affine)
    case("NIfTI .nii.gz", "a.nii.gz", lambda p: nib.save(nifti, p))
    case("NIfTI .nii.bz2", "a.nii.bz2", lambda p: p.write_bytes(bz2.compress(nifti.to_bytes())))
    case("NIfTI .nii.zst", "a.nii.zst", lambda p: p.write_bytes(zstd(nifti.to_bytes())))
    case("NIfTI packed, named .nii", "a.nii", lambda p: p.write_bytes(gzip.compress(nifti.to_bytes())))
    case("NIfTI pair .hdr/.img", "a.img", lambda p: nib.save(nib.Nifti1Pair(signed, affine), p))
    case("FreeSurfer .mgz", "a.mgz", lambda p: nib.save(nib.MGHImage(signed, affine.astype("f4")), p))
    case("NRRD", "a.nrrd", lambda p: sitk.WriteImage(itk(image), str(p)))
    case("NRRD, space RAS", "a.nrrd", lambda p: nrrd(p, image, "right-anterior-superior"))
    case("NRRD, space not named: left unknown", "a.nrrd", lambda p: nrrd(p, image, ""), None)
    case("MetaImage .mha", "a.mha", lambda p: sitk.WriteImage(itk(image), str(p)))
    case("MetaImage .mhd with .raw", "a.mhd", lambda p: sitk.WriteImage(itk(image), str(p)))
    plain = np.diag([3.0, 3, 6, 1])
    case("Analyze 7.5: left unknown", "a.img", lambda p: save_analyze(signed, plain, p), None)
    minc = Path(nib.__file__).parent / "tests/data"
    for name in ("tiny.mnc", "small.mnc"):
        loaded = nib.load(minc / name)
        truth = (loaded.get_fdata(), loaded.affine)
        kind = "MINC 1" if name == "tiny.mnc" else "MINC 2"
        case(f"{kind} (nibabel's {name})", name, partial(shutil.copy, minc / name), truth)
    return cases


def headers(folder: Path, image: Image) -> list[Case]:
    """NIfTI files whose header is unusual, or contradicts itself."""
    voxels, affine = image[0].astype("i2"), image[1]
    cases: list[Case] = []

    def case(name: str, change: Callable[[nib.Nifti1Image], object], truth: Image | None = image) -> None:
        made = nib.Nifti1Image(voxels, affine)
        made.set_qform(affine, 1)
        changed = change(made)
        path = folder / f"h{len(cases)}.nii.gz"
        nib.save(changed if isinstance(changed, nib.Nifti1Image) else made, path)
        cases.append(Case(name, path, truth))

    case("qform alone", lambda i: i.set_sform(affine, 0))
    case("sform alone", lambda i: i.set_qform(affine, 0))
    case("big-endian", lambda i: nib.Nifti1Image(voxels.astype(">i2"), affine, nib.Nifti1Header(endianness=">")))
    case("stored halved, scl_slope 2", lambda i: i.header.set_slope_inter(2, 0), (voxels * 2.0, affine))
    case("sform and qform codes 0: left unknown", lambda i: (i.set_sform(affine, 0), i.set_qform(affine, 0)), None)
    thick, mirrored = affine @ np.diag([1, 1, 3, 1]), affine @ np.diag([-1, 1, 1, 1])
    case("slices 3 times as thick by qform and pixdim", lambda i: i.set_qform(thick, 1), None)
    case("left and right differ between sform and qform", lambda i: i.set_qform(mirrored, 1), None)
    twice = np.stack([voxels, voxels[::-1]], axis=-1)
    case("two volumes", lambda i: nib.Nifti1Image(twice, affine), None)
    case("NaN in the air", lambda i: nib.Nifti1Image(np.where(voxels, voxels, np.nan).astype("f4"), affine), None)
    return cases


def dicom(folder: Path, image: Image) -> list[Case]:
    cases: list[Case] = []
    axial = image
    values = image[0]

    def case(name: str, files: list, truth: Image | None = axial, pick: str = "", **tags: object) -> None:
        for data in files:
            for tag, value in {"Manufacturer": "SIEMENS", **tags}.items():
                setattr(data, tag, value)
        path = dw.write(folder / f"{len(cases):02d}", files)
        cases.append(Case(name, path / pick if pick else path, truth))

    for name, axes in (("axial", (0, 1, 2)), ("coronal", (0, 2, 1)), ("sagittal", (1, 2, 0))):
        one = turned(axial, axes)
        case(f"series, oblique {name}", dw.slices(*one), one)
    case("one file of a series", dw.slices(*axial), pick="IM005")
    case("enhanced multi-frame", [scaled_frames(axial, range(values.shape[2]))])
    case("enhanced multi-frame, frames in no order", [scaled_frames(axial, shuffled(values.shape[2]))])
    files = dw.slices(*axial)
    for data in files:
        data.compress(pydicom.uid.RLELossless)
    case("compressed, RLE", files)
    case("12 bits of 16, an overlay above", dw.slices(values | 0x3000, axial[1]), BitsStored=12, HighBit=11)
    files = dw.slices(*axial)
    for k, data in enumerate(files):
        data.RescaleSlope, data.RescaleIntercept = f"{1 + k / 4:g}", "10"
    case("another slope for each slice", files, (values * (1 + np.arange(values.shape[2]) / 4) + 10, axial[1]))
    files = dw.slices(*axial)
    for k, data in enumerate(files):
        data.RescaleSlope, data.RescaleIntercept = f"{1 + k / 4:g}", "0"
        data.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.5)
    case("Philips, slices scaled for display", files, (values * 2.0, axial[1]), Manufacturer="Philips Medical Systems")
    inverted = dw.slices(values.max() - values, axial[1])
    case("MONOCHROME1", inverted, PhotometricInterpretation="MONOCHROME1")
    phase = dw.slices(values[::-1], axial[1], ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])
    case("magnitude and phase in one series", [*phase, *dw.slices(*axial)])
    files = dw.slices(*axial)
    case("a file twice", files)
    shutil.copy(cases[-1].path / "IM005", cases[-1].path / "copy")
    study, flair = folder / "study", dw.slices(*axial)
    for number, (name, echo) in enumerate((("t1_se", 12), ("t2_tse", 98))):
        tags = {
            "SeriesDescription": name,
            "EchoTime": echo,
            "SeriesInstanceUID": f"1.2.9.{number}",
            "SeriesNumber": number,
        }
        dw.write(study / name, dw.slices(values[::-1], axial[1], InversionTime=None, **tags))
    dw.write(study / "flair", flair)
    cases.append(Case("a study: T1, T2 and FLAIR", study, axial))
    (folder / "zip").mkdir()
    with zipfile.ZipFile(folder / "zip/study.zip", "w") as packed:
        for path in (p for p in study.rglob("*") if p.is_file()):
            packed.write(path, path.relative_to(folder))
    cases.append(Case("a zip of that study", folder / "zip/study.zip", axial))
    holes = [f for k, f in enumerate(dw.slices(*axial)) if k not in (4, 5)]
    case("two slices missing inside", holes, None)
    case("every second slice missing", dw.slices(*axial)[::2], None, SpacingBetweenSlices=6)
    case("slices missing at the end", dw.slices(*axial)[:-4], None, ImagesInAcquisition=values.shape[2])
    case("one slice 2 mm off its place", shifted(axial, lambda k: 2.0 * (k == 7), 2), None)
    case("gantry tilt, 14 degrees", shifted(axial, lambda k: 1.5 * k, 1), None)
    echoes = [f for te in (12, 96) for f in dw.slices(*axial, EchoTime=te)]
    case("two echoes in one series", echoes, None)
    times = [f for t in (1, 2) for f in dw.slices(*axial, TemporalPositionIdentifier=t)]
    case("two time points in one series", times, None)
    case("a mosaic", dw.slices(*axial)[:1], None, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    views = [dw.slices(*turned(axial, axes))[20] for axes in ((0, 1, 2), (0, 2, 1), (1, 2, 0))]
    case("a localizer", [v for v in views if (v.Rows, v.Columns)], None)
    return cases


def scaled_frames(image: Image, order: object) -> pydicom.Dataset:
    data = dw.enhanced(image[0], image[1], list(order))  # type: ignore[call-overload]
    scale = data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    scale.RescaleSlope, scale.RescaleIntercept = "1", "0"
    return data


def shuffled(count: int) -> list[int]:
    return np.random.default_rng(0).permutation(count).tolist()


def shifted(image: Image, by: Callable[[int], float], axis: int) -> list:
    """Slices moved along one axis of the image, in mm."""
    direction = (image[1][:3, axis] / np.linalg.norm(image[1][:3, axis])) * [-1, -1, 1]
    files = dw.slices(*image)
    for k, data in enumerate(files):
        data.ImagePositionPatient = [f"{x:.6f}" for x in np.array(data.ImagePositionPatient, float) + direction * by(k)]
    return files


def itk(image: Image) -> sitk.Image:
    lps = np.diag([-1.0, -1, 1, 1]) @ image[1]
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    made = sitk.GetImageFromArray(image[0].T)
    made.SetSpacing(spacing.tolist())
    made.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    made.SetOrigin(lps[:3, 3].tolist())
    return made


def nrrd(path: Path, image: Image, space: str) -> None:
    vector = lambda v: "({:.10g},{:.10g},{:.10g})".format(*v)  # noqa: E731
    place = f"space: {space}\nspace directions: {' '.join(vector(v) for v in image[1][:3, :3].T)}\n"
    place += f"space origin: {vector(image[1][:3, 3])}\n"
    head = f"NRRD0004\ntype: ushort\ndimension: 3\nsizes: {' '.join(map(str, image[0].shape))}\nencoding: raw\n"
    head += f"endian: little\n{place if space else 'spacings: 3 3 6'}\n"
    path.write_bytes(head.encode() + b"\n" * (not head.endswith("\n\n")) + image[0].astype("<u2").tobytes(order="F"))


def save_analyze(voxels: np.ndarray, affine: np.ndarray, path: Path) -> None:
    nib.save(nib.AnalyzeImage(voxels, affine), path)
    path.with_suffix(".mat").unlink(missing_ok=True)


def zstd(data: bytes) -> bytes:
    try:
        from compression import zstd as library
    except ImportError:
        from backports import zstd as library
    return library.compress(data)


def by_uadtk(path: Path) -> tuple[list[Image], str]:
    scan = read_scan(path)
    return [(scan.voxels, scan.affine)], "; ".join(scan.notes)


def by_nibabel(path: Path) -> tuple[list[Image], str]:
    if path.is_dir():
        raise ValueError("reads no folders")
    image = nib.load(path)
    return [(image.get_fdata(), image.affine)], ""


def by_itk(path: Path) -> tuple[list[Image], str]:
    """As its documentation reads a folder: the first series."""
    if path.is_dir():
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
        image = sitk.ReadImage(names if len(names) > 1 else names[0])
    else:
        image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return [(sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine)], ""


def by_dcm2niix(path: Path) -> tuple[list[Image], str]:
    with tempfile.TemporaryDirectory() as out:
        command = ["dcm2niix", "-z", "n", "-f", "%s_%d", "-o", out, str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        found = [nib.load(p) for p in sorted(Path(out).glob("*.nii"))]
        lines = (done.stdout + done.stderr).splitlines()
        said = "; ".join(line for line in lines if line.startswith(("Warning", "Error")) and "slice timing" not in line)
        if not found:
            raise ValueError(said or "nothing converted")
        return [(image.get_fdata(), image.affine) for image in found], said


TOOLS = {"uadtk": by_uadtk, "nibabel": by_nibabel, "SimpleITK": by_itk, "dcm2niix": by_dcm2niix}


def verdict(case: Case, read: Callable[[Path], tuple[list[Image], str]]) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images, said = read(case.path)
    except UadtkError as error:
        reason = re.split(r":|, at|, the first| \(| by ", error.what)[0]
        return f"refused: {reason}" if case.truth is None else f"**refused: {reason}**"
    except Exception:
        return "cannot"
    if case.truth is None:
        if len(images) > 1 or images[0][0].ndim > 3:
            return f"{len(images)} images" if len(images) > 1 else "a 4-D image"
        return "read, says so" if said else "**read, no word**"
    right = [same(image, case.truth) for image in images]
    if len(images) > 1 and any(r == "right" for r in right):
        return f"right, among {len(images)} images"
    return right[0] if right[0] == "right" or not said else f"{right[0]} (warns)"


def same(image: Image, truth: Image) -> str:
    one, other = (nib.as_closest_canonical(nib.Nifti1Image(np.asarray(v, np.float64), a)) for v, a in (image, truth))
    if one.shape != other.shape:
        return "**other shape**"
    voxels, wanted = np.asarray(one.dataobj), np.asarray(other.dataobj)
    if not np.allclose(one.affine, other.affine, atol=1e-2):
        return "**wrong place**"
    if np.allclose(voxels, wanted, atol=0.5):
        return "right"
    factor = float((voxels * wanted).sum() / (wanted**2).sum())
    if abs(factor - 1) < 1e-3 and np.abs(voxels - wanted).max() <= 1:
        return "right, rounded to integers"
    return "right up to a factor" if np.allclose(voxels, factor * wanted, atol=abs(factor)) else "**other voxels**"


def carried() -> str:
    """pydicom's own MR images, one at a time: as SimpleITK reads them, or refused."""
    counts = {"the same voxels and place as SimpleITK": 0, "refused": 0, "different": 0}
    for path in packaged():
        with tempfile.TemporaryDirectory() as alone:
            copy = Path(shutil.copy(path, alone))
            try:
                scan = read_scan(copy)
            except UadtkError:
                counts["refused"] += 1
                continue
            ((voxels, affine),), _ = by_itk(copy)
            sides = np.allclose(scan.affine[:, [0, 1, 3]], affine[:, [0, 1, 3]], atol=1e-3)
            whole = np.array_equal(scan.voxels, np.asarray(voxels, np.float32)) and sides
            counts["the same voxels and place as SimpleITK" if whole else "different"] += 1
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def main() -> None:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    version = subprocess.run(["dcm2niix", "-v"], capture_output=True, text=True).stdout.split()[-1]
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("nibabel", "SimpleITK", "pydicom"))
    print("# Formats and states of files\n\n`python -m benchmarks.formats > benchmarks/formats.md`\n")
    print(f"{packages}, dcm2niix {version}.\n")
    print('"right": the right intensity at the right place in the patient. Bold: a wrong image, or one read without a')
    print("word although slices are missing, several volumes are mixed, or left is unknown. dcm2niix converts all it")
    print(
        "finds, so more images than one are its right answer to a study or to several volumes; its warning about slice"
    )
    print(
        "timing, which it gives for every file here, does not count. MINC: right is as nibabel, its owner, reads it.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        image = phantom()
        for title, make_cases in (("Formats", other_formats), ("NIfTI headers", headers), ("DICOM", dicom)):
            print(f"| {title} | {' | '.join(TOOLS)} |\n|---|{'---|' * len(TOOLS)}")
            for case in make_cases(Path(folder), image):
                print(f"| {case.name} | {' | '.join(verdict(case, tool) for tool in TOOLS.values())} |", flush=True)
            print()
    print(f"MR images that pydicom and pydicom-data carry, one file at a time: {carried()}.")
    print("Refused: files cut short, frames without a place in the patient, single views of a series of three.")


if __name__ == "__main__":
    main()
