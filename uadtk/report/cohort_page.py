"""The page of a folder: every scan with its light, findings, volume and picture, to sort and to filter."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import DataError, UsageError
from uadtk.io.results import ScanState
from uadtk.io.write import write_text
from uadtk.report.page import template

PAGE = "index.html"
MADE_BY = '<meta name="generator" content="uadtk">'
FEWEST = 8  # scans that outliers are looked for among
FAR = 3.5  # robust standard deviations (Iglewicz and Hoaglin 1993)


@dataclass(frozen=True)
class Line:
    name: str
    status: str
    light: str
    findings: int | None
    volume_ml: float | None
    note: str  # why it is not done, the gate's reasons, and in which way it is an outlier
    outlier: bool
    report: str  # relative links; empty if there is none
    picture: str


def refuse_other_page(folder: Path) -> None:
    """Before any work. Raises UsageError if there is an ``index.html`` of another origin."""
    page = folder / PAGE
    if page.is_file() and MADE_BY not in page.read_bytes()[:4000].decode(errors="replace"):
        raise UsageError("was not made by uadtk", str(page), "Move it away.")


def write_cohort_page(folder: Path, states: Sequence[ScanState]) -> Path:
    """Make ``index.html`` of the scans that the folder holds; its path.

    Raises
    ------
    DataError
        The folder holds no result of ``uadtk segment``.
    UsageError
        There is an ``index.html`` of another origin, or the folder is not writable.
    """
    if not states:
        raise DataError("holds no result of uadtk segment", str(folder), "Name the output folder of uadtk segment.")
    refuse_other_page(folder)
    page = folder / PAGE
    write_text(page, cohort_html(states, folder.resolve().name))
    return page


def cohort_html(states: Sequence[ScanState], name: str) -> str:
    """The page as HTML. Links are relative to the folder of the scans."""
    done = [state for state in states if state.status == "done"]
    strange = _outliers(done)
    script = (files("uadtk.report") / "cohort.js").read_text(encoding="utf-8")
    return template("cohort.html.j2").render(
        name=name,
        lines=[_line(state, strange.get(state.name, "")) for state in states],
        statuses=Counter(state.status for state in states),
        lights=Counter(state.light for state in states if state.light),
        outliers=len(strange),
        findings=sum(state.findings for state in done),
        total_ml=sum(state.volume_ml for state in done),
        script=script,
        made_by=MADE_BY,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _line(state: ScanState, strange: str) -> Line:
    done = state.status == "done"
    gate = state.provenance.get("gate")
    reasons = gate.get("reasons") if isinstance(gate, Mapping) else []
    listed = reasons if isinstance(reasons, list) else []
    whats = [str(one.get("what", "")) for one in listed if isinstance(one, Mapping)]
    notes = [strange, state.error, *(whats if done else [])]
    links = {key: quote(os.fsencode(path.name)) for key, path in state.files.items()}
    return Line(
        name=state.name,
        status=state.status,
        light=state.light,
        findings=state.findings if done else None,
        volume_ml=state.volume_ml if done else None,
        note="; ".join(note for note in notes if note),
        outlier=bool(strange),
        report=links.get("report", ""),
        picture=links.get("thumbnail", ""),
    )


def _outliers(done: Sequence[ScanState]) -> dict[str, str]:
    """In which way each unusual scan is unusual among these, by name. None of a few scans."""
    if len(done) < FEWEST:
        return {}
    found: dict[str, list[str]] = {}
    for what, values in (
        ("findings", np.array([state.findings for state in done], dtype=float)),
        ("volume", np.array([state.volume_ml for state in done])),
    ):
        distances = _robust(np.log1p(values))
        for state, distance in zip(done, distances.tolist(), strict=True):
            if abs(distance) > FAR:
                found.setdefault(state.name, []).append(f"{'many' if distance > 0 else 'few'} {what}")
    words = {"many volume": "large volume", "few volume": "small volume"}
    return {name: "outlier: " + ", ".join(words.get(way, way) for way in ways) for name, ways in found.items()}


def _robust(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the median in standard deviations, estimated from the median distance.

    If that is 0, as where most scans have no findings, from the mean distance.
    """
    off = values - np.median(values)
    spread = float(np.median(np.abs(off))) / 0.6745 or float(np.abs(off).mean()) * np.sqrt(np.pi / 2)
    return off / spread if spread > 0 else np.zeros_like(off)
