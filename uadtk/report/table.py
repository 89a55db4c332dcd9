"""The table of a benchmark in the layout of the study's Tables III-VI: as text for people, as TSV for programs.

The study computes AUROC, AUPRC and ⌈DICE⌉ over all voxels of a volume, air included, and so does the text; the TSV also
has the values inside the brain. A published file is a TSV with columns ``dataset`` and ``approach`` and columns of
numbers: one line per row of the study's tables.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any

from uadtk.core.absent import why
from uadtk.core.errors import DataError, UsageError, did_you_mean
from uadtk.core.spec import Spec
from uadtk.io.memo import read_text
from uadtk.metrics.compare import Pair

Published = Mapping[str, Mapping[str, Mapping[str, str]]]
PAIRED = ("dice", "auprc")

APPROACHES = {
    ("ae", "residual"): "AE (dense)",
    ("ae", "montecarlo"): "Bayesian AE",
    ("ae-spatial", "residual"): "AE (spatial)",
    ("vae", "residual"): "VAE",
    ("vae", "restoration"): "VAE (restoration)",
    ("vae", "montecarlo"): "Bayesian VAE",
    ("context-ae", "residual"): "Context AE",
    ("context-vae", "residual"): "Context VAE",
    ("context-vae", "gradient"): "Context VAE (gradient)",
    ("gmvae", "residual"): "GMVAE (dense)",
    ("gmvae", "restoration"): "GMVAE (dense restoration)",
    ("gmvae-spatial", "residual"): "GMVAE (spatial)",
    ("gmvae-spatial", "restoration"): "GMVAE (spatial restoration)",
    ("fanogan", "residual"): "f-AnoGAN",
    ("anovaegan", "residual"): "AnoVAEGAN",
    ("constrained-ae", "residual"): "Constrained AE",
    ("constrained-aae", "residual"): "Constrained AAE",
}
# heading, our measure and its deviation, the study's names of both
COLUMNS = (
    ("AUROC", "auroc_volume", "", "auroc", ""),
    ("AUPRC", "auprc_volume", "", "auprc", ""),
    ("⌈DICE⌉", "dice_oracle_volume", "", "best_dice", ""),
    ("DICE (mean ± sd)", "dice", "dice_sd", "dice_mean", "dice_sd"),
    ("l1 normal (mean ± sd)", "l1_normal", "l1_normal_sd", "l1_re_normal", "l1_re_normal_sd"),
    ("l1 anomalous (mean ± sd)", "l1_anomalous", "l1_anomalous_sd", "l1_re_anomalous", "l1_re_anomalous_sd"),
    ("χ²", "chi_squared", "", "chi2", ""),
)
NOTES = """
AUROC, AUPRC and ⌈DICE⌉ are pooled over all voxels, air included, as in the study; table.tsv has them inside the brain.
⌈DICE⌉ is an oracle: its threshold is chosen on the ground truth. Brackets: 95 % bootstrap intervals over patients.
p: two-sided paired permutation test against histeq on DICE and on AUPRC (inside the brain) per patient; the mean is
higher (↑) or lower (↓) than histeq's; not corrected for the number of rows. A mean over patients and a pooled value may
disagree, because pooling compares scores across patients. l1 is the mean |x - x̂| inside the brain, before any cleaner,
with the brain's 98th percentile as 1; '-' where a scorer makes no reconstruction. The study's unit is unknown.
"""


@dataclass(frozen=True)
class Line:
    """One row: an evaluation as plain values (``Evaluation.to_json``), or the ``problem`` that prevented it.

    ``paired``: for each of ``PAIRED``, the number of patients, the mean difference from histeq, and its p-value.
    """

    collection: str
    model: str
    architecture: str
    scorer: Spec
    cleaners: tuple[Spec, ...] = ()
    evaluation: Mapping[str, Any] | None = None
    problem: str = ""
    paired: Mapping[str, tuple[int, float, float]] = field(default_factory=dict)
    receipt: str = ""


def labels(lines: Sequence[Line]) -> list[str]:
    """The label of each row: its model, its scorer, and its cleaners if rows differ in them.

    A checkpoint is labelled by its file name without folder and suffix, unless that is ambiguous. Labels are unique
    within a collection only.
    """
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.collection, []).append(line)
    return [_label(line, groups[line.collection]) for line in lines]


def _label(line: Line, beside: Sequence[Line]) -> str:
    name = line.model
    if line.architecture != "histeq":
        stem = PurePath(name).stem
        models = {other.model for other in beside if other.architecture != "histeq"}
        name = f"{stem if [PurePath(model).stem for model in models].count(stem) == 1 else name} {line.scorer}"
    several = len({other.cleaners for other in beside}) > 1
    return f"{name} ({' '.join(map(str, line.cleaners)) or 'not cleaned'})" if several else name


def read_published(path: Path) -> Published:
    """dataset -> approach -> column -> text. Raises DataError."""
    fix = "Give a TSV with the columns dataset, approach and numbers."
    try:
        rows = list(csv.DictReader(read_text(path).splitlines(), delimiter="\t"))
    except OSError as error:
        raise DataError(f"cannot be read ({why(error)})", str(path), fix) from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"is not a text file ({error})", str(path), fix) from None
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        if not row.get("dataset") or not row.get("approach"):
            raise DataError("a line lacks its dataset or approach", str(path), fix)
        found.setdefault(row["dataset"], {})[row["approach"]] = row
    if not found:
        raise DataError("has no rows", str(path), fix)
    return found


def named_datasets(published: Published, collections: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """The published dataset of each collection: as given in ``named``, or the one of the same name.

    Raises UsageError if ``named`` has an unknown collection or dataset.
    """
    for collection, dataset in named.items():
        for name, known in ((collection, collections), (dataset, published)):
            if name not in known:
                raise UsageError(f"no '{name}'", f"--dataset {collection}={dataset}", did_you_mean(name, known))
    return {name: named.get(name, name) for name in collections if named.get(name, name) in published}


def published_row(line: Line, published: Published, datasets: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """``dataset: approach`` and the study's numbers for the same model and scorer; empty if there are none."""
    dataset = datasets.get(line.collection, "")
    approach = APPROACHES.get((line.architecture, line.scorer.name), "")
    row = published.get(dataset, {}).get(approach, {})
    return (f"{dataset}: {approach}", row) if row else ("", {})


