"""The findings of a scan as a DICOM segmentation: a binary segment for each, on the frames of the source images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from uadtk.io.dicom_out import Content, Segment
from uadtk.io.lookup import colour
from uadtk.io.readers.dicom_origin import Slice
from uadtk.version import USE, VERSION


def segmentation(content: Content, images: Sequence[Any]) -> Any:
    """``images``: of ``source_images``, one per slice."""
    import highdicom as hd

    date, time = content.dates()
    made = hd.seg.Segmentation(
        source_images=images,
        pixel_array=content.labels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_described(segment, content) for segment in content.segments],
        series_instance_uid=content.uid("seg series"),
        series_number=content.series_number("seg"),
        sop_instance_uid=content.uid("seg"),
        instance_number=1,
        content_label="LESIONS",
        content_description=USE,
        content_creator_name="uadtk^",
        series_description=content.description,
        content_date=date,
        content_time=time,
        **content.identity(),
    )
    dimensions = content.uid("dimensions")  # highdicom's is random
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    uids = [image.SOPInstanceUID for image in images]
    _in_order(made, uids)
    if any(one.frame is not None for one in content.origin.slices):
        _refer_to_frames(made, dict(zip(uids, content.origin.slices, strict=True)))
    return made


def _described(segment: Segment, content: Content) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name=f"uadtk {content.model}".strip(),
        family=codes.DCM.ArtificialIntelligence,
        version=VERSION,
        source="uadtk",
        parameters=dict(text.split("=", 1) for text in content.parameters if "=" in text),
    )
    return hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.name,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=content.uid(f"finding {segment.number}"),
        tracking_id=f"uadtk {segment.name}",
        anatomic_regions=[codes.SCT.Brain],
        display_color=hd.color.CIELabColor.from_rgb(*colour(segment.number)),
    )


def _in_order(made: Any, uids: Sequence[str]) -> None:
    """The frames of a segment from the first slice of the scan to the last; highdicom begins with the last."""
    frames = list(made.PerFrameFunctionalGroupsSequence)
    places = {uid: place for place, uid in enumerate(uids)}
    slices = [places[_source(frame).ReferencedSOPInstanceUID] for frame in frames]
    segments = [frame.FrameContentSequence[0].DimensionIndexValues[0] for frame in frames]
    order = np.lexsort((slices, segments))
    rank = {index: number for number, index in enumerate(sorted(set(slices)), 1)}
    for frame, segment, index in zip(frames, segments, slices, strict=True):
        frame.FrameContentSequence[0].DimensionIndexValues = [segment, rank[index]]
    made.PerFrameFunctionalGroupsSequence = [frames[i] for i in order]
    size = made.Rows * made.Columns
    bits = np.unpackbits(np.frombuffer(made.PixelData, np.uint8), count=len(frames) * size, bitorder="little")
    packed = np.packbits(bits.reshape(-1, size)[order], bitorder="little").tobytes()
    made.PixelData = packed + b"\0" * (len(packed) % 2)


def _source(frame: Any) -> Any:
    (source,) = frame.DerivationImageSequence[0].SourceImageSequence
    return source


def _refer_to_frames(made: Any, slices: Mapping[str, Slice]) -> None:
    """References to the headers of single slices become references to frames of the multi-frame images."""
    made.SourceImageSequence = _instances(made.SourceImageSequence, slices)
    for series in made.ReferencedSeriesSequence:
        series.ReferencedInstanceSequence = _instances(series.ReferencedInstanceSequence, slices)
    for frame in made.PerFrameFunctionalGroupsSequence:
        source = _source(frame)
        one = slices[source.ReferencedSOPInstanceUID]
        source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = one.sop_class, one.instance
        source.ReferencedFrameNumber = one.frame


def _instances(items: Iterable[Any], slices: Mapping[str, Slice]) -> list[Any]:
    """Each image once."""
    from pydicom import Dataset

    referred = [slices[item.ReferencedSOPInstanceUID] for item in items]
    named = []
    for sop_class, instance in dict.fromkeys((one.sop_class, one.instance) for one in referred):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        named.append(item)
    return named
