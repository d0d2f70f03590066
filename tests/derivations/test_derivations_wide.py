"""The derivations of deep and of wide networks notice a wrong formula, at every depth."""

import math

import pytest

from derivations import dfa_depth, dfa_invariant, dfa_width_free, relu_invariant, wide_fa
from derivations.proof import ProofError
from linfa.theory.alignment.relu import relu_gradients
from linfa.theory.depth.common_modes import dfa_factor
from linfa.theory.depth.power_clock import power_clock
from linfa.theory.depth.width_free import WidthFree
from linfa.theory.wide.wide_fa import fa_wide, fa_wide_kernels


def _off(weights, biases, feedback, X, slope):
    """Gradients that are off in the first layer."""
    dW, db = relu_gradients(weights, biases, feedback, X, slope)
    return (dW[0] + 1, *dW[1:]), db


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


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("module", [dfa_invariant, dfa_depth, dfa_width_free])
def test_depths(module, depth):
    assert module.derivation(depth).title.endswith(f"depth {depth}")


def test_five_layers():
    assert dfa_invariant.derivation(5)


@pytest.mark.parametrize("seed", range(1, 5))
def test_relu_instances(seed):
    assert relu_invariant.derivation(hidden=(3 + seed,), samples=7, seed=seed)


MUTATIONS = [
    (dfa_invariant, "mismatch", lambda below, above, bridge: below @ below.T - 2 * bridge @ above),
    (dfa_invariant, "mismatch", lambda below, above, bridge: below @ below.T - bridge @ above),
    (dfa_invariant, "direct_feedback_alignment", lambda rule, state: [w @ w.T for w in state.weights[:-1]]),
    (dfa_depth, "dfa_factor", lambda squares: math.prod(h / 2 for h in squares)),
    (dfa_depth, "dfa_timescale", lambda squares: 1 / dfa_factor(squares)),
    (dfa_depth, "power_clock", lambda x, p: power_clock(x, p - 1)),
    (relu_invariant, "relu_invariant", lambda below, above, feedback, bias=None: (below**2).sum(-1)),
    (relu_invariant, "relu_gradients", _off),
    (dfa_width_free, "WidthFree", Swapped),
    (dfa_width_free, "WidthFree", WithoutGrams),
    (wide_fa, "fa_wide", lambda *args, overlap: fa_wide(*args)),
    (wide_fa, "fa_wide_kernels", lambda *args, overlap: [2 * K for K in fa_wide_kernels(*args, overlap=overlap)]),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
