"""A picture of the findings as a DICOM secondary capture, for viewers that show neither segmentations nor reports."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.io.dicom_out import Content
from uadtk.version import USE


def capture(content: Content, picture: NDArray[np.uint8], image: Any) -> Any:
    """``picture`` (rows, columns, 3) of axial planes; ``image``: a header that patient and study are copied from."""
    import highdicom as hd

    pixels = hashlib.sha256(picture.tobytes()).hexdigest()
    made: Any = hd.sc.SCImage.from_ref_dataset(
        image,
        picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        series_instance_uid=content.uid(f"sc series {pixels}"),
        series_number=content.series_number("sc"),
        sop_instance_uid=content.uid(f"sc {pixels}"),
        instance_number=1,
        series_description=content.description,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **content.identity(),
    )
    made.copy_patient_and_study_information(image)  # from_ref_dataset leaves out the study's description, among others
    made.ContentDate, made.ContentTime = made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = content.dates()
    made.BodyPartExamined = "BRAIN"
    made.BurnedInAnnotation = "NO"  # none that names the patient
    made.DerivationDescription = f"{content.description}. {USE}"
    made.ImageComments = USE
    return made
