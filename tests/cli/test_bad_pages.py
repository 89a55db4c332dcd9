"""Pages of what is unusual but allowed, made by the commands."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.commands import Done, call
from tests.report.test_page import Page
from tests.scans import SMALL_AFFINE, small_brain

NOBODY = 65534
EVIL = ("a\"b'c", "<img src=x onerror=alert(1)>", "\u202egnp.\u05d0\u05d1", "&amp; \u0645\u062e")


def test_a_border_of_nan_has_a_page_that_says_so(segment: Callable[..., Done], tmp_path: Path) -> None:
    image = small_brain(lesion=True)[0]
    image[:3], image[:, -2:] = np.nan, np.nan
    nib.save(nib.Nifti1Image(image, SMALL_AFFINE), tmp_path / "edge.nii.gz")
    done = segment(scans=(tmp_path / "edge.nii.gz",))
    assert done.code == 0, done
    assert "voxels around the image are NaN" in done.err
    page = Page((tmp_path / "out" / "edge_report.html").read_text())
    assert page.open == []
    assert "voxels around the image are NaN" in page.text


def test_names_with_markup_quotes_and_other_directions(segment: Callable[..., Done], tmp_path: Path) -> None:
    folder = tmp_path / "<b>\"scans'"
    folder.mkdir()
    image = small_brain(lesion=True)[0]
    for number, name in enumerate(EVIL):
        nib.save(nib.Nifti1Image(image + number * (image > 0), SMALL_AFFINE), folder / f"{name}.nii.gz")
    out = tmp_path / "<i>out\u202e"
    assert segment("-o", out, "--layout", "bids", scans=(folder,)).code == 0
    pages = [*out.glob("*.html"), *out.glob("derivatives/uadtk/sub-*/anat/*.html")]
    assert len(pages) == 2 * len(EVIL) + 1
    for path in pages:
        page = Page(path.read_text())
        assert page.open == []
        assert not [words for words in ("<img src=x", '<b>"scans') if words in page.html]
        assert not any("onerror" in attributes for _, attributes in page.tags)
        assert not {"\u202e", "\u2066"} & set(page.html)
    links = [attributes["href"] for tag, attributes in Page((out / "index.html").read_text()).tags if tag == "a"]
    assert len(links) == len(EVIL)


@contextmanager
def _somebody_else() -> Iterator[None]:
    """Not root, who may write everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are those of POSIX")
def test_a_folder_that_may_only_be_read(segment: Callable[..., Done]) -> None:
    with tempfile.TemporaryDirectory() as name:  # below /tmp itself: pytest's own folder is closed to others
        folder = Path(name) / "out"
        assert segment("-o", folder).code == 0
        os.chmod(name, 0o755)
        folder.chmod(0o555)
        before = sorted(folder.iterdir())
        with _somebody_else():
            call("report", folder).refused(1, str(folder), "cannot be written (Permission denied)")
            call("export-bids", folder, folder / "bids").refused(1, "cannot be written (Permission denied)")
        assert sorted(folder.iterdir()) == before
        folder.chmod(0o755)
