"""Chains of scalar weights with fixed feedback: one polynomial of the integrated error, and where it comes to rest."""

import numpy as np

from linfa.network import Network
from linfa.rules import dfa, fa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.result import Result

__all__ = ["chain_limit", "chain_polynomial", "chain_weights", "fa_rest_points"]


def _times(p, q):
    out = [0 * p[0]] * (len(p) + len(q) - 1)
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            out[i + j] = out[i + j] + a * b
    return tuple(out)


def chain_weights(feedback, start) -> tuple[tuple, ...]:
    """The weights of a scalar network as polynomials of alpha = int e dt, the integrated error of the output.

    w_l' = beta_l e w_(l-1) .. w_1, so that w_l(alpha) = w_l(0) + beta_l int w_(l-1) .. w_1 dalpha, of degree 2^(l-1).

    Args:
        feedback: beta_1 .. beta_(L-1), what carries e to each hidden layer: b_l with direct feedback, b_l .. b_(L-1)
            layer by layer.
        start: w_1(0) .. w_L(0).  Both are numbers or SymPy expressions.

    Returns:
        For each weight its coefficients, the constant first.

    Raises:
        ValueError: unless there is one weight more than feedback.

    Source: derived here (`derivations.scalar_chain`); that these chains converge is Baldi, Sadowski & Lu (2018), known.

    >>> chain_weights([3.0], [0.0, 1.0])
    ((0.0, 3.0), (1.0, 0.0, 1.5))
    """
    if len(start) != len(feedback) + 1:
        raise ValueError(f"L weights have L - 1 feedback numbers; got {len(start)} and {len(feedback)}")
    below, out = (1,), []
    for beta, begin in zip((*feedback, 1), start, strict=True):
        out.append((begin, *(beta * c / i for i, c in enumerate(below, 1))))
        below = _times(below, out[-1])
    return tuple(out)


def chain_polynomial(feedback, start, s) -> tuple:
    """Coefficients of p in alpha' = p(alpha) = s - w_L(alpha) .. w_1(alpha), the constant first.

    Its degree 2^L - 1 is odd and its leading coefficient -(c_1 .. c_(L-1))^2 / 2^(L-1), with c_l = beta_l c_(l-1) ..
    c_1 / 2^(l-1), is negative whatever the signs of the feedback: alpha always comes to rest, at zero loss.

    Args:
        feedback, start: as in `chain_weights`.
        s: singular value of the task.

    Source: derived here (`derivations.scalar_chain`).

    >>> chain_polynomial([1.0], [1.0, 1.0], s=2.0)
    (1.0, -2.0, -1.5, -0.5)
    """
    total = (1,)
    for weight in chain_weights(feedback, start):
        total = _times(total, weight)
    return (s - total[0], *(-c for c in total[1:]))


def chain_limit(feedback, start, s) -> tuple[float, ...]:
    """The weights at which a scalar chain comes to rest: the first root of the polynomial on the way of alpha from 0.

    Arguments as in `chain_polynomial`, numbers.

    Raises:
        ValueError: for feedback that is zero, with which the loss need not vanish.

    Source: derived here.

    >>> chain_limit([2.0], [0.0, 0.0], s=2.0)
    (2.0, 1.0)
    """
    if not np.all(feedback):
        raise ValueError(f"feedback is not zero; got {list(feedback)}")
    polynomial = np.array(chain_polynomial(feedback, start, s), dtype=float)[::-1]
    roots = np.roots(polynomial)
    roots = roots.real[np.abs(roots.imag) <= 1e-7 * np.maximum(np.abs(roots), 1e-3)]
    drift = polynomial[-1]
    ahead = roots[roots * drift > 0]
    alpha = ahead[np.abs(ahead).argmin()] if drift else 0.0
    slope = np.polyder(polynomial)
    for _ in range(3):  # Newton's method, where the root is simple
        alpha -= np.polyval(polynomial, alpha) / (np.polyval(slope, alpha) or np.inf)
    return tuple(float(np.polyval(weight[::-1], alpha)) for weight in chain_weights(feedback, start))


