"""Phi_p against its integral, against 2F1 and Phi_3, and its inverse against itself."""

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from linfa.theory.clock import poly_time
from linfa.theory.depth.power_clock import power_clock, power_clock_inverse
from linfa.theory.special import phi3, phi3_complement, phi3_inverse

POWERS = st.sampled_from([1, 2, 3, 5, 7, 15, 31])


@given(x=st.floats(0, 0.99), p=POWERS)
def test_clock_is_its_integral(x, p):
    integral, _ = quad(lambda u: 1 / (1 - u**p), 0, x, epsabs=1e-13, epsrel=1e-13, limit=200)
    assert power_clock(x, p) == pytest.approx(integral, rel=1e-10, abs=1e-15)


@given(x=st.floats(1e-3, 0.999), p=POWERS)
def test_clock_is_hypergeometric(x, p):
    with mpmath.workdps(30):
        closed = x * mpmath.hyp2f1(1, mpmath.mpf(1) / p, 1 + mpmath.mpf(1) / p, mpmath.mpf(x) ** p)
    assert power_clock(x, p) == pytest.approx(float(closed), rel=1e-13)


@given(x=st.floats(0, 0.9999))
def test_powers_that_are_known(x):
    assert power_clock(x, 1) == pytest.approx(-np.log1p(-x), rel=1e-14)
    assert power_clock(x, 2) == pytest.approx(np.arctanh(x), rel=1e-13)
    assert power_clock(x, 3) == pytest.approx(phi3(x), rel=1e-13)


@given(x=st.floats(0.01, 0.99), p=st.sampled_from([1, 2, 3, 7, 15]))
def test_it_is_the_clock_of_the_polynomial(x, p):
    assert power_clock(x, p) == pytest.approx(poly_time(x, 0.0, [-1.0, *(0.0,) * (p - 1), 1.0]), rel=1e-9)


@given(ys=st.lists(st.floats(0, 30), min_size=1, max_size=10), p=POWERS)
def test_inverse_pair(ys, p):
    x, gap = power_clock_inverse(ys, p)
    assert x == pytest.approx(1 - gap, abs=1e-15)
    seen = x < 0.99
    assert power_clock(x[seen], p) == pytest.approx(np.array(ys)[seen], rel=1e-12)
    assert (np.diff(x[np.argsort(ys)]) >= 0).all()


@given(y=st.floats(0, 40))
def test_the_inverse_at_three(y):
    x, gap = power_clock_inverse(y, 3)
    assert x == pytest.approx(phi3_inverse(y), rel=1e-13)
    assert gap == pytest.approx(phi3_complement(y), rel=1e-12)


def test_ends():
    assert [float(v) for v in power_clock_inverse(np.inf, 7)] == [1.0, 0.0]
    assert [float(v) for v in power_clock_inverse(0.0, 7)] == [0.0, 1.0]
    late = power_clock_inverse([10.0, 11.0], 7)[1]
    assert late[1] / late[0] == pytest.approx(np.exp(-7), rel=1e-12)


def test_bad_arguments():
    with pytest.raises(ValueError, match="no value at -1"):
        power_clock_inverse([0.0, -1.0], 3)
    for call in (power_clock, power_clock_inverse):
        with pytest.raises(ValueError, match="whole number, at least 1; got 0"):
            call(0.5, 0)
        with pytest.raises(ValueError, match=r"got 2\.5"):
            call(0.5, 2.5)


def test_the_same_body_under_sympy():
    x = sp.Symbol("x", positive=True)
    for p in (1, 2, 3, 4):
        assert sp.simplify(sp.diff(power_clock(x, p), x) - 1 / (1 - x**p)) == 0
