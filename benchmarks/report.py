"""Sizes and times of the pages: the report of the demo phantom (1 mm) and the page of 2,000 scans.

    python -m benchmarks.report

Processor time of the second call, one thread. The browser is headless Chromium with software rendering, if it is there:
from opening the file to the viewer drawn, and to the loaded page of 2,000 scans.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter, process_time

import uadtk
from tests.browser import browser, missing
from uadtk.io.results import ScanState
from uadtk.phantom.shipped import SCAN
from uadtk.report.cohort_page import cohort_html
from uadtk.report.page import report_html

SCANS = 2000


def main() -> None:
    found = uadtk.open("scalespace", threads=1).segment(SCAN).segmentation
    report_html(found)  # compiles
    start = process_time()
    page = report_html(found)
    print(f"report: {len(page.encode()) / 1e6:.2f} MB, {process_time() - start:.2f} s")
    folder = Path("out")
    states = [
        ScanState(
            folder,
            f"sub-{i:04d}_FLAIR",
            "done",
            light="green",
            findings=i % 90,
            volume_ml=i / 7,
            files={key: folder / f"sub-{i:04d}_FLAIR_{key}" for key in ("report", "thumbnail")},
        )
        for i in range(SCANS)
    ]
    start = process_time()
    index = cohort_html(states, "out")
    print(f"{SCANS} scans: {len(index.encode()) / 1e6:.2f} MB, {process_time() - start:.2f} s")
    if reason := missing("chromium"):
        print(reason)
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "report.html").write_text(page, encoding="utf-8")
        (place / "index.html").write_text(index, encoding="utf-8")
        with browser("chromium", place) as tab:
            start = perf_counter()
            tab.open(place / "report.html")
            state = tab.until("document.documentElement.dataset.viewer")
            print(f"report opened ({state}): {perf_counter() - start:.1f} s")
            start = perf_counter()
            tab.open(place / "index.html")
            print(f"{SCANS} scans opened: {perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
