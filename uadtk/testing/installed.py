"""Temporary installation of a plugin, for tests."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from uadtk import registry


@contextmanager
def installed(folder: Path, dist: str, entry_points: Mapping[str, str], version: str = "0") -> Iterator[None]:
    """Inside the block, the modules in ``folder`` can be imported as the installed plugin ``dist``.

    Parameters
    ----------
    folder
        Contains the plugin's modules; its ``.dist-info`` is written there, as by pip.
    entry_points
        Those of the group ``uadtk``: name -> module.

    Modules imported from the folder are unloaded afterwards.
    """
    info = folder / f"{dist.replace('-', '_')}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n", encoding="utf-8")
    lines = "".join(f"{name} = {module}\n" for name, module in entry_points.items())
    (info / "entry_points.txt").write_text(f"[uadtk]\n{lines}", encoding="utf-8")
    sys.path.insert(0, str(folder))
    _look_again()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
        _look_again()


def _look_again() -> None:
    importlib.invalidate_caches()
    registry.reload()
