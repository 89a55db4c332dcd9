"""The page of detection limits, and its sentences."""

from __future__ import annotations

from uadtk.metrics.detection import Planted, Sensitivity, sensitivities
from uadtk.report.limits import as_text, limits_html, missed, planted_tsv, sensitivity_tsv

SIZES = (3.0, 5.0, 8.0, 20.0)


def planted(size: float, found: bool, contrast: float, place: str = "rim") -> Planted:
    return Planted("a <b>", size, contrast, place, 0.0141, 14, found, 0.25 * found, 0.3, (1.0, -2.0, 3.25))


def cells(contrast: float, *found_of_ten: int) -> list[Sensitivity]:
    ones = [planted(s, k < n, contrast) for s, n in zip(SIZES, found_of_ten, strict=True) for k in range(10)]
    return sensitivities(ones, SIZES, (contrast,))


def page(own: list[Sensitivity], **more: object) -> str:
    given = {
        "facts": [("Model", "x", "y")],
        "examples": [],
        "false_findings": [("a <b>", 3, 1200.0)],
        "notes": ["Left."],
    }
    return limits_html(own, **{**given, **more})  # type: ignore[arg-type]


def test_the_sentences() -> None:
    some = missed(cells(0.5, 0, 0, 8, 10))
    assert some == [
        "Lesions 50 % brighter than the tissue around them are found reliably from 8 mm on; "
        "of 5 and 3 mm, all are missed.",
        "By place, over all sizes and contrasts, it misses 55 % at the rim.",
    ]
    assert missed(cells(-0.3, 0, 2, 7, 9))[0] == (
        "Lesions 30 % darker than the tissue around them are found reliably from 20 mm on; "
        "of 8 mm, 30 % are missed; of 5 mm, 80 % are missed; of 3 mm, all are missed."
    )
    never, always = missed(cells(0.15, 0, 0, 0, 4))[0], missed(cells(1.0, 9, 10, 10, 10))[0]
    assert never.endswith("are missed too often at every size: even of 20 mm, 60 % are missed.")
    assert always.endswith("are found at every size tested: of 3 mm, 10 % are missed.")
    assert missed(cells(0.5, 0, 9, 10, 4))[0].endswith(
        "are found reliably of 5 and 8 mm, but of 20 mm, 60 % are missed."
    )
    two = sensitivities([planted(size, True, 0.5) for size in (3.0, 8.0)], SIZES, (0.5,))
    assert missed(two)[0].endswith(": of 3 mm, 0 % are missed. No scan has room for one of 5 and 20 mm.")
    assert missed(sensitivities([], SIZES, (0.5,))) == [
        "Lesions 50 % brighter than the tissue around them were not tested: no scan has room for them."
    ]


def test_the_tables() -> None:
    lines = planted_tsv([planted(3.0, True, 0.5)]).splitlines()
    assert lines[1].split("\t")[1:] == [
        "3",
        "0.5",
        "rim",
        "0.0141",
        "14",
        "1",
        "0.2500",
        "0.3",
        "1.00",
        "-2.00",
        "3.25",
    ]
    first, *_, last = sensitivity_tsv(cells(0.5, 0, 0, 8, 10)).splitlines()[1:]
    assert first.split("\t")[:6] == ["all", "0.5", "3", "10", "0", "0.0000"]
    assert last.split("\t") == ["base", "0.5", "20", "0", "0", "", "", "", "0"]
    assert as_text(cells(0.5, 0, 0, 8, 10)).splitlines()[1].split() == [
        "+50",
        "%",
        "0",
        "%",
        "0",
        "%",
        "80",
        "%",
        "100",
        "%",
    ]


def test_the_page_escapes_names_and_marks_what_is_found_reliably() -> None:
    own = cells(0.5, 0, 0, 8, 10)
    example = {"size_mm": 8.0, "contrast": 0.5, "place": "rim", "subject": "a <b>", "found": True, "png": "AAAA"}
    html = page(own, examples=[example])
    assert html == page(own, examples=[example])
    assert "<b>" not in html.replace("<b>3</b>", "")
    assert html.count('class="reliable"') == 4  # 8 and 20 mm, in all places and at the rim
    assert html.count('class="none"') == 8
    assert "8 mm, +50 % <small>rim, a &lt;b&gt;</small>" in html
    assert "8 of 10 found, 1 subject;" in html
    assert "False findings without implants: 3.0 per scan" in html
    assert "<td>+50 %</td><td>8 mm</td>" in html
    assert "none up to 20 mm" in page(cells(0.5, 0, 0, 0, 0))
    assert html.count("Not a medical device") == 1
    assert "<script" not in html


def test_a_single_size_is_a_table_too() -> None:
    one = sensitivities([planted(5.0, True, 0.5)], (5.0,), (0.5,))
    assert [line.split() for line in as_text(one).splitlines()] == [["contrast", "5", "mm"], ["+50", "%", "100", "%"]]
