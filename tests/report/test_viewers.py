"""The written files in viewers that are not ours: FSLeyes off-screen, and niivue as it opens any NIfTI file."""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import browser, missing
from tests.report.conftest import make_segmentation
from uadtk.core.run import Run
from uadtk.io.lookup import LABELS, colour
from uadtk.io.write import write_nifti
from uadtk.pipeline.outputs import write_outputs

pytestmark = pytest.mark.slow

THRESHOLD = 0.5
LEFT, RIGHT = np.s_[8:14, 34:42, 12:18], np.s_[26:30, 10:16, 13:16]  # findings 1 and 2: RAS+, so x rises to the right
AXIAL = (
    *("--displaySpace", "world", "--hidex", "--hidey", "--hideCursor", "--hideLabels"),
    *("--bgColour", "0", "0", "0", "--size", "420", "520"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("viewers")
    segmentation = make_segmentation(codes="LIP", lesions=(LEFT, RIGHT), threshold=THRESHOLD)
    write_outputs(segmentation, found, "s", Run(), overwrite=False)
    write_nifti(found / "scan.nii.gz", segmentation.scoring.scan)
    return found


@pytest.fixture(scope="module")
def fsleyes() -> Path:
    program = shutil.which("fsleyes")
    if program is None:
        pytest.skip("FSLeyes is not installed: CONTRIBUTING.md says how")
    return Path(program).resolve()


def pixels(fsleyes: Path, folder: Path, *overlay: str) -> np.ndarray:
    """The axial plane of the scan through both findings, as FSLeyes draws it: the patient's left on the right."""
    where = ("--worldLoc", "80", "100", "56", *AXIAL, "scan.nii.gz", *overlay)
    drawn(fsleyes, folder, "render", "--outfile", "shot.png", *where)
    with Image.open(folder / "shot.png") as shot:
        return np.asarray(shot.convert("RGB")).astype(int)


def drawn(program: Path, folder: Path, *arguments: str) -> str:
    """Without a display: Mesa draws into memory."""
    own = {**os.environ, "PYOPENGL_PLATFORM": "osmesa", "HOME": str(folder)}
    done = subprocess.run([program, *arguments], cwd=folder, env=own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fsleyes_draws_findings_in_our_colours_on_the_lesions_of_the_scan(fsleyes, folder):
    plain = pixels(fsleyes, folder)
    labels = ("s_label-lesion_dseg.nii.gz", "--overlayType", "label", "--lut", "lookup_fsleyes.lut")
    shown = pixels(fsleyes, folder, *labels)
    lesions = plain.min(axis=2) > 200
    places = []
    for number in (1, 2):
        own = (np.abs(shown - colour(number)) <= 2).all(axis=2)
        assert own.sum() > 500
        assert lesions[own].mean() > 0.98
        places.append(np.argwhere(own).mean(axis=0))
    coloured = (shown.max(axis=2) - shown.min(axis=2)) > 30
    assert coloured[lesions].mean() > 0.9  # FSLeyes leaves a border of a pixel
    (front, left), (back, right) = places
    assert left > right + 50
    assert front < back - 50


def test_fsleyes_has_our_names(fsleyes, folder):
    code = """
import json, fsl.utils.settings
fsl.utils.settings.initialise("fsleyes")
import fsleyes.colourmaps as maps
maps.init()
table = maps.registerLookupTable("lookup_fsleyes.lut")
print(json.dumps([[label.value, label.name, [round(255 * c) for c in label.colour[:3]]] for label in table.labels()]))
"""
    python = Path(fsleyes.read_text().splitlines()[0].removeprefix("#!"))
    read = json.loads(drawn(python, folder, "-c", code).splitlines()[-1])
    assert read == [[n, f"finding {n}", list(colour(n))] for n in range(1, LABELS + 1)]


def test_niivue_shows_the_score_from_the_threshold_up(folder, tmp_path):
    if reason := missing("chromium"):
        pytest.skip(reason)
    code = gzip.decompress((files("uadtk.report") / "niivue" / "niivue.umd.js.gz").read_bytes()).decode()
    names = ("scan.nii.gz", "s_desc-anomaly_statmap.nii.gz", "s_label-lesion_dseg.nii.gz", "s_label-lesion_mask.nii.gz")
    data = {name: base64.b64encode((folder / name).read_bytes()).decode() for name in names}
    opening = """
      const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
      (async () => {
        const viewer = new niivue.Niivue();
        await viewer.attachTo("canvas");
        for (const [name, text] of Object.entries(data)) viewer.addVolume(await niivue.NVImage.new(bytes(text), name));
        globalThis.viewer = viewer;
      })();
    """
    page = tmp_path / "page.html"
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><canvas id="canvas"></canvas><script>{code}</script>'
        f"<script>const data = {json.dumps(data)};{opening}</script>",
        encoding="utf-8",
    )
    with browser("chromium", tmp_path) as tab:
        tab.open(page)
        tab.until("globalThis.viewer !== undefined")
        ranges = tab.run("viewer.volumes.map((volume) => [volume.cal_min, volume.cal_max])")
        intents = tab.run("viewer.volumes.map((volume) => [volume.hdr.intent_code, volume.hdr.intent_name])")
    np.testing.assert_allclose(ranges[1:], [[THRESHOLD, 0.9], [0, 2], [0, 1]], rtol=1e-6)
    assert intents[1:] == [[1001, "anomaly"], [1002, "finding"], [1002, "lesion"]]
