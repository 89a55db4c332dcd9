"""The page of a benchmark: a section for each kind of data, correct numbers, self-contained."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from uadtk.core.spec import Spec
from uadtk.metrics.compare import Pair
from uadtk.metrics.multiverse import Rank
from uadtk.report.figures import Row, histograms, precision_recall, rows_by_collection, training_sizes
from uadtk.report.matrices import correlation_matrices, pair_matrices, rank_rows, site_tables
from uadtk.report.study import study_html
from uadtk.report.table import Line

VOID = {"meta", "img", "br", "link"}
SECTIONS = ("table", "curves", "histograms", "mosaics", "pairs", "correlations", "sizes", "sites", "ranks")


def scan(subject: str, site: str | None, value: float | None, labelled: bool = True) -> dict[str, Any]:
    return {"subject": subject, "site": site, "auprc": value, "dice": value, "labelled": labelled}


def evaluation(scans: int | None = None, **values: float | None) -> dict[str, Any]:
    return {
        "measures": {name: {"value": value, "interval": None} for name, value in values.items()},
        "point": {"name": "p98", "threshold": 0.25},
        "grid": "native",
        "scans": [],
        "failed": [],
        "patients": 2,
        "lesion_share": 0.02,
        "options": {"learned_scans": scans, "model": {"options": {"latent": 8}}},
    }


def line(model: str, of: dict[str, Any] | None = None, collection: str = "ms", **more: Any) -> Line:
    of = evaluation(auprc=0.5) if of is None else of
    return Line(collection, f"build/{model}.safetensors", "vae", Spec("residual"), evaluation=of, **more)


def baseline(of: dict[str, Any], collection: str = "ms") -> Line:
    return Line(collection, "histeq", "histeq", Spec("own"), evaluation=of)


def rows(*lines: Line) -> dict[str, list[Row]]:
    return rows_by_collection(lines)


class Page(HTMLParser):
    """Open tags, ids of sections, and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.sections: list[Any] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.sections.append(dict(attrs)["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def everything() -> str:
    lines = []
    for k, model in enumerate("abcd"):
        of = evaluation(6 if k % 2 else 30, auprc=0.1 * k, auprc_volume=0.1 * k, dice_oracle_volume=0.2, l1_normal=k)
        of["measures"] |= {name: {"value": k, "interval": [k - 1, k + 1]} for name in ("l1_anomalous", "chi_squared")}
        of["precision_recall"] = [[0.1, 0.9], [1.0, 0.02]]
        of["histograms"] = {"top": 1.0, "normal": [9, 1], "anomalous": [1, 9]}
        of["scans"] = [scan("x", "north", 0.25), scan("y", "south", 0.75)]
        lines.append(line(model, of, receipt=model))
    pairs = [Pair("ms", "dice", "a residual", "b residual", 5, -0.25, 0.01, 0.03, -0.5, -0.1)]
    ranks = [rank("a residual", 1.5, 1.0, 2.0)]
    return study_html(lines, {}, {}, pairs, ranks, {"a": b"picture"}, {"ms": b"head"}, {"Cohort": "ms.tsv"})


def rank(label: str, median: float, best: float, worst: float) -> Rank:
    dice = {"dice_low": 0.125, "dice_median": 0.25, "dice_high": 0.5}
    return Rank("ms", label, 216, median=median, best=best, worst=worst, first=0.25, **dice)


def test_with_everything_there_are_all_sections_and_each_is_linked() -> None:
    html = everything()
    page = Page(html)
    assert page.open == []
    assert tuple(page.sections) == SECTIONS
    assert tuple(re.findall(r'href="#(\w+)"', html)) == SECTIONS
    for words in ("Cohort ms.tsv", "25 %", "0.125 to 0.5", "216", "1 to 2", "p98: score > 0.25", "Pearson, 4 rows"):
        assert words in page.text, words


def test_the_page_needs_neither_network_nor_script() -> None:
    html = everything()
    assert not {"script", "link", "iframe", "object", "base"} & Page(html).tags
    assert not re.search(
        r"//\w|url\(|@import|href=\"[^#]|\son\w+=", re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
    )
    assert html == everything()


def test_receipts_of_before_the_figures_make_the_table_alone() -> None:
    old = evaluation(auprc=0.5)
    old["scans"] = [{"subject": "x", "auprc": 0.5, "dice": 0.5, "labelled": True}]
    del old["options"]
    page = Page(study_html([line("a", old)], {}, {}))
    assert page.sections == ["table"]


def test_a_problem_and_a_published_row_stand_in_the_table() -> None:
    published = {"MSLUB": {"VAE": {"dataset": "MSLUB", "approach": "VAE", "auprc": "0.234"}}}
    lines = [line("a"), replace(line("b"), evaluation=None, problem="failed: <no> memory", cleaners=(Spec("erode"),))]
    text = Page(study_html(lines, published, {"ms": "MSLUB"})).text
    assert "published, MSLUB: VAE - 0.234 -" in text
    assert "b residual (erode) failed: <no> memory" in text
    assert "a residual (not cleaned) not cleaned · point p98: score > 0.25" in text


def test_without_a_point_the_table_says_so_and_failed_scans_are_counted() -> None:
    of = {**evaluation(auprc=0.5), "point": None, "failed": [["x.nii", "no"], ["y.nii", "no"]]}
    assert "no operating point · 2 scans failed" in Page(study_html([line("a", of)], {}, {})).text


def test_the_highest_area_comes_first_and_no_learning_is_drawn_last() -> None:
    curve = {"precision_recall": [[0.5, 1.0], [1.0, 0.02]]}
    lines = [baseline({**evaluation(auprc=0.3), **curve}), *(
        line(m, {**evaluation(auprc=v), **curve}) for m, v in (("low", 0.1), ("high", 0.5)))]  # fmt: skip
    (figure,) = precision_recall(rows(*lines, line("none", {**evaluation(auprc=0.9), "precision_recall": []})))
    assert [(name, number) for _, name, number in figure.legend] == [
        ("high residual", "0.5"), ("histeq", "0.3"), ("low residual", "0.1")
    ]  # fmt: skip
    assert re.findall("<title>(.*?)</title>", figure.svg) == ["high residual", "low residual", "histeq"]
    assert figure.note == "Lesion voxels are 2.00% of the brain."


def test_a_label_has_the_same_style_in_every_collection() -> None:
    found = rows(line("a"), line("b"), line("b", collection="lgg"), baseline(evaluation(auprc=1), "lgg"))
    assert [row.style for row in found["ms"]] == ["c0 d0", "c1 d0"]
    assert [row.style for row in found["lgg"]] == ["c1 d0", "base"]


@pytest.mark.parametrize("counts", [None, {}, {"top": 1.0, "normal": [1, 0], "anomalous": [0, 0]}])
def test_a_row_without_both_histograms_has_no_chart(counts: Any) -> None:
    assert histograms(rows(line("a", {**evaluation(), "histograms": counts}))) == {}


def test_a_pair_is_read_from_both_sides_and_coloured_if_it_holds_after_correction() -> None:
    pairs = [
        Pair("ms", "dice", "a", "b", 6, 0.25, 0.01, 0.03, 0.1, 0.4),
        Pair("ms", "dice", "a", "c", 6, 0.125, 0.02, 0.06, 0.0, 0.2),
        Pair("ms", "dice", "b", "c", 0, float("nan"), float("nan"), float("nan")),
        Pair("ms", "auprc", "a", "b", 6, 0.5, 0.0001, 0.0003),
    ]
    dice, auprc = pair_matrices(pairs)
    assert (dice.title, auprc.title) == ("ms · DICE", "ms · AUPRC")
    (_, ab, ac), (ba, _, bc), _ = (cells for _, cells in dice.rows)
    assert (ab.text, ab.detail, ab.strength) == ("+0.250", "p 0.03", 0.5)
    assert (ba.text, ba.detail, ba.strength) == ("-0.250", "p 0.03", -0.5)
    assert ba.tooltip == "b minus a: -0.250, 6 patients, 95 % [-0.400, -0.100]"
    assert (ac.text, ac.strength) == ("+0.125", 0.0)
    assert bc.text == "-"
    assert auprc.rows[0][1][1].detail == "p < 0.001"


def full(k: float, **more: Any) -> dict[str, Any]:
    names = ("auprc_volume", "dice_oracle_volume", "l1_normal", "l1_anomalous", "chi_squared")
    return evaluation(**(dict.fromkeys(names, k) | more))


def test_measures_correlate_over_the_rows_that_have_them_all() -> None:
    own = [line(str(k), full(k, dice_oracle_volume=-k, chi_squared=k**3)) for k in range(4)]
    pearson, spearman = correlation_matrices(rows(*own, line("e", evaluation(auprc_volume=0.5))))["ms"]
    assert (pearson.title, spearman.title) == ("Pearson, 4 rows", "Spearman (ranks), 4 rows")
    assert [cell.text for cell in spearman.rows[0][1]] == ["+1.00", "-1.00", "+1.00", "+1.00", "+1.00"]
    assert pearson.rows[0][1][4].text == "+0.91"  # 0 1 2 3 and 0 1 8 27: 44 / sqrt(5 * 470)
    assert correlation_matrices(rows(*own[:3])) == {}


def test_rows_that_differ_in_training_scans_alone_are_one_curve() -> None:
    other = evaluation(100, auprc_volume=0.9)
    other["options"]["model"] = {"options": {"latent": 16}}
    of = (evaluation(30, auprc_volume=0.5), evaluation(6, auprc_volume=0.25), evaluation(None, auprc_volume=1.0), other)
    (figure,) = training_sizes(rows(*(line(f"m{k}", each) for k, each in enumerate(of))))
    assert [(name, numbers) for _, name, numbers in figure.legend] == [("vae residual", "0.25 → 0.5")]
    assert re.findall(r'text-anchor="middle">(\d+)<', figure.svg) == ["6", "30"]
    assert training_sizes(rows(line("a", of[0]), line("b", other))) == []


def test_sites_are_columns_and_a_pool_counts_nobody_twice() -> None:
    north = {
        **evaluation(),
        "scans": [scan("x", "north", 0.25), scan("y", "north", 0.75), scan("h", "north", 1, False)],
    }
    south = {**evaluation(), "scans": [scan("z", "south", 0.5), scan("w", None, None)]}
    both = [line("a", north), line("a", south, "lgg"), line("a", south, "ms+lgg"), line("b", south, "lgg")]
    auprc, dice = site_tables(rows(*both))
    assert (auprc.title, dice.title) == ("AUPRC", "DICE")
    assert auprc.places == [("ms", "north"), ("lgg", "south")]
    (a, (first, second)), (b, (none, third)) = auprc.rows
    assert (a, b, none) == ("a residual", "b residual", None)
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.text, first.detail) == ("0.5", "[0.25, 0.75] n = 2")
    assert (second.text, second.detail) == ("0.5", "n = 1")
    assert site_tables(rows(line("a", north))) == []


def test_ranks_are_sorted_and_their_bars_go_from_best_to_worst() -> None:
    (first, one), (second, two) = rank_rows([rank("b", 2.0, 1.0, 2.0), rank("a", 1.0, 1.0, 1.0)])["ms"]
    assert (first.label, second.label) == ("a", "b")
    assert 'd="M5.0 7H5.0"' in one
    assert 'd="M5.0 7H115.0"' in two


def test_pictures_stand_beside_their_rows_below_the_head() -> None:
    lines = [line("a", receipt="1"), line("b", receipt="2"), line("c", receipt="3")]
    html = study_html(lines, {}, {}, pictures={"3": b"three", "1": b"one"}, heads={"ms": b"head"})
    found = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)"', html)
    assert found == [
        ("scans and lesions", "aGVhZA=="),
        ("reconstructions and scores of a residual", "b25l"),
        ("reconstructions and scores of c residual", "dGhyZWU="),
    ]


def test_names_are_escaped_wherever_they_stand() -> None:
    of = {**evaluation(auprc=0.5), "precision_recall": [[1, 1]]}
    of["histograms"] = {"top": 1.0, "normal": [1], "anomalous": [1]}
    html = study_html([line("<i>x", of, "<b>c")], {}, {}, more_facts={"<u>t": "<s>v"})
    assert not re.search("<i>x|<b>c|<u>t|<s>v", html)
