"""The derivations of factored weights notice a wrong formula, and hold for any rule."""

import pytest
import sympy as sp

import linfa
from derivations import svd_components, svd_orthogonality
from derivations.proof import ProofError
from linfa.rules import SVD
from linfa.theory import invariants

MUTATIONS = [
    (svd_orthogonality, "orthogonality_value", lambda t, s, w: s / sp.sqrt(s**2 + (1 - s**2) * sp.exp(-4 * w * t))),
    (svd_orthogonality, "orthogonality_value", lambda t, s, w: sp.Integer(1) + 0 * t),
    (svd_orthogonality, "orthogonality_step", lambda s, rate: abs(s - 2 * rate * s * (s**2 - 1))),
    (svd_orthogonality, "orthogonality_max_lr", lambda w: 1 / (8 * w)),
    (svd_components, "factored_alignment", lambda W, g, d, h: g @ d * (h @ h)),
    (svd_components, "factored_speed", lambda W, v: SVD(v.U, W.s, W.V).matrix + SVD(W.U, W.s, v.V).matrix),
    (svd_components, "Diagonal", lambda M: -sp.Integer(1) * M),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()


@pytest.mark.parametrize("rule", [linfa.fa(), linfa.dfa(), linfa.ldfa(2, "hebb"), linfa.kolen_pollack(0.3)])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_components_of_any_rule(rule, depth):
    assert svd_components.derivation(depth, rule)


def test_the_balance_of_frames_is_that_of_backprop_alone():
    claim = linfa.rules.Conserved(invariants.frame_balance, 2)
    assert linfa.derive(linfa.factored(linfa.bp(), 3), 3).prove(claim)
    assert not linfa.derive(linfa.factored(linfa.fa(), 3), 3).prove(claim)
