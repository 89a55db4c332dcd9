"""A benchmark from the question to its files: receipts, tables, the multiverse, and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import get_num_threads

from uadtk.core.run import Run
from uadtk.io.cohort import Cohort
from uadtk.io.write import write_json, write_text
from uadtk.metrics.multiverse import drivers, ranks
from uadtk.report import multiverse as universes
from uadtk.report.study import study_html
from uadtk.report.table import as_text, as_tsv, named_datasets, pairs_as_tsv
from uadtk.study.benchmark import carry_out, multiverses, pairs_of, pictures_in
from uadtk.study.tasks import Question, plan


@dataclass(frozen=True)
class Compared:
    """The tables as text; ``failed``: a row or a scan of one failed."""

    text: str
    failed: bool


@dataclass(frozen=True)
class Study:
    """Published numbers to show beside ours: rows by dataset, and the dataset of a collection where names differ."""

    published: Mapping[str, Any] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)


def compare(
    question: Question, table: Cohort, folder: Path, run: Run, study: Study = Study(), multiverse: bool = False
) -> Compared:
    """Measure every row of the question and write ``report.html``, tables, pairs and receipts into ``folder``.

    Raises as :func:`uadtk.study.tasks.plan`, before any work.
    """
    tasks = plan(question, table, run)
    collections = list(dict.fromkeys(task.collection for task in tasks))
    datasets = named_datasets(study.published, collections, study.datasets)
    # before the work: this shows whether the folder is writable
    write_json(folder / "benchmark.json", {"cohort": table.source, **_plain(question)})
    for line in _before({task.collection: task.rows for task in tasks}):
        run.say(line)
    source = str(Path(table.source).resolve())
    where = {"cohort": source, "split": question.split, "threads": str(get_num_threads())}
    lines = list(carry_out(tasks, folder, where, run))
    write_text(folder / "table.tsv", as_tsv(lines, study.published, datasets))
    pairs = pairs_of(lines, run.seed)
    write_text(folder / "pairs.tsv", pairs_as_tsv(pairs))
    text = as_text(lines, study.published, datasets)
    write_text(folder / "table.txt", text)
    found = list(multiverses(tasks, lines, question, table, folder, run)) if multiverse else []
    ranked = ranks(found)
    if found:
        ranking = universes.as_text(ranked, drivers(found))
        write_text(folder / "multiverse.tsv", universes.as_tsv(found))
        write_text(folder / "multiverse.txt", ranking)
        text += "\n" + ranking
    strips = pictures_in(folder, [line.receipt for line in lines if line.receipt])
    heads = pictures_in(folder, collections)
    facts = {"Cohort": table.source, **({"Split": question.split} if question.split else {}), "Grid": question.grid}
    page = study_html(lines, study.published, datasets, pairs, ranked, strips, heads, facts)
    write_text(folder / "report.html", page)
    failed = any(line.problem.startswith("failed: ") or (line.evaluation or {}).get("failed") for line in lines)
    return Compared(text, failed)


def _plain(question: Question) -> dict[str, Any]:
    """The question as it was asked, for ``benchmark.json``."""
    return {
        "models": ["@".join(map(str, (one.source, *one.scorers))) for one in question.contenders],
        "scorers": list(map(str, question.scorers)),
        "chains": [list(map(str, chain)) for chain in question.chains],
        "collections": list(question.collections),
        "split": question.split,
        "point": question.point,
        "strategy": "" if question.strategy is None else str(question.strategy),
        "calibration": question.calibration,
        "grid": question.grid,
    }


def _before(collections: dict[str, Cohort]) -> Iterator[str]:
    """Warnings that a reader must see before the numbers."""
    for name, rows in collections.items():
        learned = sum(row.split == "train" for row in rows)
        if learned:
            yield f"{name or 'cohort'}: {learned} scans are of split 'train': the models may have learned them"
        if len({row.subject for row in rows if row.lesion_mask}) < 2:
            yield f"{name or 'cohort'}: fewer than two patients with a lesion mask: no intervals, no p-values"
