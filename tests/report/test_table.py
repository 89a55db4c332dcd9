"""The table of a benchmark: the study's layout, ours above the published, and a TSV in full precision."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from uadtk.core.errors import DataError, UsageError
from uadtk.core.spec import Spec, parse_all
from uadtk.report.table import APPROACHES, Line, as_text, as_tsv, labels, named_datasets, published_row, read_published

PUBLISHED = (
    "dataset\tapproach\tauroc\tauprc\tbest_dice\tdice_mean\tdice_sd\tchi2\n"
    "MSLUB\tVAE\t0.827\t0.234\t0.323\t0.205\t0.207\t5.53e-01\n"
    "MSLUB\tVAE (restoration)\t0.839\t0.275\t0.333\t0.203\t0.209\t5.65e-01\n"
)


@pytest.fixture
def published(tmp_path: Path) -> Any:
    (tmp_path / "study.tsv").write_text(PUBLISHED)
    return read_published(tmp_path / "study.tsv")


def evaluation(**values: float | None) -> dict[str, Any]:
    measures = {name: {"value": value, "interval": None} for name, value in values.items()}
    point = {"name": "p98", "threshold": 0.25}
    return {"measures": measures, "point": point, "grid": "native", "scans": [1, 2], "failed": [], "patients": 2}


def line(scorer: str = "residual", model: str = "build/vae.safetensors", **more: Any) -> Line:
    return Line("ms", model, "vae", Spec.parse(scorer), **more)


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def test_the_text_has_the_studys_columns_and_the_published_row_below_ours(published: Any) -> None:
    own = evaluation(auroc_volume=0.9, auprc=0.5, auprc_volume=0.4, dice=0.3, dice_sd=0.1, chi_squared=None)
    own["measures"]["auprc_volume"]["interval"] = [0.31, 0.52]
    text = as_text([line(evaluation=own, paired={"dice": (2, 0.1, 0.5)})], published, {"ms": "MSLUB"})
    title, heading, ours, interval, theirs = text.splitlines()[:5]
    assert title == "ms"
    column = heading.index
    assert ours.startswith("vae residual ")
    for name, text_there in (("AUROC", "0.9 "), ("AUPRC", "0.4 "), ("DICE (mean", "0.3 ± 0.1"), ("p DICE", "0.5 ↑")):
        assert ours[column(name) :].startswith(text_there), name
    assert ours[column("χ²")] == ours[column("p AUPRC")] == "-"
    assert interval.split() == ["[0.31,", "0.52]"]
    assert interval.index("[") == column("AUPRC")
    assert theirs.startswith("  published, MSLUB: VAE  ")
    assert theirs[column("AUPRC") :].startswith("0.234")
    assert theirs[column("DICE (mean") :].startswith("0.205 ± 0.207")


def test_rows_are_called_by_what_tells_them_apart() -> None:
    bare = Line("ms", "histeq", "histeq", Spec("own"))
    assert labels([bare, line(), line("montecarlo")]) == ["histeq", "vae residual", "vae montecarlo"]
    assert labels([line(), line(model="other/vae.safetensors")]) == [
        "build/vae.safetensors residual",
        "other/vae.safetensors residual",
    ]
    assert labels([line(), line(cleaners=parse_all(["erode", "median:size=3"]))]) == [
        "vae residual (not cleaned)",
        "vae residual (erode median:size=3)",
    ]


def test_collections_are_tables_of_their_own() -> None:
    rows = [Line(name, "histeq", "histeq", Spec("own"), evaluation=evaluation()) for name in ("lgg", "ms")]
    text = as_text(rows, {}, {})
    assert [part.splitlines()[0] for part in text.split("\n\n")[:2]] == ["lgg", "ms"]
    assert text.count("approach") == 2


def test_a_row_that_could_not_be_says_so_and_widens_no_column() -> None:
    problem = "scorer 'own' needs score, which model 'vae' does not provide. " * 5
    text = as_text([line(evaluation=evaluation()), line("own", problem=problem)], {}, {})
    _, heading, _, said = text.splitlines()[:4]
    assert said.endswith(problem.strip())
    assert len(heading) < len(said)
    alone = as_text([line("own", problem=problem)], {}, {})
    assert problem.strip() in alone


def test_the_tsv_holds_every_digit_and_nothing_where_there_is_nothing(published: Any) -> None:
    own = evaluation(auprc=1 / 3, dice_sd=None)
    own["measures"]["auprc"]["interval"] = [0.1 + 0.2, 0.5]
    rows = [
        line(evaluation=own, paired={"dice": (2, 0.125, 0.5), "auprc": (1, 0.5, math.nan)}, receipt="abc"),
        line("own:a=1", problem="cannot\tbe"),
    ]
    first, second = parsed(as_tsv(rows, published, {"ms": "MSLUB"}))
    assert float(first["auprc"]) == 1 / 3
    assert float(first["auprc_low"]) == 0.1 + 0.2
    assert (first["dice_sd"], first["dice_sd_low"], first["auprc_p_histeq"]) == ("", "", "")
    assert (first["dice_pairs_histeq"], first["dice_difference_histeq"], first["dice_p_histeq"]) == (
        "2",
        "0.125",
        "0.5",
    )
    assert (first["published"], first["published_auprc"]) == ("MSLUB: VAE", "0.234")
    assert (first["scans"], first["patients"], first["point"], first["receipt"]) == ("2", "2", "p98", "abc")
    assert (second["problem"], second["auprc"], second["published"]) == ("cannot be", "", "")


def test_model_scorer_and_dataset_together_name_a_published_row(published: Any) -> None:
    datasets = {"ms": "MSLUB"}
    assert published_row(line("restoration:steps=500"), published, datasets)[1]["auprc"] == "0.275"
    assert published_row(line("gradient"), published, datasets) == ("", {})
    assert published_row(line(), published, {}) == ("", {})


def test_the_studys_17_approaches_are_all_known_by_name() -> None:
    from uadtk import registry

    assert len(set(APPROACHES.values())) == len(APPROACHES) == 17
    for model, scorer in APPROACHES:
        assert model in registry.own("models")
        assert scorer in registry.own("scorers")


def test_a_collection_is_a_dataset_of_that_name_or_of_the_name_given(published: Any) -> None:
    assert named_datasets(published, ["ms", "MSLUB"], {}) == {"MSLUB": "MSLUB"}
    assert named_datasets(published, ["ms", "lgg"], {"ms": "MSLUB"}) == {"ms": "MSLUB"}
    with pytest.raises(UsageError, match="no 'wmh'"):
        named_datasets(published, ["ms"], {"wmh": "MSLUB"})
    with pytest.raises(UsageError, match=r"no 'MSLUBB'.*Did you mean 'MSLUB'"):
        named_datasets(published, ["ms"], {"ms": "MSLUBB"})


def test_a_published_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.tsv"
    for content, words in (
        (b"", "has no rows"),
        (b"dataset\tauroc\nMS\t0.9\n", "lacks its dataset or approach"),
        (b"dataset\tapproach\n\tVAE\n", "lacks its dataset or approach"),
        (b"\xff\xfe\x00", "is not a text file"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_published(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_published(tmp_path / "none.tsv")
