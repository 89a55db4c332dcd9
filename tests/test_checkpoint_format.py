"""The promise of ``uadtk.checkpoint``: files of every format are read, field by field, and saved in the present one."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as read_tensors

from tests.golden.make import FILL
from uadtk import checkpoint as checkpoints
from uadtk.checkpoint import FORMAT
from uadtk.core.errors import CheckpointError

GOLDEN = Path(__file__).parent / "golden"
# What the golden file of each format holds, as a header of the present format.
HELD: dict[int, dict[str, Any]] = {
    1: {
        "model": {
            "name": "scalespace",
            "options": {
                "levels": 1,
                "widths": [4],
                "band": "ae",
                "bottleneck": "spatial",
                "latent": 1,
                "lowpass": 1,
                "sigma": 1.0,
                "loss": "l1",
                "kl_weight": 1.0,
                "noise": 0.0,
            },
            "dist": "uadtk",
            "version": "0.1.0",
        },
        "preparation": {
            "side": "128",
            "field_mm": 208.0,
            "register": "none",
            "n4": False,
            "denoise": True,
            "percentile": 98.0,
        },
        "scorer": "residual",
        "cleaners": ["erode:iterations=3", "median:size=5,unit=mm"],
        "training": {"epochs": 1},
        "points": [
            {
                "name": "p98",
                "threshold": 0.125,
                "strategy": "p98",
                "target": "98 % of healthy brain voxels",
                "scorer": "residual",
                "cleaners": [],
                "scans": 3,
                "digest": "0" * 64,
                "date": "2026-01-01",
                "measured": {},
                "interval": [0.2, 0.5],
                "min_voxels": None,
            }
        ],
        "weights_sha256": "f1b864c7596d412c4753b559e7170b38dcd1a26e5c843f27fd63e89da4f6a67f",
    },
}
HELD[2] = {
    **HELD[1],
    "scorer": "gradient",
    "cleaners": ["erode:iterations=3", "median:size=6,unit=mm"],
    "points": [{**HELD[1]["points"][0], "scorer": "restoration"}],
}


def unpacked(number: int, folder: Path) -> Path:
    path = folder / f"format{number}.safetensors"
    path.write_bytes(gzip.decompress((GOLDEN / f"{path.name}.gz").read_bytes()))
    return path


def header_of(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header: dict[str, Any] = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["uadtk"])
    return header


def same(found: Any, wanted: Any, at: str = "header") -> None:
    """``found`` may hold more: fields that are newer than the file, with their defaults."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            same(found[key], value, f"{at}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), at
        for i, value in enumerate(wanted):
            same(found[i], value, f"{at}[{i}]")
    else:
        assert found == wanted, at


def rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Another header in the file, with the checksum that belongs to it."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    tensors = json.loads(raw[8 : 8 + length])
    text = json.dumps(change(json.loads(tensors["__metadata__"]["uadtk"])))
    tensors["__metadata__"] = {"uadtk": text, "uadtk_sha256": hashlib.sha256(text.encode()).hexdigest()}
    head = json.dumps(tensors).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + raw[8 + length :])


def test_every_format_has_a_golden_file_and_a_way_to_the_next() -> None:
    formats = set(range(1, FORMAT + 1))
    assert {int(path.name[6:].split(".")[0]) for path in GOLDEN.glob("format*.safetensors.gz")} == formats == set(HELD)
    assert set(checkpoints._UPGRADES) == formats - {FORMAT}


@pytest.mark.parametrize("number", HELD)
def test_every_field_of_a_golden_file_is_read(number: int, tmp_path: Path) -> None:
    path = unpacked(number, tmp_path)
    assert header_of(path)["format"] == number
    loaded = checkpoints.load(path)
    same(json.loads(json.dumps(loaded.header())), {"format": FORMAT, **HELD[number]})
    tensors = read_tensors(loaded.weights)
    assert tensors
    assert all(np.array_equal(tensor.ravel()[: len(FILL)], FILL[: tensor.size]) for tensor in tensors.values())


