"""What a folder of segmentations holds, read from its manifests: complete, failed, unfinished, changed, hostile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from uadtk.io import results
from uadtk.io.results import (
    HEADER,
    Summary,
    altered,
    failed,
    files_of,
    former_files,
    read_folder,
    read_scan,
    summary_table,
)
from uadtk.io.unfinished import UNFINISHED
from uadtk.io.write import staged, write_json, write_text

MASK, REPORT = "label-lesion_mask.nii.gz", "report.html"


def store(folder: Path, name: str, text: str = "x", suffixes: Iterable[str] = (MASK, REPORT), **more: Any) -> None:
    """A set as ``write_outputs`` writes it, with short files."""
    with staged(folder, True, f"{name}_provenance.json", former_files(folder, name)) as stage:
        for suffix in suffixes:
            write_text(stage / f"{name}_{suffix}", text)
        record = {
            "versions": {"uadtk": "1"},
            "input": {"path": f"raw/{name}.nii.gz"},
            "gate": {"light": "amber"},
            "found": {"findings": 2, "volume_ml": 1.5},
            "files": files_of(stage),
        }
        write_json(stage / f"{name}_provenance.json", {**record, **more})


def test_a_complete_set(tmp_path: Path) -> None:
    store(tmp_path, "sub-01", suffixes=(MASK, REPORT, "desc-std_statmap.nii.gz"))
    (state,) = read_folder(tmp_path)
    assert (state.name, state.status, state.light, state.findings, state.volume_ml) == (
        "sub-01",
        "done",
        "amber",
        2,
        1.5,
    )
    assert state.image == "raw/sub-01.nii.gz"
    assert set(state.files) == {"mask", "report", "std", "provenance"}
    assert state.files["mask"] == tmp_path / f"sub-01_{MASK}"
    assert altered(state) == []
    assert summary_table([state]) == f"{HEADER}\nsub-01\tdone\t2\t1.500\t{tmp_path}/sub-01_report.html\tamber\n"


@pytest.mark.parametrize("light", ["\x1b[31m\n", "GREEN", None, 3, ["green"], {}])
def test_a_light_is_one_of_the_gates_or_none(light: Any, tmp_path: Path) -> None:
    store(tmp_path, "s", gate={"light": light})
    write_json(tmp_path / "t_failure.json", {"error": "x", "light": light})
    assert [state.light for state in read_folder(tmp_path)] == ["", ""]


def test_a_file_that_is_missing_or_was_changed_is_not_trusted(tmp_path: Path) -> None:
    store(tmp_path, "s")
    (tmp_path / f"s_{MASK}").write_text("y")
    assert altered(read_scan(tmp_path, "s")) == [f"s_{MASK}"]
    (tmp_path / f"s_{MASK}").write_text("longer")
    changed = read_scan(tmp_path, "s")
    assert (changed.status, changed.files) == ("unfinished", {})
    assert changed.error == f"s_{MASK} was changed after uadtk wrote it"
    (tmp_path / f"s_{MASK}").unlink()
    assert read_scan(tmp_path, "s").error == f"lacks s_{MASK}"


def test_a_failure_stands_until_the_scan_succeeds(tmp_path: Path) -> None:
    write_json(
        tmp_path / "s_failure.json", {"input": {"path": "s.nii"}, "error": "s.nii: is cut short", "light": "red"}
    )
    (state,) = read_folder(tmp_path)
    assert (state.status, state.error, state.light, state.image) == ("failed", "s.nii: is cut short", "red", "s.nii")
    assert state.row() == "s\tfailed\t\t\ts.nii: is cut short\tred"
    store(tmp_path, "s")
    assert read_scan(tmp_path, "s").status == "done"
    assert not (tmp_path / "s_failure.json").exists()


def test_files_that_only_the_former_set_had_are_removed_with_it(tmp_path: Path) -> None:
    store(tmp_path, "s", suffixes=(MASK, "desc-pseudohealthy_FLAIR.nii.gz"))
    (tmp_path / "s_notes.txt").write_text("mine")
    store(tmp_path, "s", suffixes=(MASK,))
    assert {path.name for path in tmp_path.iterdir()} == {f"s_{MASK}", "s_notes.txt", "s_provenance.json"}


@pytest.mark.parametrize("hostile", ["../../victim", "/etc/victim", "other_report.html", ".."])
def test_a_manifest_cannot_have_files_of_others_removed(tmp_path: Path, hostile: str) -> None:
    out = tmp_path / "a" / "out"
    out.mkdir(parents=True)
    (out / "s_provenance.json").write_text(json.dumps({UNFINISHED: [hostile], "files": {hostile: {}}}))
    assert former_files(out, "s") == [out / "s_failure.json", out / "s_provenance.json"]


@pytest.mark.parametrize(
    "record", [[], {"files": 3}, {"files": {"s_a": 3}}, {"found": {"volume_ml": "x"}}, {UNFINISHED: 1}]
)
def test_a_record_that_is_nonsense_is_an_unfinished_scan_and_no_error(tmp_path: Path, record: Any) -> None:
    (tmp_path / "s_a").touch()
    (tmp_path / "s_provenance.json").write_text(json.dumps(record))
    states = read_folder(tmp_path)
    assert [state.status for state in states] == (["unfinished"] if record else [])


def test_no_folder_no_scans(tmp_path: Path) -> None:
    assert read_folder(tmp_path / "gone") == []


_KILLED = """
import json, os, sys
from pathlib import Path
from uadtk.io.write import staged, write_text
moves, replace = iter(range(100)), Path.replace
def dying(self, target):
    if next(moves) == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    return replace(self, target)
