"""Feedback alignment in ReLU networks: of the conserved matrix its diagonal is left, one number for each unit."""

import numpy as np

from linfa.theory import examples
from linfa.theory.result import Result

__all__ = ["relu_invariant"]


def relu_invariant(below, above, feedback, bias=None):
    """I_i = |w_i|^2 + b_i^2 - 2 B[i, :] . W[:, i] of every unit i of a layer, W the weights of the layer above.

    Layerwise feedback alignment conserves it for any loss and data, since phi(z) = phi'(z) z: of w_i and of W[:, i] the
    same products E[h_i (B delta)_i] come out.  A step of descent on any mini-batch adds exactly lr^2 |g_i|^2, with g_i
    the gradient of w_i and b_i.  The same holds for leaky ReLU and for linear units, which conserve the whole matrix.

    Args:
        below: W_l (..., k, n), of the units.
        above: W_(l+1) (..., m, k), of the layer above.
        feedback: B_l (..., k, m), which carries the error of the layer above down to the units.
        bias: b_l (..., k), if the units have biases that learn.

    Returns:
        (..., k).

    Raises:
        ValueError: for shapes that do not match.

    Source: the law of each unit is known from Robertson & Koyejo (2023), re-derived; the exact drift is derived here
    (`derivations.relu_invariant`).

    >>> relu_invariant(np.array([[3.0, 4.0]]), above=np.array([[2.0]]), feedback=np.array([[5.0]])).tolist()
    [5.0]
    """
    k, m = feedback.shape[-2:]
    if below.shape[-2] != k or above.shape[-2:] != (m, k):
        raise ValueError(f"B of shape {(k, m)} joins W_l (..., {k}, n) to W_(l+1) (..., {m}, {k}); got "
                         f"{tuple(below.shape)} and {tuple(above.shape)}")  # fmt: skip
    squares = (below**2).sum(-1) if bias is None else (below**2).sum(-1) + bias**2
    return squares - 2 * (feedback * np.swapaxes(above, -1, -2)).sum(-1)


def relu_gradients(weights, biases, feedback, X, slope):
    """Gradients of layerwise feedback alignment in a ReLU network with a linear output.

    Args:
        weights, biases: W_l (n_l, n_(l-1)) and b_l (n_l,).
        feedback: B_1 .. B_(L-1), B_l (n_l, n_(l+1)).
        X: samples as columns (n_in, N).
        slope: outputs (n_out, N) -> the derivative of the loss by them.

    Returns:
        Gradients of weights and of biases.  Entries may be fractions.
    """
    h, active = [X], []
    for W, b in zip(weights, biases, strict=True):
        z = W @ h[-1] + b[:, None]
        active.append(z > 0)
        h.append(z * active[-1])
    delta, out = slope(z), []
    for i in reversed(range(len(weights))):
        out.append((delta @ h[i].T, delta.sum(1)))
        if i:
            delta = (feedback[i - 1] @ delta) * active[i - 1]
    return tuple(zip(*reversed(out), strict=True))


def _drift_error(seed):
    """Largest deviation of the drift from lr^2 |g|^2 in 20 steps on mini-batches, relative to the invariant's terms."""
    rng = examples.generator(seed)
    widths = (3, *rng.integers(2, 9, int(rng.integers(1, 4))).tolist(), 2)
    sizes = list(zip(widths[1:], widths, strict=False))
    weights = [rng.standard_normal(size) / size[1] ** 0.5 for size in sizes]
    biases = [0.1 * rng.standard_normal(k) for k, _ in sizes]
    feedback = [rng.standard_normal((k, m)) / m**0.5 for m, k in sizes[1:]]
    lr, worst = 0.1, 0.0

    def values():
        return [relu_invariant(*layer) for layer in zip(weights, weights[1:], feedback, biases, strict=False)]

    for _ in range(20):
        X, Y = rng.standard_normal((3, 8)), rng.standard_normal((2, 8))
        before = values()
        dW, db = relu_gradients(weights, biases, feedback, X, lambda y, Y=Y: np.tanh(y - Y) / 8)
        weights = [W - lr * G for W, G in zip(weights, dW, strict=True)]
        biases = [b - lr * g for b, g in zip(biases, db, strict=True)]
        for now, old, G, g in zip(values(), before, dW, db, strict=False):
            drift = lr**2 * ((G**2).sum(-1) + g**2)
            worst = max(worst, float(np.abs(now - old - drift).max() / max(1.0, np.abs(old).max(), drift.max())))
    return worst


RESULTS = (
    Result(
        "E15",
        "layerwise FA with ReLU, any loss: |w_i|^2 - 2 B[i, :] . W[:, i] of each unit grows by lr^2 |g_i|^2 in a step",
        "known from Robertson & Koyejo (2023), per unit, re-derived; the exact drift is derived here",
        1e-11,
        _drift_error,
    ),
)
