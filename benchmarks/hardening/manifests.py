"""Planted manifests by the hundred: what the next run of the same commands replaces, and what it must leave alone.

    python -m benchmarks.hardening.manifests --count 300

Somebody who can write to an output folder changes the manifest of a scan, of its BIDS derivative, the journal or the
record of a failure: values of any kind, deep JSON, names that lead out of the folder or name other people's files, and
links in place of the file. Then the folder is used as ``segment``, ``export-bids``, ``report`` and ``compare`` use it;
the scan is written anew for real, only its segmentation is not computed again. A fault is a traceback, or any change of
a file that is not one of the scan's outputs: in another folder, of another scan, or a user's own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nibabel as nib

from benchmarks.hardening.commands import AFFINE, tiny_brain
from benchmarks.hardening.malformed import json_damaged
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import UadtkError
from uadtk.core.finding import Segmentation
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.core.thresholder import OperatingPoint
from uadtk.io.bids_out import DERIVATIVE, write_bids
from uadtk.io.cohort import Row
from uadtk.io.results import SUMMARY, Summary, is_output, read_folder
from uadtk.io.unfinished import JOURNAL
from uadtk.io.write import within
from uadtk.pipeline import archive
from uadtk.pipeline.compare import exam_of, result_at
from uadtk.pipeline.each import Outcome
from uadtk.pipeline.outputs import write_outputs
from uadtk.pipeline.score import Method, build_method
from uadtk.pipeline.segment import Rules, segment_file
from uadtk.report.cohort_page import write_cohort_page

PLANTED = (*("s_provenance.json",) * 4, "s_failure.json", JOURNAL, "derivative", "description")
OWN = ("s_notes.txt", "s_2_label-lesion_mask.nii.gz", "s_2_provenance.json", "mine.nii.gz", "sub/s_findings.json")
"""Files in the output folder that are not of the scan ``s``."""
SHARED = {SUMMARY, "index.html", "dataset_description.json", JOURNAL}  # which every run may write


@dataclass(frozen=True)
class Folder:
    """A cohort of one scan, its results, and files of others inside and outside the folder of results."""

    place: Path
    method: Method
    row: Row
    found: Segmentation

    @property
    def out(self) -> Path:
        return self.place / "out"

    def foreign(self) -> dict[str, bytes]:
        """All files that no run may change, with their content."""
        files = (path for path in self.place.rglob("*") if path.is_file() and not path.is_symlink())
        names = {path: path.relative_to(self.out).as_posix() if self.out in path.parents else "" for path in files}
        return {
            str(path.relative_to(self.place)): path.read_bytes()
            for path, name in names.items()
            if not (is_output(name, "s") or name in SHARED or name.startswith(("s_failure", "label-", "derivatives/")))
            and not name.startswith("desc-")
        }

    def use(self) -> list[str]:
        """What a user does next; the errors."""
        point, said = self.method.checkpoint.point(None), list[str]()

        def written(row: Row, name: str, *_: Any, **__: Any) -> Segmentation:
            write_outputs(self.found, self.out, name, Run(), overwrite=True)
            return self.found

        def again(overwrite: bool = False) -> None:
            outcomes: list[Outcome[Any]] = list(
                archive.segment_cohort(
                    [self.row], ["s"], self.method, point, self.out, Run(say=said.append), Rules(), overwrite, False
                )
            )
            if outcomes[0].error:
                raise outcomes[0].error

        def page() -> None:
            write_cohort_page(self.out, read_folder(self.out))
            Summary(self.out / SUMMARY, ["s"]).renew()

        def derivative() -> None:
            write_bids(read_folder(self.out), within(self.out, DERIVATIVE))

        def follow_up() -> None:
            if state := result_at(self.out / "s_label-lesion_mask.nii.gz"):
                exam_of(state)

        errors = []
        with patch.object(archive, "segment_file", written):
            for step in (page, follow_up, derivative, again, page, derivative, partial(again, overwrite=True)):
                try:
                    step()
                except UadtkError as error:
                    errors.append(error.one_line())
        return errors


def folder_at(place: Path) -> Folder:
    """Made once; trials work on copies."""
    (place / "out").mkdir(parents=True)
    nib.save(nib.Nifti1Image(tiny_brain(0)[0], AFFINE), place / "s.nii.gz")
    bare = checkpoints.new("histeq", {}, Preparation(), cleaners=())
    point = OperatingPoint("p", 0.98, Spec("p98"), "", bare.scorer, (), 0, "", "")
    method = build_method(bare.with_point(point), Run())
    row, run = Row("s", place / "s.nii.gz"), Run()
    found = segment_file(row, "s", method, point, place / "out", run, Rules(), overwrite=False)
    write_bids(read_folder(place / "out"), place / "out" / DERIVATIVE)
    for name in (*OWN, "../victim/a.txt", "../victim/s_report.html", "../victim/a_statmap.nii.gz"):
        path = place / "out" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"of somebody: {name}")
    return Folder(place, method, row, found)


def names(place: Path) -> tuple[Any, ...]:
    """What a planted manifest may name."""
    return (
        *("../victim/a.txt", str(place / "victim/a.txt"), "../victim/s_report.html", *OWN, "s_../victim/a.txt"),
        *("s_desc-x/../../victim/a_statmap.nii.gz", "s_desc-/../../../victim/a_statmap.nii.gz", "..", ".", "", "/"),
        *(
            "s_\0",
            "s_desc-\0_statmap.nii.gz",
            "s_desc-\ud800_statmap.nii.gz",
            "s_" + "x" * 5000,
            "s_label-lesion_mask.nii.gz",
        ),
        *(
            "derivatives/uadtk/README",
            "s_desc-mine_statmap.nii.gz",
            3,
            None,
            1e308,
            2**70,
            True,
            ["s_report.html"],
            {"a": 1},
        ),
    )


def damaged(record: Any, place: Path, draw: random.Random) -> str:
    """The text of a planted record."""
    how = draw.randrange(6)
    named = draw.choices(names(place), k=draw.choice((1, 10, 30)))
    facts: Any = draw.choice(({"bytes": 3, "sha256": "ab"}, {"bytes": 2**70}, 3, None, [], "x", {"bytes": "3"}))
    if how == 0:
        record = json_damaged(record, draw)
    elif how == 1:
        record["files"] = {**record.get("files", {}), **{str(name): facts for name in named}}
    elif how == 2:
        record["files"] = draw.choice((named, "s_report.html", 3, None, {str(name): facts for name in named}))
    elif how == 3:
        record["unfinished"] = draw.choice((named, "s_report.html", {str(name): 1 for name in named}, 3, [[named]]))
    elif how == 4:
        part = draw.choice(("input", "gate", "found", "versions", "options", "checkpoint", "plugins", "GeneratedBy"))
        deep: Any = draw.choice((0, "x", *named))
        for _ in range(draw.choice((0, 1, 40, 400, 100_000))):
            deep = [deep]
        record[part] = deep if not isinstance(deep, list) else None
        return json.dumps(record)[:-1] + f', "{part}": ' + "[" * 100_000 + "]" * 100_000 + "}"
    else:
        return draw.choice(
            ("", "[]", "3", "null", '"x"', "{", "{}", "\0", '{"files": NaN}', '{"found": {"findings": 1e999}}')
        )
    return json.dumps(record)


def plant(there: Folder, draw: random.Random) -> str:
    """Change one of the records, and perhaps replace it by a link or a pipe to somebody's file; what was done."""
    out, which = there.out, draw.choice(PLANTED)
    path = {
        "derivative": next((out / DERIVATIVE).rglob("*_provenance.json")),
        "description": out / DERIVATIVE / "dataset_description.json",
    }.get(which, out / which)
    record = json.loads(path.read_bytes()) if path.exists() else {"unfinished": ["s_report.html"], "input": {}}
    text = damaged(record, there.place, draw)
    (out / "s_desc-x").mkdir()
    path.unlink(missing_ok=True)
    how = draw.choice(("file", "file", "file", "link", "dead link", "pipe", "folder", "tree"))
    if how == "link":
        (there.place / "victim" / "planted.json").write_text(text, errors="surrogatepass")
        path.symlink_to(there.place / "victim" / "planted.json")
    elif how == "dead link":
        path.symlink_to(there.place / "victim" / "new.json")
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    else:
        path.write_text(text, errors="surrogatepass")
    if how == "tree":  # the folder of the derivative is somebody else's
        target = out / draw.choice(("derivatives", "derivatives/uadtk"))
        shutil.rmtree(target)
        target.symlink_to(there.place / "victim")
    return f"{which}, {how}"


