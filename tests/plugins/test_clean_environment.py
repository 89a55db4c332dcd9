"""``pip install`` a plugin into an environment of its own, train its model, segment with it, and take it away again."""

import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
QUICK = ["--components", "6", "--epochs", "12", "--learning-rate", "0.01", "--patience", "12", "--no-augment"]

pytestmark = pytest.mark.slow  # environments of their own


class Environment:
    """A virtual environment that sees this one's packages; what is installed into it is not seen here."""

    def __init__(self, folder):
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        (here,) = folder.glob("lib/python*/site-packages")
        parent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        lines = [str(ROOT), *(f"import site; site.addsitedir({path!r})" for path in sorted(parent))]
        (here / "parent.pth").write_text("\n".join(lines) + "\n")
        self.folder = folder
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("UADTK_", "PYTHON", "PIP_"))}
        self.env = {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"}

    def run(self, *arguments):
        command = [self.python, "-m", *map(str, arguments)]
        return subprocess.run(command, env=self.env, cwd=self.folder, capture_output=True, text=True, check=False)

    def ok(self, *arguments):
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def environment(tmp_path, request):
    """With a plugin, uadtk-pca if none is named, installed in it from a copy of its source."""
    made = Environment(tmp_path)
    name = getattr(request, "param", "uadtk-pca")
    made.plugin = tmp_path / name
    shutil.copytree(ROOT / "plugins" / name, made.plugin, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    made.ok("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", made.plugin)
    return made


def test_a_plugin_from_installation_to_removal(environment, small_cohort):
    uadtk = environment.ok
    listed = uadtk("uadtk", "models")
    assert "pca Principal components of normal slices, the linear baseline. [uadtk-pca 0.1.0]" in " ".join(
        listed.split()
    )
    assert uadtk("uadtk", "plugins").startswith("uadtk-pca 0.1.0\n")

    model, out = environment.folder / "pca.safetensors", environment.folder / "out"
    uadtk("uadtk", "train", "pca", small_cohort, "-o", model, "--threads", 1, *QUICK)
    uadtk("uadtk", "threshold", "--model", model, "--healthy", small_cohort, "--split", "train", "--threads", 1)
    uadtk("uadtk", "segment", small_cohort.parent / "s4.nii.gz", "--model", model, "-o", out, "--threads", 1)
    mask = nib.load(out / "s4_label-lesion_mask.nii.gz").get_fdata() > 0
    lesion = nib.load(small_cohort.parent / "s4_lesion.nii.gz").get_fdata() > 0
    assert np.count_nonzero(mask & lesion) > 0.5 * np.count_nonzero(lesion)

    shown = uadtk("uadtk", "inspect", model)
    assert "model        pca (uadtk-pca 0.1.0)" in shown
    assert "components = 6" in shown
    assert "point        p98: score > " in shown

    uadtk("pip", "uninstall", "--quiet", "--yes", "uadtk-pca")
    assert "pca" not in uadtk("uadtk", "models")
    gone = environment.run("uadtk", "segment", small_cohort.parent / "s4.nii.gz", "--model", model, "-o", "again")
    assert gone.returncode == 5
    (line,) = gone.stderr.splitlines()
    assert line == (
        f"uadtk: {model}: needs model 'pca' of the package 'uadtk-pca', which is not installed. "
        "Install it from a source that you trust."
    )
    assert not (environment.folder / "again").exists()
    assert uadtk("uadtk", "inspect", model) == shown


@pytest.mark.parametrize("environment", PLUGINS, indirect=True)
def test_the_plugins_own_tests_pass(environment):
    environment.ok("pytest", "-q", "-p", "no:cacheprovider", environment.plugin)
