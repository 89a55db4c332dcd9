"""`uadtk watch`: what arrives is segmented once, whatever happens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.commands import call


def test_each_arrival_is_segmented_once(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    watch = ("watch", incoming, "-o", out, "--model", histeq, "--once", "--settle", "0.1", "--form", "json")
    call(*watch).refused(2, "no such folder")
    incoming.mkdir()
    shutil.copy(small_cohort.parent / "s0.nii.gz", incoming)
    (incoming / "s1.nii.gz").write_bytes(b"cut short")

    def events() -> list[tuple[str, str, bool]]:
        done = call(*watch)
        assert done.code == 0, done
        lines = [json.loads(line) for line in done.out.splitlines()]
        return [(e["event"], e["name"], e.get("before", False)) for e in lines if e["event"] in ("done", "failed")]

    assert events() == [("done", "s0", False), ("failed", "s1", False)]
    shutil.copy(small_cohort.parent / "s1.nii.gz", incoming)
    assert events() == [("done", "s0", True), ("done", "s1", False)]
    rows = [line.split("\t")[:2] for line in (out / "summary.tsv").read_text().splitlines()[1:]]
    assert rows == [["s0", "done"], ["s1", "done"]]
