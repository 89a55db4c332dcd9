"""Checkpoints keep every bit, say what is wrong with a damaged one, and those of format 1 can be read for ever."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.golden.make import FILL, SLICE, TINY
from uadtk import checkpoint as checkpoints
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import CheckpointError, PluginError, UsageError
from uadtk.core.model import DEFAULT_CLEANERS
from uadtk.core.preparation import Preparation
from uadtk.core.spec import Spec, parse_all
from uadtk.core.thresholder import OperatingPoint

GOLDEN = Path(__file__).parent / "golden"

POINT = OperatingPoint(
    name="p98",
    threshold=0.1 + 0.2,  # not a short decimal
    strategy=Spec("p98"),
    target="98 % of healthy brain voxels",
    scorer=Spec("residual"),
    cleaners=parse_all(["erode:iterations=3", "median:size=5,unit=mm"]),
    scans=7,
    digest="d" * 64,
    date="2026-01-31",
    measured={"voxel_fpr": 1 / 3},
    interval=(0.29, 0.31),
)


@pytest.fixture(scope="module")
def made() -> Checkpoint:
    fresh = checkpoints.new("scalespace", TINY, Preparation(side="128", n4=True))
    model = fresh.new_model()
    return replace(fresh, weights=checkpoints.pack(model), training={"epochs": 3, "loss": 0.1}, points=(POINT,))


def test_saved_and_loaded_is_the_same_to_the_last_bit(made: Checkpoint, tmp_path: Path) -> None:
    path, again = tmp_path / "m.safetensors", tmp_path / "again.safetensors"
    made.save(path)
    loaded = checkpoints.load(path)
    assert replace(loaded, source=made.source) == made
    assert loaded.digest == made.digest
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()
    x = torch.rand(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    first, second = (checkpoint.build().reconstruct(x) for checkpoint in (made, loaded))
    assert torch.equal(first, second)


def test_other_safetensors_readers_can_read_the_weights(made: Checkpoint, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path = tmp_path / "m.safetensors"
    made.save(path)
    theirs, ours = load_file(path), made.build().state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_a_model_without_weights_is_saved_too(tmp_path: Path) -> None:
    fresh = checkpoints.new("histeq", {"bins": 16}, Preparation())
    fresh.save(tmp_path / "h.safetensors")
    loaded = checkpoints.load(tmp_path / "h.safetensors")
    assert (loaded.options, loaded.scorer, loaded.weights) == ({"bins": 16}, Spec("own"), b"")
    assert loaded.build().options.bins == 16


def test_a_point_changes_the_header_and_no_byte_of_the_weights(made: Checkpoint, tmp_path: Path) -> None:
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    made.save(before)
    checkpoints.load(before).with_point(replace(POINT, name="f1", threshold=0.5)).save(after)
    raw = [path.read_bytes() for path in (before, after)]
    data = [content[8 + int.from_bytes(content[:8], "little") :] for content in raw]
    assert data[0] == data[1]
    assert raw[0] != raw[1]
    loaded = checkpoints.load(after)
    assert [point.name for point in loaded.points] == ["p98", "f1"]
    assert loaded.points[0] == POINT
    assert loaded.digest == made.digest
    assert [point.threshold for point in loaded.with_point(replace(POINT, threshold=9.0)).points] == [0.5, 9.0]


def test_the_digest_names_weights_options_and_preparation(made: Checkpoint) -> None:
    flipped = made.weights[:-1] + bytes([made.weights[-1] ^ 1])
    others = [
        replace(made, weights=flipped),
        replace(made, options={**made.options, "sigma": 1.5}),
        replace(made, preparation=Preparation()),
    ]
    assert len({made.digest, *(other.digest for other in others)}) == 4
    assert replace(made, points=(), training={}).digest == made.digest


def test_choosing_a_point(made: Checkpoint) -> None:
    assert made.point(None) == made.point("p98") == POINT
    two = made.with_point(replace(POINT, name="f1"))
    assert two.point(None).name == "p98"
    assert two.point("f1").name == "f1"
    with pytest.raises(UsageError, match=r"no operating point 'f2'. --point: Did you mean 'f1'"):
        two.point("f2")
    with pytest.raises(UsageError, match=r"has several operating points. --point: Known: f1, g1"):
        replace(two, points=(two.points[1], replace(POINT, name="g1"))).point(None)
    with pytest.raises(UsageError, match=r"has no operating point. Make one: .* --model m.safetensors --healthy"):
        replace(made, points=(), source="m.safetensors").point(None)


def test_the_header_is_read_without_torch(made: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    made.save(path)
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom uadtk.checkpoint import load\n"
        "print(json.dumps(load(Path(sys.argv[1])).header()))\n"
        "assert not {'torch', 'numba', 'nibabel', 'safetensors'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(made.header()))


def test_new_refuses_what_could_not_be_used_after_training() -> None:
    for arguments, words in (
        ({"options": {"level": 2}}, "no option 'level'. Did you mean 'levels'"),
        ({"scorer": Spec("resdual")}, "no scorer 'resdual'"),
        ({"scorer": Spec.parse("residual:polarity=up")}, "not a choice"),
        ({"cleaners": parse_all(["erode", "median:size=x"])}, "not a number"),
    ):
        with pytest.raises(UsageError, match=words):
            checkpoints.new("scalespace", **{"options": {}, "preparation": Preparation(), **arguments})
    assert checkpoints.new("histeq", {}, Preparation(), cleaners=()).cleaners == ()
    assert checkpoints.new("histeq", {}, Preparation()).cleaners == parse_all(DEFAULT_CLEANERS)


def test_every_cut_is_noticed(made: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    made.save(path)
    raw = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, 2000, len(raw) // 2, len(raw) - 1]:
        path.write_bytes(raw[:length])
        with pytest.raises(CheckpointError, match=r"m\.safetensors: (is cut short|is not a safetensors)"):
            checkpoints.load(path)
    path.write_bytes(raw + b"\0")
    with pytest.raises(CheckpointError, match="is cut short or damaged"):
        checkpoints.load(path)


@pytest.mark.parametrize("bit", [1, 4, 16, 128])
def test_no_flipped_bit_is_more_than_a_checkpoint_error(bit: int, made: Checkpoint, tmp_path: Path) -> None:
    """In the weights each is noticed. In the header some make another valid header; none ends in a traceback."""
    path = tmp_path / "m.safetensors"
    replace(checkpoints.new("histeq", {}, Preparation()), points=(POINT,)).save(path)
    raw = path.read_bytes()
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ bit]) + raw[place + 1 :])
        try:
            loaded = checkpoints.load(path)
            assert json.loads(json.dumps(loaded.header()))
            loaded.build()
        except (CheckpointError, PluginError, UsageError):
            continue
    made.save(path)
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    for place in range(start, len(raw), (len(raw) - start) // 20):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ bit]) + raw[place + 1 :])
        with pytest.raises(CheckpointError, match="the weights are damaged"):
            checkpoints.load(path)


def test_open_takes_names_before_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Checkpoint) -> None:
    monkeypatch.chdir(tmp_path)
    made.save(tmp_path / "histeq")
    assert checkpoints.open_checkpoint("histeq").model == "histeq"
    assert checkpoints.open_checkpoint("histeq:bins=8").options == {"bins": 8}
    made.save(tmp_path / "without-suffix")
    assert checkpoints.open_checkpoint("without-suffix").model == "scalespace"
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.open_checkpoint("none.safetensors")


def test_the_golden_checkpoint_of_format_1_still_gives_its_output(tmp_path: Path) -> None:
    path = tmp_path / "golden.safetensors"
    path.write_bytes(gzip.decompress((GOLDEN / "format1.safetensors.gz").read_bytes()))
    loaded = checkpoints.load(path)
    assert (loaded.model, loaded.scorer, loaded.point(None).threshold) == ("scalespace", Spec("residual"), 0.125)
    assert loaded.preparation == Preparation(denoise=True)
    assert loaded.training == {"epochs": 1}
    wanted = np.load(GOLDEN / "format1.npy")
    assert np.ptp(wanted) > 0.1
    with torch.inference_mode():
        found = loaded.build().reconstruct(SLICE)[0, 0, ::8, ::8].numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    first = next(iter(loaded.build().parameters())).flatten()[: len(FILL)]
    np.testing.assert_array_equal(first.numpy(), FILL[: len(first)])


def test_the_golden_checkpoint_without_weights_still_ranks() -> None:
    loaded = checkpoints.load(GOLDEN / "histeq1.safetensors")
    assert (loaded.options, loaded.point(None).name, loaded.point(None).interval) == ({"bins": 0}, "p98", (0.2, 0.5))
    brain = torch.tensor([[[[True, True], [True, False]]]])
    score = loaded.build().score(torch.tensor([[[[0.3, 0.1], [0.2, 0.9]]]]), brain)
    torch.testing.assert_close(score, torch.tensor([[[[1.0, 1 / 3], [2 / 3, 0.0]]]]))


def test_a_digit_of_a_threshold_cannot_change_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    checkpoint = checkpoints.new("histeq", {}, checkpoints.Preparation())
    point = OperatingPoint("p98", 0.125, Spec("p98"), "t", Spec("own"), checkpoint.cleaners, 3, "0" * 64, "2026-01-01")
    checkpoint.with_point(point).save(path)
    raw = path.read_bytes()
    assert b"0.125" in raw
    path.write_bytes(raw.replace(b"0.125", b"0.135"))
    with pytest.raises(CheckpointError, match="header is damaged"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    "training",
    [
        {"statistics": 3},
        {"statistics": {"numbers": {"noise": 3}}},
        {"statistics": {"numbers": {"noise": [1.0]}}},
        {"statistics": {"numbers": {"noise": [0.1, float("inf")]}}},
        {"statistics": {"contrasts": {"FLAIR": "many"}}},
        {"scans": []},
        {"scans": {"train": "3"}},
    ],
)
def test_facts_of_the_training_that_are_used_are_checked(training: dict[str, Any], tmp_path: Path) -> None:
    replace(checkpoints.new("histeq", {}, Preparation()), training=training).save(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"its header\.training\.(statistics|scans)"):
        checkpoints.load(tmp_path / "a.safetensors")
