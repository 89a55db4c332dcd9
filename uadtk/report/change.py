"""A follow-up: two segmented scans of one person, as a table, as JSON, and as a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from uadtk.core.finding import Scoring
from uadtk.core.text import shown
from uadtk.core.volume import Affine, Mask, Scan, ScoreMap, Volume
from uadtk.metrics.change import KINDS, Change
from uadtk.metrics.repeatability import Repeatability
from uadtk.preparation.agreement import Agreement, Head
from uadtk.report.axial_views import Planes, canonical
from uadtk.report.mosaic import FOUND, GREY, OTHER, mask_pixels, png
from uadtk.report.page import css, png_src, template
from uadtk.report.place import places
from uadtk.report.table import aligned, tsv
from uadtk.version import USE

SHOWN = 24  # changes with pictures
LISTED = 500  # changes in the page; all are in compare.tsv
PANEL_PX, NEAR_PX, NEAR_MM = 240, 200, 60.0

_COLUMNS = (
    *("number", "change", "before", "after", "before_ml", "after_ml", "change_ml", "change_percent"),
    *("limit_ml", "once", "unseen_before_ml", "unseen_after_ml", "apart_before_ml", "apart_after_ml"),
    *("x_before_mm", "y_before_mm", "z_before_mm", "x_after_mm", "y_after_mm", "z_after_mm", "place", "note"),
)


@dataclass(frozen=True)
class Exam:
    """A scan with its findings. ``provenance``: as ``uadtk segment`` recorded it."""

    name: str
    scan: Scan
    brain: Mask
    components: Volume
    provenance: Mapping[str, Any]

    @property
    def head(self) -> Head:
        return Head(self.scan, self.brain, Mask(self.components.voxels > 0, self.scan.affine))

    @property
    def average(self) -> Affine | None:
        """As in ``Gate``, from the provenance."""
        try:
            stored = np.array(self.provenance["gate"].get("average", ()), dtype=np.float64)
        except (TypeError, ValueError):
            return None
        return stored if stored.shape == (4, 4) and np.isfinite(stored).all() else None

    @property
    def light(self) -> str:
        return str(self.provenance["gate"]["light"])


@dataclass(frozen=True)
class FollowUp:
    """Two exams of one person. ``notes``: what speaks against trusting the comparison, a line each.

    ``to_after``: rigid transform from RAS+ mm of the first scan to the second. ``repeatability``: source of the limits.
    """

    before: Exam
    after: Exam
    to_after: Affine
    agreement: Agreement
    changes: Sequence[Change]
    repeatability: Repeatability
    notes: Sequence[str]

    def counts(self) -> dict[str, int]:
        return {kind: sum(change.kind == kind for change in self.changes) for kind in KINDS}

    @cached_property
    def places(self) -> list[str]:
        """Where each change is, in words: in the second brain, or the first if that has it alone. Empty if unknown."""
        unknown = [""] * len(self.changes)
        one, two = self.before, self.after
        first = places(one.brain, [change.before_mm for change in self.changes], one.average) or unknown
        second = places(two.brain, [change.after_mm for change in self.changes], two.average) or unknown
        own = (new if change.after else old for change, old, new in zip(self.changes, first, second, strict=True))
        return list(map(str, own))


def as_text(follow_up: FollowUp) -> str:
    """A line per change, for a terminal."""
    head = ["", "change", "before", "after", "ml before", "ml after", "change", "%", "if repeated", "note"]
    rows = []
    for number, change in enumerate(follow_up.changes, 1):
        labels = [",".join(map(str, own)) or "-" for own in (change.before, change.after)]
        percent = "-" if change.percent is None else f"{round(change.percent):+d}"
        volumes = [f"{change.before_ml:.2f}", f"{change.after_ml:.2f}", f"{change.change_ml:+.2f}"]
        rows.append([str(number), change.kind, *labels, *volumes, percent, change.usual, change.note])
    counted = ", ".join(f"{count} {kind}" for kind, count in follow_up.counts().items() if count) or "no findings"
    before, after = totals(follow_up)
    table = f"{aligned([head, *rows])}\n" if rows else ""
    return f"{table}{counted}; {before:.2f} ml before, {after:.2f} after"


def totals(follow_up: FollowUp) -> tuple[float, float]:
    """Millilitres of all findings."""
    return sum(c.before_ml for c in follow_up.changes), sum(c.after_ml for c in follow_up.changes)


def as_tsv(follow_up: FollowUp) -> str:
    """A line per change; ``before`` and ``after`` are labels in the components images."""
    rows = (
        (
            *(number, change.kind, ",".join(map(str, change.before)), ",".join(map(str, change.after))),
            *(f"{ml:.6g}" for ml in (change.before_ml, change.after_ml, change.change_ml)),
            "" if change.percent is None else f"{change.percent:.2f}",
            f"{change.limit_ml:.6g}" if change.known else "",
            f"{change.once:.3f}",
            *(f"{ml:.6g}" for ml in (*change.unseen_ml, *change.apart_ml)),
            *(f"{mm:.2f}" for mm in (*change.before_mm, *change.after_mm)),
            *(place, change.note),
        )
        for number, (change, place) in enumerate(zip(follow_up.changes, follow_up.places, strict=True), 1)
    )
    return tsv(_COLUMNS, rows)


def as_json(follow_up: FollowUp, record: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, as plain values; ``record`` (versions, model, options) comes first."""
    before_ml, after_ml = totals(follow_up)
    exams = {}
    for key, exam, ml in (("before", follow_up.before, before_ml), ("after", follow_up.after, after_ml)):
        source = exam.provenance["input"]
        exams[key] = {"name": exam.name, "path": source["path"], "sha256": source["sha256"]}
        exams[key] |= {"gate": exam.light, "volume_ml": ml, "spacing_mm": list(exam.scan.spacing_mm)}
    return {
        **record,
        **exams,
        "alignment": {"before_to_after_mm": follow_up.to_after.tolist(), **asdict(follow_up.agreement)},
        "notes": list(follow_up.notes),
        "counts": follow_up.counts(),
        "changes": [
            {
                **asdict(change),
                "change_ml": change.change_ml,
                "percent": change.percent,
                "place": place,
                "note": change.note,
            }
            for change, place in zip(follow_up.changes, follow_up.places, strict=True)
        ],
        "repeatability": asdict(follow_up.repeatability),
        "space": "RAS+ millimetres of each scan",
        "use": USE,
    }


