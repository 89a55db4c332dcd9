"""``python -m uadtk`` and the ``uadtk`` command."""

from __future__ import annotations

from uadtk.cli import main

if __name__ == "__main__":
    main()