def fa_rest_points(s, b, c) -> np.ndarray:
    """The w_1 at which the chain of two weights rests, in increasing order: roots of w^3/2 + b c w - b s.

    c = w_2 - w_1^2/(2b) is conserved.  There are three where -8 b c^3 > 27 s^2, else one; w_1 goes to the outer one on
    its own side of the middle one.

    Args:
        s: singular value of the task.
        b: feedback, not zero.
        c: the conserved number.

    Raises:
        ValueError: for b = 0.

    Source: derived here.

    >>> fa_rest_points(0.0, 1.0, -2.0).round(12).tolist(), fa_rest_points(0.5, 1.0, 0.0).round(12).tolist()
    ([-2.0, 0.0, 2.0], [1.0])
    """
    if not b:
        raise ValueError("with b = 0 the first weight does not move")
    roots = np.roots([0.5, 0.0, b * c, -b * s])
    if -8 * b * c**3 > 27 * s**2:
        return np.sort(roots.real)
    return roots.real[[np.abs(roots.imag).argmin()]]


def _draw(rng, depth, direct, several):
    """Feedback numbers, what they deliver, a start, s, and a time to rest; with several roots ahead if so wanted."""
    for _ in range(2000):
        b = rng.choice([-1, 1], depth - 1) * rng.uniform(0.6, 1.4, depth - 1)
        start, s = rng.uniform(-1.5, 1.5, depth), rng.uniform(-1, 1)
        seen = b if direct else np.cumprod(b[::-1])[::-1]
        polynomial = np.array(chain_polynomial(seen, start, s))[::-1]
        end = (chain_limit(seen, start, s)[0] - start[0]) / seen[0]
        path, roots = np.linspace(0, end, 100)[:-1], np.roots(polynomial)
        ahead = (roots.imag == 0) & (roots.real * end > 0)
        rate = (np.polyval(polynomial, path) / (end - path)).min() if end else 0.0
        if rate > 0.4 and (ahead.sum() >= 3 or not several):
            return b, seen, start, s, 24 / rate
    raise RuntimeError("no chain that comes to rest in time")


def _run(rule, b, start, s, times):
    """The weights along a flow (t, ..., depth), of an ensemble where feedback and starts are arrays."""

    def matrix(x):
        return np.reshape(np.asarray(x, dtype=float), (*np.shape(x), 1, 1))

    network, feedback = Network(tuple(map(matrix, start))), tuple((matrix(value),) for value in b)
    run = simulate(rule, Task.teacher(matrix(s)), network, times, feedback=feedback, rtol=1e-11, atol=1e-14)
    return np.stack([w[..., 0, 0] for w in run.weights], -1)


def _any_depth(seed):
    rng, worst = examples.generator(seed), 0.0
    for depth, several in ((2, True), (3, True), (4, False)):
        rule = (fa(), dfa())[rng.integers(2)]
        b, seen, start, s, time = _draw(rng, depth, rule == dfa(), several)
        weights = _run(rule, b, start, s, np.linspace(0, time, 61))
        alpha = (weights[:, 0] - start[0]) / seen[0]
        curves = np.stack([np.polyval(w[::-1], alpha) for w in chain_weights(seen, start)], 1)
        limit = np.array(chain_limit(seen, start, s))
        worst = max(worst, relative_error(curves, weights), relative_error(limit, weights[-1]), abs(limit.prod() - s))
    return worst


def _three(seed):
    rng = examples.generator(seed)
    b, s = rng.choice([-1, 1]) * rng.uniform(0.7, 1.3), rng.choice([-1, 1]) * rng.uniform(0.3, 1.0)
    c = -np.sign(b) * np.cbrt(27 * s**2 / (8 * abs(b))) * rng.uniform(1.3, 1.8)
    low, middle, high = fa_rest_points(s, b, c)
    begin, end = np.array([low - 0.5, middle - 0.1, middle + 0.1, high + 0.5]), np.array([low, low, high, high])
    weights = _run(fa(), [np.full(4, b)], (begin, c + begin**2 / (2 * b)), s, [0.0, 40.0])
    return relative_error(end, weights[-1, :, 0])


SOURCE = "derived here; convergence of linear chains is Baldi, Sadowski & Lu (2018), known"
RESULTS = (
    Result("C3", "two scalar weights have three rest points iff -8bc^3 > 27s^2, and w_1 goes to the outer one on its "
           "side of the middle", SOURCE, 1e-8, _three),
    Result("C14", "scalar weights of any depth and sign are polynomials of alpha = int e dt, and end at the first root "
           "of s - prod w_l(alpha), at zero loss", SOURCE, 1e-8, _any_depth),
)  # fmt: skip
