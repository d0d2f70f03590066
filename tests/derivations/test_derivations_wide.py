"""The derivations of deep and of wide networks notice a wrong formula, at every depth."""

import pytest

from derivations import dfa_invariant
from derivations.proof import ProofError


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_depths(depth):
    assert dfa_invariant.derivation(depth).title.endswith(f"depth {depth}")


MUTATIONS = [
    (dfa_invariant, "mismatch", lambda below, above, bridge: below @ below.T - 2 * bridge @ above),
    (dfa_invariant, "mismatch", lambda below, above, bridge: below @ below.T - bridge @ above),
    (dfa_invariant, "direct_feedback_alignment", lambda rule, state: [w @ w.T for w in state.weights]),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
