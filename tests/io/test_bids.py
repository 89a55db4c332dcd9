"""BIDS trees by entities: which images are scans, and whose a mask is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from uadtk.core.errors import DataError
from uadtk.core.run import Run
from uadtk.io.cohort import Cohort, Row, output_names, read_cohort, read_lesion, read_row
from uadtk.io.readers.bids_names import Name

SHAPE = (6, 7, 8)


def image(path: Path, shape: tuple[int, ...] = SHAPE, shift_mm: float = 0, values: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4)
    affine[0, 3] = shift_mm
    voxels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape) if values is None else values
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def mask(path: Path, shift_mm: float = 0, shape: tuple[int, ...] = SHAPE) -> Path:
    voxels = np.zeros(shape, dtype=np.uint8)
    voxels[1, 1, 1:3] = 1
    return image(path, shape, shift_mm, voxels)


def dead(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("../../.git/annex/objects/absent.nii.gz")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One subject with a FLAIR."""
    image(tmp_path / "sub-01/anat/sub-01_FLAIR.nii.gz")
    return tmp_path


def only(tree: Path) -> tuple[Row, str]:
    cohort = read_cohort(tree)
    assert len(cohort) == 1
    return cohort.rows[0], "\n".join(cohort.notes)


def test_names() -> None:
    name = Name.parse("sub-01_ses-b_acq-3d_run-02_T1w_label-lesion_roi.nii.gz")
    assert name is not None
    assert name.raw() == {"sub": "01", "ses": "b", "acq": "3d", "run": "2"}
    assert (name.words, name.suffix) == (("T1w",), "roi")
    for wrong in (
        "flair.nii.gz",
        "sub-01_run-1_run-2_FLAIR.nii",
        "sub-_FLAIR.nii",
        "ses-1_sub-01_FLAIR.nii",
        "sub-01_run-_FLAIR.nii",
    ):
        assert Name.parse(wrong) is None, wrong


def test_sessions_runs_acquisitions_echoes_and_reconstructions_are_scans(tmp_path: Path) -> None:
    ending = ("ses-1_FLAIR", "ses-1_acq-3d_run-1_FLAIR", "ses-1_acq-3d_run-2_FLAIR", "ses-1_rec-norm_echo-1_FLAIR")
    files = [image(tmp_path / f"sub-a/ses-1/anat/sub-a_{end}.nii.gz") for end in ending]
    files.append(image(tmp_path / "sub-a/ses-2/anat/sub-a_ses-2_part-mag_FLAIR.nii"))
    for other in ("part-phase_FLAIR", "T1w", "T2w", "desc-pseudohealthy_FLAIR", "label-lesion_mask"):
        image(tmp_path / f"sub-a/ses-2/anat/sub-a_ses-2_{other}.nii.gz")
    cohort = read_cohort(tmp_path)
    assert sorted(row.image for row in cohort) == sorted(files)
    assert len(set(output_names(cohort))) == len(files)
    assert {row.subject for row in cohort} == {"sub-a"}
    assert any("part-phase" in note for note in cohort.notes)


def test_a_subject_without_flair_is_said(tree: Path) -> None:
    image(tree / "sub-02/anat/sub-02_T1w.nii.gz")
    (tree / "sub-03/anat").mkdir(parents=True)
    _, notes = only(tree)
    assert "sub-02 (it has T1w)" in notes
    assert "and 1 more" in notes


def test_a_name_that_contradicts_its_folder_is_not_taken_and_said(tree: Path) -> None:
    image(tree / "sub-01/anat/sub-02_FLAIR.nii.gz")
    _, notes = only(tree)
    assert "sub-02_FLAIR" in notes


def test_a_session_that_only_the_folder_tells(tmp_path: Path) -> None:
    image(tmp_path / "sub-01/ses-x/anat/sub-01_FLAIR.nii.gz")
    lesion = mask(tmp_path / "derivatives/m/sub-01/ses-x/anat/sub-01_ses-x_label-lesion_mask.nii.gz")
    assert only(tmp_path)[0].lesion_mask == lesion


