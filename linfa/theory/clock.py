"""Clocks: how long a scalar flow x' = p(x) takes, for every polynomial p, and the cubic law in closed form."""

import numpy as np
from scipy.integrate import quad

from linfa.algebra import is_symbolic
from linfa.theory.result import Result
from linfa.theory.scalar import arctan, log1p, sqrt

__all__ = ["cubic_amplitude", "cubic_root", "cubic_time", "poly_time"]

APART = 1e-4
"""Roots closer than this, in units of the largest, are integrated by quadrature."""


def poly_time(x, x0: float, coefficients) -> np.ndarray:
    """Time from x0 to x along x' = p(x): sum_i log[(x - r_i) / (x0 - r_i)] / p'(r_i) over the roots of p.

    Complex logarithms, of which the sum is real.  Where roots nearly coincide the integral of 1/p is taken instead.

    Args:
        x: (...,) places on the way.
        x0: where the flow starts.
        coefficients: of p, the highest power first, as for `numpy.polyval`.

    Raises:
        ValueError: for a constant 0, or if a fixed point lies between x0 and some x, so that it is never reached.

    Source: partial fractions, known.

    >>> float(poly_time(0.5, 0.0, [-1.0, 1.0]).round(12)), float(np.log(2).round(12))  # x' = 1 - x
    (0.69314718056, 0.69314718056)
    """
    coefficients = np.trim_zeros(np.atleast_1d(np.asarray(coefficients, float)), "f")
    if not coefficients.size:
        raise ValueError("the flow x' = 0 goes nowhere")
    x = np.asarray(x, float)
    roots = np.roots(coefficients)
    scale = max(1.0, np.abs(roots).max(initial=0), np.abs(x).max(initial=0), abs(x0))
    between = [r.real for r in roots if abs(r.imag) < 1e-9 * scale and np.any((x - r.real) * (x0 - r.real) <= 0)]
    if between:
        raise ValueError(f"the fixed point {between[0]:.6g} lies between the start {x0:.6g} and some x: never reached")
    if len(roots) == 0:
        return (x - x0) / coefficients[0]
    gaps = np.abs(roots[:, None] - roots[None, :])[~np.eye(len(roots), dtype=bool)]
    if gaps.size and gaps.min() < APART * scale:
        return np.vectorize(lambda b: quad(lambda u: 1 / np.polyval(coefficients, u), x0, b, epsabs=0)[0])(x)
    slopes = np.polyval(np.polyder(coefficients), roots)
    return (np.log((x[..., None] - roots) / (x0 - roots)) / slopes).sum(-1).real


def cubic_root(s, c, h) -> np.ndarray:
    """The fixed point a* of a' = s - c a - h a^3 / 2, its only real one.

    Args:
        s: drive; c: linear decay, at least 0; h: cubic decay, more than 0.  They broadcast.

    Raises:
        ValueError: for c < 0 or h <= 0.

    Source: Cardano's formula in its hyperbolic form, known.

    >>> float(cubic_root(4.0, 0.0, 1.0)), float(cubic_root(1.5, 1.0, 1.0))
    (2.0, 1.0)
    """
    s, c, h = _checked(s, c, h)
    p, q = 2 * c / h, 2 * s / h  # a^3 + p a = q
    size = np.maximum(np.sqrt(p), np.cbrt(np.abs(q)))
    unit = np.where(size > 0, size, 1.0)
    p, q = p / unit / unit, q / unit / unit / unit
    wide = np.where(p > 1e-20, p, 1.0)
    hyperbolic = 2 * np.sqrt(wide / 3) * np.sinh(np.arcsinh(1.5 * q * np.sqrt(3 / wide) / wide) / 3)
    a = np.where(p > 1e-20, hyperbolic, np.cbrt(q))
    for _ in range(3):
        a = a - (a**3 + p * a - q) / np.where(size > 0, 3 * a**2 + p, 1.0)
    return a * unit


def cubic_time(a, s, c, h, root=None):
    """Time from 0 to a along a' = s - c a - h a^3 / 2.

    With the fixed point a*, q = a*^2 + 2c/h, D = 3 a*^2 + 2c/h and Delta = sqrt(3 a*^2 + 8c/h) it is

        2/(h D) {-log(1 - a/a*) + 1/2 log[(a^2 + a* a + q)/q] + 3 a*/Delta [arctan((2a + a*)/Delta) - arctan(a*/Delta)]}

    Args:
        a: amplitude between 0 and a*.
        s, c, h: as in `cubic_root`, s not 0.
        root: a* where it is known already; needed for SymPy expressions.

    Raises:
        ValueError: for c < 0 or h <= 0, or an amplitude that the flow does not reach.

    Source: derived here (`derivations.cubic_clock`).

    >>> from linfa.theory.special import phi3
    >>> float(cubic_time(0.5, s=0.5, c=0.0, h=1.0)), float(2 * phi3(0.5))  # a* = 1
    (1.03369836..., 1.03369836...)
    """
    symbolic = any(map(is_symbolic, (a, s, c, h)))
    if not symbolic:
        s, c, h = _checked(s, c, h)
        root = cubic_root(s, c, h) if root is None else root
        if not ((a / root >= 0) & (a / root < 1)).all():
            raise ValueError(f"the flow from 0 reaches amplitudes below {np.min(np.abs(root)):.6g} in size; got {a}")
    return _time(a, -log1p(-a / root), root, c, h)


