"""Unbalanced modes against the scalar flow, by their laws, and the errors of the theory."""

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import linfa
from linfa.dynamics import State
from linfa.theory import AssumptionError
from linfa.theory.backprop.saxe import bp_mode
from linfa.theory.backprop.unbalanced import UnbalancedMode, bp_mode_unbalanced, bp_mode_weights

ANY, TIMES = st.integers(-2000, 2000).map(lambda i: i / 1000), st.floats(0, 3)


@given(s=ANY, w1=ANY, w2=ANY)
def test_weights_follow_the_flow(s, w1, w2):
    times = np.linspace(0, 3, 7)

    def flow(_, w):
        error = s - w[1] * w[0]
        return [w[1] * error, error * w[0]]

    run = solve_ivp(flow, (0, 3), [w1, w2], "DOP853", times, rtol=1e-12, atol=1e-14).y
    weights = np.array(bp_mode_weights(times, s, w1, w2))
    assert weights == pytest.approx(run, abs=1e-9)
    assert weights[1] ** 2 - weights[0] ** 2 == pytest.approx(w2**2 - w1**2, abs=1e-10)


@given(s=ANY, u0=ANY, imbalance=ANY)
def test_strength_follows_its_own_flow(s, u0, imbalance):
    times = np.linspace(0, 3, 7)
    run = solve_ivp(lambda _, u: np.hypot(imbalance, 2 * u) * (s - u), (0, 3), [u0], "DOP853", times, rtol=1e-12,
                    atol=1e-14).y[0]  # fmt: skip
    assert bp_mode_unbalanced(times, s, u0, imbalance) == pytest.approx(run, abs=1e-8)


@given(t1=TIMES, t2=TIMES, s=ANY, u0=st.floats(0, 2), imbalance=ANY)
def test_semigroup(t1, t2, s, u0, imbalance):
    between = bp_mode_unbalanced(t1, s, u0, imbalance)
    again = bp_mode_unbalanced(t2, s, between, imbalance)
    assert again == pytest.approx(bp_mode_unbalanced(t1 + t2, s, u0, imbalance), abs=1e-9)


@given(t=TIMES, s=ANY, u0=ANY, imbalance=ANY, scale=st.floats(0.1, 10))
def test_symmetries(t, s, u0, imbalance, scale):
    u = bp_mode_unbalanced(t, s, u0, imbalance)
    assert bp_mode_unbalanced(t, s, u0, -imbalance) == u  # the layers swapped
    assert bp_mode_unbalanced(t, -s, -u0, imbalance) == pytest.approx(-u, abs=1e-12)
    slower = bp_mode_unbalanced(t / scale, scale * s, scale * u0, scale * imbalance)
    assert slower == pytest.approx(scale * u, abs=1e-9 * scale)


@given(t=st.floats(0, 20), s=st.floats(0, 3), u0=st.floats(0.001, 3))
def test_balanced_modes_are_sigmoids(t, s, u0):
    assert bp_mode_unbalanced(t, s, u0, 0.0) == pytest.approx(bp_mode(t, s, u0), rel=1e-11)


@given(rate=TIMES, s=ANY, u0=ANY)
def test_very_unbalanced_modes_are_exponentials(rate, s, u0):
    lazy = s + (u0 - s) * np.exp(-rate)
    assert bp_mode_unbalanced(rate / 1e8, s, u0, 1e8) == pytest.approx(lazy, abs=1e-7)


def test_limits_of_the_formula():
    assert bp_mode_unbalanced(3.0, 0.0, 2.0, 0.0) == pytest.approx(2 / (1 + 2 * 3 * 2))
    assert bp_mode_weights(3.0, 0.0, 2.0, 2.0) == pytest.approx(2 * (2 / 5,))  # f = 0 exactly
    assert bp_mode_unbalanced(3.0, 1e-200, 2.0, 0.0) == pytest.approx(2 / (1 + 2 * 3 * 2))
    assert bp_mode_unbalanced(1e6, 2.0, 0.1, 0.5) == pytest.approx(2.0, rel=1e-14)
    assert bp_mode_unbalanced(1e6, 2.0, 0.0, 0.0) == 0  # the saddle
    assert bp_mode_unbalanced(np.array([0.0, 1e6]), 0.0, 0.0, 3.0).tolist() == [0, 0]
    assert bp_mode_unbalanced(0.0, 2.0, -0.7, 0.5) == pytest.approx(-0.7)


def test_the_same_body_under_sympy():
    t, s, u0, lam = sp.symbols("t s u_0 lambda", positive=True)
    at = {t: sp.Rational(1, 3), s: 2, u0: sp.Rational(1, 7), lam: sp.Rational(3, 5)}
    exact = float(bp_mode_unbalanced(t, s, u0, lam).subs(at))
    assert exact == pytest.approx(bp_mode_unbalanced(1 / 3, 2.0, 1 / 7, 0.6), rel=1e-14)


