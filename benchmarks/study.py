"""The comparative study on the shared scans: select on validation, report on test, and test the study's orderings.

    python benchmarks/train_all.py ../shared/data build/models       # first: every model, trained on lgg train
    python benchmarks/study.py ../shared/data build/models build/study

Runs uadtk commands, each printed first; interrupted ones resume.

* ``sizes``: ``vae`` and ``ae`` again on 6 and 30 of the 60 training patients, nested, drawn by seed 0 (Fig. 8);
* ``select``: all models x cleaner chains on the validation split, ranked by mean AUPRC over collections;
* ``test``: the study's table, with points from the validation split (``--strategy validation``);
* ``multiverse``: the ranking of all residuals under 162 combinations of post-processing, on test;
* ``chosen``: the selected configuration, on test;
* ``orderings``: the study's claims, each as a paired difference over the patients of the test split;
* ``publish``: copy tables and pages to ``benchmarks/study``, without images, as we may not redistribute the scans.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from _shared import drawn, gliomas, read_table, uadtk
from train_all import PLANS, SHARED

from uadtk.io.table import write_cohort

PLAIN = "erode:iterations=3 median:size=6,unit=mm"
PRIORS = ("prior", "prior:power=2", "prior:power=4")
CHAINS = (PLAIN, *(f"erode:iterations=3 {prior} median:size=6,unit=mm" for prior in PRIORS))
SIZES = (6, 30)
SHIPPED = "scalespace (shipped)"
COLLECTIONS = ("lgg", "ms", "wmh")
POOLED = ("lgg", "ms+wmh")  # ms and wmh have one test scan each: pooled, there are two patients
# scorers of the study besides a model's own
SCORERS = {
    "ae": "@residual@montecarlo:samples=20",
    "vae": "@residual@montecarlo:samples=20@restoration:precision=bfloat16",
    "gmvae": "@residual@restoration:precision=bfloat16",
    "context-vae": "@residual@gradient",
}
BAYES, RESTORED = "montecarlo:samples=20", "restoration:precision=bfloat16"
# claim, the row with the higher AUPRC, the other row
ORDERINGS = (
    ("VAE > AE", "vae residual", "ae residual"),
    ("restoration > reconstruction (VAE)", f"vae {RESTORED}", "vae residual"),
    ("restoration > reconstruction (GMVAE)", f"gmvae {RESTORED}", "gmvae residual"),
    ("context-VAE residual > its gradient", "context-vae residual", "context-vae gradient"),
    ("Bayesian about equal to plain (AE)", f"ae {BAYES}", "ae residual"),
    ("Bayesian about equal to plain (VAE)", f"vae {BAYES}", "vae residual"),
    ("dense > spatial (AE)", "ae residual", "ae-spatial residual"),
    ("dense > spatial (GMVAE)", "gmvae residual", "gmvae-spatial residual"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, help="folder of train_all.py")
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--steps", nargs="+", default=["sizes", "select", "test", "multiverse", "chosen", "orderings", "publish"]
    )
    arguments = parser.parse_args()
    data, models, output = (path.resolve() for path in (arguments.data, arguments.models, arguments.output))
    steps = arguments.steps
    points: tuple[str, ...]
    if "sizes" in steps:
        train_sizes(data, models)
    table, trained = data / "cohort.tsv", [name for name in PLANS if (models / f"{name}.safetensors").exists()]
    if "select" in steps:
        named = [option for name in trained for option in ("--model", str(models / f"{name}.safetensors"))]
        chains = [option for chain in CHAINS for option in ("--cleaners", chain)]
        benchmark(table, output / "validation", "validation", COLLECTIONS, *named, *chains, "--model", "scalespace")
    if "test" in steps:
        sized = [path.stem for n in SIZES for path in sorted(models.glob(f"*-{n}.safetensors"))]
        named = [f"{models / name}.safetensors{SCORERS.get(name, '')}" for name in (*trained, *sized)]
        chosen = [option for name in (*named, "scalespace") for option in ("--model", name)]
        study = ("--published", str(data.parent / "reference" / "thesis_tables.tsv"), "--dataset", "ms+wmh=MSLUB")
        points = ("--strategy", "validation", "--dataset", "lgg=GB", "--cleaners", PLAIN)
        benchmark(table, output / "test", "test", POOLED, *chosen, *points, *study)
    if "multiverse" in steps:
        named = [option for name in trained for option in ("--model", str(models / f"{name}.safetensors"))]
        points = ("--strategy", "validation", "--cleaners", PLAIN, "--multiverse")
        benchmark(table, output / "multiverse", "test", POOLED, *named, *points)
    if "chosen" in steps:
        ranked = selection(output / "validation" / "table.tsv")
        print_selection(ranked)
        best = next(way for way in ranked if way[0] != "histeq")
        source = "scalespace" if best[0] == SHIPPED else str(models / f"{best[0]}.safetensors")
        points = ("--strategy", "validation", "--cleaners", best[1])
        benchmark(table, output / "chosen", "test", (*POOLED, "ms", "wmh"), "--model", source, *points)
    if "orderings" in steps:
        print_orderings(output / "test")
    if "publish" in steps:
        publish(output, Path(__file__).parent / "study")


def benchmark(table: Path, output: Path, split: str, collections: tuple[str, ...], *options: str) -> None:
    named = [option for name in collections for option in ("--collection", name)]
    uadtk("benchmark", str(table), "--split", split, *named, *options, "-o", str(output))


def train_sizes(data: Path, models: Path) -> None:
    cohort = gliomas(data)
    train, held = cohort.split("train"), cohort.split("validation")
    for n, epochs in zip(SIZES, ("120", "40"), strict=True):  # about the same number of steps as with all patients
        kept = drawn(train, n)
        write_cohort(models / f"lgg-{n}.tsv", [*(row for row in train if row.subject in kept), *held])
        for name, own in (("vae", ("--dropout", "0")), ("ae", ())):
            target = models / f"{name}-{n}.safetensors"
            if not target.exists():
                fit = ("--slices", str(models / "slices"), "--epochs", epochs, "--patience", "40", *own)
                uadtk("train", name, str(models / f"lgg-{n}.tsv"), "-o", str(target), *SHARED, *fit)


def selection(table: Path) -> list[tuple[str, str, dict[str, float]]]:
    """(model, cleaners, AUPRC by collection), by the mean over collections, highest first."""
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in read_table(table):
        name = "histeq" if row["model"].startswith("histeq") else Path(row["model"]).stem
        name = SHIPPED if row["model"] == "scalespace" else name
        if row["auprc"]:
            found[name, row["cleaners"]][row["collection"]] = float(row["auprc"])
    ways = [(name, chain, values) for (name, chain), values in found.items()]
    return sorted(ways, key=lambda way: -float(np.mean(list(way[2].values()))))


def print_selection(ranked: list[tuple[str, str, dict[str, float]]]) -> None:
    print("| model | cleaners | " + " | ".join(COLLECTIONS) + " | mean |\n|---|---|" + "---|" * 4)
    shown = [*ranked[:10], *[way for way in ranked[10:] if way[0] == "histeq"]]
    for name, chain, values in shown:
        cells = [f"{values[collection]:.3f}" for collection in COLLECTIONS]
        print(f"| {name} | {chain} | {' | '.join(cells)} | {np.mean(list(values.values())):.3f} |")


def print_orderings(folder: Path) -> None:
    pairs = read_table(folder / "pairs.tsv")
    print("| claim of the study | collection | patients | AUPRC, difference | p | |\n|---|---|---|---|---|---|")
    for claim, higher, lower in ORDERINGS:
        for collection in POOLED:
            for pair in pairs:
                same = pair["collection"] == collection and pair["measure"] == "auprc"
                if same and {pair["one"], pair["other"]} == {higher, lower}:
                    print(ordering(claim, collection, pair, 1 if pair["one"] == higher else -1))
    print("\n| context-VAE | collection | AUROC | AUPRC |\n|---|---|---|---|")
    for row in read_table(folder / "table.tsv"):
        if Path(row["model"]).stem == "context-vae":
            cells = [
                f"{float(row[name]):.3f} [{float(row[f'{name}_low']):.3f}, {float(row[f'{name}_high']):.3f}]"
                for name in ("auroc", "auprc")
            ]
            print(f"| {row['scorer']} | {row['collection']} | {' | '.join(cells)} |")


def publish(output: Path, here: Path) -> None:
    for name in (
        *(f"test/{file}" for file in ("report.html", "table.txt", "table.tsv", "pairs.tsv")),
        *(f"multiverse/{file}" for file in ("report.html", "multiverse.txt")),
        "chosen/table.txt",
        "validation/table.tsv",
    ):
        text = (output / name).read_text(encoding="utf-8")
        text = re.sub(r'<section id="mosaics">.*?</section>', "", text, flags=re.DOTALL)
        text = re.sub(r'<a href="#mosaics">.*?</a>', "", text, flags=re.DOTALL)
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text.replace(f"{output.parent.parent}/", ""), encoding="utf-8")


def ordering(claim: str, collection: str, pair: dict[str, str], sign: int) -> str:
    value, *ends = (sign * float(pair[name]) for name in ("difference", "low", "high"))
    low, high = sorted(ends)
    if "equal" in claim:
        verdict = "holds" if max(abs(low), abs(high)) < 0.05 else "open" if low < 0 < high else "does not hold"
    else:
        verdict = "holds" if low > 0 else "does not hold" if high < 0 else "open: the interval includes 0"
    cells = (
        claim,
        collection,
        pair["pairs"],
        f"{value:+.3f} [{low:+.3f}, {high:+.3f}]",
        f"{float(pair['p']):.3g}",
        verdict,
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
