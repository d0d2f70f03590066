"""Feedback of rank r makes a wide network from zero learn as one of width r, at any depth: W_l = U_l V_l U_(l-1)^T."""

import dataclasses

import numpy as np

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.dynamics import start, velocity
from linfa.simulate import advance
from linfa.theory.dimension.bottleneck import bottleneck


def derivation(depth: int = 2, rule=None) -> Derivation:
    """The wide velocity is the narrow one between the frames, for every data; numbers then for the function itself.

    Args:
        depth: number of weights, at least 2.
        rule: a rule with two fixed factors on every edge; layerwise with decay by default.

    >>> derivation(depth=3).title
    'the bottleneck of low-rank feedback, depth 3'
    """
    rule = rule or linfa.ldfa(2, "fixed", decay=0.1)
    wide = linfa.derive(rule, depth)
    narrow = linfa.derive(dataclasses.replace(rule, feedback=linfa.rules.Dense()), depth)
    frames = [1, *(words.letter(f"U_{cut}") for cut in range(1, depth)), 1]
    frames_T = [1, *(words.letter(f"U_{cut}^T") for cut in range(1, depth)), 1]
    values, inner = {}, {}
    for cut in range(1, depth + 1):
        V, Vt = words.letter(f"V_{cut}"), words.letter(f"V_{cut}^T")
        values[words.letter(f"W_{cut}")] = frames[cut] * V * frames_T[cut - 1]
        values[words.letter(f"W_{cut}^T")] = frames[cut - 1] * Vt * frames_T[cut]
        inner |= {words.letter(f"W_{cut}"): V, words.letter(f"W_{cut}^T"): Vt}
    for edge in rule.route.edges(depth):
        R, P = words.letter(f"R_{edge.activity}"), words.letter(f"P_{edge.activity}")
        values[words.letter(f"Q_{edge.activity}")] = frames[edge.activity] * R
        inner[words.letter(f"B_{edge.activity}")] = R * P * frames[edge.source]
    known = words.orthonormal(*(f"U_{cut}" for cut in range(1, depth)))

    def put(expression):
        return words.reduced(words.of(expression), values, known)

    def seen(expression):
        return words.reduced(words.of(expression), inner, known)

    steps = [
        given("the equations of the rule", wide),
        given("orthonormal bases of the columns of the feedback, and weights between them",
              "Q_l = U_l R_l, U_l^T U_l = I, W_l = U_l V_l U_(l-1)^T"),
        equal("the error is that of the network V_1 .. V_L", put(wide.residual_definition),
              seen(narrow.residual_definition), "E"),
    ]  # fmt: skip
    text = "W_{0}' keeps its frames, and between them V_{0} learns by the narrow rule with feedback U_l^T Q_l P_l U_s"
    for cut, (v, w) in enumerate(zip(wide.velocity.weights, narrow.velocity.weights, strict=True), 1):
        between = frames[cut] * seen(w) * frames_T[cut - 1]
        steps.append(equal(text.format(cut), put(v), words.reduced(between, {}, known), f"Wdot_{cut}"))
    steps.append(Step("linfa.theory.dimension.bottleneck.bottleneck is this network: a step of descent, in numbers",
                      "to 1e-9 relative", bool(_gap(rule, depth) < 1e-9)))  # fmt: skip
    return Derivation(
        f"the bottleneck of low-rank feedback, depth {depth}",
        ("fixed feedback B_l = Q_l P_l", "a start of this form, such as zero", "any data"),
        tuple(steps),
        "derived here",
    )


def _gap(rule, depth):
    """Relative distance of a step of the wide network from that of the narrow one, from random V."""
    rng, task = np.random.default_rng(0), linfa.Task.from_spectrum([2.0, 1.0], n_in=3, n_out=3)
    state = start(rule, linfa.Network.zero((3, *(5,) * (depth - 1), 3)))
    zero = bottleneck(rule, state)
    weights = zero.widen([rng.standard_normal(V.shape) for V in zero.network.weights])
    state = state._replace(weights=weights)
    narrow = bottleneck(rule, state)
    small = state._replace(weights=narrow.network.weights, feedback=narrow.feedback)
    moved = advance(state, velocity(rule, state, task.batch), 0.1).weights
    inside = narrow.widen(advance(small, velocity(narrow.rule, small, task.batch), 0.1).weights)
    return max(np.abs(a - b).max() / np.abs(a).max() for a, b in zip(moved, inside, strict=True))
