"""The findings of a scan as a DICOM measurement report (TID 1500): volume and peak score of each, and the whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from uadtk.io.dicom_out import Content, Segment, having
from uadtk.version import USE, VERSION

_SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def report(content: Content, image: Any) -> Any:
    """``image``: the header of a source image, which patient and study are copied from."""
    import highdicom as hd
    from pydicom.sr.coding import Code

    observer = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=content.uid("observer"), name="uadtk", manufacturer_name="uadtk", model_name=content.model or "uadtk"
    )
    device = hd.sr.ObserverContext(hd.sr.CodedConcept("121007", "DCM", "Device"), observer)
    measured = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=Code("24590-2", "LN", "MR Brain"),
        imaging_measurements=[_whole(content), *(_finding(segment, content) for segment in content.segments)],
    )
    found = "" if content.findings else " No findings."
    measured[0].ContentSequence.append(_comment(f"{USE} Gate: {content.light}.{found}"))
    date, time = content.dates()
    return hd.sr.ComprehensiveSR(
        evidence=_evidence(content, image),
        content=measured,
        series_instance_uid=content.uid("sr series"),
        series_number=content.series_number("sr"),
        sop_instance_uid=content.uid("sr"),
        instance_number=1,
        is_complete=True,
        series_description=content.description,
        content_date=date,
        content_time=time,
        **content.identity(),
    )


_SITES = {  # keywords of pydicom
    **{name: f"{name.capitalize()}Lobe" for name in ("frontal", "parietal", "temporal", "occipital")},
    "insula": "Insula",
    "thalamus": "Thalamus",
    "brainstem": "BrainStem",
    "cerebellum": "Cerebellum",
}


def _whole(content: Content) -> Any:
    """Number and volume of all findings, 0 of them too, with the images that were looked at."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    count = hd.sr.Measurement(codes.SCT.NumberOfLesions, content.findings, codes.UCUM.NoUnits)
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(content.uid("all findings"), "uadtk all findings"),
        measurements=[count, _volume(content.volume_ml)],
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(*reference)
            for reference in _references(content, range(len(content.labels)))
        ],
        **_made_by(content),
    )


def _finding(segment: Segment, content: Content) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    score = hd.sr.CodedConcept("anomaly-score", "99UADTK", "Anomaly score")
    peak = hd.sr.Measurement(score, segment.peak, codes.UCUM.NoUnits, derivation=codes.SCT.Maximum)
    inside = content.slices[segment.number]
    images = [hd.sr.SourceImageForSegmentation(*reference) for reference in _references(content, inside)]
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(content.uid(f"finding {segment.number}"), f"uadtk {segment.name}"),
        referenced_segment=hd.sr.ReferencedSegment(_SEG, content.uid("seg"), segment.number, source_images=images),
        measurements=[_volume(segment.volume_ml), peak],
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_type=codes.SCT.Lesion,
        **{**_made_by(content), "finding_sites": [_site(segment.lobe)]},
    )


def _site(lobe: str) -> Any:
    """The lobe, if it has a code, with its side; else the brain."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    side, _, name = lobe.partition(" ")
    code = getattr(codes.SCT, _SITES[name or side]) if (name or side) in _SITES else codes.SCT.Brain
    sides = {"left": codes.SCT.Left, "right": codes.SCT.Right}
    return hd.sr.FindingSite(code, laterality=sides.get(side))


def _made_by(content: Content) -> dict[str, Any]:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.sr.AlgorithmIdentification(
        name=f"uadtk {content.model}".strip(),
        version=VERSION,
        parameters=content.parameters,
        family=codes.DCM.ArtificialIntelligence,
    )
    return {"finding_sites": [hd.sr.FindingSite(codes.SCT.Brain)], "algorithm_id": algorithm}


def _volume(ml: float) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.sr.Measurement(codes.SCT.Volume, ml, hd.sr.CodedConcept("mL", "UCUM", "milliliter"))


def _comment(text: str) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.sr.TextContentItem(codes.DCM.Comment, text, hd.sr.RelationshipTypeValues.CONTAINS)


def _references(content: Content, slices: Iterable[int]) -> list[tuple[str, str, list[int] | None]]:
    """Class, instance and frames of the images of these slices, each image once."""
    frames = defaultdict[tuple[str, str], list[int]](list)
    for index in slices:
        one = content.origin.slices[index]
        frames[one.sop_class, one.instance] += [] if one.frame is None else [one.frame]
    return [(*image, sorted(numbers) or None) for image, numbers in frames.items()]


def _evidence(content: Content, image: Any) -> list[Any]:
    """Headers of all that the report refers to; the first is one of the patient."""
    every = _references(content, range(len(content.labels)))
    headers = [having(image, SOPClassUID=sop_class, SOPInstanceUID=instance) for sop_class, instance, _ in every]
    if content.segments:
        uids = {"SOPInstanceUID": content.uid("seg"), "SeriesInstanceUID": content.uid("seg series")}
        headers.append(having(image, SOPClassUID=_SEG, **uids))
    return headers