@pytest.mark.parametrize(
    "name",
    [
        *("sub-01_label-lesion_mask", "sub-01_label-L_mask", "sub-01_desc-lesion_mask", "sub-01_lesion_roi"),
        *("sub-01_label-lesion_roi", "sub-01_FLAIR_label-lesion_roi", "sub-01_space-orig_label-lesion_mask"),
        *("sub-01_desc-manual_label-lesion_mask", "sub-01_label-lesion_dseg", "sub-01_rater-1_label-lesion_mask"),
    ],
)
@pytest.mark.parametrize("folder", ["", "derivatives/manual/", "derivatives/", "derivatives/manual/v2/"])
def test_lesion_masks(tree: Path, name: str, folder: str) -> None:
    path = mask(tree / f"{folder}sub-01/anat/{name}.nii.gz")
    row, notes = only(tree)
    assert row.lesion_mask == path
    assert not notes


@pytest.mark.parametrize("kind", ["label-lesion", "desc-brain"])
@pytest.mark.parametrize("how", ["dead", "shifted", "other shape", "damaged", "empty file"])
def test_a_mask_that_cannot_be_used_fails_its_row(tree: Path, kind: str, how: str) -> None:
    path = tree / f"derivatives/manual/sub-01/anat/sub-01_{kind}_mask.nii.gz"
    if how == "dead":
        dead(path)
    elif how == "shifted":
        mask(path, shift_mm=0.5)
    elif how == "other shape":
        mask(path, shape=(6, 7, 9))
    else:
        mask(path)
        path.write_bytes(b"" if how == "empty file" else b"damaged" * 99)
    row, _ = only(tree)
    assert path in (row.lesion_mask, row.brain_mask)
    assert not (kind == "label-lesion" and row.presumed_healthy)
    with pytest.raises(DataError, match=path.name):
        read_lesion(row, read_row(row, Run())[0])


@pytest.mark.parametrize("space", ["MNI152NLin6Asym", "T1w"])
@pytest.mark.parametrize("how", [mask, dead])
def test_a_lesion_mask_in_another_space_is_not_taken_and_makes_no_one_healthy(tree: Path, space: str, how: Any) -> None:
    path = tree / f"derivatives/a/sub-01/anat/sub-01_space-{space}_label-lesion_mask.nii.gz"
    how(path) if how is dead else how(path, shape=(9, 9, 9))
    row, notes = only(tree)
    assert row.lesion_mask is None
    assert not row.presumed_healthy
    assert str(path) in notes
    better = mask(tree / "derivatives/a/sub-01/anat/sub-01_label-lesion_mask.nii.gz")
    row, notes = only(tree)
    assert row.lesion_mask == better
    assert not notes


def test_the_mask_of_the_t1w_is_not_that_of_the_flair(tree: Path) -> None:
    image(tree / "sub-01/anat/sub-01_T1w.nii.gz", (9, 9, 9))
    for kind in ("desc-brain", "label-lesion"):
        mask(tree / f"derivatives/fmriprep/sub-01/anat/sub-01_{kind}_mask.nii.gz", shape=(9, 9, 9))
    row, notes = only(tree)
    assert (row.brain_mask, row.lesion_mask) == (None, None)
    assert not row.presumed_healthy
    assert "brain mask of another" in notes
    assert "lesion mask of another" in notes


@pytest.mark.parametrize("name", ["sub-01_T1w_label-lesion_roi", "sub-01_acq-t1_label-lesion_mask"])
def test_a_lesion_mask_of_another_image_makes_no_one_healthy(tree: Path, name: str) -> None:
    mask(tree / f"sub-01/anat/{name}.nii.gz", shape=(9, 9, 9))
    row, notes = only(tree)
    assert row.lesion_mask is None
    assert not row.presumed_healthy
    assert name in notes


