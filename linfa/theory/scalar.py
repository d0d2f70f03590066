"""The scalar functions that a closed form may call, on numbers, arrays and SymPy expressions alike.

With them a formula is written once: NumPy evaluates it, SymPy proves it.  sympy is never imported for a number.

>>> import sympy
>>> float(cbrt(8.0)), cbrt(sympy.Integer(8))
(2.0, 2)
"""

import numpy as np

from linfa.algebra import is_symbolic


def _sympy(name, x):
    import sympy

    return getattr(sympy, name)(x)


def number(value: int, like):
    """An exact SymPy number next to a SymPy expression, else the value itself."""
    return _sympy("Integer", value) if is_symbolic(like) else value


def exp(x):
    """e^x."""
    return _sympy("exp", x) if is_symbolic(x) else np.exp(x)


def expm1(x):
    """e^x - 1, accurate near 0."""
    return _sympy("exp", x) - 1 if is_symbolic(x) else np.expm1(x)


def log(x):
    """Natural logarithm."""
    return _sympy("log", x) if is_symbolic(x) else np.log(x)


def log1p(x):
    """log(1 + x), accurate near 0."""
    return _sympy("log", 1 + x) if is_symbolic(x) else np.log1p(x)


def arctan(x):
    """Inverse tangent."""
    return _sympy("atan", x) if is_symbolic(x) else np.arctan(x)


def cos(x):
    """Cosine."""
    return _sympy("cos", x) if is_symbolic(x) else np.cos(x)


def sin(x):
    """Sine."""
    return _sympy("sin", x) if is_symbolic(x) else np.sin(x)


def sqrt(x):
    """Square root."""
    return _sympy("sqrt", x) if is_symbolic(x) else np.sqrt(x)


def cbrt(x):
    """Cube root."""
    return _sympy("cbrt", x) if is_symbolic(x) else np.cbrt(x)


def root_of_unity(j: int, p: int, like) -> tuple:
    """cos(2 pi j / p) and sin(2 pi j / p), exact next to a SymPy expression.

    >>> root_of_unity(1, 4, 0.5)[1]
    1.0
    """
    if not is_symbolic(like):
        return float(np.cos(2 * np.pi * j / p)), float(np.sin(2 * np.pi * j / p))
    import sympy

    angle = 2 * sympy.pi * sympy.Rational(j, p)
    return sympy.cos(angle), sympy.sin(angle)
