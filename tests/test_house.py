"""Code quality: lint, types, layers, documents."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import uadtk
from uadtk.phantom.shipped import SCAN
from uadtk.version import VERSION

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        pytest.param(["mypy"], marks=pytest.mark.slow),
        ["lint-imports", "--no-cache"],
    ],
    ids=" ".join,
)
def test_tool_finds_nothing(command: list[str]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_longer_than_400_lines() -> None:
    long = {p: n for p in ROOT.glob("uadtk/**/*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize(
    "module",
    ["uadtk", "uadtk.core.options", "uadtk.hookspecs", "uadtk.registry", "uadtk.plugin", "uadtk.api", "uadtk.cli"],
)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(set(sys.modules) & {{'torch', 'numba', 'nibabel', 'scipy', 'numpy'}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_help_loads_nothing_heavy_and_each_command_has_a_summary() -> None:
    code = (
        "import sys\nfrom uadtk.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(*(set(sys.modules) & {'torch', 'numpy', 'numba', 'nibabel', 'scipy', 'rich'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    from uadtk.cli import _ORDER

    for name in _ORDER:
        assert re.search(rf"^  {name} +\S", done.stdout, re.MULTILINE), name


@pytest.mark.slow
def test_segment_imports_only_what_it_uses(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom uadtk.cli import main\n"
        "try: main(['segment', sys.argv[1], '-o', sys.argv[2], '--threads', '1', '--quiet'])\nexcept SystemExit: pass\n"
        "unused = {'scipy.fft', 'scipy.optimize', 'scipy.spatial', 'scipy.stats', 'SimpleITK', 'pandas'}\n"
        "print(*(set(sys.modules) & unused), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCAN), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == ""
    assert (tmp_path / "FLAIR_findings.json").exists()


def test_train_help_loads_no_model() -> None:
    code = (
        "import sys\nfrom uadtk.cli import main\n"
        "try: main(['train', '--help'])\nexcept SystemExit: pass\n"
        "print(*(set(sys.modules) & {'torch', 'numba', 'nibabel', 'scipy'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert "scalespace" in done.stdout


def test_the_former_name_of_the_plugin_interface_is_an_alias() -> None:
    from uadtk import api, plugin

    assert list(api.__all__) == list(plugin.__all__)
    for name in plugin.__all__:
        assert getattr(api, name) is getattr(plugin, name), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        api.nothing  # noqa: B018


def test_a_plugin_that_imports_from_the_former_name_is_served() -> None:
    code = (
        "import sys\nfrom uadtk.api import API_VERSION, Entry, hookimpl, option\n"
        "assert 'numpy' not in sys.modules\nfrom uadtk.api import *\nprint(Batch.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "uadtk.core.model\n"


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == uadtk.__version__ == VERSION


def test_every_hook_is_documented() -> None:
    hookspecs = importlib.import_module("uadtk.hookspecs")
    for name, hook in vars(hookspecs).items():
        if name.startswith("uadtk_"):
            assert hook.__doc__, name


def test_ci_runs_the_readme_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^python3 -m venv .*$", readme, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("uadtk demo")
    assert commands[1].endswith("-m pytest -n auto --dist loadfile")


def test_every_model_and_scorer_is_in_the_readme() -> None:
    from uadtk import registry

    readme = (ROOT / "README.md").read_text()
    for kind in ("models", "scorers"):
        for name in registry.own(kind):
            assert f"`{name}`" in readme, name
