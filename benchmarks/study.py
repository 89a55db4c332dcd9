"""The comparative study on the shared scans: select on validation, report on test, and test the study's orderings.

    python benchmarks/train_all.py ../shared/data build/models --steps 5000       # first: trains every model
    python benchmarks/study.py ../shared/data build/models build/study --steps 5000
    # or with the weights in the repository, without training:
    python benchmarks/study.py ../shared/data plugins/uadtk-thesis/src/uadtk_thesis/weights build/study --stages test

Runs uadtk commands, each printed first; interrupted ones resume, and what is done is not done again. Every row has the
same budget of training, ``--steps``. Stages:

* ``sizes``: ``vae``, ``ae`` and others again on 6 and 30 of the 60 training patients, nested, drawn by seed 0 (Fig. 8);
* ``tune``: the weight of restoration, on lesion-free validation slices with planted discs;
* ``select``: all models x cleaner chains on the validation split, ranked by mean AUPRC over collections;
* ``test``: the study's table, with points from the validation split (``--strategy validation``);
* ``carried``: the same with one point for all collections, that of the ``ms`` validation scans, as in the thesis;
* ``multiverse``: the ranking of all residuals under 216 combinations of post-processing, on test;
* ``chosen``: the selected configuration, on test;
* ``orderings``: the study's claims, each as a paired difference over the patients of the test split;
* ``publish``: copy the tables and pages that there are to ``benchmarks/study``, without images, as we may not
  redistribute the scans.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from _shared import drawn, finished, gliomas, read_table, uadtk, uadtk_says
from train_all import PLANS, PRECISION, STEPS, Bench, epochs_of, train

from uadtk.core.preparation import Preparation
from uadtk.io.cohort import read_cohort
from uadtk.io.table import write_cohort
from uadtk.io.write import write_text
from uadtk.metrics.study import correlations
from uadtk.report.matrices import LEAST_ROWS

PLAIN = "erode:iterations=3 median:size=6,unit=mm"
PRIORS = ("prior", "prior:power=2", "prior:power=4")
CHAINS = (PLAIN, *(f"erode:iterations=3 {prior} median:size=6,unit=mm" for prior in PRIORS))
RESTORATION = f"restoration:precision={PRECISION}"
SIZES = (6, 30)
SIZED = ("vae", "ae", "fanogan", "context-vae")  # of the models in Fig. 8
SHIPPED = "scalespace (shipped)"
COLLECTIONS = ("lgg", "ms", "wmh")
LEAST_PATIENTS = 6  # of fewer, no paired difference can have p < 0.05
POOLED = ("lgg", "ms+wmh")  # ms and wmh have one test scan each: pooled, there are two patients
# scorers of the study, in place of the one that a model declares; N = 100 is the default of montecarlo
SCORERS = {
    "ae": ("residual", "montecarlo"),
    "vae": ("residual", "montecarlo", "restoration"),
    "skip-ae": ("residual", "montecarlo"),
    "gmvae": ("residual", "restoration"),
    "gmvae-spatial": ("residual", "restoration"),
    "gmvae-spatial-original": ("residual", "montecarlo", "restoration"),  # from the mean of z it decodes badly
    "context-vae": ("residual", "gradient"),
    "scale-space": ("residual", "multiscale"),
}
# claim, (row, scorer) with the higher AUPRC, the other one
ORDERINGS = (
    ("VAE > AE", ("vae", "residual"), ("ae", "residual")),
    ("restoration > reconstruction (VAE)", ("vae", "restoration"), ("vae", "residual")),
    ("restoration > reconstruction (GMVAE)", ("gmvae", "restoration"), ("gmvae", "residual")),
    (
        "restoration > reconstruction (spatial GMVAE)",
        ("gmvae-spatial", "restoration"),
        ("gmvae-spatial", "residual"),
    ),
    ("context-VAE residual > its gradient", ("context-vae", "residual"), ("context-vae", "gradient")),
    ("Bayesian about equal to plain (AE)", ("ae", "montecarlo"), ("ae", "residual")),
    ("Bayesian about equal to plain (VAE)", ("vae", "montecarlo"), ("vae", "residual")),
    ("dense > spatial (AE)", ("ae", "residual"), ("ae-spatial", "residual")),
    ("dense > spatial (GMVAE)", ("gmvae", "residual"), ("gmvae-spatial", "residual")),
    ("Bayesian > plain (skip-AE)", ("skip-ae", "montecarlo"), ("skip-ae", "residual")),
    ("multiscale > one scale", ("scale-space", "multiscale"), ("scale-space", "residual")),
    ("2.5-D > 2-D (AE; outlook)", ("ae-25d", "residual"), ("ae", "residual")),
    ("more patients help (VAE)", ("vae", "residual"), ("vae-6", "residual")),
    ("more patients help (AE)", ("ae", "residual"), ("ae-6", "residual")),
)
STAGES = ("sizes", "tune", "select", "test", "carried", "multiverse", "chosen", "orderings", "publish")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, help="folder of checkpoints, as of train_all.py")
    parser.add_argument("output", type=Path)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--rows", nargs="+", choices=PLANS, default=list(PLANS), help="of the trained ones, these")
    parser.add_argument("--steps", type=int, default=STEPS, help="batches per training, as for train_all.py")
    arguments = parser.parse_args()
    data, models, output = (path.resolve() for path in (arguments.data, arguments.models, arguments.output))
    stages = arguments.stages
    if "sizes" in stages:
        train_sizes(data, models, output / "sizes", arguments.steps, arguments.rows)
    table, trained = data / "cohort.tsv", [n for n in arguments.rows if finished(models / f"{n}.safetensors")]
    if "tune" in stages:
        for name in trained:
            if "restoration" in SCORERS.get(name, ()):
                tune(models / f"{name}.safetensors", data, output)
    residuals = [option for name in trained for option in ("--model", str(models / f"{name}.safetensors"))]
    if "select" in stages:
        chains = [option for chain in CHAINS for option in ("--cleaners", chain)]
        benchmark(table, output / "validation", "validation", COLLECTIONS, *residuals, *chains, "--model", "scalespace")
    rows = [option for way in ways(models, trained, output) for option in ("--model", way)]
    points = ("--strategy", "validation", "--cleaners", PLAIN)
    published = data.parent / "reference" / "thesis_tables.tsv"
    study: tuple[str, ...] = ("--published", str(published), "--dataset", "ms+wmh=MSLUB", "--dataset", "lgg=GB")
    study = study if published.exists() else ()
    if "test" in stages:
        benchmark(table, output / "test", "test", POOLED, *rows, *points, *study)
    if "carried" in stages:
        benchmark(table, output / "carried", "test", POOLED, *rows, *points, "--calibrate-on", "ms", *study)
    if "multiverse" in stages:
        benchmark(table, output / "multiverse", "test", POOLED, *residuals, *points, "--multiverse")
    if "chosen" in stages:
        ranked = selection(output / "validation" / "table.tsv")
        print_selection(ranked)
        best = next(way for way in ranked if way[0] != "histeq")
        source = "scalespace" if best[0] == SHIPPED else str(models / f"{best[0]}.safetensors")
        chosen = ("--strategy", "validation", "--cleaners", best[1])
        benchmark(table, output / "chosen", "test", (*POOLED, "ms", "wmh"), "--model", source, *chosen)
    if "orderings" in stages:
        print_orderings(output / "test")
    if "publish" in stages:
        publish(output, Path(__file__).parent / "study")


def ways(models: Path, trained: list[str], output: Path) -> list[str]:
    """Every row of the study's table: checkpoints, also those of fewer patients, with their scorers."""
    found = []
    for name in trained:
        scorers = "".join(f"@{tuned(name, output) if s == 'restoration' else s}" for s in SCORERS.get(name, ()))
        found.append(f"{models / name}.safetensors{scorers}")
    sized = [path for n in SIZES for path in sorted((output / "sizes").glob(f"*-{n}.safetensors")) if finished(path)]
    return [*found, *map(str, sized), "scalespace"]


