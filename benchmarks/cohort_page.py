"""Size of the page of 2,000 scans and the seconds until it can be used, in Chromium and Firefox, the median of five.

    python -m benchmarks.cohort_page [--scans 2000]

Pictures are those that ``uadtk segment`` writes: PNG of 96 pixels. Opened: from the start of the navigation until the
load event has ended and two frames have been drawn.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.browser import browser, missing
from uadtk.io.results import ScanState
from uadtk.report.cohort_page import cohort_html

DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=2000)
    count: int = parser.parse_args().scans
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        start = time.perf_counter()
        html = cohort_html([_scan(folder, number) for number in range(count)], "out")
        (folder / "index.html").write_text(html)
        print(f"{count} scans: {len(html.encode()) / 1e6:.2f} MB, made in {time.perf_counter() - start:.2f} s")
        for name in ("chromium", "firefox"):
            if reason := missing(name):
                print(f"{name}: {reason}")
                continue
            (folder / name).mkdir()
            with browser(name, folder / name) as page:
                seconds = []
                for _ in range(5):
                    page.do("browsingContext.navigate", context=page.tab, url="about:blank", wait="complete")
                    page.open(folder / "index.html")
                    seconds.append(page.run(DRAWN) / 1000)
                print(
                    f"{name}: opened in {statistics.median(seconds):.2f} s ({', '.join(f'{s:.2f}' for s in seconds)})"
                )


def _scan(folder: Path, number: int) -> ScanState:
    name = f"sub-{number:04d}_ses-01"
    noise = np.random.default_rng(number).integers(0, 255, (96, 96), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(noise).save(packed, "PNG")
    (folder / f"{name}_thumbnail.png").write_bytes(packed.getvalue())
    files = {key: folder / f"{name}_{end}" for key, end in (("report", "report.html"), ("thumbnail", "thumbnail.png"))}
    gate = {"light": "amber", "reasons": [{"what": "noise of 9.1 %, more than 8 % in the scans of the training"}]}
    return ScanState(
        folder,
        name,
        "done",
        light="amber" if number % 3 else "green",
        findings=number % 90,
        volume_ml=number / 7,
        files=files,
        provenance={"gate": gate} if number % 3 else {},
    )


if __name__ == "__main__":
    main()