@pytest.mark.parametrize("number", HELD)
def test_a_golden_file_is_saved_in_the_present_format(number: int, tmp_path: Path) -> None:
    loaded = checkpoints.load(unpacked(number, tmp_path))
    loaded.save(tmp_path / "again.safetensors")
    again = checkpoints.load(tmp_path / "again.safetensors")
    assert replace(again, source=loaded.source) == loaded
    assert again.digest == loaded.digest
    assert header_of(tmp_path / "again.safetensors")["format"] == FORMAT


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        ("gradient", "gradient:form=paper,polarity=absolute"),
        ("gradient:form=product", "gradient:form=product,polarity=absolute"),
        ("gradient:polarity=positive", "gradient:polarity=positive,form=paper"),
        ("restoration:steps=150", "restoration:steps=150,tv=2.2"),
        ("restoration:tv=1.8", "restoration:tv=1.8"),
        ("montecarlo:samples=20", "montecarlo:samples=20"),
    ],
)
def test_scorers_of_format_1_keep_the_defaults_of_then(stored: str, meant: str, tmp_path: Path) -> None:
    path = unpacked(1, tmp_path)
    rewrite(
        path, lambda header: header | {"scorer": stored, "points": [{**p, "scorer": stored} for p in header["points"]]}
    )
    loaded = checkpoints.load(path)
    assert str(loaded.scorer) == meant
    assert [str(point.scorer) for point in loaded.points] == [meant]
    rewrite(path, lambda header: header | {"scorer": "gradient:form"})
    with pytest.raises(CheckpointError, match="its header of format 1 is incomplete"):
        checkpoints.load(path)


def as_format_0(header: dict[str, Any]) -> dict[str, Any]:
    """A format that never was: the model a plain string, the cleaners one string."""
    model = header.pop("model")
    return header | {"format": 0, "name": model, "cleaners": ";".join(header["cleaners"])}


def from_format_0(header: dict[str, Any]) -> dict[str, Any]:
    return header | {"model": header["name"], "cleaners": header["cleaners"].split(";")}


def test_an_older_format_is_upgraded_when_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unpacked(1, tmp_path)
    before = checkpoints.load(path)
    rewrite(path, as_format_0)
    with pytest.raises(CheckpointError, match="is of checkpoint format 0, which was never released"):
        checkpoints.load(path)
    monkeypatch.setattr(checkpoints, "_UPGRADES", {**checkpoints._UPGRADES, 0: from_format_0})
    loaded = checkpoints.load(path)
    assert loaded == before
    loaded.save(tmp_path / "new.safetensors")
    assert header_of(tmp_path / "new.safetensors")["format"] == FORMAT


def test_upgrades_are_applied_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unpacked(FORMAT, tmp_path)
    seen = []

    def step(header: dict[str, Any]) -> dict[str, Any]:
        seen.append(header["format"])
        return header | {"training": {**header["training"], "steps": len(seen)}}

    monkeypatch.setattr(checkpoints, "FORMAT", FORMAT + 2)
    monkeypatch.setattr(checkpoints, "_UPGRADES", {**checkpoints._UPGRADES, FORMAT: step, FORMAT + 1: step})
    loaded = checkpoints.load(path)
    assert seen == [FORMAT, FORMAT + 1]
    assert loaded.training == {"epochs": 1, "steps": 2}
    loaded.save(path)
    assert header_of(path)["format"] == FORMAT + 2
    assert replace(checkpoints.load(path), source="") == replace(loaded, source="")
    assert len(seen) == 2  # what is saved in the present format needs no upgrade


def test_an_old_header_that_lacks_something_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unpacked(1, tmp_path)
    rewrite(path, lambda header: {key: value for key, value in as_format_0(header).items() if key != "name"})
    monkeypatch.setattr(checkpoints, "_UPGRADES", {**checkpoints._UPGRADES, 0: from_format_0})
    with pytest.raises(CheckpointError, match=r"its header of format 0 is incomplete \('name'\)"):
        checkpoints.load(path)
    rewrite(path, lambda header: {**header, "format": -1})
    with pytest.raises(CheckpointError, match="format -1, which was never released"):
        checkpoints.load(path)


def test_a_newer_format_says_what_to_do(tmp_path: Path) -> None:
    path = unpacked(FORMAT, tmp_path)
    rewrite(path, lambda header: {**header, "format": FORMAT + 1})
    with pytest.raises(CheckpointError, match=rf"this uadtk reads up to {FORMAT}\. Update: pip install -U uadtk"):
        checkpoints.load(path)
