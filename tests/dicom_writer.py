"""DICOM files made from a volume: the opposite way to the reader, from RAS+ to tags, by nothing but the standard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

MR, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
FLAIR = {"SeriesDescription": "t2_flair_tra", "EchoTime": 92, "InversionTime": 2500, "RepetitionTime": 9000}


def blank(sop_class: str, **tags: Any) -> FileDataset:
    """A file of one instance with everything but its pixels and its place."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3.1", "1.2.3.1.7"
    data.PatientName, data.PatientID, data.Modality, data.SeriesNumber = "Doe^Jane", "P-0815", "MR", 7
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def geometry(affine: np.ndarray, k: int) -> tuple[list[float], list[float], list[float], float]:
    """ImagePositionPatient, ImageOrientationPatient, PixelSpacing and the distance between slices of slice ``k``."""
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    axes = lps[:3, :3] / sizes
    position = lps[:3, 3] + k * lps[:3, 2]
    return position.tolist(), [*axes[:, 0], *axes[:, 1]], [sizes[1], sizes[0]], float(sizes[2])


def slices(voxels: np.ndarray, affine: np.ndarray, **tags: Any) -> list[FileDataset]:
    """One classic file per slice along the third axis of ``voxels`` (x, y, z), uint16 or int16."""
    files = []
    for k in range(voxels.shape[2]):
        data = blank(MR, **{**FLAIR, **tags})
        position, axes, steps, thickness = geometry(affine, k)
        data.ImagePositionPatient, data.ImageOrientationPatient = _ds(position), _ds(axes)
        data.PixelSpacing, data.SliceThickness, data.InstanceNumber = _ds(steps), _ds([thickness])[0], k + 1
        put(data, voxels[:, :, k].T)
        files.append(data)
    return files


def enhanced(voxels: np.ndarray, affine: np.ndarray, order: Sequence[int] | None = None, **tags: Any) -> FileDataset:
    """One multi-frame file; its frames are the slices in the given order."""
    order = list(range(voxels.shape[2]) if order is None else order)
    data = blank(ENHANCED, SeriesDescription="t2_flair_sag", NumberOfFrames=len(order), **tags)
    _, axes, steps, thickness = geometry(affine, 0)
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=_ds(axes))
    shared.PixelMeasuresSequence = _item(PixelSpacing=_ds(steps), SliceThickness=_ds([thickness])[0])
    shared.MREchoSequence = _item(EffectiveEchoTime=92.0)
    shared.PixelValueTransformationSequence = _item(RescaleSlope="2", RescaleIntercept="-5", RescaleType="US")
    data.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for k in order:
        frame = Dataset()
        frame.PlanePositionSequence = _item(ImagePositionPatient=_ds(geometry(affine, k)[0]))
        frame.FrameContentSequence = _item(TemporalPositionIndex=1, StackID="1")
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Items(frames)
    put(data, voxels.transpose(2, 1, 0)[order])
    return data


def put(data: Dataset, pixels: np.ndarray) -> None:
    """(rows, columns) or (frames, rows, columns), int16 or uint16."""
    data.Rows, data.Columns = pixels.shape[-2:]
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"))).tobytes()


def write(folder: Path, files: Sequence[FileDataset], names: Sequence[str] | None = None) -> Path:
    """Save them as ``IM0``, ``IM1``, ... with random names' lack of meaning: the last slice comes first."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(files):
        data.save_as(folder / (names[i] if names else f"IM{len(files) - i:03d}"), enforce_file_format=True)
    return folder


def _item(**tags: Any) -> Items:
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return Items([item])


def _ds(values: Sequence[float]) -> list[str]:
    """Decimal strings have 16 characters."""
    return [str(pydicom.valuerep.DSfloat(value, auto_format=True)) for value in values]
