"""What the Python interface returns for one scan: volumes, findings, files, and a picture for notebooks."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from uadtk.core.finding import Finding, Gate, Segmentation
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Mask, ScoreMap, Volume
from uadtk.io.dicom_out import kinds_of
from uadtk.io.results import output_paths
from uadtk.pipeline.outputs import write_outputs
from uadtk.version import USE

PICTURED = 20  # findings listed below the picture


@dataclass(frozen=True)
class Result:
    """A segmented scan. Volumes are on the scan's own grid; ``np.asarray(result.mask)`` gives the voxels (x, y, z)."""

    segmentation: Segmentation
    name: str
    run: Run

    @property
    def mask(self) -> Mask:
        return self.segmentation.mask

    @property
    def score(self) -> ScoreMap:
        """Abnormality before the threshold."""
        return self.segmentation.scoring.score

    @property
    def brain(self) -> Mask:
        return self.segmentation.scoring.brain

    @property
    def components(self) -> Volume:
        """Numbers of the findings, 0 elsewhere."""
        return self.segmentation.components

    @property
    def maps(self) -> Mapping[str, Volume]:
        """Further images of the scorer, such as ``reconstruction``."""
        return self.segmentation.scoring.maps

    @property
    def findings(self) -> list[Finding]:
        """Lesion candidates, the largest first; ``pandas.DataFrame`` takes the list."""
        return list(self.segmentation.findings)

    @property
    def point(self) -> OperatingPoint:
        return self.segmentation.point

    @property
    def gate(self) -> Gate:
        """Whether the checkpoint can read this scan: ``light`` (green, amber or red) and ``reasons``."""
        return self.segmentation.gate

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Versions, digests, every option, seconds per stage."""
        return self.segmentation.provenance

    def save(
        self,
        folder: str | os.PathLike[str],
        overwrite: bool = False,
        dicom_seg: bool = False,
        dicom_sr: bool = False,
        dicom_sc: bool = False,
        space: Literal["", "MNI"] = "",
    ) -> dict[str, Path]:
        """Write the files of ``uadtk segment``, all or none; returns their paths.

        Parameters
        ----------
        dicom_seg
            Of a scan read from DICOM, also write the findings as a DICOM segmentation, if there are any.
        dicom_sr
            The same, and a DICOM report of their volumes and scores.
        dicom_sc
            Also a picture of the most suspicious findings, as a DICOM secondary capture.
        space
            ``MNI``: also mask, score and scan in the space of the ICBM 2009a atlas, and the transform.
        """
        run = replace(self.run, dicom=kinds_of(dicom_seg, dicom_sr, dicom_sc), space=space)
        write_outputs(self.segmentation, Path(folder), self.name, run, overwrite)
        paths = output_paths(Path(folder), self.name, tuple(self.maps))
        return {key: path for key, path in paths.items() if path.exists()}

    def _repr_html_(self) -> str:
        from uadtk.report.mosaic import picture

        shown = self.findings[:PICTURED]
        cells = "".join(
            f"<tr><td>{f.label}</td><td>{f.volume_ml:.2f}</td><td>{f.peak:.3g}</td>"
            f"<td>{', '.join(f'{mm:.0f}' for mm in f.centroid_mm)}</td></tr>"
            for f in shown
        )
        more = f"<p>and {len(self.findings) - len(shown)} more</p>" if len(self.findings) > len(shown) else ""
        image = base64.b64encode(picture(self.segmentation)).decode()
        return (
            f"<p><b>{html.escape(self.name)}</b>: {len(self.findings)} findings, {self.segmentation.total_ml:.2f} ml "
            f"at {html.escape(self.point.name)} (score &gt; {self.point.threshold:.4g}). {USE}</p>"
            f'<img src="data:image/png;base64,{image}" alt="scan, reconstruction, score and mask">'
            "<table><tr><th>finding</th><th>ml</th><th>peak</th><th>centroid (mm)</th></tr>"
            f"{cells}</table>{more}"
        )
