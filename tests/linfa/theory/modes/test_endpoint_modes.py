"""The end of aligned feedback alignment: weights, rates and the shift by steps, from recursions of their own."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import quad

from linfa.theory import fa_endpoint, fa_relaxation_rates, finite_step_shift

SIZES = st.floats(0.2, 3.0)


@given(s=SIZES, h=SIZES)
def test_the_end_is_at_rest_and_on_the_invariant(s, h):
    w1, w2 = fa_endpoint(s, h)
    assert w1 * w2 == pytest.approx(s)
    assert w1**2 == pytest.approx(2 * np.sqrt(h) * w2)
    assert w1**2 == pytest.approx(h ** (1 / 3) * (2 * s) ** (2 / 3))
    assert w2 == pytest.approx(0.5 * (2 * s) ** (2 / 3) * h ** (-1 / 6))


@given(s=SIZES, h=SIZES, scale=SIZES)
def test_scaling(s, h, scale):
    for closed, power in zip(fa_endpoint(scale * s, h), (1 / 3, 2 / 3), strict=True):
        assert closed == pytest.approx(scale**power * fa_endpoint(s, h)[round(3 * power) - 1])
    assert fa_relaxation_rates(scale * s, h) == pytest.approx(scale ** (2 / 3) * fa_relaxation_rates(s, h))


@given(s=SIZES, h=SIZES)
def test_rate_of_one_mode_by_differences(s, h):
    b = np.sqrt(h)
    w1, w2 = fa_endpoint(s, h)

    def error_change(w1, w2):
        error = s - w1 * w2
        return -error * (b * w2 + w1**2)

    step = 1e-6
    slope = (error_change(w1, w2 + step) - error_change(w1, w2 - step)) / (2 * step) / -w1
    assert fa_relaxation_rates(s, h)[0, 0] == pytest.approx(-slope, rel=1e-6)


@given(seed=st.integers(0, 10**6), n_out=st.integers(3, 5), n_in=st.integers(3, 5))
def test_rates_are_those_of_the_operator_on_errors(seed, n_out, n_in):
    s, h = np.random.default_rng(seed).uniform(0.3, 2, (2, 3))
    w1, w2 = fa_endpoint(s, h)
    left, right = np.zeros(n_out), np.zeros(n_in)
    left[:3], right[:3] = w2 * np.sqrt(h), w1**2
    operator = np.kron(np.diag(left), np.eye(n_in)) + np.kron(np.eye(n_out), np.diag(right))
    assert fa_relaxation_rates(s, h, n_out, n_in).ravel() == pytest.approx(np.diag(operator))


@given(s=SIZES, h=SIZES)
def test_shift_from_the_drift_along_the_flow(s, h):
    """The invariant grows by eta h int e^2 dt, and the end of the mode solves w_1 (w_1^2 - C) = 2 sqrt(h) s."""
    seen, end = np.sqrt(h) * s, fa_endpoint(s, h)[0]
    amplitude, invariant = finite_step_shift(s, h)
    drift = quad(lambda a: seen - a**3 / 2, 0, end)[0]
    assert invariant == pytest.approx(drift, rel=1e-9)
    eta = 1e-5
    roots = np.roots([1, 0, -eta * invariant, -2 * seen])
    assert roots[np.abs(roots.imag) < 1e-9].real.max() == pytest.approx(end + eta * amplitude, abs=1e-9)


@given(s=SIZES, h=SIZES)
def test_shift_of_the_recursion(s, h):
    b, eta = np.sqrt(h), 1e-3
    w1 = w2 = 0.0
    for _ in range(30000):
        error = s - w1 * w2
        w1, w2 = w1 + eta * b * error, w2 + eta * error * w1
    amplitude, invariant = finite_step_shift(s, h)
    assume(abs(s - w1 * w2) < 1e-8)
    assert w1 - fa_endpoint(s, h)[0] == pytest.approx(eta * amplitude, rel=0.05)
    assert w1**2 - 2 * b * w2 == pytest.approx(eta * invariant, rel=0.05)


def test_wrong_arguments_are_named():
    for function in (fa_endpoint, fa_relaxation_rates, finite_step_shift):
        with pytest.raises(ValueError, match="s > 0 and h > 0"):
            function(1.0, 0.0)
    with pytest.raises(ValueError, match="2 modes do not fit 2 inputs and 1 outputs"):
        fa_relaxation_rates([1.0, 1.0], [1.0, 1.0], n_out=1)
