"""The public contract kit, over everything uadtk itself registers; and over what must not pass it."""

import re

import pytest

from tests import misfits
from uadtk import registry
from uadtk.checkpoint import new
from uadtk.cli import main
from uadtk.core.errors import UsageError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.pipeline.score import build_method
from uadtk.testing import KINDS, checks, installed, run_check
from uadtk.testing.names import near_misses

OWN = [
    check for kind in KINDS for r in registry.entries(kind) if r.dist == "uadtk" for check in checks(kind, r.entry.name)
]


@pytest.mark.parametrize("check", OWN, ids=str)
def test_contract(check):
    outcome = run_check(check)
    if outcome.status == "exempt":
        pytest.skip(outcome.reason)
    assert outcome.status == "ok", f"{check.sentence} {outcome.reason}"


def name_of(cls):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()


@pytest.fixture(scope="module")
def misfit_plugin(tmp_path_factory):
    """A plugin that offers every class of ``misfits``."""
    folder = tmp_path_factory.mktemp("misfits")
    lines = ["from uadtk.plugin import Entry, hookimpl"]
    for kind in KINDS:
        offered = [(name_of(c), f"tests.misfits:{c.__name__}") for c in (*misfits.GOOD[kind], *misfits.MISFITS[kind])]
        offered += [("Bad_Name", "tests.misfits:GoodModel")] if kind == "models" else []
        entries = ", ".join(f"Entry({name!r}, {target!r}, 'For tests.')" for name, target in offered)
        lines.append(f"@hookimpl\ndef uadtk_{kind}():\n    return [{entries}]")
    (folder / "misfits_entry.py").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UADTK_PLUGINS", "uadtk-misfits")
        with installed(folder, "uadtk-misfits", {"misfits": "misfits_entry"}):
            yield
    registry.reload()


def failed(kind, name):
    return {check.title for check in checks(kind, name) if run_check(check).status == "failed"}


@pytest.mark.parametrize(("kind", "cls"), [(kind, cls) for kind in KINDS for cls in misfits.GOOD[kind]])
def test_what_keeps_its_promises_passes(misfit_plugin, kind, cls):
    assert failed(kind, name_of(cls)) == set()


@pytest.mark.parametrize(("kind", "cls"), [(kind, cls) for kind in KINDS for cls in misfits.MISFITS[kind]])
def test_a_broken_promise_is_seen(misfit_plugin, kind, cls):
    assert misfits.MISFITS[kind][cls] <= failed(kind, name_of(cls))


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_has_a_misfit(misfit_plugin, kind):
    titles = {check.title for check in checks(kind, name_of(misfits.GOOD[kind][0]))}
    shared = {"entry_can_be_shown", "options_have_help_and_valid_defaults"}  # one function for all kinds
    assert titles - shared <= set().union(*misfits.MISFITS[kind].values())


def test_names_have_one_form(misfit_plugin):
    assert failed("models", "Bad_Name") == {"entry_can_be_shown"}


def test_an_exemption_shows_its_reason(misfit_plugin, capsys):
    with pytest.raises(SystemExit) as end:
        main(["check", "excused"])
    assert end.value.code in (None, 0)
    out = capsys.readouterr().out
    assert "exempt  known_lesions_are_not_learned: It has no way to leave them out.\n" in out
    assert "FAILED" not in out


def test_the_command_fails_with_what_was_seen(misfit_plugin, capsys):
    with pytest.raises(SystemExit) as end:
        main(["check", "fixed", "--kind", "thresholder"])
    assert end.value.code == 1
    printed = capsys.readouterr()
    (line,) = [line for line in printed.out.splitlines() if line.startswith("FAILED")]
    assert line == (
        "FAILED  grows_with_the_scores: the threshold is 0.1, and 0.1 for twice the scores; 0.2 is required, to 1e-5"
    )
    assert printed.err.endswith("1 failed\n")


@pytest.mark.parametrize(
    ("kind", "cls", "title", "message"),
    [
        (
            "models",
            "WrongSign",
            "loss_falls",
            r"loss fell by 0\.66\d* % \(.*\), at least 5 % fall needed in 20 steps .*quick",
        ),
        ("models", "NoLossKey", "loss_falls", r"returned the keys {'l1'}, and needs a key 'loss'"),
        ("models", "UnknownPlayer", "loss_falls", r"turns\(1\) names the player levle; players\(\) has doubt, level"),
        (
            "models",
            "Crashes",
            "keeps_shape_and_is_finite",
            r"^reconstruct raised ValueError: no weights \(misfits.py:\d+\)$",
        ),
        ("models", "ReturnsArrays", "keeps_shape_and_is_finite", "^reconstruct returned ndarray; Tensor is required$"),
        ("models", "Neighbors", "declares_known_names", "it defines 'neighbors'.* Did you mean 'neighbours'?"),
        ("models", "JudgeFrom", "declares_known_names", "Did you mean 'judged_from'?"),
        ("models", "Reconstuct", "declares_known_names", "Did you mean 'reconstruct'?"),
        ("models", "OneCleaner", "declares_known_names", "^cleaners is 'erode'; a tuple is required$"),
        ("models", "DefaultOutOfRange", "checkpoint_keeps_every_bit", "^uadtk refuses it: .* must be at least 0.5"),
        ("models", "ExcusedFromNothing", "entry_can_be_shown", "exempt names 'loss_fals'.* Did you mean 'loss_falls'?"),
        ("models", "NeedlesslyExcused", "loss_falls", "must not be exempt: remove 'loss_falls'"),
        (
            "scorers",
            "Need",
            "names_what_it_needs",
            r"it has no 'needs', which is required: .*needs = \(\"reconstruct\",\)",
        ),
        ("scorers", "ReturnsTensor", "score_is_a_score", "^score returned Tensor; Scored is required$"),
        ("cleaners", "Nothing", "something_remains", "keeps 0 % of its score, at least 50 % required"),
        ("thresholders", "NeedLesions", "declares_known_names", "Did you mean 'needs_lesions'?"),
    ],
)
def test_messages_state_what_was_measured_and_what_is_required(misfit_plugin, kind, cls, title, message):
    (check,) = [check for check in checks(kind, name_of(getattr(misfits, cls))) if check.title == title]
    assert re.search(message, run_check(check).reason)


def test_a_helper_beside_the_method_is_no_near_miss():
    class Helper(misfits.GoodModel):
        def samples(self, x):
            return x

    assert near_misses("models", Helper(misfits.Options(), 8)) == {}
    Helper.sample = None
    assert near_misses("models", Helper(misfits.Options(), 8)) == {"samples": "sample"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["fixd"], "nothing called 'fixd'. Did you mean 'fixed'?"),
        (["fixed", "--kind", "model"], "nothing called 'fixed'"),
        (["nobody/fixed-"], "nobody/fixed-"),
    ],
)
def test_the_command_asks_for_a_name_that_exists(misfit_plugin, capsys, arguments, error):
    with pytest.raises(SystemExit) as end:
        main(["check", *arguments])
    assert end.value.code == 2
    assert error in capsys.readouterr().err


def test_only_kinds_with_a_contract_have_checks():
    with pytest.raises(UsageError, match="no contract for 'commands'"):
        checks("commands", "x")


def test_a_scorer_refuses_a_model_without_what_it_needs():
    checkpoint = new("histeq", {}, Preparation(), scorer=Spec("residual"))
    with pytest.raises(
        UsageError,
        match=r"scorer 'residual' needs reconstruct, which model 'histeq' does not provide\. It provides: score",
    ):
        build_method(checkpoint, Run())
