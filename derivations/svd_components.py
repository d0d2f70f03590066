"""Factors U diag(s) V^T of a weight: the chain rule, a chain of three weights, what it conserves, and its alignment."""

from dataclasses import replace

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given, nothing_left
from linfa.expressions import Diag, Diagonal
from linfa.rules import SVD, Factored
from linfa.theory import invariants
from linfa.theory.factored.components import factored_alignment, factored_speed


def derivation(depth: int = 2, rule=None) -> Derivation:
    """Prove it at a given depth.

    Args:
        depth: number of weights.
        rule: any rule of full weights, its decay left out; `linfa.bp` by default.

    >>> derivation(1).steps[1].formula
    Eq(Udot_1, E*V_1*diag(s_1))
    """
    rule = replace(rule or linfa.bp(), decay=0.0)
    full, equations = linfa.derive(rule, depth), linfa.derive(linfa.factored(rule, 2), depth)
    stored = equations.state.weights
    put = {W: U * Diag(s) * V.T for W, (U, s, V) in zip(full.state.weights, stored, strict=True)}
    steps = [given("the equations of the factors", equations)]
    for number, ((U, s, V), v, direction) in enumerate(
        zip(stored, equations.velocity.weights, full.velocity.weights, strict=True), 1
    ):
        D = direction.subs(put).doit()  # the direction of W_l, from the equations of full weights
        wanted = (D * V * Diag(s), Diagonal((U.T * D * V).doit()), D.T * U * Diag(s))
        texts = "U moves by D V diag(s)", "s by the diagonal of U^T D V", "V by D^T U diag(s)"
        for text, name, left, right in zip(texts, "UsV", v, wanted, strict=True):
            steps.append(
                equal(f"with D = -dL/dW_{number}, {text}", words.of(left), words.of(right), f"{name}dot_{number}")
            )
    steps += _chain()
    balance = invariants.component_balance
    steps.append(
        nothing_left("|u_j|^2 - s_j^2 and |v_j|^2 - s_j^2 stay", equations.change(balance, 2), "component_balance")
    )
    steps.append(_lemma())
    return Derivation(
        f"The components of factored weights, depth {depth}",
        (f"rule: {equations.rule!r}", "any loss, data and start: E is any matrix"),
        tuple(steps),
        "chain rule, known; the conserved quantities and the lemma are derived here",
    )


def _chain():
    """One factored layer against three full ones."""
    one, three = linfa.derive(linfa.factored(linfa.bp(), 2), 1), linfa.derive(linfa.bp(), 3)
    U, D, V = words.letter("U_1"), words.letter("diag(s_1)"), words.letter("V_1")
    values = {"W_1": words.letter("V_1^T"), "W_1^T": V, "W_2": D, "W_2^T": D, "W_3": U, "W_3^T": words.letter("U_1^T")}
    values = {words.letter(name): value for name, value in values.items()}
    bottom, middle, top = (words.reduced(words.of(v), values, {}) for v in three.velocity.weights)
    moved = one.velocity.weights[0]
    factor = sp.transpose(moved.V).doit()
    inner = words.of(moved.s.args[0])  # of which s moves by the diagonal
    text = "backprop through three layers V^T, diag(s), U"
    return [
        equal(f"{text} moves U alike", words.of(moved.U), top, "Udot"),
        equal("V alike", words.of(factor), bottom, "Vdot^T"),
        equal("and s by the diagonal of what would move diag(s)", inner, middle, "sdot"),
    ]


def _lemma():
    """The alignment lemma for two outputs, two inputs and two components, every entry a symbol."""
    U, V = (np.array([[sp.Symbol(f"{name}{i}{j}") for j in "12"] for i in "12"]) for name in "uv")
    s, g, d, h = (np.array([sp.Symbol(f"{name}{i}") for i in "12"]) for name in ("s", "g", "d", "h"))
    W = SVD(U, s[:, None], V)
    moved = factored_speed(W, Factored(2).pull(W, np.outer(d, h)))
    left = sp.expand((np.outer(g, h) * moved).sum())
    difference = sp.expand(left - factored_alignment(W, g, d, h))
    return equal(
        "the factors lower the loss of a sample as fast as factored_alignment says", difference, 0, "difference"
    )
