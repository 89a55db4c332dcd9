"""The value of few or no masks for an unsupervised model: self-teaching, embedding and adaptation.

    python benchmarks/supervision.py ../shared/data build/supervision --teacher build/models/dae.safetensors

All models are trained on lgg train and evaluated on the test split. Runs uadtk commands, each printed first; existing
outputs are not recomputed. Every student is the same small U-Net with about the same number of steps.

* self-taught: the teacher's ``p99`` point (from lesion-free validation slices) labels lgg train and validation; a U-Net
  learns these labels; no annotated mask is used. Scores within 20 % of the threshold are ignored, and components of
  fewer than 400 voxels (1.8 ml) count as normal: chosen on validation among three such settings. ``histeq`` is a second
  teacher, which was not trained at all. The students' point ``volume`` marks the same volume of the held-out scans as
  the teacher's labels, so it uses no true label either.
* a few labels: 1, 3 and 10 annotated patients (nested, drawn by seed 0), alone; with the embedding, the other scans of
  lgg train unlabelled and the teacher's masks as prior; with the teacher's labels for the others; with both.
* another site: 10 annotated patients from site DU, scans from site HT unlabelled; evaluated on the test scans of HT.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from _shared import drawn, finished, gliomas, read_table, uadtk

from uadtk.io.cohort import Row, read_cohort
from uadtk.io.table import write_cohort
from uadtk.metrics.study import by_site
from uadtk.report.charts import Axis, Curve, curves_svg

CHAIN = ("erode:iterations=3", "prior:power=4", "median:size=6,unit=mm")
NET = "--width 8"
STEPS, BATCH, LEAST = 600, 16, 50
FIT = f"--batch {BATCH} --learning-rate 1e-3 --decay cosine --precision bfloat16 --threads 1"
EMBED = "--embedding 0.1"
LABELLED = (1, 3, 10)
STUDENTS = ("taught", "histeq")
WAYS = {"": "alone", "-embed": "embedding", "-pseudo": "pseudo-labels", "-both": "both"}
STYLE = (
    "text { fill: #555 } path { fill: none } .grid { stroke: #ddd } .axis { stroke: #555 } .curve { stroke-width: 2 }"
    ".curve, .bar { stroke: currentColor } .dot { fill: currentColor } .chance { stroke: #555; stroke-dasharray: 2 4 }"
    ".c0 { color: #0072b2 } .c1 { color: #d55e00 } .c2 { color: #009e73 } .c3 { color: #c0589a }"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--teacher", type=Path, required=True, help="an unsupervised checkpoint, trained on lgg train")
    parser.add_argument("--jobs", type=int, default=1, help="parallel trainings, one thread each")
    arguments = parser.parse_args()
    out: Path = arguments.output.resolve()
    out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    rows = list(gliomas(arguments.data.resolve()))
    write_cohort(out / "lgg.tsv", rows)
    teach(arguments.teacher.resolve(), out, rows, arguments.jobs)
    students = [*few_labels(rows, out), *another_site(rows, out)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda job: job(), students))
    report(arguments.data.resolve(), out)
    print(f"\n{(time.monotonic() - start) / 60:.0f} minutes", file=sys.stderr)


def teach(teacher: Path, out: Path, rows: list[Row], jobs: int) -> None:
    """Both teachers with their operating points, and their students."""
    table = out / "unlabelled.tsv"
    write_cohort(table, [without_labels(row) for row in rows if row.split != "test"])
    cleaners = [option for cleaner in CHAIN for option in ("--cleaner", cleaner)]
    healthy = (
        "--healthy",
        str(out / "lgg.tsv"),
        "--split",
        "validation",
        "--strategy",
        "p98:percentile=99",
        "--name",
        "p99",
        "--threads",
        "1",
    )
    for name, model in (("teacher", str(teacher)), ("histeq-teacher", "histeq")):
        once(out / f"{name}.safetensors", "threshold", "--model", model, *healthy, *cleaners)

    def student(name: str) -> None:
        named = (f"{out / name}-teacher.safetensors".replace("taught-teacher", "teacher"), str(table))
        labels: tuple[str, ...] = (
            "--labels",
            str(out / f"{name}-labels"),
            "--student",
            "unet:width=8",
            "--slices",
            str(out / "slices"),
        )
        labels += ("--band", "0.2", "--min-voxels", "400", "--cleaner", CHAIN[-1])
        scans = sum(row.split == "train" for row in rows)
        once(out / f"{name}.safetensors", "selfteach", *named, *labels, *schedule(28 * scans))

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(student, STUDENTS))
    for name in STUDENTS:
        labels = str(out / f"{name}-labels" / "round-1" / "cohort.tsv")
        words = ("threshold", "--model", str(out / f"{name}.safetensors"), "--healthy", labels, "--split", "validation")
        once(out / f"{name}-volume.safetensors", *words, "--strategy", "volume", "--threads", "1")


def few_labels(rows: list[Row], out: Path) -> Iterable[Callable[[], None]]:
    train = [row for row in rows if row.split == "train"]
    held = [row for row in rows if row.split == "validation"]
    yield lambda: unet(out, "all", [*train, *held], 28 * len(train))
    for k in LABELLED:
        yield from students(out, str(k), train, drawn(train, k), held)


def another_site(rows: list[Row], out: Path) -> Iterable[Callable[[], None]]:
    train = [row for row in rows if row.split == "train"]
    held = [row for row in rows if row.split == "validation" and row.site == "DU"]
    du = [row for row in train if row.site == "DU"]
    ten = drawn(du, 10)
    seen = [row for row in train if row.subject in ten or row.site == "HT"]
    yield from students(out, "DU", seen, ten, held)
    bare = [row if row.subject in ten else without_labels(row) for row in seen]
    adapt = "--adapt 0.05 --adapt-from 1 --adapt-full 4"
    yield lambda: unet(out, "DU-adapt", [*bare, *held], 2 * 28 * (len(seen) - 10), adapt)


def students(
    out: Path, name: str, rows: list[Row], labelled: set[str], held: list[Row]
) -> Iterable[Callable[[], None]]:
    """``rows`` with masks for the ``labelled`` subjects; the others are left out, unlabelled or pseudo-labelled."""
    labels = out / "taught-labels" / "round-1"
    taught = {row.subject: row for row in read_cohort(labels / "cohort.tsv")}
    own = [row for row in rows if row.subject in labelled]
    others = [row for row in rows if row.subject not in labelled]
    hinted = [replace(without_labels(row), prior_mask=taught[row.subject].lesion_mask) for row in others]
    labelling = ("lesion_mask", "ignore_mask", "label_source")
    pseudo = [replace(row, **{name: getattr(taught[row.subject], name) for name in labelling}) for row in others]
    many = 2 * 28 * len(others)  # half of each batch: an epoch is one pass over them
    yield lambda: unet(out, name, [*own, *held], 28 * len(own))
    yield lambda: unet(out, f"{name}-embed", [*own, *hinted, *held], many, EMBED)
    yield lambda: unet(out, f"{name}-pseudo", [*own, *pseudo, *held], many)
    yield lambda: unet(out, f"{name}-both", [*own, *pseudo, *held], many, EMBED)


def unet(out: Path, name: str, rows: list[Row], slices: int, options: str = "") -> None:
    write_cohort(out / f"{name}.tsv", rows)
    fit = (*schedule(slices), "--slices", str(out / "slices"), *NET.split(), *options.split())
    once(out / f"{name}.safetensors", "train", "unet", str(out / f"{name}.tsv"), *fit)


def schedule(slices: int) -> list[str]:
    """Whole epochs for about ``STEPS`` steps; ``slices``: number per epoch."""
    epochs = max(2, round(STEPS / max(LEAST, slices // BATCH)))
    return [*FIT.split(), "--epochs", str(epochs), "--patience", str(epochs)]


def report(data: Path, out: Path) -> None:
    taught = ("teacher", "taught", "histeq-teacher", "histeq")
    pooled = ("--collection", "lgg", "--collection", "ms+wmh")
    names = [f"{k}{way}" for k in (*LABELLED, "DU") for way in WAYS]
    for folder, models, options in (
        ("self-taught", taught, pooled),
        ("at-volume", [f"{name}-volume" for name in STUDENTS], (*pooled, "--point", "volume")),
        ("few-labels", ("teacher", *names, "DU-adapt", "all"), ("--collection", "lgg", "--strategy", "validation")),
    ):
        named = [option for name in models for option in ("--model", str(out / f"{name}.safetensors"))]
        words = ("benchmark", str(data / "cohort.tsv"), "--split", "test", *named, *options, "--threads", "1")
        uadtk(*words, "-o", str(out / folder))
    found = {path: evaluations(out / path) for path in ("self-taught", "at-volume", "few-labels")}
    heading = "| model | collection | AUPRC | ⌈DICE⌉ | DICE at p99, of students at p = 0.5 | at point volume |"
    print(f"## Self-taught\n\n{heading}\n|---|---|---|---|---|---|")
    called = {"taught": "its student", "histeq": "its student, taught by histeq"}
    for name in taught:
        for collection in ("lgg", "ms+wmh"):
            measures = found["self-taught"][name, collection]["measures"]
            cells = [cell(measures, m) for m in ("auprc", "dice_oracle", "dice")]
            at_volume = found["at-volume"].get((f"{name}-volume", collection))
            cells.append("-" if at_volume is None else cell(at_volume["measures"], "dice"))
            print(f"| {called.get(name, name)} | {collection} | {' | '.join(cells)} |")
    picture = Path(__file__).parent / "pictures" / "few_labels.svg"
    picture.write_text(plot(found["few-labels"]) + "\n", encoding="utf-8")
    print("\n## A few labels: lgg test, AUPRC (DICE at the validation point)\n")
    print("| annotated | alone | embedding | pseudo-labels | both |\n|---|---|---|---|---|")
    for k in (*map(str, LABELLED), "DU"):
        ways = [found["few-labels"][f"{k}{way}", "lgg"] for way in WAYS]
        cells = [f"{cell(e['measures'], 'auprc')} ({cell(e['measures'], 'dice')})" for e in ways]
        print(f"| {k if k != 'DU' else '10 of DU'} | {' | '.join(cells)} |")
    for name in ("all", "teacher"):
        measures = found["few-labels"][name, "lgg"]["measures"]
        print(f"\n{name}: {cell(measures, 'auprc')} ({cell(measures, 'dice')})")
    print(
        "\n## From DU to HT: mean over the patients of HT\n\n| | AUPRC | DICE at the validation point |\n|---|---|---|"
    )
    for name in ("DU", "DU-embed", "DU-pseudo", "DU-both", "DU-adapt", "teacher"):
        scans = found["few-labels"][name, "lgg"]["scans"]
        means = [by_site(scans, measure)["HT"] for measure in ("auprc", "dice")]
        print(
            f"| {name} | "
            + " | ".join(f"{mean.value:.3f} {ends(mean.interval)} (n={mean.patients})" for mean in means)
            + " |"
        )


def plot(found: dict[tuple[str, str], Any]) -> str:
    """AUPRC against the number of annotated patients, as self-contained SVG."""
    curves, legend = [], []
    for place, (way, name) in enumerate(WAYS.items()):
        measures = [found[f"{k}{way}", "lgg"]["measures"]["auprc"] for k in LABELLED]
        points = [(k * 1.05 ** (place - 1.5), each["value"]) for k, each in zip(LABELLED, measures, strict=True)]
        curves.append(Curve(name, f"c{place}", points, [each["interval"] for each in measures]))
        legend.append(f'<text class="c{place}" x="400" y="{240 + 18 * place}" style="fill: currentColor">{name}</text>')
    everyone = found["all", "lgg"]["measures"]["auprc"]["value"]
    x = Axis("annotated patients; dashed: all 60", 0.85, 12, LABELLED, logarithmic=True)
    chart = curves_svg(curves, x, Axis("AUPRC, lgg test", 0.5, 0.9, (0.5, 0.6, 0.7, 0.8, 0.9)), everyone)
    head = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="13" '
    return (
        chart.replace("<svg ", head, 1)
        .replace(">", f"><style>{STYLE}</style>", 1)
        .replace("</svg>", "".join(legend) + "</svg>")
    )


def evaluations(folder: Path) -> dict[tuple[str, str], Any]:
    """(model, collection) -> evaluation, from the receipts of the table; models by file name."""
    found = {}
    for row in read_table(folder / "table.tsv"):
        if row["receipt"]:
            record = json.loads((folder / "rows" / f"{row['receipt']}.json").read_text(encoding="utf-8"))
            found[Path(row["model"]).stem, row["collection"]] = record["evaluation"]
    return found


def cell(measures: dict[str, Any], name: str) -> str:
    return f"{measures[name]['value']:.3f} {ends(measures[name]['interval'])}"


def ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def without_labels(row: Row) -> Row:
    return replace(row, lesion_mask=None, lesion_free_slices=None)


def once(output: Path, *words: str) -> None:
    if not finished(output) and uadtk(*words, "-o", str(output)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
