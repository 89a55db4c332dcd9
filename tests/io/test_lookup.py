from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from uadtk.core.volume import Mask, ScoreMap
from uadtk.io.lookup import LABELS, colour, lookup_tables
from uadtk.io.write import Meaning, write_nifti


def test_tables_hold_the_same_colours_in_the_forms_of_their_programs(tmp_path: Path) -> None:
    tables = lookup_tables()
    bids = [line.split("\t") for line in tables["label-lesion_dseg.tsv"].splitlines()]
    assert bids[0] == ["index", "name", "color"]
    assert bids[7] == ["7", "finding 7", "#{:02x}{:02x}{:02x}".format(*colour(7))]
    assert len({line[2] for line in bids[1:]}) == LABELS
    snap = tables["lookup_itksnap.txt"].splitlines()
    assert snap[7] == '7 {} {} {} 1 1 1 "finding 7"'.format(*colour(7))
    eyes = tables["lookup_fsleyes.lut"].splitlines()[6].split()
    assert eyes[0] == "7"
    np.testing.assert_allclose([float(x) * 255 for x in eyes[1:4]], colour(7), atol=0.02)
    (tmp_path / "free.txt").write_text(tables["lookup_freesurfer.txt"])
    free = np.genfromtxt(tmp_path / "free.txt", dtype=None, encoding="utf-8")
    assert tuple(free[7])[2:5] == colour(7)


def test_headers_tell_what_an_image_is(tmp_path: Path) -> None:
    score = ScoreMap(np.linspace(0, 2, 27, dtype=np.float32).reshape(3, 3, 3), np.eye(4))
    write_nifti(tmp_path / "score.nii.gz", score, meaning=Meaning("estimate", "anomaly", 0.25, 2.0))
    header = nib.load(tmp_path / "score.nii.gz").header
    assert header.get_intent() == ("estimate", (), "anomaly")
    assert (float(header["cal_min"]), float(header["cal_max"])) == (0.25, 2.0)
    assert b"uadtk" in header["descrip"].item()
    assert (np.asarray(nib.load(tmp_path / "score.nii.gz").dataobj) == score.voxels).all()
    write_nifti(tmp_path / "mask.nii.gz", Mask(score.voxels > 1, np.eye(4)), meaning=Meaning("label", "lesion", 0, 1))
    assert nib.load(tmp_path / "mask.nii.gz").header.get_intent()[0] == "label"
    write_nifti(tmp_path / "plain.nii.gz", score)
    assert nib.load(tmp_path / "plain.nii.gz").header.get_intent()[0] == "none"
