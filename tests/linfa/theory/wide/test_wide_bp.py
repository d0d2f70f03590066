"""The wide limit of backprop: against its equation, in its lazy and rich limits, and growing networks."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from linfa.theory.backprop.saxe import bp_mode
from linfa.theory.wide import wide_bp as file
from linfa.theory.wide.finite_size import WIDTHS, mean_error
from linfa.theory.wide.wide_bp import wide_bp, wide_bp_kernel

TIMES, STRENGTHS, SIGMAS = st.floats(0, 10), st.just(0.0) | st.floats(1e-6, 3), st.floats(0.05, 2.0)


@given(s=STRENGTHS, sigma=SIGMAS)
def test_the_equation(s, sigma):
    times = np.linspace(0, 4, 9)
    field = lambda t, f: 2 * np.sqrt(sigma**4 + f**2) * (s - f)  # noqa: E731
    flow = solve_ivp(field, (0, 4), [0.0], "DOP853", times, rtol=1e-12, atol=1e-14).y[0]
    assert wide_bp(times, s, sigma) == pytest.approx(flow, rel=1e-9, abs=1e-12)


def test_the_equation_by_algebra():
    t, s, sigma = sp.symbols("t s sigma", positive=True)
    f, at = wide_bp(t, s, sigma), {t: sp.Rational(1, 3), s: sp.Rational(5, 4), sigma: sp.Rational(2, 3)}
    rest = sp.diff(f, t) - wide_bp_kernel(f, sigma) * (s - f)
    assert abs(sp.N(rest.subs(at), 40)) < 1e-35
    assert wide_bp(sp.Integer(0), s, sigma) == 0


@given(t=TIMES, s=STRENGTHS, sigma=SIGMAS, factor=st.floats(0.5, 2.0))
def test_units(t, s, sigma, factor):
    """All strengths c times as large make time c times as short."""
    scaled = wide_bp(t / factor, factor * s, np.sqrt(factor) * sigma)
    assert scaled == pytest.approx(factor * wide_bp(t, s, sigma), rel=1e-11, abs=1e-14)


@given(t=TIMES, sigma=st.floats(0.5, 2.0))
def test_lazy_limit(t, sigma):
    s = 1e-5
    assert wide_bp(t, s, sigma) == pytest.approx(-s * np.expm1(-2 * sigma**2 * t), rel=1e-4)


@given(t=st.floats(0, 20), s=st.floats(0.5, 2.0))
def test_rich_limit(t, s):
    """From sigma^2 = 2 u_0, f is Saxe's sigmoid as soon as it is larger than sigma^2."""
    u0 = 1e-7
    f, u = wide_bp(t, s, np.sqrt(2 * u0)), bp_mode(t, s, u0)
    assert abs(f - u) <= 3 * u0 + 1e-5 * u


@given(s=st.floats(1e-3, 3), sigma=st.floats(1e-3, 2))
def test_the_end_is_the_task(s, sigma):
    assert wide_bp(np.inf, s, sigma) == pytest.approx(s, rel=1e-13)
    times = np.linspace(0, 5, 30)
    assert (np.diff(wide_bp(times, s, sigma)) >= -1e-14).all()


def test_errors_halve_when_networks_are_four_times_as_wide():
    narrow, wide = (np.mean([mean_error(file._error, k, seed) for seed in range(8)]) for k in WIDTHS)
    assert narrow / wide == pytest.approx(2, abs=0.5)


@pytest.mark.parametrize("bad", [(-1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, 0.0)])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="t and s are at least 0, sigma is positive; got"):
        wide_bp(*bad)
