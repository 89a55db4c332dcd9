"""The page of training curves, and its command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from uadtk.cli import main
from uadtk.report.curves import curves_html, quantities
from uadtk.training.logs import read_log, write_log

LOG = [
    {"epoch": e, "train_loss": 100.0 / e, "train_critic": -e, "validation_loss": v, "learning_rate": 1e-3, "seconds": 6}
    for e, v in ((1, 90.0), (2, 30.0), (3, 40.0), (4, math.inf))
]


def lines(page: str, part: str) -> list[list[tuple[float, float]]]:
    paths = re.findall(rf'class="curve {part}" d="M(.*?)"', page)
    return [[(float(x), float(y)) for x, y in (point.split() for point in path.split("L"))] for path in paths]


def test_quantities_are_paired_and_what_is_not_finite_is_left_out() -> None:
    found = quantities(LOG)
    assert {name: set(parts) for name, parts in found.items()} == {
        "loss": {"train", "validation"}, "critic": {"train"}, "learning_rate": {""}
    }  # fmt: skip
    assert found["loss"]["validation"] == [(1, 90.0), (2, 30.0), (3, 40.0)]
    assert found["critic"]["train"] == [(1, -1.0), (2, -2.0), (3, -3.0), (4, -4.0)]


def test_the_curve_is_where_the_numbers_are() -> None:
    page = curves_html("m", LOG[:3])
    falling, rising = lines(page, "train")[0], lines(page, "validation")[0]
    assert [x for x, _ in falling] == sorted(x for x, _ in falling)
    assert [y for _, y in falling] == sorted(y for _, y in falling)  # down the page
    assert rising[1][1] > rising[2][1]  # 30, then 40: up again
    low, high = 30.0, 100.0
    top, base = falling[0][1], rising[1][1]
    assert falling[1][1] == pytest.approx(base + (50 - low) / (high - low) * (top - base), abs=0.2)


def test_a_wide_range_of_positive_values_is_shown_on_a_logarithmic_scale() -> None:
    log = [{"epoch": e, "validation_loss": 10.0**-e, "seconds": 1} for e in (1, 2, 3)]
    page = curves_html("m", log)
    assert "loss, logarithmic" in page
    (line,) = lines(page, "validation")
    assert line[1][1] == pytest.approx((line[0][1] + line[2][1]) / 2, abs=0.1)
    assert "logarithmic" not in curves_html("m", LOG[:3])


def test_the_best_epoch_and_the_time_are_told_and_names_are_escaped() -> None:
    page = curves_html("<m>", LOG)
    assert "4 epochs, 0.4 minutes. Lowest validation loss 30 in epoch 2." in page
    assert "<h1>&lt;m&gt;</h1>" in page
    assert "<m>" not in page


def test_one_epoch_is_enough() -> None:
    assert lines(curves_html("m", LOG[:1]), "train")


_STRANGE: tuple[Any, ...] = (None, "<script>", [1], {}, True)


def uadtk(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def test_the_command_takes_a_checkpoint_or_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "m.safetensors", LOG[:3])
    assert read_log(tmp_path / "m.log.jsonl") == LOG[:3]
    (tmp_path / "m.training.html").unlink()
    assert uadtk("report-training", tmp_path / "m.safetensors") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'm.training.html'}\n"
    assert "<svg" in (tmp_path / "m.training.html").read_text()
    assert uadtk("report-training", tmp_path / "m.log.jsonl") == 0
    assert uadtk("report-training", tmp_path / "m.log.jsonl", "-o", tmp_path / "m.training.html") == 2
    assert uadtk("report-training", tmp_path / "m.log.jsonl", "-o", tmp_path / "other.html") == 0


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]\n", "{}\n", json.dumps({"epoch": 1}) + "\n", "x\n", None, "[" * 200_000, "1\n"),
        *(json.dumps({**LOG[0], key: value}) for key in ("epoch", "seconds", "validation_loss") for value in _STRANGE),
    ],
)
def test_what_is_no_log_is_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], content) -> None:
    path = tmp_path / "m.log.jsonl"
    if content is not None:
        path.write_text(content)
    assert uadtk("report-training", path) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "Name a training's .log.jsonl." in line
    assert not (tmp_path / "m.training.html").exists()


def test_values_that_no_curve_can_hold_are_left_out(tmp_path: Path) -> None:
    huge = {"a": 10**400, "b": 1e308, "c": math.inf}
    (tmp_path / "m.log.jsonl").write_text(json.dumps({**LOG[0], **huge, "validation_loss": math.nan}))
    assert uadtk("report-training", tmp_path / "m.log.jsonl") == 0
    assert set(quantities(read_log(tmp_path / "m.log.jsonl"))) == {"loss", "critic", "learning_rate"}
    assert uadtk("report-training", _huge_epoch(tmp_path)) == 3


def _huge_epoch(folder: Path) -> Path:
    path = folder / "huge.log.jsonl"
    path.write_text(json.dumps({**LOG[0], "epoch": 10**400}))
    return path
