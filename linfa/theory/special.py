"""Phi_3, the clock of feedback alignment from zero weights, and its inverse."""

import numpy as np

from linfa.theory.scalar import arctan, log1p, number, sqrt

# Beyond this argument 1 - x is below the spacing of floating-point numbers and its leading term is exact.
_TAIL = 14.0

__all__ = ["phi3", "phi3_complement", "phi3_inverse"]


def phi3(x):
    """Phi_3(x) = int_0^x du / (1 - u^3), the time in which x' = 1 - x^3 takes 0 to x.

    Phi_3(x) = [log(1 + x + x^2) - 2 log(1 - x)] / 6 + arctan(sqrt(3) x / (2 + x)) / sqrt(3),

    a form without cancellation near 0 (derived here from the usual one with arctan((2x + 1)/sqrt(3)) - pi/6).

    Args:
        x: numbers in [0, 1), an array or a SymPy expression.

    >>> round(float(phi3(0.5 ** (1 / 3))), 5)
    0.93771
    >>> import sympy
    >>> u = sympy.Symbol("u", positive=True)
    >>> sympy.simplify(sympy.diff(phi3(u), u) - 1 / (1 - u**3))
    0
    """
    root = sqrt(number(3, x))
    return (log1p(x + x * x) - 2 * log1p(-x)) / 6 + arctan(root * x / (2 + x)) / root


def phi3_inverse(y) -> np.ndarray:
    """The x in [0, 1] with Phi_3(x) = y, to a relative 1e-13.

    Args:
        y: numbers >= 0, of any shape; infinity gives 1.

    Raises:
        ValueError: for a negative or undefined argument.

    >>> x = phi3_inverse([0.0, 1e-9, 0.5, 3.0])
    >>> np.allclose(phi3(x), [0.0, 1e-9, 0.5, 3.0], rtol=1e-13, atol=0)
    True
    """
    y = _checked(y)
    early = np.minimum(y, 0.75)
    x = early - early**4 / 4 + 3 * early**7 / 28
    for _ in range(5):
        x = x - (phi3(x) - early) * (1 - x**3)
    return np.where(y <= 0.75, x, 1 - _complement(y))


def phi3_complement(y) -> np.ndarray:
    """1 - x where Phi_3(x) = y, to a relative 1e-13 also where x rounds to 1.

    1 - x = sqrt(3) exp(pi / (2 sqrt(3))) exp(-3 y) (1 + O(1 - x)) for large y.

    Args:
        y: numbers >= 0, of any shape.

    Raises:
        ValueError: for a negative or undefined argument.

    >>> round(float(phi3_complement(20.0) / np.exp(-60.0)), 5)
    4.28965
    """
    y = _checked(y)
    return np.where(y <= 0.75, 1 - phi3_inverse(np.minimum(y, 0.75)), _complement(y))


def _complement(y):
    """Newton's method for log(1 - x), in which Phi_3 is almost a straight line; for y >= 0.75."""
    root = np.sqrt(3.0)
    leading = np.log(root) + np.pi / (2 * root)
    late = np.clip(y, 0.75, _TAIL)
    z = leading - 3 * late
    for _ in range(8):
        gap = np.exp(z)
        slope = 3 - 3 * gap + gap * gap
        value = (np.log(slope) - 2 * z) / 6 + np.arctan(root * (1 - gap) / (3 - gap)) / root
        z = z + (value - late) * slope
    return np.exp(np.where(y < _TAIL, z, leading - 3 * y))


def _checked(y):
    y = np.asarray(y, dtype=float)
    if not (y >= 0).all():
        raise ValueError(f"Phi_3 maps [0, 1] to [0, infinity]: its inverse has no value at {y[~(y >= 0)].flat[0]}")
    return y