def test_a_sidecar_says_what_a_mask_is_of_and_made_from(tree: Path) -> None:
    base = tree / "derivatives/m"
    path = mask(base / "sub-01/anat/sub-01_desc-manual_mask.nii.gz")
    (base / "desc-manual_mask.json").write_text(json.dumps({"Type": "Lesion"}))  # inherited by all subjects
    assert only(tree)[0].lesion_mask == path
    beside = path.with_name("sub-01_desc-manual_mask.json")
    beside.write_text(json.dumps({"Sources": ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]}))
    assert only(tree)[0].lesion_mask == path  # on the same grid all the same
    mask(path, shape=(9, 9, 9))
    row, notes = only(tree)
    assert row.lesion_mask is None
    assert path.name in notes
    beside.write_text(json.dumps({"Type": "Brain"}))  # nearer to the mask
    assert only(tree)[0].brain_mask == path


@pytest.mark.parametrize("name", ["sub-01_FLAIR_roi", "sub-01_desc-wmh_mask", "sub-01_label-tumor_mask", "sub-01_mask"])
def test_what_may_be_lesions_is_said_and_makes_no_one_healthy(tree: Path, name: str) -> None:
    mask(tree / f"sub-01/anat/{name}.nii.gz")
    row, notes = only(tree)
    assert row.lesion_mask is None
    assert not row.presumed_healthy
    assert name in notes
    (tree / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tHC\n")
    assert only(tree)[0].presumed_healthy


@pytest.mark.parametrize(
    "name", ["sub-01_label-GM_probseg", "sub-01_dseg", "sub-01_desc-aseg_dseg", "sub-01_label-hippocampus_mask"]
)
def test_other_masks_are_no_concern(tree: Path, name: str) -> None:
    mask(tree / f"derivatives/m/sub-01/anat/sub-01_{name}.nii.gz")
    row, notes = only(tree)
    assert row == Row("sub-01", tree / "sub-01/anat/sub-01_FLAIR.nii.gz")
    assert not notes


def test_a_label_map_needs_a_table_of_its_labels(tree: Path) -> None:
    voxels = np.zeros(SHAPE, dtype=np.uint8)
    voxels[1, 1, :4] = (1, 2, 3, 4)
    base = tree / "derivatives/m"
    path = image(base / "sub-01/anat/sub-01_desc-all_dseg.nii.gz", values=voxels)
    assert only(tree)[0].lesion_mask is None
    (base / "desc-all_dseg.tsv").write_text(
        "index\tname\tabbreviation\n1\tGrey matter\tGM\n2\tMS lesion\tx\n4\tother\tL\n"
    )
    row, _ = only(tree)
    assert (row.lesion_mask, row.lesion_labels) == (path, (2, 4))
    lesion = read_lesion(row, read_row(row, Run())[0])
    assert lesion is not None
    assert lesion.voxels.sum() == 2


def test_a_mask_of_several_runs(tmp_path: Path) -> None:
    anat = tmp_path / "sub-01/anat"
    one, two = image(anat / "sub-01_run-1_FLAIR.nii.gz"), image(anat / "sub-01_run-02_FLAIR.nii.gz", shift_mm=9)
    for number in ("1", "2"):  # run-2 is run-02
        mask(anat / f"sub-01_run-{number}_label-lesion_mask.nii.gz", shift_mm=9 * (number == "2"))
    cohort = read_cohort(tmp_path)
    assert {r.image: r.lesion_mask and r.lesion_mask.name[7:12] for r in cohort} == {one: "run-1", two: "run-2"}
    for path in anat.glob("*mask*"):
        path.unlink()
    path = mask(anat / "sub-01_label-lesion_mask.nii.gz", shift_mm=9)  # fits one of the two
    assert {row.image: row.lesion_mask for row in read_cohort(tmp_path)} == {one: None, two: path}
    mask(path)
    image(two)  # fits both
    with pytest.raises(DataError, match=r"could be the mask of .*run-.*run-"):
        read_cohort(tmp_path)


def test_participants_and_sessions(tmp_path: Path) -> None:
    for name in ("sub-01/ses-1/anat/sub-01_ses-1", "sub-01/ses-2/anat/sub-01_ses-2", "sub-02/anat/sub-02"):
        image(tmp_path / f"{name}_FLAIR.nii.gz")
    text = "participant_id\tage\tGroup\tsite\nsub-01\t31\tHC\tA\n02\tn/a\tMS\t\nsub-09\t1\tMS\tA\n"
    (tmp_path / "participants.tsv").write_bytes(text.encode("utf-8-sig"))
    (tmp_path / "sub-01/sub-01_sessions.tsv").write_text("session_id\tsite\tgroup\nses-2\tB\tcis\n")
    cohort = read_cohort(tmp_path)
    assert [(row.group, row.site) for row in cohort] == [("healthy", "A"), ("cis", "B"), ("MS", None)]
    assert "sub-09" in "".join(cohort.notes)
    (tmp_path / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tHC\nsub-01\tMS\n")
    with pytest.raises(DataError, match=r"line 3: 'sub-01' has two lines that differ"):
        read_cohort(tmp_path)
    (tmp_path / "participants.tsv").unlink()
    (tmp_path / "participants.tsv").symlink_to("nowhere")
    with pytest.raises(DataError, match="datalad get"):
        read_cohort(tmp_path)


def test_bidsignore(tree: Path) -> None:
    image(tree / "sub-01/anat/sub-01_run-9_FLAIR.nii.gz")
    (tree / ".bidsignore").write_text("# noise\n*_run-9_*\n**/*_roi.nii.gz\n")
    roi = mask(tree / "sub-01/anat/sub-01_label-lesion_roi.nii.gz")
    row, notes = only(tree)
    assert row.lesion_mask == roi  # such names are listed there because the standard has none for them
    assert ".bidsignore" in notes


def test_our_own_derivatives_are_never_read(tree: Path) -> None:
    for folder, maker in (("uadtk-1", ""), ("ours", "uadtk"), ("theirs", "fsl")):
        base = tree / "derivatives" / folder
        mask(base / "sub-01/anat/sub-01_label-lesion_mask.nii.gz")
        (base / "dataset_description.json").write_text(json.dumps({"GeneratedBy": [{"Name": maker}]}))
    assert "theirs" in str(only(tree)[0].lesion_mask)


def test_a_derivative_as_the_tree(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text('{"DatasetType": "derivative", "GeneratedBy": [{"Name": "x"}]}')
    anat = tmp_path / "sub-01/anat"
    one = image(anat / "sub-01_space-MNI_desc-preproc_FLAIR.nii.gz", shift_mm=3)
    brain = mask(anat / "sub-01_space-MNI_desc-brain_mask.nii.gz", shift_mm=3)
    assert only(tmp_path)[0] == Row("sub-01", one, brain)
    image(anat / "sub-01_desc-preproc_FLAIR.nii.gz")
    with pytest.raises(DataError, match="two versions of one scan"):
        read_cohort(tmp_path)


def test_one_subject_of_a_tree(tree: Path) -> None:
    image(tree / "sub-02/anat/sub-02_FLAIR.nii.gz")
    lesion = mask(tree / "derivatives/m/sub-01/anat/sub-01_label-lesion_mask.nii.gz")
    cohort = read_cohort(tree / "sub-01")
    assert [(row.subject, row.lesion_mask) for row in cohort] == [("sub-01", lesion)]


def test_images_that_were_not_fetched(tmp_path: Path) -> None:
    paths = [dead(tmp_path / f"sub-0{n}/anat/sub-0{n}_FLAIR.nii.gz") for n in (1, 2)]
    for source in (tmp_path, paths[0], paths):
        with pytest.raises(DataError, match=r"a link to a file that is not there.*datalad get"):
            read_cohort(source)
    image(tmp_path / "sub-03/anat/sub-03_FLAIR.nii.gz")
    cohort = read_cohort(tmp_path)
    assert isinstance(cohort, Cohort)
    with pytest.raises(DataError, match=r"sub-01_FLAIR.*a link to a file that is not there.*datalad get"):
        read_row(cohort.rows[0], Run())


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"/annex/objects/MD5E-s1--0.nii.gz\n", "datalad get"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs"),
    ],
)
def test_a_pointer_is_not_an_image(tree: Path, content: bytes, hint: str) -> None:
    row, _ = only(tree)
    row.image.write_bytes(content)
    with pytest.raises(DataError, match=f"not fetched.*{hint}"):
        read_row(row, Run())
