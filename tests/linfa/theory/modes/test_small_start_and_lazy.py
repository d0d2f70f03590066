"""Small and large starts: the delay of backprop, and the lazy limit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from linfa.theory import bp_delay, bp_mode, lazy_error

PART = st.floats(0.01, 0.9)
SEEDS = st.integers(0, 10**6)


@given(s=st.floats(0.3, 3.0), part=PART, shrink=PART, t=st.floats(0.0, 5.0))
def test_delay_shifts_the_sigmoid(s, part, shrink, t):
    delay = bp_delay(s, part * s, shrink)
    assert bp_mode(t + delay, s, shrink * part * s) == pytest.approx(bp_mode(t, s, part * s), rel=1e-9)


@given(s=st.floats(0.3, 3.0), part=PART, first=PART, second=PART)
def test_delays_add(s, part, first, second):
    total = bp_delay(s, part * s, first) + bp_delay(s, first * part * s, second)
    assert bp_delay(s, part * s, first * second) == pytest.approx(total)
    assert bp_delay(s, 1e-12, first) == pytest.approx(-np.log(first) / (2 * s), rel=1e-6)


def _problem(seed):
    rng = np.random.default_rng(seed)
    n, k, m = rng.integers(1, 4, 3)
    shapes = (k, n), (m, k), (k, m), (m, n)
    return [rng.standard_normal(shape) for shape in shapes]


@given(seed=SEEDS, t=st.floats(0.0, 1.0))
def test_lazy_error_solves_its_equation(seed, t):
    W1, W2, B, E0 = _problem(seed)

    def field(_, e):
        E = e.reshape(E0.shape)
        return (-W2 @ B @ E - E @ W1.T @ W1).ravel()

    end = solve_ivp(field, (0, t), E0.ravel(), rtol=1e-10, atol=1e-12).y[:, -1].reshape(E0.shape)
    closed = lazy_error([t], W1, W2, B, E0)[0]
    assert np.abs(closed - end).max() <= 1e-7 * max(1.0, np.abs(end).max())


@given(seed=SEEDS, t=st.floats(0.0, 1.0), later=st.floats(0.0, 1.0))
def test_lazy_error_is_a_semigroup(seed, t, later):
    W1, W2, B, E0 = _problem(seed)
    middle = lazy_error([t], W1, W2, B, E0)[0]
    both = lazy_error([t + later], W1, W2, B, E0)
    assert np.allclose(lazy_error([later], W1, W2, B, middle), both, rtol=1e-8, atol=1e-9 * np.abs(both).max())


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="between 0 and s; got u_0 = 2"):
        bp_delay(1.0, 2.0, 0.5)
    with pytest.raises(ValueError, match="shrink is between 0 and 1; got 2"):
        bp_delay(1.0, 0.5, 2.0)
    with pytest.raises(ValueError, match=r"do not match: shapes \(2, 2\)"):
        lazy_error([0.0], np.eye(2), np.eye(2), np.eye(3), np.eye(2))
