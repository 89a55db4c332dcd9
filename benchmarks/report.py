"""Size and times of the report of the demo phantom (1 mm); ``benchmarks.cohort_page`` measures the page of a folder.

    python -m benchmarks.report

Processor time of the second call, one thread. The browser is headless Chromium with software rendering, if it is there:
from opening the file to the viewer drawn.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter, process_time

import uadtk
from tests.browser import browser, missing
from uadtk.phantom.shipped import SCAN
from uadtk.report.page import report_html


def main() -> None:
    found = uadtk.open("scalespace", threads=1).segment(SCAN).segmentation
    report_html(found)  # compiles
    start = process_time()
    page = report_html(found)
    print(f"report: {len(page.encode()) / 1e6:.2f} MB, {process_time() - start:.2f} s")
    if reason := missing("chromium"):
        print(reason)
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "report.html").write_text(page, encoding="utf-8")
        with browser("chromium", place) as tab:
            start = perf_counter()
            tab.open(place / "report.html")
            state = tab.until("document.documentElement.dataset.viewer")
            print(f"report opened ({state}): {perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