def tune(model: Path, data: Path, output: Path) -> None:
    """Store restoration with the weight that finds planted discs best, unless it is known."""
    known = output / f"{model.stem}.restoration.txt"
    if not known.exists():
        healthy = output / "lgg.tsv"
        output.mkdir(parents=True, exist_ok=True)
        write_cohort(healthy, gliomas(data))
        words = ("--model", str(model), "--healthy", str(healthy), "--split", "validation", "--threads", "1")
        said = uadtk_says("tune-restoration", *words, "--scorer", RESTORATION)
        write_text(known, said.splitlines()[-1].removeprefix("--scorer "))


def tuned(name: str, output: Path) -> str:
    known = output / f"{name}.restoration.txt"
    return known.read_text(encoding="utf-8").strip() if known.exists() else RESTORATION


def benchmark(table: Path, output: Path, split: str, collections: tuple[str, ...], *options: str) -> None:
    named = [option for name in collections for option in ("--collection", name)]
    uadtk("benchmark", str(table), "--split", split, *named, *options, "-o", str(output))


def train_sizes(data: Path, models: Path, work: Path, steps: int, rows: Sequence[str]) -> None:
    cohort = gliomas(data)
    patients, held = cohort.split("train"), cohort.split("validation")
    work.mkdir(parents=True, exist_ok=True)
    for n in SIZES:
        kept, table = drawn(patients, n), work / f"lgg-{n}.tsv"
        write_cohort(table, [*(row for row in patients if row.subject in kept), *held])
        epochs = epochs_of(len(Bench(read_cohort(table), work, Preparation()).train), steps)
        for name in SIZED:
            if name in rows and finished(models / f"{name}.safetensors"):
                train(f"{name}-{n}", table, work, epochs, PLANS[name], name)


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
                both = [row_of(pair["one"]), row_of(pair["other"])]
                same = pair["collection"] == collection and pair["measure"] == "auprc"
                if same and sorted(both) == sorted([higher, lower]):
                    print(ordering(claim, collection, pair, 1 if both[0] == higher else -1))
    print("\n| context-VAE | collection | AUROC | AUPRC |\n|---|---|---|---|")
    for row in read_table(folder / "table.tsv"):
        if Path(row["model"]).stem == "context-vae":
            cells = [
                f"{float(row[name]):.3f} [{float(row[f'{name}_low']):.3f}, {float(row[f'{name}_high']):.3f}]"
                for name in ("auroc", "auprc")
            ]
            print(f"| {row['scorer']} | {row['collection']} | {' | '.join(cells)} |")
    print("\n| collection | rows | χ² against AUPRC, Spearman over rows |\n|---|---|---|")
    for collection in POOLED:
        print(chi_squared_against_auprc(collection, read_table(folder / "table.tsv")))


