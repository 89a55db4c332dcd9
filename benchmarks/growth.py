"""Time and memory against the number of scans, for the commands that take a cohort: log-log slopes and a picture.

    OMP_NUM_THREADS=1 python benchmarks/growth.py [--sizes 10 30 100] [--quick] [-o benchmarks/pictures/growth.svg]

Tiny phantoms (44 x 52 x 24 voxels of 3 x 3 x 5 mm, half with a lesion) and ``histeq``, so that what grows is the code
around the network. Each subject has a process of its own, which first does a cohort of 3 scans that is not
counted, then the sizes from small to large: processor seconds, and the peak of memory so far. ``pairs`` compares 12
rows on so many patients, in numbers alone. A slope is that of a least-squares line through the logarithms: 1 is
linear. ``--quick``: 4 and 12 scans; exit 1 if a slope is above ``STEEPEST``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SHAPE, AFFINE = (44, 52, 24), np.diag([3.0, 3.0, 5.0, 1.0])
STEEPEST = 1.8  # in --quick, of fractions of a second on a busy machine; the goal is 1.05
GOAL = 1.05
Points = list[tuple[int, float, float]]  # scans, seconds, MB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("-o", "--output", type=Path, help="SVG: a picture.")
    parser.add_argument("--only", choices=SUBJECTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = [4, 12] if arguments.quick else sorted(arguments.sizes)
    if arguments.only:
        print(json.dumps(points(SUBJECTS[arguments.only], sizes)))
        return 0
    found: dict[str, Points] = {}
    print("| subject | " + " | ".join(f"n = {n}: s, MB" for n in sizes) + " | slope of seconds | of memory |")
    print("|---" * (len(sizes) + 3) + "|")
    for name in arguments.subjects:
        command = [sys.executable, __file__, "--only", name, "--sizes", *map(str, sizes)]
        command += ["--quick"] if arguments.quick else []
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = [(n, s, mb) for n, s, mb in json.loads(done.stdout.splitlines()[-1])]
        cells = " | ".join(f"{s:.2f}, {mb:.0f}" for _, s, mb in found[name])
        print(f"| {name} | {cells} | {slope(found[name], 1):.2f} | {slope(found[name], 2):.2f} |", flush=True)
    if arguments.output:
        draw(found, arguments.output)
    limit = STEEPEST if arguments.quick else GOAL
    return int(any(round(slope(own, 1), 2) > limit for own in found.values()))


def points(subject: Callable[[Path, int], None], sizes: list[int]) -> Points:
    import torch

    torch.set_num_threads(1)
    found = []
    for n in (3, *sizes):
        with tempfile.TemporaryDirectory() as folder:
            cohort(Path(folder), n)
            start = time.process_time()
            subject(Path(folder), n)
            taken = time.process_time() - start
            found.append((n, taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    return found[1:]


def slope(own: Points, column: int) -> float:
    logs = np.log([[point[0], point[column]] for point in own])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def cohort(folder: Path, n: int) -> None:
    """``cohort.tsv`` with n subjects; every second has a lesion, the others are healthy."""
    import nibabel as nib

    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in SHAPE], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    lines = ["subject\timage\tbrain_mask\tlesion_mask\tgroup\tsplit"]
    for number in range(n):
        rng = np.random.default_rng(number)
        image = np.where(radius < 0.5, 700, 500) + rng.normal(0, 20, SHAPE)
        middle = rng.uniform(-0.3, 0.3, 3)
        lesion = (np.sqrt(((grid - middle[:, None, None, None]) ** 2).sum(0)) < 0.16) & bool(number % 2)
        image = np.where(lesion, 1300, image) * (radius < 0.85)
        name = f"s{number:04d}"
        for end, voxels in (("", image), ("_brain", radius < 0.85), ("_lesion", lesion)):
            kind = np.float32 if not end else np.uint8
            nib.save(nib.Nifti1Image(voxels.astype(kind), AFFINE), folder / f"{name}{end}.nii.gz")
        split = "validation" if number % 4 > 1 else "test"
        group = "patient" if number % 2 else "healthy"
        lines.append(f"{name}\t{name}.nii.gz\t{name}_brain.nii.gz\t{name}_lesion.nii.gz\t{group}\t{split}")
    (folder / "cohort.tsv").write_text("\n".join(lines) + "\n")


def _segment(folder: Path, _: int) -> None:
    _uadtk("segment", folder, "--threshold", "0.98", "-o", folder / "out", "--quiet")


def _threshold(folder: Path, _: int) -> None:
    _uadtk("threshold", folder, "-o", folder / "point.safetensors", "--strategy", "p98")


def _evaluate(folder: Path, _: int) -> None:
    _uadtk("evaluate", folder)


def _benchmark(folder: Path, _: int) -> None:
    _uadtk("benchmark", folder, "-o", folder / "out")


def _multiverse(folder: Path, _: int) -> None:
    _uadtk("benchmark", folder, "-o", folder / "out", "--multiverse", "--split", "test")


def _slices(folder: Path, _: int) -> None:
    from uadtk.core.preparation import Preparation
    from uadtk.core.run import Run
    from uadtk.io.cohort import read_cohort
    from uadtk.training.slices import load_slices

    load_slices(list(read_cohort(folder / "cohort.tsv")), Preparation(), True, Run(worst="red"), "", folder / "slices")


def _pairs(_: Path, n: int) -> None:
    from uadtk.metrics.compare import all_pairs

    rng = np.random.default_rng(0)
    rows = {f"row {row}": {str(k): float(v) for k, v in enumerate(rng.random(n))} for row in range(12)}
    all_pairs(rows, "", "dice")


def _uadtk(command: str, folder: Path, *words: object) -> None:
    """A command in this process, with ``histeq``; what it prints for people goes nowhere."""
    import contextlib
    import io

    from uadtk.cli import main as run

    cohort = str(folder / "cohort.tsv")
    first = {
        "segment": [cohort, "--model", "histeq", "--force"],
        "threshold": ["--healthy", cohort, "--model", "histeq", "--force"],
        "evaluate": ["histeq", cohort, "--force"],
        "benchmark": [cohort, "--model", "histeq"],
    }
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            run([command, *first[command], *map(str, words), "--threads", "1"])
        except SystemExit as ended:
            if ended.code:
                raise SystemExit(f"{command}: {said.getvalue()}") from None


def draw(found: dict[str, Points], path: Path) -> None:
    """Seconds against scans, both logarithmic."""
    from uadtk.report.charts import Axis, Curve, curves_svg

    curves = [
        Curve(name, f"c{place}", [(n, seconds) for n, seconds, _ in own])
        for place, (name, own) in enumerate(found.items())
    ]
    n, seconds = zip(*(point for curve in curves for point in curve.points), strict=True)
    decades = [10.0**power for power in range(-3, 5)]
    low, high = (max(t for t in decades if t < min(seconds)), min(t for t in decades if t > max(seconds)))
    x = Axis("scans", min(n), max(n), sorted(set(n)), logarithmic=True)
    y = Axis("processor seconds", low, high, [t for t in decades if low <= t <= high], logarithmic=True)
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#666")
    style = "path{fill:none;stroke:#8884}.curve{stroke-width:2}text{fill:#777}"
    style += "".join(f".c{place}{{stroke:{colour}}}" for place, colour in enumerate(colours))
    legend = "".join(
        f'<text x="620" y="{40 + 18 * place}" style="fill:{colours[place]}">{curve.name} ({slope(own, 1):.2f})</text>'
        for place, (curve, own) in enumerate(zip(curves, found.values(), strict=True))
    )
    head = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="13" '
    chart = curves_svg(curves, x, y).replace("<svg ", head, 1).replace(">", f"><style>{style}</style>", 1)
    chart = chart.replace('viewBox="0 0 620 ', 'viewBox="0 0 760 ', 1)  # the legend stands beside the curves
    path.write_text(chart.replace("</svg>", f"{legend}</svg>") + "\n", encoding="utf-8")


SUBJECTS: dict[str, Callable[[Path, int], None]] = {
    "segment": _segment,
    "threshold": _threshold,
    "evaluate": _evaluate,
    "benchmark": _benchmark,
    "multiverse": _multiverse,
    "slices": _slices,
    "pairs": _pairs,
}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
