"""The examples and the entry point of the containers, with stand-ins for Slurm, an engine, and a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def words(tmp_path: Path):
    """What a script calls ``uadtk`` with."""
    stub = tmp_path / "bin" / "uadtk"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@"\n')
    stub.chmod(0o755)

    def call(script: str, *arguments: str, **environment: str) -> tuple[list[str], int]:
        path = {"PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            [ROOT / script, *arguments],
            env={**os.environ, **path, **environment},
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        return done.stdout.splitlines()[1:], done.returncode

    return call


def test_a_task_of_a_slurm_array_does_its_shard(words) -> None:
    (ROOT / "examples" / "slurm_array.sh").stat()
    found, code = words("examples/slurm_array.sh", "c.tsv", "out", SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_TASK_COUNT="8")
    assert (" ".join(found), code) == ("segment c.tsv -o out --shard 3/8 --jobs 4 --threads 4", 0)


def test_the_container_takes_the_arguments_of_a_bids_app(words, tmp_path: Path) -> None:
    app = "docs/containers/bids-app"
    (tmp_path / "in").mkdir()
    assert words(app, "in", "out", "participant")[0] == ["segment", "in", "-o", f"{tmp_path}/out"]
    found, _ = words(app, "in", "/out", "participant", "--strict", "--participant_label", "01", "sub-02", "--jobs", "2")
    assert found == ["segment", "sub-01", "sub-02", "-o", "/out", "--strict", "--jobs", "2"]
    assert words(app, "in", "/out", "group")[0] == ["report", "/out"]
    assert words(app, "in", "/out", "session")[1] == 2
    assert words(app, "in")[1] == 2


@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user in a root of its own")
def test_the_containers_steps_work_as_nobody_on_a_read_only_root() -> None:
    command = [str(ROOT / "docs/containers/check"), sys.executable]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "kernels compiled before" in done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cohort_on_a_cluster(small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed", reason='Dask is not installed: pip install "uadtk[cluster]"')
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import dask_slurm as example

    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        assert example.main(str(small_cohort), str(tmp_path / "out"), cluster) == 0
    assert len(list((tmp_path / "out").glob("*_provenance.json"))) == 5