@dataclass(frozen=True)
class Panel:
    """``src`` is empty where the scan has no such plane. ``aspect``, ``x``, ``y``: as CSS takes them."""

    name: str
    src: str
    aspect: str = "1"
    x: str = "50%"
    y: str = "50%"


def change_html(follow_up: FollowUp) -> str:
    """The page; identical bytes for the same arguments."""
    words = follow_up.places
    before_ml, after_ml = totals(follow_up)
    sides = [
        _numbered(follow_up.before, [change.before for change in follow_up.changes]),
        _numbered(follow_up.after, [change.after for change in follow_up.changes]),
    ]
    rows = []
    for number, change in enumerate(follow_up.changes[:SHOWN], 1):
        both = list(zip(sides, (change.before_mm, change.after_mm), ("before", "after"), strict=True))
        panels = [_panel(planes, mm, number, name) for planes, mm, name in both]
        near = [_panel(planes, mm, number, f"{name}, {NEAR_MM:.0f} mm", True) for planes, mm, name in both]
        rows.append((number, change, words[number - 1], [*panels, *near]))
    return template("change.html.j2").render(
        title=" → ".join(dict.fromkeys(shown(exam.name) for exam in (follow_up.before, follow_up.after))),
        exams=[("Before", *_fact(follow_up.before)), ("After", *_fact(follow_up.after))],
        model=follow_up.after.provenance["options"]["model"]["name"],
        point=follow_up.after.provenance["options"]["point"],
        agreement=follow_up.agreement,
        notes=[shown(note) for note in follow_up.notes],
        counts=follow_up.counts(),
        before_ml=before_ml,
        after_ml=after_ml,
        changes=list(zip(follow_up.changes, words, strict=True))[:LISTED],
        count=len(follow_up.changes),
        rows=rows,
        repeatability=follow_up.repeatability,
        found=css(FOUND),
        other=css(OTHER),
    )


def _fact(exam: Exam) -> tuple[str, str]:
    grid, spacing = " x ".join(map(str, exam.scan.shape)), " x ".join(f"{mm:.3g}" for mm in exam.scan.spacing_mm)
    return shown(str(exam.provenance["input"]["path"])), f"{spacing} mm, {grid} voxels, gate {exam.light}"


def _numbered(exam: Exam, labels: Sequence[tuple[int, ...]]) -> Planes:
    """The planes of a scan in which every finding has the number of its change."""
    nothing = ScoreMap(np.broadcast_to(np.float32(0), exam.scan.shape), exam.scan.affine)
    planes = Planes.of_scoring(Scoring(exam.scan, exam.brain, "", nothing, {}))
    table = np.zeros(int(exam.components.voxels.max()) + 1, np.int32)
    for number, own in enumerate(labels, 1):
        table[list(own)] = number
    return replace(planes, components=table[canonical(exam.components)[0]])


def _panel(planes: Planes, mm: tuple[float, float, float], number: int, name: str, near: bool = False) -> Panel:
    x, y, z = (np.linalg.inv(planes.affine) @ (*mm, 1.0))[:3].tolist()
    if not all(-0.5 <= at < size - 0.5 for at, size in zip((x, y, z), planes.scan.shape, strict=True)):
        return Panel(name, "")
    planes = planes.around(x, y, NEAR_MM) if near else planes
    pixels = mask_pixels(planes, round(z), planes.size_px(NEAR_PX if near else PANEL_PX), number)
    left, top = planes.place(x, y)
    return Panel(
        name,
        png_src(png(pixels, GREY)),
        "{:.1f} / {:.1f}".format(*planes.size_mm),
        f"{100 * left:.2f}%",
        f"{100 * top:.2f}%",
    )