def _time(a, z, root, c, h):
    """The same with z = -log(1 - a/a*) given apart, accurate where a rounds to a*."""
    q, D = root**2 + 2 * c / h, 3 * root**2 + 2 * c / h
    Delta = sqrt(3 * root**2 + 8 * c / h)
    turned = arctan(2 * a * Delta / (Delta**2 + root * (2 * a + root)))  # the difference, without cancellation
    return 2 / (h * D) * (z + log1p((a**2 + root * a) / q) / 2 + 3 * root / Delta * turned)


def cubic_amplitude(t, s, c, h) -> np.ndarray:
    """The inverse of `cubic_time`: a(t) from a(0) = 0.

    Args:
        t: times, at least 0; s, c, h: as in `cubic_root`.  All broadcast.

    Raises:
        ValueError: for negative times, c < 0 or h <= 0.

    Source: derived here.

    >>> float(cubic_amplitude(cubic_time(0.3, 1.0, 0.5, 2.0), 1.0, 0.5, 2.0).round(12))
    0.3
    """
    t = np.asarray(t, float)
    if not (t >= 0).all():
        raise ValueError(f"times are at least 0; got {t[~(t >= 0)].flat[0]}")
    t, s, c, h = np.broadcast_arrays(t, *_checked(s, c, h))
    root = cubic_root(s, c, h)
    still = root == 0
    safe = np.where(still, 1.0, root)
    q = safe**2 + 2 * c / h
    z = t * h * q / 2  # the time is a concave function of z, with slope 2/(h q) at 0: Newton's method rises to it
    for _ in range(60):
        a = -safe * np.expm1(-z)
        step = (t - _time(a, z, safe, c, h)) * h * (a**2 + safe * a + q) / 2
        z = z + step
        if (np.abs(step) <= 1e-15 * (1 + z)).all():
            break
    return np.where(still, 0.0, -safe * np.expm1(-z))


def _checked(s, c, h):
    s, c, h = (np.asarray(v, float) for v in (s, c, h))
    if not (c >= 0).all() or not (h > 0).all():
        raise ValueError(f"the cubic law has c at least 0 and h more than 0; got c = {c.min():.6g}, h = {h.min():.6g}")
    return s, c, h


def _chain_errors(seed):
    """Clocks of backprop, feedback alignment and DFA at depth 3, against chains of scalar weights."""
    from linfa.network import Network
    from linfa.rules import bp, dfa, fa
    from linfa.simulate import simulate
    from linfa.task import Task

    rng = np.random.default_rng((seed, 40))
    s, w0, b1, b2 = (float(v) for v in rng.uniform([0.5, 0.1, 0.6, 0.6], [1.5, 0.3, 1.3, 1.3]))
    task, times, worst = Task.from_spectrum([s]), np.linspace(0, 1.5, 9), 0.0

    def run(rule, start, feedback):
        weights = tuple(np.array([[w]]) for w in start)
        stored = tuple((np.array([[b]]),) for b in feedback) or ((),)
        path = simulate(rule, task, Network(weights), times, feedback=stored, rtol=1e-11, atol=1e-13)
        return [w[:, 0, 0] for w in path.weights]

    first, _ = run(bp(), (w0, w0), ())
    second, _ = run(fa(), (w0, w0), (b1,))
    C = w0 - w0**2 / (2 * b1)
    (third, _, _) = run(dfa(), (0.0, 0.0, 0.0), (b1, b2))
    cases = [
        (first, w0, [-1.0, 0.0, s, 0.0]),  # w' = w (s - w^2)
        (second, w0, [-0.5, 0.0, -b1 * C, b1 * s]),  # w_2 = w_1^2/(2b) + C
        (third / b1, 0.0, [-(b1**4) * b2**2 / 16, *(0.0,) * 6, s]),  # a' = s - w_3 w_2 w_1, a = w_1/b_1
    ]
    for path, x0, coefficients in cases:
        moved = np.abs(path - x0) > 1e-9
        worst = max(worst, float(np.abs(poly_time(path[moved], x0, coefficients) - times[moved]).max()))
    return worst


RESULTS = (
    Result(
        "C13", "every scalar chain keeps time by t = sum_i log[(x - r_i)/(x_0 - r_i)]/p'(r_i)",
        "partial fractions, known; derived here for the chains", 1e-8, _chain_errors,
    ),
)  # fmt: skip
