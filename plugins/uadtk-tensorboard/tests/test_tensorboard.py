"""Event files are written and read back."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from uadtk_tensorboard import log as module

SETTINGS = {"model": {"name": "ae", "options": {"latent": 4}}, "cohort": "ab"}


def test_epochs_are_read_back_also_those_of_a_second_process(tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    for epoch in (1, 2, 3):
        record = {"epoch": epoch, "train_loss": 1 / epoch, "validation_loss": 2.0, "learning_rate": 0.5, "seconds": 4}
        module.log(record, output, SETTINGS)
        if epoch == 2:
            module._writer.cache_clear()
    found = EventAccumulator(str(tmp_path / "m.tensorboard")).Reload()
    assert set(found.Tags()["scalars"]) == {"train/loss", "validation/loss", "learning_rate", "seconds"}
    assert [event.step for event in found.Scalars("validation/loss")] == [1, 2, 3]
    assert [round(event.value, 3) for event in found.Scalars("train/loss")] == [1, 0.5, 0.333]
    assert b'"latent": 4' in found.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]
