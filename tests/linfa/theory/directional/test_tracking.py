"""The lag of feedback behind a moving map, against recursions, integrals and each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from linfa.theory import leaky_flow, moving_average, tracking_lag

SEEDS = st.integers(0, 10**6)
SHARE = st.floats(0.05, 1.9)


@given(a=SHARE, seed=SEEDS)
def test_average_and_lag_are_two_sides_of_one_recursion(a, seed):
    rng = np.random.default_rng(seed)
    start, first, drift = rng.standard_normal((3, 2, 3))
    seen = first + np.multiply.outer(np.arange(21), drift)
    B = moving_average(a, seen[:-1], start)
    for t in range(20):
        assert B[t + 1] == pytest.approx((1 - a) * B[t] + a * seen[t])
    assert seen - B == pytest.approx(tracking_lag(a, 20, drift, first - start), abs=1e-9)


@given(a=SHARE, first=st.integers(1, 10), seed=SEEDS)
def test_group_law(a, first, seed):
    seen = np.random.default_rng(seed).standard_normal((20, 2, 2))
    whole = moving_average(a, seen, seen[3])
    assert moving_average(a, seen[first:], whole[first]) == pytest.approx(whole[first:], abs=1e-9)


@given(a=st.floats(0.1, 1.5))
def test_the_end_and_the_last_sample(a):
    drift = np.array([[2.0]])
    assert tracking_lag(a, 400, drift, np.array([[7.0]]))[-1] == pytest.approx(drift / a)
    assert tracking_lag(a, 5, drift, drift / a) == pytest.approx(np.full((6, 1, 1), 2 / a))
    seen = np.array([1.0, 5.0, -2.0])
    assert moving_average(1.0, seen, np.array(9.0)).tolist() == [9.0, 1.0, 5.0, -2.0]
    assert moving_average(a, np.ones(300), np.array(0.0))[-1] == pytest.approx(1)


@given(tau=st.floats(0.1, 2.0), drift=st.floats(-2, 2), start=st.floats(-2, 2))
def test_the_flow_lags_by_tau_times_the_velocity(tau, drift, start):
    """L' = dJ/dt - L / tau, integrated; and the limit of small steps."""
    path = solve_ivp(lambda t, L: drift - L / tau, (0, 2), [start], rtol=1e-11, atol=1e-13, method="DOP853")
    assert leaky_flow(2.0, 1 / tau, start, drift) == pytest.approx(path.y[0, -1], abs=1e-9)
    assert leaky_flow(200.0, 1 / tau, start, drift) == pytest.approx(tau * drift, abs=1e-12)
    dt = 1e-4
    small = tracking_lag(dt / tau, round(2 / dt), np.array(dt * drift), np.array(start))[-1]
    assert small == pytest.approx(leaky_flow(2.0, 1 / tau, start, drift), abs=5e-3)


@given(seed=SEEDS)
def test_linear_in_everything_that_is_seen(seed):
    rng = np.random.default_rng(seed)
    one, two = rng.standard_normal((2, 6, 2, 3))
    A = rng.standard_normal((4, 2))
    both = moving_average(0.3, A @ (one - 2 * two), A @ (one[0] - 2 * two[0]))
    apart = A @ moving_average(0.3, one, one[0]) - 2 * A @ moving_average(0.3, two, two[0])
    assert both == pytest.approx(apart, abs=1e-10)
