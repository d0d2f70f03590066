"""Clocks against quadrature and the flow, and as inverse pairs."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from linfa.theory.clock import cubic_amplitude, cubic_root, cubic_time, poly_time
from linfa.theory.special import phi3

DRIVE, LINEAR, CUBIC = st.floats(0.05, 5), st.just(0.0) | st.floats(1e-3, 5), st.floats(0.05, 5)
PART = st.floats(0.0, 0.99)


@given(part=PART, s=DRIVE, c=LINEAR, h=CUBIC)
def test_cubic_time_is_the_integral_of_one_over_the_speed(part, s, c, h):
    a = part * cubic_root(s, c, h)
    integral, _ = quad(lambda u: 1 / (s - c * u - h * u**3 / 2), 0, a, epsabs=1e-13, epsrel=1e-12, limit=200)
    assert cubic_time(a, s, c, h) == pytest.approx(integral, rel=1e-9, abs=1e-15)


@given(part=st.floats(0.01, 0.99), s=DRIVE, c=LINEAR, h=CUBIC)
def test_cubic_time_is_a_clock_of_the_polynomial(part, s, c, h):
    a = part * cubic_root(s, c, h)
    assert poly_time(a, 0.0, [-h / 2, 0.0, -c, s]) == pytest.approx(cubic_time(a, s, c, h), rel=1e-9)


@given(s=DRIVE, c=LINEAR, h=CUBIC)
def test_the_root_is_a_fixed_point(s, c, h):
    a = cubic_root(s, c, h)
    assert c * a + h * a**3 / 2 == pytest.approx(s, rel=1e-13, abs=0)
    assert cubic_root(-s, c, h) == -a


@given(times=st.lists(st.just(0.0) | st.floats(1e-200, 50), min_size=1, max_size=8), s=DRIVE, c=LINEAR, h=CUBIC)
def test_the_amplitude_inverts_the_time(times, s, c, h):
    times = np.sort(times)
    a, root = cubic_amplitude(times, s, c, h), cubic_root(s, c, h)
    seen = a < 0.999 * root
    assert cubic_time(a[seen], s, c, h) == pytest.approx(times[seen], rel=1e-11)
    assert (np.diff(a) >= -1e-15 * root).all()
    assert (a <= root).all()
    assert cubic_amplitude(times, -s, c, h) == pytest.approx(-a, rel=1e-14)


@given(s=DRIVE, c=LINEAR, h=CUBIC, scale=st.floats(0.2, 5))
def test_units_of_time_and_amplitude(s, c, h, scale):
    times = np.linspace(0, 3, 5)
    faster = cubic_amplitude(times / scale, scale * s, scale * c, scale * h)
    assert faster == pytest.approx(cubic_amplitude(times, s, c, h), rel=1e-12)
    larger = cubic_amplitude(times, scale * s, c, h / scale**2)
    assert larger == pytest.approx(scale * cubic_amplitude(times, s, c, h), rel=1e-12)


def test_amplitudes_follow_the_flow():
    s, c, h = np.array([0.5, 1.0, -2.0, 0.0]), np.array([0.0, 1.5, 0.3, 1.0]), np.array([1.0, 0.2, 2.0, 1.0])
    times = np.linspace(0, 10, 21)
    flow = solve_ivp(lambda _, a: s - c * a - h * a**3 / 2, (0, 10), np.zeros(4), "DOP853", times, rtol=1e-12,
                     atol=1e-14).y  # fmt: skip
    assert cubic_amplitude(times, s[:, None], c[:, None], h[:, None]) == pytest.approx(flow, abs=1e-10)


def test_limits():
    assert cubic_time(0.7, 0.5, 0.0, 1.0) == pytest.approx(2 * phi3(0.7), rel=1e-13)
    assert cubic_amplitude(2.0, 1.0, 3.0, 1e-14) == pytest.approx((1 - np.exp(-6)) / 3, rel=1e-12)
    assert cubic_amplitude(1e6, 4.0, 0.0, 1.0) == 2.0
    assert cubic_root(1e-200, 1e-30, 1.0) == pytest.approx(1e-170, rel=1e-12)
    assert cubic_root(3.0, 1e-250, 1.0) == pytest.approx(np.cbrt(6), rel=1e-14)
    assert cubic_root(0.0, 0.0, 1.0) == 0


@given(roots=st.lists(st.floats(-2, 2), min_size=1, max_size=5), x0=st.floats(-3, 3), part=PART, gain=st.floats(0.3, 3))
def test_poly_time_is_the_integral(roots, x0, part, gain):
    """Equal roots too; the way goes towards the next root, or one unit where there is none."""
    roots = np.round(roots, 1)
    assume(np.abs(x0 - roots).min() > 0.02)
    ahead = roots[roots > x0].min(initial=x0 + 1)
    x = x0 + part * (ahead - x0 - 0.01)
    p = gain * np.poly(roots)
    integral, _ = quad(lambda u: 1 / np.polyval(p, u), x0, x, epsabs=1e-12, epsrel=1e-11, limit=200)
    assert poly_time(x, x0, p) == pytest.approx(integral, rel=1e-8, abs=1e-9)


@given(x=st.floats(-2, 2), x0=st.floats(-2, 2), mid=st.floats(0, 1))
def test_times_add_along_the_way(x, x0, mid):
    p = [0.3, 0.0, 0.2, 0.0, 1.0]  # no real root
    between = x0 + mid * (x - x0)
    assert poly_time(x, x0, p) == pytest.approx(poly_time(x, between, p) + poly_time(between, x0, p), abs=1e-13)
    assert poly_time(x0, x, p) == pytest.approx(-poly_time(x, x0, p), abs=1e-14)


def test_simple_polynomials():
    assert poly_time([1.0, 3.0], 0.0, [2.0]).tolist() == [0.5, 1.5]
    assert poly_time(0.5, 0.0, [0.0, -1.0, 1.0]) == pytest.approx(np.log(2))
    assert poly_time(2.0, 1.0, [1.0, 0.0, 0.0]) == pytest.approx(0.5)  # x' = x^2, a double root
    assert poly_time(np.array([[0.1, 0.2]]), 0.0, [-1.0, 1.0]).shape == (1, 2)


def test_bad_arguments():
    with pytest.raises(ValueError, match="goes nowhere"):
        poly_time(1.0, 0.0, [0.0, 0.0])
    with pytest.raises(ValueError, match=r"the fixed point 1 lies between the start 0\.5 and some x"):
        poly_time([0.7, 1.2], 0.5, [-1.0, 1.0])
    with pytest.raises(ValueError, match=r"got c = -1, h = 1"):
        cubic_root(1.0, -1.0, 1.0)
    with pytest.raises(ValueError, match=r"got c = 1, h = 0"):
        cubic_time(0.1, 1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="reaches amplitudes below 2 in size; got 2"):
        cubic_time(2.0, 4.0, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"reaches amplitudes below 2 in size; got -0\.1"):
        cubic_time(-0.1, 4.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="times are at least 0; got -1"):
        cubic_amplitude([0.0, -1.0], 1.0, 1.0, 1.0)
