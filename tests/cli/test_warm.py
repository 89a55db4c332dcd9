"""``uadtk warm``: what a later ``segment`` needs is compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uadtk.phantom.shipped import SCAN


@pytest.mark.slow
@pytest.mark.long
def test_a_scan_is_segmented_and_its_page_drawn_without_compiling(tmp_path: Path) -> None:
    def uadtk(*words: str) -> set[str]:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
        subprocess.run([sys.executable, "-m", "uadtk", *words], env=environment, check=True, cwd=tmp_path)
        return {path.name for path in (tmp_path / "kernels").rglob("*.nbc")}

    compiled = uadtk("warm")
    assert len(compiled) > 10
    assert any(name.startswith("norms.gradients") for name in compiled)  # of training, in float32
    assert uadtk("segment", str(SCAN), "-o", "out", "--threads", "1") == compiled
