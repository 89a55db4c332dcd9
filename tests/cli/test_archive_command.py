"""`uadtk segment` over an archive: several processes, parts of a cohort, events for programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.commands import call
from uadtk.io.results import ScanState, Summary, read_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def serial(weighted: Path, small_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process writes."""
    out = tmp_path_factory.mktemp("serial")
    done = call("segment", small_cohort, "--model", weighted, "-o", out, "--threads", 1)
    assert done.code == 0, done
    return out


def results(folder: Path) -> dict[str, str | bytes]:
    """Every file but the summaries, which tests compare themselves, without seconds and the folder's name."""
    paths = [path for path in folder.iterdir() if not path.name.startswith("summary")]
    assert not [path for path in paths if path.name.startswith(".")]
    return {path.name: timeless(path) for path in paths}


def timeless(path: Path) -> str | bytes:
    if path.name.endswith("_provenance.json"):
        record = json.loads(path.read_text())
        assert record.pop("seconds")
        assert record["input"].pop("relative").endswith(Path(record["input"]["path"]).name)  # from the folder
        assert record["files"].pop(path.name.replace("provenance.json", "report.html"))
        return json.dumps(record)
    if path.name.endswith("_report.html"):
        text, count = re.subn("(?s)<h3>seconds</h3>.*?</table>", "", path.read_text())
        assert count == 1
        return text
    if path.name == "index.html":
        name = path.parent.name
        return path.read_text().replace(f"<title>{name} ", "<title>").replace(f"<h1>{name}</h1>", "<h1>")
    return path.read_bytes()