def chi_squared_against_auprc(collection: str, rows: list[dict[str, str]]) -> str:
    """Fig. 10 in one number: do rows that separate the histograms of their scores better also have a higher AUPRC?

    The interval is of rows drawn again, as if they were independent: they share their scans.
    """
    known = [row for row in rows if row["collection"] == collection and row["chi_squared"] and row["auprc"]]
    values = np.array([[float(row["chi_squared"]), float(row["auprc"])] for row in known])
    if len(known) < LEAST_ROWS:
        return f"| {collection} | {len(known)} | open: too few rows |"
    rng = np.random.default_rng(0)
    again = [correlations(values[rng.integers(len(values), size=len(values))])[1][0, 1] for _ in range(2000)]
    low, high = np.nanquantile(again, (0.025, 0.975))
    return f"| {collection} | {len(known)} | {correlations(values)[1][0, 1]:+.2f} [{low:+.2f}, {high:+.2f}] |"


def publish(output: Path, here: Path) -> None:
    for name in (
        *(f"test/{file}" for file in ("report.html", "table.txt", "table.tsv", "pairs.tsv")),
        *(f"multiverse/{file}" for file in ("report.html", "multiverse.txt")),
        "carried/table.txt",
        "chosen/table.txt",
        "validation/table.tsv",
    ):
        if not (output / name).exists():
            print(f"{name}: not there, left as it was", file=sys.stderr)
            continue
        text = (output / name).read_text(encoding="utf-8")
        text = re.sub(r'<section id="mosaics">.*?</section>', "", text, flags=re.DOTALL)
        text = re.sub(r'<a href="#mosaics">.*?</a>', "", text, flags=re.DOTALL)
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text.replace(f"{output.parent.parent}/", ""), encoding="utf-8")


def row_of(label: str) -> tuple[str, str]:
    """Row and scorer, without its options, from a label such as ``vae restoration:tv=0.4``."""
    name, _, scorer = label.partition(" ")
    stem = PurePath(name).stem if name.endswith(".safetensors") else name
    return stem, scorer.partition(" ")[0].partition(":")[0]


def ordering(claim: str, collection: str, pair: dict[str, str], sign: int) -> str:
    value = sign * float(pair["difference"])
    low, high = sorted(sign * float(pair[end] or "nan") for end in ("low", "high"))
    if int(pair["pairs"]) < LEAST_PATIENTS:
        verdict = "open: too few patients"
    elif "equal" in claim:
        verdict = "holds" if max(abs(low), abs(high)) < 0.05 else "open" if low < 0 < high else "does not hold"
    else:
        verdict = "holds" if low > 0 else "does not hold" if high < 0 else "open: the interval includes 0"
    cells = (
        claim,
        collection,
        pair["pairs"],
        f"{value:+.3f} [{low:+.3f}, {high:+.3f}]",
        f"{float(pair['p'] or 'nan'):.3g}",
        verdict,
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
