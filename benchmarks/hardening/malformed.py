"""Malformed inputs by the thousand through the real readers and the command line: how each of them ends.

    python -m benchmarks.hardening.malformed --count 2000 > benchmarks/hardening/malformed.md

Every input is a valid file (scan, table, checkpoint, receipt, manifest) with seeded damage: bytes changed, cut,
repeated or inserted, numbers of the header replaced by extreme ones, JSON values replaced by others of any kind. Each
is read by the code that reads files of users, in this process, with a limit of time and of memory. An end is

* ``refused``: a ``UadtkError``, one line with an exit code;
* ``read``: values that pass the promises of the type (finite voxels, thresholds of at least 0, ...);
* ``traceback``, ``hang``, ``memory`` or ``nonsense``: a fault; ``--seed N --count 1`` repeats it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import resource
import signal
import struct
import sys
import tempfile
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from uadtk import checkpoint as checkpoints
from uadtk.cli.inspect import inspect
from uadtk.core import options as opts
from uadtk.core.errors import UadtkError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.core.thresholder import OperatingPoint
from uadtk.io.cohort import Cohort, Row, read_cohort
from uadtk.io.memo import digest_of, write_memo
from uadtk.io.read import read_scan
from uadtk.io.results import read_folder, summary_table
from uadtk.pipeline.ensemble import unseen_parts
from uadtk.pipeline.score import build_method
from uadtk.preparation.gate import far_from_training, wanted_by
from uadtk.report.study import study_html
from uadtk.report.table import Line, as_text, as_tsv
from uadtk.study.benchmark import pairs_of
from uadtk.study.receipt import FORMAT, differences, read_receipt

HANG_S, MEMORY = 20, 2 * 10**9
EXTREME = (0, 1, -1, 2**15 - 1, -(2**15), 2**31 - 1, 2**63, math.nan, math.inf, -math.inf, 1e-38, 1e38)
STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    "",
    "x" * 5000,
    "../../../escaped",
    "\x1b[31m\n",
    [],
    {},
    [[]] * 3,
)


class Hang(BaseException):
    """The limit of time is over; no ``except Exception`` may catch it."""


@dataclass(frozen=True)
class Kind:
    """A kind of input: writes a valid one, damages it, and reads what came of it."""

    name: str
    file: str
    valid: Callable[[Path], bytes]
    damage: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], str]


def bytes_damaged(data: bytes, draw: random.Random) -> bytes:
    """Any file: some bytes changed, a part cut out, repeated, or replaced by noise."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5))):
        place = draw.randrange(len(found) or 1)
        size = min(len(found) - place, draw.choice((1, 2, 4, 16, 200)))
        how = draw.randrange(5)
        if how == 0:
            found[place : place + size] = draw.randbytes(size)
        elif how == 1:
            del found[place : place + size]
        elif how == 2:
            found[place:place] = found[place : place + size] * draw.choice((1, 3))
        elif how == 3:
            del found[place:]
        else:
            found[place:place] = draw.choice((b"\0", b"\xff\xfe", b"\n", b"\t", b'"', b"\x1b[2J", b"NaN", b"-1")) * size
    return bytes(found)


def unpacked_damaged(data: bytes, draw: random.Random) -> bytes:
    """A packed file: mostly what is in it, since its checksum finds the rest."""
    if draw.random() < 0.2:
        return bytes_damaged(data, draw)
    return gzip.compress(bytes_damaged(gzip.decompress(data), draw), 1)


def header_damaged(data: bytes, draw: random.Random) -> bytes:
    """NIfTI: a number of its header replaced by an extreme one, then packed as before."""
    raw = bytearray(gzip.decompress(data))
    for _ in range(draw.choice((1, 1, 2, 3))):
        kind, size = draw.choice((("<h", 2), ("<f", 4), ("<i", 4)))
        place = draw.randrange(0, 348 - size)
        with_value = draw.choice(EXTREME)
        try:
            packed = struct.pack(kind, with_value if kind == "<f" else int(with_value))
        except (struct.error, ValueError, OverflowError):
            packed = draw.randbytes(size)
        raw[place : place + size] = packed
    return gzip.compress(bytes(raw), 1)


def json_damaged(record: Any, draw: random.Random) -> Any:
    """A value somewhere in it replaced by a strange one, or removed, or nested deeply."""
    places = list(_places(record))
    holder, key = draw.choice(places)
    how = draw.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1:
        deep: Any = 0
        for _ in range(draw.choice((60, 500))):
            deep = [deep]
        holder[key] = deep
    else:
        holder[key] = draw.choice(STRANGE)
    return record


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(pairs):
        yield value, key
        yield from _places(item)


def _scan(_: Path) -> bytes:
    draw = np.random.default_rng(0)
    voxels = np.zeros((20, 24, 10), "i2")
    voxels[4:16, 4:20, 2:8] = draw.integers(100, 900, (12, 16, 6))
    return gzip.compress(nib.Nifti1Image(voxels, np.diag([4.0, 4, 8, 1])).to_bytes(), 1)


