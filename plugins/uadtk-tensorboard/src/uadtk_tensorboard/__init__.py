"""TensorBoard for trainings of uadtk. This module is imported at start-up and must stay light."""

from __future__ import annotations

from collections.abc import Iterable

from uadtk.plugin import Entry, hookimpl


@hookimpl
def uadtk_loggers() -> Iterable[Entry]:
    return [Entry("tensorboard", "uadtk_tensorboard.log:log", "Event files for TensorBoard, beside the checkpoint.")]
