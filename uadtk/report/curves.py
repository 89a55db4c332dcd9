"""The curves of a training as one self-contained HTML page: losses and learning rate per epoch, as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uadtk.core.text import shown

Record = Mapping[str, Any]
Line = list[tuple[float, float]]  # (epoch, value)

_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 14, 30
_LOGARITHMIC = 10  # scales are logarithmic above this ratio of largest to smallest value
_MOST = 1e300  # what differences of are finite
_PARTS = ("train", "validation")


def curves_html(title: str, log: Sequence[Record]) -> str:
    """A figure for each quantity of the log; ``train_x`` and ``validation_x`` share the figure of ``x``.

    ``log`` has one record per epoch, as ``<output>.log.jsonl``; it must not be empty.
    """
    css = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    best = min(log, key=lambda record: record["validation_loss"])
    minutes = sum(record["seconds"] for record in log) / 60
    summary = f"{len(log)} epochs, {minutes:.1f} minutes."
    summary += f" Lowest validation loss {best['validation_loss']:.5g} in epoch {best['epoch']}."
    figures = "".join(_figure(name, lines, best["epoch"]) for name, lines in quantities(log).items())
    name = html.escape(shown(title))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}: training</title>'
        f'<meta name="viewport" content="width=device-width"><style>{css}</style></head><body>'
        f"<h1>{name}</h1><p>{summary} The dashed line marks that epoch.</p>{figures}</body></html>\n"
    )


def quantities(log: Sequence[Record]) -> dict[str, dict[str, Line]]:
    """{quantity: {"train", "validation" or "": its line}}, in the order of the log; non-finite values are skipped."""
    found: dict[str, dict[str, Line]] = {}
    for record in log:
        for key, value in record.items():
            if key in ("epoch", "seconds") or not isinstance(value, int | float) or not abs(value) < _MOST:
                continue
            part, _, name = key.partition("_")
            part, name = (part, name) if part in _PARTS and name else ("", key)
            found.setdefault(name, {}).setdefault(part, []).append((record["epoch"], float(value)))
    return found


def _figure(name: str, lines: Mapping[str, Line], best_epoch: int) -> str:
    epochs, values = ([point[i] for line in lines.values() for point in line] for i in (0, 1))
    logarithmic = min(values) > 0 and max(values) / min(values) > _LOGARITHMIC
    low, high = (_scaled(extreme, logarithmic) for extreme in (min(values), max(values)))
    low, high = (low, high) if high > low else (low - 0.5, low + 0.5)
    first, last = min(epochs), max(max(epochs), min(epochs) + 1)

    def x(epoch: float) -> float:
        return _LEFT + (epoch - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(scaled: float) -> float:
        return _HEIGHT - _BOTTOM - (scaled - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def path(line: Line) -> str:
        return "M" + "L".join(f"{x(epoch):.1f} {y(_scaled(value, logarithmic)):.1f}" for epoch, value in line)

    ticks = [low + (high - low) * i / 4 for i in range(5)]
    title = html.escape(shown(name).replace("_", " ")) + (", logarithmic" if logarithmic else "")
    key = " ".join(f'<span class="curve-{part}">{part}</span>' for part in lines if part)
    parts = [
        f"<section><figure><figcaption>{title} {key}</figcaption>",
        f'<svg class="histogram curves" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title} per epoch">',
        *(
            f'<path class="grid" d="M{_LEFT} {y(t):.1f}H{_WIDTH - _RIGHT}"/><text class="tick" x="{_LEFT - 6}" '
            f'y="{y(t) + 4:.1f}" text-anchor="end">{10**t if logarithmic else t:.3g}</text>'
            for t in ticks
        ),
        *(
            f'<text class="tick" x="{x(epoch):.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{epoch:g}</text>'
            for epoch in sorted({first, round((first + last) / 2), last})
        ),
        f'<path class="cut" d="M{x(best_epoch):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>',
        *(f'<path class="curve {part}" d="{path(line)}"/>' for part, line in lines.items()),
        "</svg></figure></section>",
    ]
    return "".join(parts)


def _scaled(value: float, logarithmic: bool) -> float:
    return math.log10(value) if logarithmic else value
