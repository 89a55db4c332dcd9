"""Colours and names of findings for the programs that people look at label images with."""

from __future__ import annotations

import colorsys
from functools import cache

LABELS = 255  # the most common limit; findings beyond are shown in the program's own colours
_GOLDEN = 0.6180339887  # neighbours in number are far apart in hue


def colour(label: int) -> tuple[int, int, int]:
    """The same in every table and for every scan."""
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1.0, 0.75, 1.0 if label % 2 else 0.8)
    return round(255 * red), round(255 * green), round(255 * blue)


@cache
def lookup_tables() -> dict[str, str]:
    """Content by file name: for BIDS (``dseg.tsv``), ITK-SNAP, FSLeyes and FreeSurfer."""
    rows = [(label, *colour(label)) for label in range(1, LABELS + 1)]
    bids = ["index\tname\tcolor", *(f"{n}\tfinding {n}\t#{r:02x}{g:02x}{b:02x}" for n, r, g, b in rows)]
    snap = ['0 0 0 0 0 0 0 "Clear Label"', *(f'{n} {r} {g} {b} 1 1 1 "finding {n}"' for n, r, g, b in rows)]
    eyes = [f"{n} {r / 255:.4f} {g / 255:.4f} {b / 255:.4f} finding {n}" for n, r, g, b in rows]
    free = ["0 Unknown 0 0 0 0", *(f"{n} finding-{n} {r} {g} {b} 0" for n, r, g, b in rows)]
    named = {
        "label-lesion_dseg.tsv": bids,
        "lookup_itksnap.txt": snap,
        "lookup_fsleyes.lut": eyes,
        "lookup_freesurfer.txt": free,
    }
    return {name: "\n".join(lines) + "\n" for name, lines in named.items()}
