"""The files of a segmentation: BIDS-like names, all written or none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uadtk.core.finding import Finding, Segmentation
from uadtk.core.run import Run
from uadtk.core.volume import Volume
from uadtk.io.dicom_out import Picture, write_dicom
from uadtk.io.lookup import lookup_tables
from uadtk.io.results import MANIFEST, files_of, former_files, output_paths, with_place
from uadtk.io.write import Meaning, refuse_existing, staged, write_bytes, write_json, write_nifti, write_text
from uadtk.pipeline.atlas_space import IN_MNI, in_atlas_space
from uadtk.report.axial_views import Planes
from uadtk.report.key_slices import key_slices
from uadtk.report.mosaic import thumbnail
from uadtk.report.page import report_html
from uadtk.version import USE, VERSION

COLUMNS = ("label", "volume_ml", "x_mm", "y_mm", "z_mm", "peak", "mean", "peak_x_mm", "peak_y_mm", "peak_z_mm", "lobe")


def write_outputs(result: Segmentation, folder: Path, name: str, run: Run, overwrite: bool) -> None:
    """Write everything to a staging folder, then move it into place as one set (``uadtk.io.results``).

    ``run.timings`` gains ``write``. Files of a former result that the new one lacks are removed: another model's
    reconstruction must not remain beside this model's mask.
    """
    maps = result.scoring.maps
    refuse_existing(output_paths(folder, name, tuple(maps)).values(), overwrite)
    manifest = f"{name}_{MANIFEST}"
    former = {*former_files(folder, name), *output_paths(folder, name).values()}
    in_atlas, transform = dict[str, Volume](), ""
    if run.space:
        with run.stage("register"):
            in_atlas, transform = in_atlas_space(result)
    with staged(folder, overwrite, manifest, former) as stage:
        paths = output_paths(stage, name, tuple(maps))
        volumes: dict[str, Volume] = {
            "mask": result.mask,
            "score": result.scoring.score,
            "components": result.components,
            "brain": result.scoring.brain,
            **maps,
        }
        with run.stage("write"), ThreadPoolExecutor(2) as pool:
            # compression releases the GIL, so the report is drawn in parallel
            header = result.scoring.scan.header  # the outputs claim what the input claims
            jobs = [
                pool.submit(write_nifti, paths[key], volume, header, _meaning(key, result))
                for key, volume in volumes.items()
            ]
            for key, volume in in_atlas.items():
                meaning = _meaning(key.removesuffix("_mni"), result)
                jobs.append(pool.submit(write_nifti, paths[key], volume, IN_MNI, meaning))
            if transform:
                write_text(paths["transform_mni"], transform)
            planes = Planes.of(result)
            write_text(paths["report"], report_html(result, planes))
            write_bytes(paths["thumbnail"], thumbnail(result, planes=planes))
            write_json(paths["findings_json"], findings_record(result))
            write_text(paths["findings_tsv"], findings_table(result.findings))
            if run.dicom:
                write_dicom(result, run.dicom, paths, _picture(result, planes) if "sc" in run.dicom else None)
            for job in jobs:
                job.result()
        found = {"findings": len(result.findings), "volume_ml": result.total_ml}
        record = {**result.provenance, "input": with_place(result.provenance.get("input", {}), folder)}
        write_json(stage / manifest, {**record, "found": found, "files": files_of(stage)})
    _describe(folder)


def _picture(result: Segmentation, planes: Planes) -> Picture:
    model = result.provenance.get("options", {}).get("model", {}).get("name", "")
    return key_slices(result, f"uadtk {model}, {result.point.name}: score > {result.point.threshold:.4g}", USE, planes)


def findings_record(result: Segmentation) -> dict[str, Any]:
    return {
        "findings": [asdict(finding) for finding in result.findings],
        "total_volume_ml": result.total_ml,
        "operating_point": {"name": result.point.name, "threshold": result.point.threshold},
        "lesion_free_scans": {
            key.removeprefix("findings_"): value
            for key, value in result.point.measured.items()
            if key.startswith("findings_")
        },
        "gate": {key: value for key, value in result.gate.to_json().items() if key != "measured"},
        "space": "RAS+ millimetres of the scan",
        "use": USE,
    }


def findings_table(findings: Sequence[Finding]) -> str:
    out = io.StringIO()
    table = csv.writer(out, delimiter="\t", lineterminator="\n")
    table.writerow(COLUMNS)
    for f in findings:
        numbers = (f"{value:.6g}" for value in (f.volume_ml, *f.centroid_mm, f.peak, f.mean, *f.peak_mm))
        table.writerow([f.label, *numbers, f.lobe])
    return out.getvalue()


def _meaning(key: str, result: Segmentation) -> Meaning:
    """The score is shown from the threshold up."""
    if key == "score":
        threshold, highest = result.point.threshold, float(result.scoring.score.voxels.max())
        return Meaning("estimate", "anomaly", threshold, max(highest, 1.5 * threshold, 1e-6))
    names = {"mask": "lesion", "components": "finding", "brain": "brain"}
    if key in names:
        return Meaning("label", names[key], 0.0, float(max(1, len(result.findings))) if key == "components" else 1.0)
    return Meaning("none", key[:15])


def _describe(folder: Path) -> None:
    """The file that makes a folder a BIDS derivative, and lookup tables for viewers."""
    generated = [{"Name": "uadtk", "Version": VERSION}]
    record = {"Name": "uadtk lesion segmentations", "BIDSVersion": "1.9.0", "DatasetType": "derivative"}
    description = json.dumps({**record, "GeneratedBy": generated}, indent=2) + "\n"
    texts = {"dataset_description.json": description, **lookup_tables()}
    missing = {name: text for name, text in texts.items() if not (folder / name).exists()}
    if missing:
        with staged(folder, overwrite=True) as stage:  # in place of a link to nowhere, not through it
            for name, text in missing.items():
                write_text(stage / name, text)
