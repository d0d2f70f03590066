"""The derivations of deep and of wide networks notice a wrong formula, at every depth."""

import math

import pytest

from derivations import dfa_depth, dfa_invariant
from derivations.proof import ProofError
from linfa.theory.depth.power_clock import power_clock
from linfa.theory.depth.zero_init_dfa import dfa_factor


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_depths(depth):
    for module in (dfa_invariant, dfa_depth):
        assert module.derivation(depth).title.endswith(f"depth {depth}")


MUTATIONS = [
    (dfa_invariant, "mismatch", lambda below, above, bridge: below @ below.T - 2 * bridge @ above),
    (dfa_invariant, "mismatch", lambda below, above, bridge: below @ below.T - bridge @ above),
    (dfa_invariant, "direct_feedback_alignment", lambda rule, state: [w @ w.T for w in state.weights[:-1]]),
    (dfa_depth, "dfa_factor", lambda squares: math.prod(h / 2 for h in squares)),
    (dfa_depth, "dfa_timescale", lambda squares: 1 / dfa_factor(squares)),
    (dfa_depth, "power_clock", lambda x, p: power_clock(x, p - 1)),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
