"""The curve of every mode under direct random target projection, Kummer's function of s^2 t^3."""

from scipy.special import hyp1f1

from linfa.algebra import is_symbolic

DRTP_PEAK = 1.124723174514
"""The strength, in units of the task's, to which target projection overshoots every mode, whatever the feedback."""
PEAK_AT = 3.005918718
"""s^2 t^3/3 at that time."""

__all__ = ["DRTP_PEAK", "drtp_fraction", "drtp_gain"]


def kummer(z):
    """M(1, 5/3, -z), so that z dM/dz = 2/3 - (z + 2/3) M.

    >>> round(float(kummer(1000.0) * 1000), 3)  # 2/(3z) at large z
    0.667
    """
    if is_symbolic(z):
        import sympy

        return sympy.hyper([1], [sympy.Rational(5, 3)], -z)
    return hyp1f1(1, 5 / 3, -z)


def drtp_gain(t, s):
    """g(t) = s int_0^t u e^(s^2 (u^3 - t^3)/3) du, the strength of a mode in W_2: g' = s t (1 - g s t), g(0) = 0.

    It is s t^2/2 M(1, 5/3, -s^2 t^3/3) with Kummer's function M.

    Args:
        t: times, at least 0.
        s: singular value of B Sigma.  Both are numbers, arrays that broadcast, or SymPy expressions.

    Source: derived here (`derivations.target_projection`).

    >>> float(drtp_gain(1e-3, 2.0))  # s t^2/2
    9.99999...e-07
    """
    return s * t**2 / 2 * kummer(s**2 * t**3 / 3)


def drtp_fraction(t, s):
    """x(t) = s t g(t), the learned part of a mode: 3z/2 M(1, 5/3, -z) with z = s^2 t^3/3, one curve for all modes.

    It begins as s^2 t^3/2, as under feedback alignment, overshoots to 1.1247 at z = 3.0059 and comes down to 1 as
    1 + 1/(3z): the loss goes as t^-6, where feedback alignment is exponential.  Arguments as in `drtp_gain`.

    Source: derived here.

    >>> round(float(drtp_fraction(1.0, 3.0)), 4), round(float(drtp_fraction(100.0, 3.0) - 1) * 9e6, 4)
    (1.1247, 1.0)
    """
    return s * t * drtp_gain(t, s)
