"""Deep feedback alignment from zero weights as descent of A and M_l, exactly: W_1 = B_1 A, W_l = B_l M_l B_(l-1)^T."""

from types import SimpleNamespace

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given
from linfa.dynamics import State
from linfa.simulate import advance
from linfa.theory.depth.width_free import WidthFree


def derivation(depth: int = 3) -> Derivation:
    """The form of the weights is kept by a step of any size, so by the flow, for any second moments of the data.

    Args:
        depth: number of weights L, at least 2.

    >>> derivation(depth=2).title
    'deep feedback alignment without its hidden units, depth 2'
    """
    equations = linfa.derive(linfa.dfa(), depth)
    m, n = equations.residual.shape
    eta = sp.Symbol("eta", positive=True)
    A = sp.MatrixSymbol("A", m, n)
    M = tuple(sp.MatrixSymbol(f"M_{cut}", m, m) for cut in range(2, depth + 1))
    H = tuple(sp.MatrixSymbol(f"H_{cut}", m, m) for cut in range(1, depth))
    B = tuple(stored[0] for stored in equations.state.feedback)
    small, task = WidthFree(A, M), SimpleNamespace(Syx=sp.MatrixSymbol("S_yx", m, n), Sxx=sp.MatrixSymbol("S_xx", n, n))
    forms = small.weights(B)
    relations = {words.of(b.T * b): words.of(h) for b, h in zip(B, H, strict=True)}
    relations |= {words.of(h.T): words.of(h) for h in H}
    values = {words.of(W): words.of(form) for W, form in zip(equations.state.weights, forms, strict=True)}
    values |= {words.of(W.T): words.of(form.T) for W, form in zip(equations.state.weights, forms, strict=True)}
    E = task.Syx - small.signals(H)[-1] * task.Sxx

    def put(expression, more=None):
        return words.reduced(words.of(expression), values | (more or {}), relations)

    steps = [
        given("the equations of the rule", equations),
        given("the form of the weights, and what enters of the feedback", "W_1 = B_1 A, W_l = B_l M_l B_(l-1)^T with "
              "B_L = I, H_l = B_l^T B_l; zero weights are A = 0, M_l = 0"),
    ]  # fmt: skip
    total = sp.S.One
    for cut, (W, X) in enumerate(zip(equations.state.weights, small.signals(H), strict=True), 1):
        total = words.of(W) * total
        seen = words.of(B[cut - 1] * X) if cut < depth else words.of(X)
        steps.append(equal(f"WidthFree.signals: the layers up to {cut} give B_{cut} X_{cut}",
                           words.reduced(total, values, relations), seen, f"W_{cut} .. W_1"))  # fmt: skip
    steps.append(equal("so that E", put(equations.residual_definition), words.of(E), "E"))
    v = small.velocity(task, H)
    error = {words.of(equations.residual): words.of(E), words.of(equations.residual.T): words.of(E.T)}
    for cut, (slope, moves) in enumerate(zip(equations.velocity.weights, v.weights(B), strict=True), 1):
        text = f"W_{cut}' has the form of W_{cut}, with the velocity of WidthFree.velocity inside"
        steps.append(equal(text, put(slope, error), put(moves), f"Wdot_{cut}"))
    moved = advance(equations.state, equations.velocity, eta).weights
    kept = advance(State((A, *M)), State((v.A, *v.M)), eta).weights
    for cut, (W, form) in enumerate(zip(moved, WidthFree(kept[0], kept[1:]).weights(B), strict=True), 1):
        text = f"so a step of descent on W_{cut} is a step on A and M, whatever its size"
        steps.append(equal(text, put(W, error), put(form), f"W_{cut}(t+eta)"))
    return Derivation(
        f"deep feedback alignment without its hidden units, depth {depth}",
        ("zero weights", "fixed B_l that take the output error to cut l", "any second moments of the data"),
        tuple(steps),
        "weight alignment known from Refinetti et al. (2021); the exact reduction derived here",
    )