Path.replace = dying
folder = Path(sys.argv[1])
files = dict.fromkeys(("s_findings.tsv", "s_report.html"), {"bytes": 80})
with staged(folder, True, "s_provenance.json") as stage:
    for name in (*files, "s_provenance.json"):
        (stage / name).write_text(json.dumps({"files": files}).ljust(80))
"""


@pytest.mark.parametrize("moves", range(5))
def test_a_kill_between_two_moves_never_leaves_a_mixture_that_is_trusted(tmp_path: Path, moves: int) -> None:
    store(tmp_path, "s", "old", suffixes=("findings.tsv", "report.html"))
    done = subprocess.run([sys.executable, "-c", _KILLED, tmp_path, str(moves)], check=False)
    assert done.returncode == (-signal.SIGKILL if moves < 4 else 0)
    state = read_scan(tmp_path, "s")
    texts = {(tmp_path / f"s_{name}").read_text()[:3] for name in ("findings.tsv", "report.html")}
    if state.status == "done":
        assert len(texts) == 1
    else:
        assert state.error == "was interrupted while its files were moved into place"
        assert {path.name for path in former_files(tmp_path, "s")} >= {
            "s_findings.tsv",
            "s_report.html",
            "s_provenance.json",
        }
    assert (state.status == "done") == (moves in (0, 4))
    store(tmp_path, "s", "new", suffixes=("findings.tsv", "report.html"))
    assert read_scan(tmp_path, "s").status == "done"


@pytest.mark.parametrize("key", ["files", UNFINISHED])
@pytest.mark.parametrize(
    "foreign",
    ["s_notes.txt", "s_2_label-lesion_mask.nii.gz", "../s_report.html", "t_report.html", "s_desc-a/b_statmap.nii.gz"],
)
def test_a_manifest_speaks_of_no_file_that_uadtk_does_not_write_for_its_scan(
    tmp_path: Path, key: str, foreign: str
) -> None:
    store(tmp_path, "s", suffixes=(MASK,))
    manifest = json.loads((tmp_path / "s_provenance.json").read_text())
    manifest["files"] |= {foreign: {"bytes": 1, "sha256": "ab"}}
    (tmp_path / "s_provenance.json").write_text(json.dumps({**manifest, key: manifest["files"] | {foreign: 1}}))
    if key == UNFINISHED:
        (tmp_path / "s_provenance.json").write_text(json.dumps({key: [foreign, f"s_{MASK}"]}))
    own = {f"s_{MASK}", "s_provenance.json", "s_failure.json"}
    assert {path.name for path in former_files(tmp_path, "s")} == own
    assert read_scan(tmp_path, "s").status == "unfinished"


@pytest.mark.parametrize("name", ["s_desc-\0_statmap.nii.gz", "s_desc-\ud800_statmap.nii.gz", "", ".", "..", "/", "s_"])
def test_names_that_no_file_has(tmp_path: Path, name: str) -> None:
    (tmp_path / "s_provenance.json").write_text(json.dumps({"files": {name: {"bytes": 1}}}))
    state = read_scan(tmp_path, "s")
    assert (state.status, altered(state)) == ("unfinished", [])


def test_a_summary_reads_again_what_has_changed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        store(tmp_path, name)
    summary, read = Summary(tmp_path / "summary.tsv", []), list[str]()
    monkeypatch.setattr(results, "read_scan", lambda folder, name: (read.append(name), read_scan(folder, name))[1])
    summary.renew()
    assert read == []
    summary.add(failed(tmp_path, "in the way", Path("s.nii"), None))  # has no record
    store(tmp_path, "d")  # by another process
    store(tmp_path, "a", found={"findings": 7, "volume_ml": 1.5})
    (tmp_path / "b_provenance.json").unlink()
    summary.renew()
    assert sorted(read) == ["a", "b", "d"]
    rows = [line.split("\t")[:3] for line in (tmp_path / "summary.tsv").read_text().splitlines()[1:]]
    assert rows == [["a", "done", "7"], ["c", "done", "2"], ["d", "done", "2"], ["in the way", "failed", ""]]
    assert [state.name for state in summary.states] == ["a", "c", "d", "in the way"]
