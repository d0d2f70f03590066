"""The clock of x' = 1 - x^p, and its inverse: Phi_3 for any power."""

import numpy as np

from linfa.theory.scalar import arctan, log1p, root_of_unity

__all__ = ["power_clock", "power_clock_inverse"]


def power_clock(x, p: int):
    """Phi_p(x) = int_0^x du / (1 - u^p), the time in which x' = 1 - x^p takes 0 to x.

    It is x 2F1(1, 1/p; 1 + 1/p; x^p), written with the roots of unity e^(i theta), theta = 2 pi j / p:

        Phi_p(x) = -1/p sum_j Re[e^(i theta) log(1 - x e^(-i theta))]

    Args:
        x: numbers in [0, 1), an array or a SymPy expression.
        p: a whole number, at least 1.

    Raises:
        ValueError: for another p.

    Source: partial fractions; derived here.

    >>> from linfa.theory import phi3
    >>> bool(abs(power_clock(0.7, 3) - phi3(0.7)) < 1e-15)
    True
    """
    if p != int(p) or p < 1:
        raise ValueError(f"p is a whole number, at least 1; got {p}")
    return _clock(x, -log1p(-x), p)


def _clock(x, z, p):
    """Phi_p from x and z = -log(1 - x)."""
    total = z
    for j in range(1, (p + 1) // 2):
        cos, sin = root_of_unity(j, p, x)
        total = total - cos * log1p(x * x - 2 * cos * x) + 2 * sin * arctan(sin * x / (1 - cos * x))
    if p % 2 == 0:
        total = total + log1p(x)
    return total / p


def power_clock_inverse(y, p: int) -> tuple[np.ndarray, np.ndarray]:
    """The x in [0, 1] with Phi_p(x) = y, to a relative 1e-13, and 1 - x, to 1e-12.

    Newton's method for z = -log(1 - x), of which Phi_p is an increasing concave function with slopes from 1 to 1/p:
    from z = y, which is below the root, it climbs to the root and never passes it.

    Args:
        y: numbers >= 0, of any shape; infinity gives x = 1.
        p: a whole number, at least 1.

    Raises:
        ValueError: for a negative or undefined y, or another p.

    >>> x, gap = power_clock_inverse([0.0, 0.5, 2.0], 7)
    >>> np.allclose(power_clock(x, 7), [0.0, 0.5, 2.0], rtol=1e-13, atol=0)
    True
    """
    y = np.asarray(y, dtype=float)
    if not (y >= 0).all():
        raise ValueError(f"Phi_{p} maps [0, 1] to [0, infinity]: its inverse has no value at {y[~(y >= 0)].flat[0]}")
    power_clock(0.0, p)
    goal = np.minimum(y, 800.0)  # beyond it 1 - x is no longer a number
    z = goal.copy()
    for _ in range(100):
        x = -np.expm1(-z)
        step = (goal - _clock(x, z, p)) * np.polyval(np.ones(p), x)
        z = z + step
        if (np.abs(step) <= 4e-16 * z).all():
            break
    return np.where(y > 800.0, 1.0, -np.expm1(-z)), np.where(y > 800.0, 0.0, np.exp(-z))