def command(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The real command, in a process group of its own."""
    words = [sys.executable, "-m", "uadtk", *map(str, arguments)]
    return subprocess.Popen(words, text=True, start_new_session=True, **options)


def test_two_processes_write_the_same_bits(weighted: Path, small_cohort: Path, serial: Path, tmp_path: Path) -> None:
    done = call("segment", small_cohort, "--model", weighted, "-o", tmp_path, "--threads", 2, "--jobs", 2)
    assert done.code == 0, done
    assert results(tmp_path) == results(serial)
    assert done.out.replace(str(tmp_path), str(serial)) == (serial / "summary.tsv").read_text()


def test_shards_make_one_folder(weighted: Path, small_cohort: Path, serial: Path, tmp_path: Path) -> None:
    for shard in ("2/2", "1/2"):
        done = call("segment", small_cohort, "--model", weighted, "-o", tmp_path, "--threads", 1, "--shard", shard)
        assert done.code == 0, done
    assert results(tmp_path) == results(serial)
    parts = [(tmp_path / f"summary_shard-{i}-of-2.tsv").read_text().splitlines()[1:] for i in (1, 2)]
    assert [[line.split("\t")[0] for line in part] for part in parts] == [["s0", "s2", "s4"], ["s1", "s3"]]
    assert [state.status for state in read_folder(tmp_path)] == ["done"] * 5
    whole = (serial / "summary.tsv").read_text().replace(str(serial), str(tmp_path))
    assert (tmp_path / "summary.tsv").read_text() == whole
    (tmp_path / "summary.tsv").unlink()
    assert call("report", tmp_path).err == ""
    assert (tmp_path / "summary.tsv").read_text() == whole
    (tmp_path / "summary_shard-1-of-2.tsv").unlink()
    (tmp_path / "summary_shard-x-of-2.tsv").touch()
    assert "no summary of shard 1/2: " in call("report", tmp_path).err
    for shard in ("0/2", "3/2", "1", "1/0", "-1/2", "1/2/3"):
        call("segment", small_cohort, "-o", tmp_path, f"--shard={shard}").refused(2, "--shard")


def test_events(weighted: Path, small_cohort: Path, serial: Path, tmp_path: Path) -> None:
    shutil.copytree(serial, tmp_path / "out")
    for path in (tmp_path / "out").glob("s1_*"):
        path.unlink()
    table = tmp_path / "cohort.tsv"
    images = {**{f"s{i}": small_cohort.parent / f"s{i}.nii.gz" for i in range(2)}, "gone": tmp_path / "gone.nii.gz"}
    table.write_text("subject\timage\n" + "".join(f"{name}\t{path}\n" for name, path in images.items()))
    done = call("segment", table, "--model", weighted, "-o", tmp_path / "out", "--threads", 1, "--json")
    assert done.code == 1
    events = [json.loads(line) for line in done.out.splitlines()]
    kinds = [(event["event"], event.get("name")) for event in events]
    assert [kind for kind in kinds if kind[0] == "started"] == [("started", name) for name in images]
    ends = [("done", "s0"), ("done", "s1"), ("failed", "gone"), ("finished", None)]
    assert [kind for kind in kinds if kind[0] != "started"] == ends
    assert all(kinds.index(("started", name)) < kinds.index((end, name)) for end, name in ends[:3])
    before, again, failed, last = (event for event in events if event["event"] != "started")
    assert (before["before"], again["before"]) == (True, False)
    assert {"seconds", "findings", "volume_ml", "light", "report", "image"} <= set(again)
    assert again["seconds"] > 0
    assert (failed["exit_code"], failed["kind"]) == (3, "DataError")
    assert (last["done"], last["failed"], last["before"], last["scans"]) == (1, 1, 1, 3)


def test_events_of_a_single_scan_that_fails(weighted: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    done = call("segment", bad, "--model", weighted, "-o", tmp_path / "out", "--json")
    done.refused(3, "not a NIfTI image")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [(event["event"], event.get("name")) for event in events] == [
        ("started", "bad"),
        ("failed", "bad"),
        ("finished", None),
    ]
    assert (events[1]["exit_code"], events[1]["kind"], events[2]["failed"]) == (3, "DataError", 1)


def test_a_summary_has_what_another_process_has_written_meanwhile(
    weighted: Path, small_cohort: Path, serial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tables into one folder at a time."""
    out = tmp_path / "out"
    out.mkdir()
    tables = [tmp_path / "first.tsv", tmp_path / "second.tsv"]
    for table, places in zip(tables, ((0, 1), (2, 3)), strict=True):
        rows = "".join(f"s{i}\t{small_cohort.parent}/s{i}.nii.gz\n" for i in places)
        table.write_text("subject\timage\n" + rows)
    add, words = Summary.add, ("--model", weighted, "-o", out, "--threads", 1)

    def add_and_let_another_run(self: Summary, state: ScanState) -> None:
        if state.name == "s0":
            monkeypatch.setattr(Summary, "add", add)
            assert call("segment", tables[1], *words).code == 0
        add(self, state)

    monkeypatch.setattr(Summary, "add", add_and_let_another_run)
    assert call("segment", tables[0], *words).code == 0
    names = [line.split("\t")[0] for line in (out / "summary.tsv").read_text().splitlines()[1:]]
    assert names == ["s0", "s1", "s2", "s3"]


def test_quiet_prints_failures_alone(weighted: Path, small_cohort: Path, serial: Path, tmp_path: Path) -> None:
    shutil.copytree(serial, tmp_path / "out")
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    quiet = ("--model", weighted, "-o", tmp_path / "out", "--threads", 1, "--quiet")
    done = call("segment", small_cohort, *quiet)
    assert (done.code, done.out, done.err) == (0, "", "")
    done = call("segment", small_cohort.parent / "s0.nii.gz", bad, *quiet)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith(f"bad: failed: {bad}: ")
    call("segment", small_cohort, *quiet, "--json").refused(2, "--json, --quiet")


@pytest.mark.parametrize(
    ("number", "options"), [(signal.SIGTERM, ()), (signal.SIGHUP, ("--jobs", 2)), (signal.SIGKILL, ("--jobs", 2))]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_end(
    weighted: Path, small_cohort: Path, serial: Path, tmp_path: Path, number: signal.Signals, options: tuple[Any, ...]
) -> None:
    if number != signal.SIGKILL and signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("tests that were started by nohup ignore this signal, and so do the commands they start")
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    arguments = ("segment", small_cohort, "--model", weighted, "-o", out, "--threads", 1)
    process = command(*arguments, *options, env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE)
    while not list(out.glob("*_provenance.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), err
    if number != signal.SIGKILL:
        assert err.splitlines()[-1] == "uadtk: interrupted"
        assert not list(out.glob(".uadtk-*"))
    assert not list(scratch.glob(".uadtk-*"))
    done = call(*arguments)
    assert done.code == 0, done
    assert results_but_stages(out) == results(serial)
    assert (out / "summary.tsv").read_text().replace(str(out), str(serial)) == (serial / "summary.tsv").read_text()


def results_but_stages(folder: Path) -> dict[str, str | bytes]:
    """A stage of a killed process is removed when it is older than some seconds."""
    for stage in folder.glob(".uadtk-*"):
        shutil.rmtree(stage)
    return results(folder)


def test_a_page_that_a_kill_prevented_is_made_by_the_same_command(
    weighted: Path, small_cohort: Path, serial: Path, tmp_path: Path
) -> None:
    shutil.copytree(serial, tmp_path / "serial")
    (tmp_path / "serial" / "index.html").unlink()
    done = call("segment", small_cohort, "--model", weighted, "-o", tmp_path / "serial", "--threads", 1)
    assert done.code == 0, done
    assert results(tmp_path / "serial") == results(serial)


def test_a_bids_tree_that_was_moved_with_its_results_is_done(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for subject in ("1", "2"):
        anat = here / f"bids/sub-{subject}/anat"
        anat.mkdir(parents=True)
        shutil.copy(small_cohort.parent / f"s{subject}.nii.gz", anat / f"sub-{subject}_FLAIR.nii.gz")
    (here / "bids/dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    assert call("segment", here / "bids", "--model", histeq, "-o", here / "out").code == 0
    here.rename(there)
    again = call("segment", there / "bids", "--model", histeq, "-o", there / "out")
    assert again.code == 0, again
    assert "2 of 2 were done before" in again.err
    assert "nothing has changed" in again.err
    changed = there / "bids/sub-2/anat/sub-2_FLAIR.nii.gz"
    shutil.copy(small_cohort.parent / "s3.nii.gz", changed)
    after = call("segment", there / "bids", "--model", histeq, "-o", there / "out")
    assert after.code == 0, after
    assert "sub-2: done again: other scan" in after.err
    links = json.loads((there / "out/derivatives/uadtk/dataset_description.json").read_text())["DatasetLinks"]
    assert links == {"raw": "../../../bids"}
