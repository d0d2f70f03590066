"""|w_i|^2 + b_i^2 - 2 B[i, :] . W[:, i] of a ReLU unit is conserved by FA, and grows by lr^2 |g_i|^2 in a step."""

import random
from fractions import Fraction

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.dynamics import State
from linfa.theory import invariants
from linfa.theory.alignment.relu import relu_gradients, relu_invariant


def _fractions(rng, *shape):
    values = [Fraction(rng.randint(-9, 9), rng.randint(1, 5)) for _ in range(int(np.prod(shape)))]
    return np.array(values, dtype=object).reshape(shape)


def derivation(hidden=(4, 3), samples: int = 5, seed: int = 0) -> Derivation:
    """The linear law from the rule, then what is left of it with ReLU, in exact rational numbers on a random instance.

    Args:
        hidden: widths of the hidden layers.
        samples: of the mini-batch.
        seed: of the instance.

    >>> derivation(seed=1).title
    'what is conserved in a ReLU network under feedback alignment'
    """
    equations, depth = linfa.derive(linfa.fa(), len(hidden) + 1), len(hidden) + 1
    steps = [given("the equations of the rule in a linear network", equations)]
    for change in equations.change(invariants.feedback_alignment):
        text = "without ReLU the whole matrix linfa.theory.invariants.feedback_alignment is conserved"
        steps.append(equal(text, words.of(change), 0, "Cdot"))
    z = sp.Symbol("z", real=True)
    phi = sp.Max(z, 0)
    for side, assumption in (("z > 0", {"positive": True}), ("z < 0", {"negative": True})):
        at = sp.Symbol("z", **assumption)
        steps.append(equal(f"ReLU is homogeneous, phi(z) = phi'(z) z, where {side}", sp.diff(phi, z).subs(z, at) * at,
                           phi.subs(z, at), "phi'(z)*z"))  # fmt: skip
    text = (
        "with it w_i . E[phi'(z_i) (B delta)_i x] = E[h_i (B delta)_i] = B[i, :] . E[delta h_i]: the diagonal is left"
    )
    steps.append(given(text, "w_i . dw_i = B[i, :] . dW[:, i]"))

    rng, lr = random.Random(seed), Fraction(1, 7)
    widths = (3, *hidden, 2)
    sizes = list(zip(widths[1:], widths, strict=False))
    weights, biases = [_fractions(rng, *size) for size in sizes], [_fractions(rng, k) for k, _ in sizes]
    feedback = [_fractions(rng, k, m) for m, k in sizes[1:]]
    X, Y = _fractions(rng, 3, samples), _fractions(rng, 2, samples)
    dW, db = relu_gradients(weights, biases, feedback, X, lambda y: (y - Y) ** 3)
    moved = [W - lr * G for W, G in zip(weights, dW, strict=True)]
    shifted = [b - lr * g for b, g in zip(biases, db, strict=True)]
    plain = [relu_invariant(*layer) for layer in zip(weights, weights[1:], feedback, strict=False)]
    stored = tuple((B,) for B in feedback)
    whole = invariants.feedback_alignment(linfa.fa(), State(tuple(weights), stored))
    steps.append(Step("linfa.theory.alignment.relu.relu_invariant without biases is the diagonal of that matrix",
                      "I = diag(W_l W_l^T - B_l W_(l+1) - W_(l+1)^T B_l^T)",
                      all((np.diagonal(C) == unit).all() for C, unit in zip(whole, plain, strict=True))))  # fmt: skip
    before = [relu_invariant(*layer) for layer in zip(weights, weights[1:], feedback, biases, strict=False)]
    after = [relu_invariant(*layer) for layer in zip(moved, moved[1:], feedback, shifted, strict=False)]
    for cut, (old, now, G, g) in enumerate(zip(before, after, dW, db, strict=False), 1):
        drift = now - old - lr**2 * ((G**2).sum(-1) + g**2)
        text = f"a step of descent on a mini-batch, loss |y - y_hat|^4 / 4 by component: layer {cut}, in exact numbers"
        steps.append(Step(text, "I_i(t+eta) - I_i(t) = eta^2 |g_i|^2", not drift.any()))
    turned = invariants.feedback_alignment(linfa.fa(), State(tuple(moved), stored))
    for cut, (old, now, G) in enumerate(zip(whole, turned, dW, strict=False), 1):
        rest = now - old - lr**2 * G @ G.T
        others = rest[~np.eye(len(rest), dtype=bool)]
        steps.append(Step(f"the rest of the matrix of layer {cut} does not follow the linear law",
                          "C(t+eta) - C(t) != eta^2 G G^T", bool(others.any())))  # fmt: skip
    return Derivation(
        "what is conserved in a ReLU network under feedback alignment",
        (f"layerwise feedback that does not learn, depth {depth}", "any loss and data"),
        tuple(steps),
        "per unit known from Robertson & Koyejo (2023), re-derived; the exact drift is derived here",
    )