def _read_scan(path: Path) -> str:
    scan = read_scan(path)
    return "" if np.isfinite(scan.voxels).all() and np.isfinite(scan.affine).all() else "voxels are not finite"


def _table(folder: Path) -> bytes:
    (folder / "s.nii.gz").write_bytes(_scan(folder))
    rows = ["subject\timage\tlesion_mask\tgroup\tsplit\tcollection\tlesion_free_slices\tlesion_labels"]
    rows += [f"s{i}\ts.nii.gz\t\t{'hc' if i else 'ms'}\t\tten\t{i} {i + 1}\t" for i in range(4)]
    return "\n".join(rows).encode()


def _read_table(path: Path) -> str:
    cohort = read_cohort(path)
    return "" if all(row.subject for row in cohort) else "a row without a subject"


def _checkpoint(_: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        fresh = checkpoints.new("ae", {"latent": 8}, Preparation())
        point = OperatingPoint("p98", 0.5, Spec("p98"), "2 % of voxels", fresh.scorer, (), 3, "ab", "2026-01-01")
        numbers = {"noise": [0.01, 0.02, 0.03, 0.04, 0.05]}
        statistics = {"scans": 2, "contrasts": {"FLAIR": 2}, "columns": ["min", "max"], "numbers": numbers}
        facts = {"finished": True, "scans": {"train": 2}, "folds": [{"held": ["a"]}], "statistics": statistics}
        tensors = {f"0/{name}": tensor for name, tensor in fresh.new_model().state_dict().items()}
        made = replace(fresh.with_point(point), weights=checkpoints.pack_tensors(tensors), training=facts)
        made.save(Path(folder) / "c.safetensors")
        return (Path(folder) / "c.safetensors").read_bytes()


def _header_of_checkpoint_damaged(data: bytes, draw: random.Random) -> bytes:
    """The header's values damaged and its checksum made anew, so that what is checked are the values."""
    if draw.random() < 0.25:
        return bytes_damaged(data, draw)
    (length,) = struct.unpack_from("<Q", data)
    outer = json.loads(data[8 : 8 + length])
    header = json_damaged(json.loads(outer["__metadata__"]["uadtk"]), draw)
    outer["__metadata__"] = {"uadtk": json.dumps(header)}
    text = json.dumps(outer).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _read_checkpoint(path: Path) -> str:
    """Loaded, built as an ensemble of one, shown as ``uadtk inspect`` does, and used by the gate."""
    found = checkpoints.load(path)
    build_method(found, Run())
    unseen_parts(found, Cohort((Row("a", path),), "c.tsv"))
    with redirect_stdout(StringIO()):
        inspect(str(path))
    list(far_from_training({"noise": 0.9}, found.statistics)), wanted_by(found.statistics)
    wrong = [p.name for p in found.points if not (math.isfinite(p.threshold) and p.threshold >= 0)]
    return f"thresholds of {wrong}" if wrong else ""


def _receipt(folder: Path) -> bytes:
    point = OperatingPoint("p98", 0.5, Spec("p98"), "2 % of voxels", Spec("residual"), (), 3, "ab", "2026-01-01")
    key = {
        "model": {"name": "histeq", "options": {}},
        "preparation": {},
        "scorer": "residual",
        "cleaners": ["erode:iterations=3"],
        **dict.fromkeys(("checkpoint_digest", "cohort_digest"), "ab"),
        "grid": "native",
        "point": {"name": "p98", "threshold": 0.5, "min_voxels": 8},
        "seed": 0,
        "device": "cpu",
        "versions": {"uadtk": "1"},
    }
    scan = {"subject": "a", "image": "a.nii", "site": "x", "labelled": True, "dice": 0.5, "auprc": None, "lesions": 1}
    evaluation: dict[str, Any] = {
        "grid": "native",
        "point": point.to_json(),
        "scans": [scan, {**scan, "subject": "b", "auprc": 0.3, "site": "y"}],
        "failed": [["c.nii", "is cut short"]],
        "patients": 2,
        "lesion_share": 0.1,
        "measures": {"dice": {"value": 0.5, "interval": [0.4, 0.6]}, "auprc_volume": {"value": None, "interval": None}},
        "precision_recall": [[1.0, 0.1], [0.5, 0.9]],
        "histograms": {"top": 1.0, "normal": [5, 3, 1], "anomalous": [0, 2, 4]},
        "options": {"learned_scans": 3, "seed": 0, "model": {"name": "histeq", "options": {}}},
    }
    where = {"model": "histeq", "cohort": "c.tsv", "split": "", "collection": "", "threads": "2"}
    write_memo(folder / "made.json", FORMAT, key, {"where": where, "evaluation": evaluation})
    return (folder / "made.json").read_bytes()


def _json_bytes_damaged(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.3:
        return bytes_damaged(data, draw)
    return json.dumps(json_damaged(json.loads(data), draw)).encode()


def _receipt_damaged(data: bytes, draw: random.Random) -> bytes:
    """Values damaged and, mostly, the digest of the key made anew, so that what is checked are the values."""
    found = _json_bytes_damaged(data, draw)
    try:
        record = json.loads(found)
        if draw.random() < 0.8:
            record["digest"] = digest_of(record["key"])
        return json.dumps(record).encode()
    except (ValueError, TypeError, KeyError):
        return found


def _read_receipt(path: Path) -> str:
    """Whatever is read goes through all that is made of it: the tables, the page, and what a reproduction compares."""
    record = read_receipt(path)
    lines = [Line("", name, "histeq", Spec("residual"), evaluation=record["evaluation"]) for name in ("one", "two")]
    as_text(lines, {}, {}), as_tsv(lines, {}, {}), study_html(lines, {}, {}, pairs_of(lines, 0))
    assert not differences(record["evaluation"], record["evaluation"])
    return ""


def _manifest(folder: Path) -> bytes:
    (folder / "s_report.html").write_text("x")
    record = {
        "versions": {"uadtk": "1"},
        "input": {"path": "s.nii"},
        "gate": {"light": "green"},
        "found": {"findings": 1, "volume_ml": 2.0},
        "files": {"s_report.html": {"bytes": 1, "sha256": "ab"}},
    }
    return json.dumps(record).encode()


def _read_manifest(path: Path) -> str:
    lines = summary_table(read_folder(path.parent)).splitlines()
    return (
        ""
        if all(_one_plain_line(line.replace("\t", "")) and line.count("\t") == 5 for line in lines)
        else "the summary"
    )


def _option(_: Path) -> bytes:
    return b"restoration:steps=100,step=0.01,tv=1.8"


def _read_option(path: Path) -> str:
    from uadtk import registry

    spec = Spec.parse(path.read_text(encoding="utf-8", errors="surrogateescape"))
    options = registry.options_of("scorers", spec)
    wrong = [
        name for name, value in opts.as_dict(options).items() if isinstance(value, float) and not math.isfinite(value)
    ]
    return f"options {wrong}" if wrong else ""


KINDS = (
    Kind("scan, bytes", "s.nii.gz", _scan, unpacked_damaged, _read_scan),
    Kind("scan, header", "s.nii.gz", _scan, header_damaged, _read_scan),
    Kind("table", "t.tsv", _table, bytes_damaged, _read_table),
    Kind("checkpoint", "c.safetensors", _checkpoint, _header_of_checkpoint_damaged, _read_checkpoint),
    Kind("receipt", "r.json", _receipt, _receipt_damaged, _read_receipt),
    Kind("manifest", "s_provenance.json", _manifest, _json_bytes_damaged, _read_manifest),
    Kind("options", "o.txt", _option, bytes_damaged, _read_option),
)


def campaign(count: int, seed: int = 0, kinds: tuple[Kind, ...] = KINDS) -> tuple[Counter[tuple[str, str]], list[str]]:
    """How ``count`` inputs of every kind ended, and a line (with traceback) for each fault."""
    ends: Counter[tuple[str, str]] = Counter()
    faults = list[str]()
    for kind in kinds:
        with tempfile.TemporaryDirectory() as name:
            valid = kind.valid(Path(name))
            for number in range(seed, seed + count):
                draw = random.Random(f"{kind.name} {number}")
                path = Path(name) / kind.file
                path.write_bytes(kind.damage(valid, draw))
                end, why = _end(kind, path)
                ends[kind.name, end] += 1
                if end not in ("read", "refused"):
                    faults.append(f"{kind.name} {number}: {end}: {why}")
    return ends, faults


def _end(kind: Kind, path: Path) -> tuple[str, str]:
    try:
        with _limits():
            nonsense = kind.read(path)
    except UadtkError as error:
        line = error.one_line()
        return ("refused", "") if _one_plain_line(line) else ("nonsense", repr(line))
    except Hang:
        return "hang", f"{HANG_S} s"
    except MemoryError:
        return "memory", traceback.format_exc()
    except Exception:
        return "traceback", traceback.format_exc()
    return ("nonsense", nonsense) if nonsense else ("read", "")


def _one_plain_line(text: str) -> bool:
    """Without control characters, line ends of any kind, and what no file can hold."""
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text)


@contextmanager
def _limits() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise Hang

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1][1]))
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before[0])
        resource.setrlimit(resource.RLIMIT_AS, before[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="inputs of every kind")
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    parser.add_argument("--kind", help="only this one")
    given = parser.parse_args()
    chosen = tuple(kind for kind in KINDS if given.kind in (None, kind.name))
    ends, faults = campaign(given.count, given.seed, chosen)
    columns = ("read", "refused", "traceback", "hang", "memory", "nonsense")
    print(f"{given.count * len(chosen)} malformed inputs, seeds {given.seed} to {given.seed + given.count - 1}.\n")
    print("| input |", " | ".join(columns), "|\n|---|" + "---|" * len(columns))
    for kind in chosen:
        print(f"| {kind.name} |", " | ".join(str(ends[kind.name, column]) for column in columns), "|")
    print("\n".join(faults), file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
