"""The multiverse as text and as TSV."""

from __future__ import annotations

import csv

from uadtk.metrics.multiverse import Driver, Multiverse, Rank, Universe
from uadtk.report.multiverse import COLUMNS, as_text, as_tsv

RANKS = [
    Rank("ms", "histeq", 162, 1, 1, 2, 0.75, 0.2, 0.31249, 0.5),
    Rank("ms", "vae residual", 162, 1.5, 1, 2, 0.25, 0.1, 0.3, 0.45),
]


def test_each_cell_is_below_its_heading() -> None:
    title, many, heading, first, second = as_text(RANKS, []).splitlines()[:5]
    assert (title, many) == ("ms", "162 universes")
    expected = {
        "method": ("histeq", "vae residual"),
        "median rank": ("1", "1.5"),
        "best": ("1", "1"),
        "worst": ("2", "2"),
        "first": ("75 %", "25 %"),
        "median DICE": ("0.312", "0.300"),
        "lowest": ("0.200", "0.100"),
        "highest": ("0.500", "0.450"),
    }
    for name, cells in expected.items():
        at = heading.index(name)
        assert tuple(line[at:].split("  ")[0].rstrip() for line in (first, second)) == cells, name


def test_what_moves_dice_is_a_line_below_its_collections_table() -> None:
    moves = [Driver("ms", "median_mm", 0.119), Driver("ms", "rule", 0.0354), Driver("lgg", "grid", 0.01)]
    ms, lgg = as_text(RANKS, moves).split("\n\n")[:2]
    assert ms.splitlines()[-1] == "Effect on DICE: median 0.119, threshold rule 0.035"
    assert lgg.splitlines()[0] == "lgg"
    assert "nothing to rank" in lgg
    assert lgg.splitlines()[2] == "Effect on DICE: grid 0.010"


def test_the_oracle_is_said_to_be_one() -> None:
    assert "'oracle' chooses its threshold on the test scans" in as_text(RANKS, [])


def test_the_tsv_has_a_line_for_each_universe_and_all_digits() -> None:
    universes = Universe("p98", 3, 6.0, 8, "native", 1 / 3), Universe("oracle", 0, 0.0, 1, "model", 0.5)
    text = as_tsv([Multiverse("ms", "a\tb", universes), Multiverse("lgg", "c", universes[:1])])
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["collection"], row["label"], float(row["dice"])) for row in rows] == [
        ("ms", "a b", 1 / 3),
        ("ms", "a b", 0.5),
        ("lgg", "c", 1 / 3),
    ]
    assert list(rows[1].values())[2:7] == ["oracle", "0", "0.0", "1", "model"]
