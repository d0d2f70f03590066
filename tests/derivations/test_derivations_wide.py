"""The derivations of deep and of wide networks notice a wrong formula, at every depth."""

import math

import pytest

from derivations import dfa_depth, dfa_invariant, dfa_width_free
from derivations.proof import ProofError
from linfa.theory.depth.power_clock import power_clock
from linfa.theory.depth.width_free import WidthFree
from linfa.theory.depth.zero_init_dfa import dfa_factor


class Swapped(WidthFree):
    """Every M moves as another one does."""

    def velocity(self, task, grams):
        right = WidthFree(*self).velocity(task, grams)
        return Swapped(right.A, right.M[::-1])


class WithoutGrams(WidthFree):
    """The feedback taken for orthogonal."""

    def signals(self, grams):
        out = [self.A]
        for M in self.M:
            out.append(M @ out[-1])
        return tuple(out)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_depths(depth):
    for module in (dfa_invariant, dfa_depth, dfa_width_free):
        assert module.derivation(depth).title.endswith(f"depth {depth}")


MUTATIONS = [
    (dfa_invariant, "mismatch", lambda below, above, bridge: below @ below.T - 2 * bridge @ above),
    (dfa_invariant, "mismatch", lambda below, above, bridge: below @ below.T - bridge @ above),
    (dfa_invariant, "direct_feedback_alignment", lambda rule, state: [w @ w.T for w in state.weights[:-1]]),
    (dfa_depth, "dfa_factor", lambda squares: math.prod(h / 2 for h in squares)),
    (dfa_depth, "dfa_timescale", lambda squares: 1 / dfa_factor(squares)),
    (dfa_depth, "power_clock", lambda x, p: power_clock(x, p - 1)),
    (dfa_width_free, "WidthFree", Swapped),
    (dfa_width_free, "WidthFree", WithoutGrams),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
