"""The public contract kit, over everything uadtk itself registers."""

import pytest

from uadtk import registry
from uadtk.testing import KINDS, checks, run_check

OWN = [
    check for kind in KINDS for r in registry.entries(kind) if r.dist == "uadtk" for check in checks(kind, r.entry.name)
]


@pytest.mark.parametrize("check", OWN, ids=str)
def test_contract(check):
    outcome = run_check(check)
    if outcome.status == "exempt":
        pytest.skip(outcome.reason)
    assert outcome.status == "ok", f"{check.sentence} {outcome.reason}"
