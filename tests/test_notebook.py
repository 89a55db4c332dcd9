"""The notebook of the Python interface runs from top to bottom in a fresh kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "quickstart.ipynb"
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
nbformat.write(notebook, "done.ipynb")
"""


@pytest.mark.slow
def test_every_cell_runs_and_shows_something(tmp_path: Path) -> None:
    pytest.importorskip("nilearn", reason="the notebook makes phantoms")
    environment = {**os.environ, "JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(NOTEBOOK)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    cells = json.loads((tmp_path / "done.ipynb").read_text())["cells"]
    outputs = [str(cell["outputs"]) for cell in cells if cell["cell_type"] == "code"]
    shown = "".join(outputs)
    assert "data:image/png;base64" in shown  # the picture of the result
    assert "findings" in shown
    assert "volume_ml" in shown  # the table of findings
    assert "auprc" in shown
    assert not [output for output in outputs if "'output_type': 'error'" in output]
    assert (tmp_path / "quickstart" / "ours.safetensors").exists()


def test_the_notebook_is_stored_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
