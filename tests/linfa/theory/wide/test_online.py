"""Overlaps of online learning: the frozen case, the flow at small learning rates, one step by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory import OrderParameters, online_error, order_parameters

SEEDS = st.integers(0, 10**6)


def _problem(seed, n=5):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 4))
    W1, v, w = rng.standard_normal((k, n)) / 2, rng.standard_normal(k) / 2, rng.standard_normal(n) / 2
    return W1, v, w, v + 0.3 * rng.standard_normal(k), OrderParameters(W1 @ W1.T, W1 @ w, v)


@given(seed=SEEDS, lr=st.floats(0.05, 0.5), noise=st.floats(0.0, 1.0))
def test_the_frozen_error_in_closed_form(seed, lr, noise):
    _, v, w, F, start = _problem(seed)
    alphas = np.linspace(0, 3, 7)
    path = order_parameters(alphas, start, w @ w, F, lr, noise, frozen=True)
    closed = online_error(alphas, start.error(w @ w, noise), lr * v @ F, noise)
    assert path.error(w @ w, noise) == pytest.approx(closed, rel=1e-7)
    assert np.ptp(path.v, axis=0).max() == 0


@given(seed=SEEDS)
def test_small_learning_rates_follow_the_flow(seed):
    W1, v, w, F, start = _problem(seed)
    lr, times = 1e-6, np.array([0.0, 0.5, 1.0])
    network = linfa.Network((W1, v[None]))
    run = linfa.simulate(linfa.fa(), linfa.Task.teacher(w[None]), network, times, feedback=((F[:, None],),), rtol=1e-10)
    path = order_parameters(times / lr, start, w @ w, F, lr)
    one = run.weights[0]
    assert np.allclose(path.Q, one @ np.swapaxes(one, 1, 2), atol=3e-5)
    assert np.allclose(path.R, one @ w, atol=3e-5)
    assert np.allclose(path.v, run.weights[1][:, 0], atol=3e-5)


def test_one_step_by_hand():
    """The mean over samples of what one step does to Q, R and v is the slope over n."""
    lr, noise, rng = 0.8, 0.3, np.random.default_rng(0)
    W1, v, w, F, start = _problem(1)
    slope = order_parameters([0.0, 1e-6], start, w @ w, F, lr, noise)
    draws = rng.standard_normal((400000, W1.shape[1]))
    error = draws @ (W1.T @ v - w) - noise * rng.standard_normal(len(draws))
    hidden = draws @ W1.T
    seen = np.outer(F, (error[:, None] * hidden).mean(0))
    dQ = -lr * (seen + seen.T) + lr**2 * np.outer(F, F) * (error**2).mean()  # |x|^2 = n for many inputs
    assert (slope.Q[1] - slope.Q[0]) / 1e-6 == pytest.approx(dQ, abs=0.02)
    assert (slope.v[1] - slope.v[0]) / 1e-6 == pytest.approx(-lr * (error[:, None] * hidden).mean(0), abs=0.02)
    assert (slope.R[1] - slope.R[0]) / 1e-6 == pytest.approx(-lr * F * (error * (draws @ w)).mean(), abs=0.02)


@given(
    start=st.floats(0.1, 2.0),
    kappa=st.floats(-0.5, 2.5),
    noise=st.floats(0.0, 1.0),
    t=st.floats(0, 3),
    later=st.floats(0, 3),
)
def test_the_error_is_a_semigroup_that_falls_for_kappa_below_two(start, kappa, noise, t, later):
    middle = online_error(t, start, kappa, noise)
    assert online_error(later, middle, kappa, noise) == pytest.approx(online_error(t + later, start, kappa, noise))
    quiet = online_error(1.0, start, kappa, 0.0)
    assert (quiet < start) == (kappa * (2 - kappa) > 0) or abs(kappa * (2 - kappa)) < 1e-12
    if 0.1 < kappa < 1.9:
        assert online_error(1e4, start, kappa, noise) == pytest.approx(2 * noise**2 / (2 - kappa))


def test_no_motion_at_the_borders():
    assert online_error([0.0, 2.0], 1.0, 0.0, 0.5).tolist() == [1.0, 1.0]
    assert online_error([0.0, 2.0], 1.0, 2.0, 0.5).tolist() == [1.0, 3.0]
    start = OrderParameters(np.eye(2), np.zeros(2), np.ones(2))
    assert order_parameters([0.0], start, 1.0, [1.0, 1.0], 0.1).Q.tolist() == [np.eye(2).tolist()]


def test_wrong_arguments_are_named():
    start = OrderParameters(np.eye(2), np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match=r"3 feedback numbers need Q \(3, 3\)"):
        order_parameters([0.0, 1.0], start, 1.0, np.ones(3), 0.1)
    with pytest.raises(ValueError, match="times increase from 0 or later"):
        order_parameters([1.0, 0.5], start, 1.0, np.ones(2), 0.1)
