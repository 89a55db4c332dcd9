"""The sdist and the wheel: what is in them, and that uadtk works from the wheel alone, outside the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import uadtk

ROOT = Path(__file__).parent.parent
PARTS = ("weights", "phantom/demo", "report/niivue", "preparation")
LICENCES = {"LICENSE", *(f"uadtk/{part}/LICENSE" for part in PARTS)}
# nilearn is hidden: `uadtk demo` must not need it
HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "nilearn" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it. The checkout is left alone."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy2(path, source)
    for name in ("uadtk", "tests", "docs"):  # of which the last two do not belong into it
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def packed(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package_and_its_data(packed: set[str]) -> None:
    files = [path for path in ROOT.glob("uadtk/**/*") if path.is_file() and "__pycache__" not in path.parts]
    wanted = {path.relative_to(ROOT).as_posix() for path in files}
    assert {name for name in packed if name.startswith("uadtk/")} == wanted
    kinds = (
        r"weights/\w+\.safetensors",
        r"kernels/_cupy/cuda/\w+\.cu",
        r"report/\w+\.(css|js)",
        r"report/niivue/.+\.gz",
    )
    for kind in kinds:
        assert any(re.fullmatch("uadtk/" + kind, name) for name in packed), kind
    assert "uadtk/py.typed" in packed


def test_the_wheel_holds_nothing_else(packed: set[str]) -> None:
    info = f"uadtk-{uadtk.__version__}.dist-info/"
    assert {name for name in packed if not name.startswith(("uadtk/", info))} == set()
    assert {name.removeprefix(info + "licenses/") for name in packed if name.startswith(info + "licenses/")} == LICENCES


def test_the_metadata_names_licences_and_pythons(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"uadtk-{uadtk.__version__}.dist-info/METADATA").decode()
    metadata = Parser().parsestr(text)
    names = ("Apache-2.0", "CC-BY-NC-SA-4.0", "LicenseRef-ICBM-2009a", "BSD-2-Clause", "BSD-3-Clause", "MIT", "ISC")
    assert metadata["License-Expression"] == " AND ".join(names)
    assert set(metadata.get_all("License-File", [])) == LICENCES
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert not any(re.match(r"nilearn|deepbet|SimpleITK|scikit|pytest|pdoc", line) for line in needed)


def test_the_sdist_holds_the_package_and_its_documents_and_no_data_of_others(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    top = {name for name in names if name and "/" not in name}
    documents = {"README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE"}
    made = {"PKG-INFO", "setup.cfg", "uadtk.egg-info"}  # by setuptools
    assert top == {"pyproject.toml", "MANIFEST.in", "uadtk", *documents, *made}
    assert {"uadtk/py.typed", *LICENCES} <= names


def own_environment() -> dict[str, str]:
    """The environment variables without those that lead to this environment's packages."""
    dropped = ("UADTK_", "PYTHON", "PIP_", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if not key.startswith(dropped)}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of a new environment with the wheel, which borrows the other packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    command: list[str | Path] = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    command += ["install", "-q", "--no-deps", "--no-index", wheel]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=own_environment())
    assert done.returncode == 0, done.stderr
    # Appended to the path after the wheel's own folder; the editable uadtk of this environment comes last.
    parents = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (packages / "zz_parent.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in parents))
    (packages / "sitecustomize.py").write_text(HIDE)
    return folder / "bin"


@pytest.fixture
def run(installed: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run a program of that environment in an empty folder; what it prints."""
    env = own_environment()

    def run(program: str, *arguments: str) -> str:
        done = subprocess.run([installed / program, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_it_is_the_wheel_that_runs(run, installed: Path) -> None:  # type: ignore[no-untyped-def]
    where = Path(run("python", "-c", "import uadtk; print(uadtk.__file__)").strip())
    assert where.is_relative_to(installed.parent)
    assert run("python", "-c", "import importlib.util as u; print(u.find_spec('nilearn'))").strip() == "None"
    assert run("uadtk", "--version") == f"uadtk {uadtk.__version__}\n"
    listed = run("uadtk", "models")
    assert {"scalespace", "histeq", "unet"} <= {line.split()[0] for line in listed.splitlines()}
    assert "CC BY-NC-SA 4.0" in (where.parent / "weights" / "LICENSE").read_text()


def test_the_readmes_first_command_works_from_the_wheel(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    readme = (ROOT / "README.md").read_text()
    first = next(line for line in readme.splitlines() if line.startswith("python3 -m venv"))
    command = first.rpartition("&& ")[2].split()
    assert command[0] == ".venv/bin/uadtk"
    printed = run("uadtk", *command[1:], "--threads", "1")
    promised = readme[readme.index("scan            uadtk-demo/") :]
    promised = promised[: promised.index("seconds ")]
    for said, wanted in zip(printed.splitlines(), promised.splitlines(), strict=False):
        assert re.split(r"[\d.]+", said) == re.split(r"[\d.]+", wanted)
    dice = re.search(r"^DICE +(0\.\d+)", printed, re.MULTILINE)
    assert dice is not None
    assert float(dice[1]) == pytest.approx(0.647, abs=0.02)
    for line in printed.partition("\n\n")[0].splitlines():
        assert (tmp_path / line.split()[-1]).stat().st_size > 0
