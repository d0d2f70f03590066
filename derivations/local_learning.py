"""Greedy local learning: the first layer and its head are a two-layer network under backprop, whatever is above."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given, nothing_left
from linfa.dynamics import State
from linfa.simulate import advance
from linfa.theory.backprop.saxe import bp_mode
from linfa.theory.learned.local_learning import LocalMode, first_head, readout_memory


def derivation(depth: int = 3) -> Derivation:
    """Prove it at a given depth, and for two layers what the readout does.

    Args:
        depth: number of weights, at least 2.

    >>> derivation(depth=2).title
    'greedy local learning, depth 2'
    """
    local, backprop = linfa.derive(linfa.local(decay=0.1), depth), linfa.derive(linfa.bp(decay=0.1), 2)
    eta = sp.Symbol("eta", positive=True)
    E = backprop.residual_definition
    back = {words.letter("E"): words.of(E), words.letter("E^T"): words.of(E.T)}
    back |= {words.letter("W_2"): words.letter("B_1^T"), words.letter("W_2^T"): words.letter("B_1")}

    def put(expression):
        return sp.expand(words.of(expression).xreplace(back).xreplace(back))

    steps = [
        given("the equations of local learning", local),
        given("the equations of backprop in two layers", backprop),
    ]
    pair, two = first_head(local.velocity), backprop.velocity.weights
    for name, v, same in zip(("W_1", "B_1^T"), pair.weights, two, strict=True):
        text = f"{name}' is that of backprop with W_2 = B_1^T, for any data"
        steps.append(equal(text, words.of(v), put(same), f"d{name}/dt"))
    one, other = first_head(advance(local.state, local.velocity, eta)), advance(backprop.state, backprop.velocity, eta)
    for name, w, same in zip(("W_1", "B_1^T"), one.weights, other.weights, strict=True):
        steps.append(equal(f"and so is a step of descent on {name}", words.of(w), put(same), f"{name}(t+eta)"))
    text = "so that linfa.theory.backprop.unbalanced.UnbalancedMode, for first_head, leaves nothing in its modes"
    modes = linfa.derive(linfa.local(), depth)
    steps.append(nothing_left(text, LocalMode.residuals(modes), "residual"))

    equations = linfa.derive(linfa.local(decay=0.1), 2)
    decay = sp.sympify(equations.rule.decay)

    def gap(state: State):
        return words.of(state.weights[1] - first_head(state).weights[1])

    D = gap(equations.state)
    W1, W1t, Sxx = (words.letter(name) for name in ("W_1", "W_1^T", "S_xx"))
    moves = gap(equations.velocity).xreplace({words.letter("E"): words.of(equations.residual_definition)})
    text = "with two layers, the readout is a second head: D = W_2 - B_1^T obeys D' = -D W_1 Sxx W_1^T - lambda D"
    steps.append(equal(text, moves, -D * W1 * Sxx * W1t - decay * D, "Ddot"))
    t, s, u0 = sp.symbols("t s u_0", positive=True)
    left = readout_memory(t, s, u0)
    text = "along a balanced mode, where W_1 W_1^T is u of bp_mode: the slope of readout_memory"
    steps.append(equal(text, sp.diff(left, t) / left, -bp_mode(t, s, u0), "d log(readout_memory)/dt"))
    steps.append(equal("which starts at 1", left.subs(t, 0), 1, "readout_memory(0)"))
    late = (left * sp.exp(s * t)).subs(sp.exp(-2 * s * t), 0)
    steps.append(equal("and ends as sqrt(s/u_0) e^(-st)", late, sp.sqrt(s / u0), "readout_memory*e^(st)"))
    return Derivation(
        f"greedy local learning, depth {depth}",
        ("any data and start, one decay for weights and heads", "modes: white inputs, aligned start, no decay"),
        tuple(steps),
        "derived here",
    )
