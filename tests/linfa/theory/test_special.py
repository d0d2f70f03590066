"""Phi_3 against its integral, its inverse against itself, both against 40 digits."""

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from linfa.theory.special import phi3, phi3_complement, phi3_inverse


@given(st.floats(0, 0.999))
def test_phi3_is_its_integral(x):
    integral, _ = quad(lambda u: 1 / (1 - u**3), 0, x, epsabs=1e-13, epsrel=1e-13, limit=200)
    assert phi3(x) == pytest.approx(integral, rel=1e-10, abs=1e-15)


def _exact(y):
    """x and 1 - x to 40 digits : the one root, in log(x / (1 - x)), of an increasing function."""
    with mpmath.workdps(60):

        def error(logit):
            gap = 1 / (1 + mpmath.exp(logit))
            x = 1 / (1 + mpmath.exp(-logit))
            log = mpmath.log((3 - 3 * gap + gap**2) / gap**2) / 6
            return log + mpmath.atan(mpmath.sqrt(3) * x / (3 - gap)) / mpmath.sqrt(3) - mpmath.mpf(y)

        logit = mpmath.findroot(error, mpmath.log(mpmath.expm1(mpmath.mpf(y))))
        return 1 / (1 + mpmath.exp(-logit)), 1 / (1 + mpmath.exp(logit))


@pytest.mark.parametrize(
    "y", [1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.74999, 0.75, 0.75001, 1.0, 1.59593, 3.0, 8.0, 13.99, 14.01]
)
def test_inverse_to_thirteen_digits(y):
    x, gap = _exact(y)
    assert abs(phi3_inverse(y) - x) <= 1e-13 * x
    assert abs(phi3_complement(y) - gap) <= 1e-13 * gap


@given(st.lists(st.floats(0, 40), min_size=2, max_size=20))
def test_inverse_is_increasing_and_keeps_shape(ys):
    ys = np.sort(ys)
    x = phi3_inverse(ys)
    assert x.shape == ys.shape
    assert (np.diff(x) >= -1e-15).all()
    assert ((x >= 0) & (x <= 1)).all()


@given(st.floats(1e-300, 0.99))
def test_inverse_pair(x):
    assert phi3_inverse(phi3(x)) == pytest.approx(x, rel=1e-12)


def test_ends():
    assert phi3_inverse(0.0) == 0
    assert phi3_inverse(np.inf) == 1
    assert phi3_complement(np.inf) == 0
    assert phi3_inverse(np.zeros((2, 0))).shape == (2, 0)


@pytest.mark.parametrize("bad", [-1e-9, np.nan, [0.1, -1.0]])
def test_negative_arguments_are_refused(bad):
    with pytest.raises(ValueError, match="has no value at"):
        phi3_inverse(bad)
    with pytest.raises(ValueError, match="has no value at"):
        phi3_complement(bad)


def test_the_same_body_under_sympy():
    x = sp.Symbol("x", positive=True)
    assert sp.simplify(sp.diff(phi3(x), x) - 1 / (1 - x**3)) == 0
    usual = sp.log((1 + x + x**2) / (1 - x) ** 2) / 6 + (sp.atan((2 * x + 1) / sp.sqrt(3)) - sp.pi / 6) / sp.sqrt(3)
    assert abs(sp.N((usual - phi3(x)).subs(x, sp.Rational(3, 7)), 30)) < 1e-28
    assert float(phi3(sp.Rational(1, 2))) == pytest.approx(phi3(0.5), rel=1e-15)
