"""Options: valid and invalid values from the command line, configuration files and checkpoints."""

from dataclasses import FrozenInstanceError, dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uadtk.core import options as opts
from uadtk.core.errors import UsageError
from uadtk.core.options import option


@dataclass(frozen=True)
class Options:
    levels: int = option(3, "How many.", ge=1, le=5)
    weight: float = option(0.5, "How much.", ge=0)
    widths: tuple[int, ...] = option((32,), "How wide.", ge=4)
    loss: Literal["l1", "l2"] = option("l1", "Which.")
    noise: bool = option(False, "Whether.")
    limit: float | None = option(None, "How far, or none.", le=10)
    label: str = option("x", "What.")


def build(**values):
    return opts.build(Options, values, "thing")


def test_nothing_said_is_the_defaults():
    assert build() == Options()


@pytest.mark.parametrize(
    ("name", "said", "meant"),
    [
        ("levels", "4", 4),
        ("levels", 4.0, 4),
        ("weight", "1e-3", 0.001),
        ("weight", 2, 2.0),
        ("widths", "16/32", (16, 32)),
        ("widths", "16,32, 64", (16, 32, 64)),
        ("widths", [16, 32], (16, 32)),
        ("widths", "16", (16,)),
        ("loss", "l2", "l2"),
        ("noise", "Yes", True),
        ("noise", True, True),
        ("noise", 0, False),
        ("limit", "none", None),
        ("limit", "2.5", 2.5),
        ("label", 7, "7"),
    ],
)
def test_values_are_converted(name, said, meant):
    converted = getattr(build(**{name: said}), name)
    assert converted == meant
    assert type(converted) is type(meant)


@pytest.mark.parametrize(
    ("name", "said", "error"),
    [
        ("levels", "three", "thing: levels=three: not a whole number"),
        ("levels", 2.5, "thing: levels=2.5: not a whole number"),
        ("levels", float("inf"), "thing: levels=inf: not a whole number"),
        ("levels", None, "thing: levels=None: not a whole number"),
        ("levels", 0, "thing: levels=0: must be at least 1"),
        ("levels", 6, "thing: levels=6: must be at most 5"),
        ("weight", "nan", "thing: weight=nan: must be finite"),
        ("weight", "inf", "thing: weight=inf: must be finite"),
        ("weight", "-0.1", "thing: weight=-0.1: must be at least 0"),
        ("weight", 1000001, "thing: weight=1000001: must be at most 1e+06"),
        ("widths", "8/x", "thing: widths=8/x: not a list of whole numbers"),
        ("widths", 8, "thing: widths=8: not a list of whole numbers"),
        ("widths", "8/2", "thing: widths=8/2: must be at least 4"),
        ("loss", "l22", "thing: loss=l22: not a choice. Choose l1 or l2."),
        ("noise", "maybe", "thing: noise=maybe: not a true/false"),
        ("noise", [], "thing: noise=[]: not a true/false"),
        ("limit", "far", "thing: limit=far: not a number or none"),
        ("limit", 11, "thing: limit=11: must be at most 10"),
    ],
)
def test_what_cannot_be_meant_is_refused(name, said, error):
    with pytest.raises(UsageError) as caught:
        build(**{name: said})
    assert caught.value.one_line() == error


def test_unknown_options_get_a_suggestion():
    with pytest.raises(UsageError, match=r"thing: no option 'levles'\. Did you mean 'levels'"):
        build(levles=3)
    with pytest.raises(UsageError, match=r"thing: no option 'size'\. It has no options"):
        opts.build(opts.NoOptions, {"size": 1}, "thing")


@given(
    st.builds(
        Options,
        levels=st.integers(1, 5),
        weight=st.floats(0, opts.MOST),
        widths=st.lists(st.integers(4, 999)).map(tuple),
        loss=st.sampled_from(["l1", "l2"]),
        noise=st.booleans(),
        limit=st.none() | st.floats(-1e9, 10),
        label=st.text(),
    )
)
def test_options_survive_a_checkpoint(options):
    import json

    assert opts.build(Options, json.loads(json.dumps(opts.as_dict(options))), "thing") == options


def test_fields_say_what_the_command_line_needs():
    fields = {field.name: field for field in opts.fields(Options)}
    assert list(fields) == ["levels", "weight", "widths", "loss", "noise", "limit", "label"]
    assert (fields["levels"].type, fields["levels"].default, fields["levels"].help) == (int, 3, "How many.")
    assert (fields["levels"].ge, fields["levels"].le) == (1, 5)
    assert fields["loss"].choices == ("l1", "l2")
    assert fields["levels"].choices == ()


def test_options_do_not_change():
    with pytest.raises(FrozenInstanceError):
        build().levels = 4