def as_tsv(lines: Sequence[Line], published: Published, datasets: Mapping[str, str]) -> str:
    """One line per row, one column per number; missing numbers are empty."""
    rows = [_flat(line, published, datasets) for line in lines]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    columns.append(columns.pop(columns.index("problem")))
    return tsv(columns, ([row.get(name, "") for name in columns] for row in rows))


def pairs_as_tsv(pairs: Sequence[Pair]) -> str:
    """A line for each pair of rows and measure, in full precision."""
    names = [each.name for each in fields(Pair)]
    rows = ([getattr(pair, name) for name in names] for pair in pairs)
    return tsv(names, ([_exact(v) if isinstance(v, float) else v for v in row] for row in rows))


def tsv(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A header and a line per row; tabs and line breaks within a value become spaces."""
    body = ("\t".join(" ".join(str(value).split()) for value in row) for row in rows)
    return "\n".join(["\t".join(columns), *body]) + "\n"


def as_text(lines: Sequence[Line], published: Published, datasets: Mapping[str, str]) -> str:
    """One table per collection: values, their intervals below, then the published row."""
    heading = ["approach", *(column[0] for column in COLUMNS), "p DICE", "p AUPRC", "patients"]
    grids: dict[str, list[list[str]]] = {}
    for label, line in zip(labels(lines), lines, strict=True):
        grids.setdefault(line.collection, [heading]).extend(_block(label, line, published, datasets))
    parts = [(f"{name}\n" if name else "") + aligned(grid) for name, grid in grids.items()]
    return "\n\n".join(parts) + "\n" + NOTES


def _flat(line: Line, published: Published, datasets: Mapping[str, str]) -> dict[str, str]:
    row = {"collection": line.collection, "model": line.model, "scorer": str(line.scorer)}
    row["cleaners"] = " ".join(map(str, line.cleaners))
    if line.evaluation is not None:
        point = line.evaluation["point"] or {"name": "", "threshold": None}
        row |= {"grid": line.evaluation["grid"], "point": point["name"], "threshold": _exact(point["threshold"])}
        row |= {"scans": str(len(line.evaluation["scans"])), "failed": str(len(line.evaluation["failed"]))}
        row["patients"] = str(line.evaluation["patients"])
        for name, measure in line.evaluation["measures"].items():
            low, high = measure["interval"] or (None, None)
            row |= {name: _exact(measure["value"]), f"{name}_low": _exact(low), f"{name}_high": _exact(high)}
    for name, (pairs, difference, p) in line.paired.items():
        own = {"pairs": str(pairs), "difference": _exact(difference), "p": _exact(p)}
        row |= {f"{name}_{what}_histeq": text for what, text in own.items()}
    where, numbers = published_row(line, published, datasets)
    if where:
        published_numbers = {name: text for name, text in numbers.items() if name not in ("dataset", "approach")}
        row |= {"published": where, **{f"published_{name}": text for name, text in published_numbers.items()}}
    return {**row, "receipt": line.receipt, "problem": line.problem}


def values(line: Line) -> list[str]:
    """The cells of ``COLUMNS`` and the two p-values, '-' if missing."""
    measures = _measures(line)
    ps = [_tested(*line.paired[name][1:]) if name in line.paired else "-" for name in PAIRED]
    return [*(_spread(_value(measures, name), _value(measures, sd)) for _, name, sd, _, _ in COLUMNS), *ps]


def intervals(line: Line) -> list[str]:
    """The interval of each of ``COLUMNS``; '' if missing."""
    measures = _measures(line)
    ends = [measures.get(name, {}).get("interval") for _, name, *_ in COLUMNS]
    return [f"[{short(both[0])}, {short(both[1])}]" if both else "" for both in ends]


def published_values(row: Mapping[str, str]) -> list[str]:
    """The study's numbers for ``COLUMNS``."""
    return [_spread(row.get(mean, ""), row.get(sd, "")) for *_, mean, sd in COLUMNS]


def _tested(difference: float, p: float) -> str:
    """The p-value and the direction of the difference."""
    return short(p) if p != p or not difference else f"{short(p)} {'↑' if difference > 0 else '↓'}"


def short(value: float) -> str:
    return "-" if value != value else f"{value:.3g}"


def _block(label: str, line: Line, published: Published, datasets: Mapping[str, str]) -> Iterator[list[str]]:
    if line.evaluation is None:
        yield [label, line.problem]
        return
    yield [label, *values(line), str(line.evaluation["patients"])]
    if any(intervals(line)):
        yield ["", *intervals(line)]
    where, row = published_row(line, published, datasets)
    if where:
        yield [f"  published, {where}", *published_values(row)]


def _measures(line: Line) -> Mapping[str, Any]:
    return {} if line.evaluation is None else line.evaluation["measures"]


def _value(measures: Mapping[str, Any], name: str) -> str:
    value = measures.get(name, {}).get("value")
    return "" if value is None else short(value)


def _spread(mean: str, sd: str) -> str:
    return (f"{mean} ± {sd}" if sd else mean) or "-"


def _exact(value: float | None) -> str:
    """Full precision, for further computation."""
    return "" if value is None or value != value else repr(float(value))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Pad columns to their widest cell; a row of two cells is a label and a sentence, which may overflow."""
    full = [row for row in rows if len(row) > 2]
    columns = range(max(map(len, rows)))
    widths = [max((len(row[k]) for row in full if len(row) > k), default=0) for k in columns]
    widths[0] = max(len(row[0]) for row in rows)
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows)