def campaign(count: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """How the trials ended, and a line for each fault."""
    ends, faults = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        made = folder_at(Path(folder) / "made")
        for number in range(seed, seed + count):
            place = Path(folder) / "trial"
            made.place.rename(place)  # paths in the manifest are absolute
            shutil.copytree(place, made.place, symlinks=True)
            there = Folder(place, made.method, Row("s", place / "s.nii.gz"), made.found)
            what = plant(there, random.Random(number))
            before = there.foreign()
            end, why = _end(there.use)
            after = there.foreign()
            if changed := sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
                end, why = "foreign file changed", ", ".join(changed)
            ends[end] += 1
            if end not in ("used", "refused"):
                faults.append(f"{number} ({what}): {end}: {why}")
            shutil.rmtree(place)
    return ends, faults


def _end(use: Callable[[], list[str]]) -> tuple[str, str]:
    try:
        errors = use()
    except Exception:
        return "traceback", traceback.format_exc()
    return ("refused", "") if errors else ("used", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    given = parser.parse_args()
    ends, faults = campaign(given.count, given.seed)
    columns = ("used", "refused", "traceback", "foreign file changed")
    print(f"| planted | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    print(f"| {given.count} | {' | '.join(str(ends[column]) for column in columns)} |")
    print("\n".join(faults), file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
