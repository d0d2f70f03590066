"""LDFA with P fixed and Q = W_2^T P^T by Kolen-Pollack is backprop on the targets P y, in flow and in descent."""

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given, nothing_left
from linfa.theory import invariants
from linfa.theory.dimension.compressed_backprop import CompressedBackprop, compressed_task


def derivation() -> Derivation:
    """The equations of LDFA at Q = W_2^T P^T are those of backprop in the letters W_1, P W_2, P Syx.

    >>> derivation().title
    'Q-only LDFA is backprop on compressed targets'
    """
    equations = linfa.derive(linfa.ldfa(2, "kolen-pollack", decay=0.1), 2)
    plain = linfa.derive(linfa.bp(decay=0.1), 2)
    decay = equations.rule.decay
    W2, W2t, P, Pt, E, Syx = map(words.letter, ("W_2", "W_2^T", "P_1", "P_1^T", "E", "S_yx"))
    tied = {words.letter("Q_1"): W2t * Pt, words.letter("Q_1^T"): P * W2}
    renamed = {W2: P * W2, W2t: W2t * Pt, E: P * E, Syx: P * Syx}

    def wide(expression):
        return words.reduced(words.of(expression), tied, {})

    def small(expression):
        return words.of(expression).xreplace(renamed)

    steps = [given("the equations of the rule", equations), given("and of backprop", plain)]
    for change in equations.change(invariants.kolen_pollack):
        (gap,) = invariants.kolen_pollack(equations.rule, equations.state)
        text = "Q - W_2^T P^T obeys D' = -lambda D: zero at the start, it stays zero"
        steps.append(equal(text, change, -decay * words.of(gap), "Ddot"))
    (v1, v2), (u1, u2) = equations.velocity.weights, plain.velocity.weights
    (dQ, _), names = equations.velocity.feedback[0], ("W_1", "P W_2", "Q^T")
    moves = wide(v1), sp.expand(P * wide(v2)), wide(dQ.T)
    for name, move, other in zip(names, moves, (u1, u2, u2), strict=True):
        text = f"{name} moves as backprop's weight, with P W_2 for W_2 and P E for E"
        steps.append(equal(text, move, sp.expand(small(other)), f"d({name})/dt"))
    error = sp.expand(P * words.of(equations.residual_definition))
    steps.append(
        equal("where P E is the error on the targets P y", error, sp.expand(small(plain.residual_definition)), "P*E")
    )
    steps.append(given("all velocities agree, so a step of descent does too", "state <- state + lr velocity"))
    rng = np.random.default_rng(0)
    task, rows = linfa.Task.teacher(rng.standard_normal((3, 4)), noise=0.1), rng.standard_normal((2, 3))
    gap = np.abs(compressed_task(task, rows).Syx - rows @ task.Syx).max()
    text = "linfa.theory.dimension.compressed_backprop.compressed_task has the moment P Syx, in numbers"
    steps.append(Step(text, "to 1e-12", bool(gap < 1e-12)))
    without = linfa.derive(linfa.ldfa(2, "kolen-pollack"), 2)
    text = "the equations of one mode are those of backprop, which Riccati solves: CompressedBackprop has nothing left"
    steps.append(nothing_left(text, CompressedBackprop.residuals(without), "residual"))
    return Derivation(
        "Q-only LDFA is backprop on compressed targets",
        ("two layers, P fixed, Q = W_2^T P^T at the start", "any data and decay"),
        tuple(steps),
        "derived here",
    )
