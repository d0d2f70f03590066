"""Derivation: the printed equations, their modes, proofs and refutations."""

import numpy as np
import pytest
import sympy as sp

import linfa
from linfa.expressions import Normalised
from linfa.rules import Conserved, named
from linfa.symbolic import DECAY, polynomial
from linfa.theory import invariants


def test_text_of_kolen_pollack():
    text = str(linfa.derive(linfa.kolen_pollack(0.3), depth=2))
    assert "dW_1/dt = (-lambda)*W_1 + B_1*E" in text
    assert "dB_1/dt = (-lambda)*B_1 + W_1*E.T" in text


def test_equations_by_hand():
    equations = dict(linfa.derive(linfa.ldfa(2, "oja"), depth=2).pairs)
    by_name = {x.name: (x, v) for x, v in equations.items()}
    W1, W2, Q, P = (by_name[n][0] for n in ("W_1", "W_2", "Q_1", "P_1"))
    E = sp.MatrixSymbol("E", W2.shape[0], W1.shape[1])
    assert polynomial(by_name["W_1"][1] - Q * P * E) == 0
    assert polynomial(by_name["W_2"][1] - E * W1.T) == 0
    assert polynomial(by_name["Q_1"][1] - W1 * E.T * P.T) == 0
    C = Normalised(sp.MatrixSymbol("S_ee", W2.shape[0], W2.shape[0]))
    assert polynomial(by_name["P_1"][1] - (P * C - P * C * P.T * P)) == 0


def test_residual_is_what_e_stands_for():
    derived = linfa.derive(linfa.bp(), depth=3)
    assert str(derived.residual_definition) == "S_yx - W_3*W_2*W_1*S_xx"


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("name", [name for name, rule in named().items() if rule.symbolic])
def test_every_rule_derives_and_proves_its_claims(name, depth):
    derived = linfa.derive(named()[name], depth)
    weights = depth * len(derived.rule.parameterisation.names)
    assert len(derived.pairs) == weights + sum(map(len, derived.state.feedback))
    assert derived.latex().count(r"\dot") == len(derived.pairs)
    for claim in derived.rule.conserved():
        assert derived.prove(claim), claim


def test_modes_are_the_field_of_one_unit():
    modes = linfa.derive(linfa.ldfa(3, "normative"), depth=2).modes()
    values = {x: 0.3 + 0.2 * i for i, x in enumerate(modes)}
    w1, w2, q, p = values.values()
    s = 1.7
    numbers = [float(v.subs({**values, sp.Symbol("s", positive=True): s})) for v in modes.values()]
    np.testing.assert_allclose(
        numbers, [q * p * (s - w2 * w1), w1 * (s - w2 * w1), (w2 - q * p) * p, q * (w2 - q * p)], rtol=1e-12
    )


def test_a_false_claim_is_refuted_with_what_is_left():
    proof = linfa.derive(linfa.fa(), 2).prove(Conserved(invariants.balance, 0))
    assert not proof
    assert "refuted" in str(proof)
    assert len(proof.residue) == 1
    assert "E" in str(proof.residue[0])


def test_a_decay_is_not_conservation():
    derived = linfa.derive(linfa.kolen_pollack(0.2), 2)
    assert derived.prove(Conserved(invariants.kolen_pollack, 1))
    assert not derived.prove(Conserved(invariants.kolen_pollack, 0))
    assert not derived.prove(Conserved(invariants.activity_balance, 1))
    assert derived.rule.decay == DECAY


def test_non_commuting_polynomials():
    n = sp.Symbol("n", integer=True, positive=True)
    A, B = sp.MatrixSymbol("A", n, n), sp.MatrixSymbol("B", n, n)
    assert polynomial((A + B) * (A - B) - A * A + B * B + A * B - B * A) == 0
    assert polynomial(A * B - B * A) != 0
    assert polynomial((A * B).T - B.T * A.T) == 0
    assert polynomial(A.T - A) != 0


def test_clamp_has_no_symbolic_form():
    with pytest.raises(TypeError, match="clamp=None"):
        linfa.derive(linfa.ldfa(2, clamp=1.0), 2).pairs  # noqa: B018


def test_depth_is_positive():
    with pytest.raises(ValueError, match="at least 1"):
        linfa.derive(linfa.bp(), 0)


def test_notebook_repr():
    assert linfa.derive(linfa.sign_symmetry(), 2)._repr_latex_().startswith(r"$\displaystyle \begin{aligned}")