@given(s=st.floats(0.1, 3), w=st.floats(-2, 2), t=st.floats(0, 100))
def test_opposite_weights_decay_to_the_saddle(s, w, t):
    """On its stable manifold rounding must not win: w^2 falls as the flow v' = -2 v (s + v)."""
    w1, w2 = bp_mode_weights(t, s, w, -w)
    assert w1 == -w2
    assert w1**2 == pytest.approx(bp_mode(t, -s, w * w), rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("t", [10.0, 20.0, 40.0, 1e3])
def test_rounding_near_the_saddle_stays_bounded(t):
    rng = np.random.default_rng(0)
    s, w = rng.uniform(0.1, 2, (2, 2000))
    w1, w2 = bp_mode_weights(t, s, w, -w * (1 + 1e-14 * rng.integers(-20, 21, w.size)))
    assert (np.abs([w1, w2]) <= 1.000001 * np.maximum(w, np.sqrt(2 * s))).all()


@given(
    exponents=st.tuples(*3 * [st.floats(-3, 3)]),
    signs=st.sampled_from([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]),
    exponent=st.floats(1e-6, 30),
)
def test_digits_of_the_formula(exponents, signs, exponent):
    """The same with many digits; from a start against s rounding grows as e^(ft)."""
    s, w1, w2 = (float(sign * 10**power) for sign, power in zip(signs, exponents, strict=True))
    t = exponent / np.hypot(s, (w2**2 - w1**2) / 2)
    with mpmath.workdps(100):
        s_, a, b = map(mpmath.mpf, (s, w1, w2))
        half = (b * b - a * a) / 2
        moved = mpmath.expm(mpmath.matrix([[-half, s_], [s_, half]]) * t) * mpmath.matrix([a, b])
        f = mpmath.sqrt(s_ * s_ + half * half)
        along = (half * (b * b - a * a) + 2 * s_ * a * b) / f
        gain = mpmath.expm1(2 * f * t) / (4 * f), -mpmath.expm1(-2 * f * t) / (4 * f)
        size = mpmath.sqrt(1 + gain[0] * (a * a + b * b + along) + gain[1] * (a * a + b * b - along))
        exact = [float(v / size) for v in moved]
    assert np.abs(np.array(bp_mode_weights(t, s, w1, w2)) - exact).max() <= 1e-12 * np.hypot(*exact)


def _start(W1, W2):
    return State((np.asarray(W1, float), np.asarray(W2, float)), ((),))


def test_modes_of_degenerate_and_absent_tasks_follow_the_start():
    start, times = _start(np.diag([0.1, 0.4]), np.diag([1.0, -0.3])), [0.0, 1.0]
    for s in (np.ones(2), np.zeros(2)):
        maps = UnbalancedMode(linfa.bp(), linfa.Task.teacher(np.diag(s)), start).predict(times)
        alone = [bp_mode_unbalanced(1.0, s[0], u, lam) for u, lam in ((0.1, 0.99), (-0.12, 0.07))]
        assert maps[1] == pytest.approx(np.diag(alone), abs=1e-12)


SWAP = [[0.0, 1.0], [1.0, 0.0]]
ROWS = [
    (
        np.diag([2.0, 1.0]),
        None,
        _start([[1, 1], [0, 1]], np.eye(2)),
        r"not aligned: Syx is off the common singular vectors by 0\.\d+$",
    ),
    (np.diag([2.0, 1.0]), None, _start(np.eye(2), SWAP), "not aligned"),
    (np.diag([2.0, 1.0]), None, _start(np.zeros((2, 2)), [[1, 1], [0, 1]]), "not aligned: Syx is off the common"),
    (np.diag([2.0, 1.0]), None, _start([[1, 1], [0, 1]], np.zeros((2, 2))), "not aligned: Syx is off the common"),
    ([[1.0]], None, _start([[1], [0]], [[0, 1]]), r"W_1\^T W_1 is off the common singular vectors by 1"),
    (np.eye(2), np.diag([1.0, 1.31]), _start(np.eye(2), np.eye(2)), r"not white: Sxx - I has an entry of 0\.31"),
]


@pytest.mark.parametrize(("teacher", "Sxx", "start", "text"), ROWS)
def test_violated_assumptions_are_named(teacher, Sxx, start, text):
    with pytest.raises(AssumptionError, match=text):
        UnbalancedMode(linfa.bp(), linfa.Task.teacher(np.array(teacher), Sxx), start)


def test_depth_and_rules():
    deep = State(linfa.Network.balanced((2, 2, 2, 2)).weights, ((), ()))
    with pytest.raises(AssumptionError, match="depth is 3, not 2"):
        UnbalancedMode(linfa.bp(), linfa.Task.teacher(np.eye(2)), deep)
    with pytest.raises(AssumptionError, match="not backprop"):
        UnbalancedMode.example(linfa.fa())
    with pytest.raises(AssumptionError, match="weights decay"):
        UnbalancedMode.example(linfa.bp(decay=0.1))
