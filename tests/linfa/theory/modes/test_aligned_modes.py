"""Aligned modes of feedback alignment: their curve, order and early spectrum, against an integrator of its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import linfa
from linfa.dynamics import State
from linfa.theory import early_spectrum, fa_half_time, fa_mode, learning_order
from linfa.theory.alignment.zero_init_fa import ZeroInitFA
from linfa.theory.base import relative_error
from linfa.theory.modes.problem import AlignedProblem, observed_order

SIZES = st.floats(0.1, 3.0)
SEEDS = st.integers(0, 10**6)


@given(s=SIZES, h=SIZES, t=st.floats(0.0, 10.0))
def test_the_mode_solves_its_equations(s, h, t):
    b = np.sqrt(h)
    run = solve_ivp(
        lambda _, w: [b * (s - w[0] * w[1]), w[0] * (s - w[0] * w[1])], (0, t), [0, 0], rtol=1e-10, atol=1e-12
    )
    assert fa_mode(t, s, h) == pytest.approx(run.y[:, -1].prod(), abs=1e-7 * s)


@given(s=SIZES, h=SIZES, t=st.floats(0.0, 10.0), scale=SIZES, gain=SIZES)
def test_scaling(s, h, t, scale, gain):
    faster = scale ** (2 / 3) * gain ** (1 / 3)
    assert fa_mode(t, scale * s, gain * h) == pytest.approx(scale * fa_mode(faster * t, s, h), rel=1e-9, abs=1e-15)


@given(s=SIZES, h=SIZES)
def test_half_time(s, h):
    found = brentq(lambda t: float(fa_mode(t, s, h)) - s / 2, 0, 100 / s)
    assert fa_half_time(s, h) == pytest.approx(found, rel=1e-9)
    assert fa_half_time(s, h) * np.cbrt(h * s**2 / 2) == pytest.approx(0.93771, abs=1e-5)


@given(seed=SEEDS)
def test_order_is_that_of_half_times_and_of_all_times(seed):
    s, h = np.random.default_rng(seed).uniform(0.1, 3, (2, 5))
    order = learning_order(s, h)
    assert (np.diff(fa_half_time(s, h)[order]) >= 0).all()
    relative = fa_mode(np.linspace(0, 9, 40)[:, None], s, h) / s
    assert (np.diff(relative[:, order]) <= 1e-15).all()
    assert order.tolist() == np.argsort(-h * s**2).tolist()


@given(seed=SEEDS)
def test_early_spectrum_is_the_limit_of_the_modes(seed):
    s, h = np.random.default_rng(seed).uniform(0.3, 2, (2, 4))
    strengths = fa_mode(1e-4, s, h)
    assert early_spectrum(s, h) == pytest.approx(strengths / strengths.max(), rel=1e-9)


@given(seed=SEEDS, t=st.floats(0.01, 20.0))
def test_it_is_the_aligned_case_of_any_feedback(seed, t):
    problem = AlignedProblem.draw(seed)
    closed = ZeroInitFA(linfa.fa(), problem.task, State(problem.zero.weights, ((problem.B,),)))
    assert relative_error(closed.predict([t])[0], problem.along(fa_mode(t, problem.s, problem.h))) <= 1e-12


def test_modes_that_are_not_seen_stay():
    assert fa_mode([1.0, 50.0], s=[[0.0], [1.0]], h=[[1.0], [0.0]]).tolist() == [[0, 0], [0, 0]]
    assert fa_mode(0.0, 1.0, 1.0) == 0


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="a singular value is at least 0; got -1"):
        fa_mode(1.0, -1.0, 1.0)
    with pytest.raises(ValueError, match=r"an eigenvalue of B\^T B is at least 0; got -2"):
        learning_order([1.0, 1.0], [1.0, -2.0])
    with pytest.raises(ValueError, match="no half time"):
        fa_half_time(0.0, 1.0)
    with pytest.raises(ValueError, match="sees no mode"):
        early_spectrum([1.0], [0.0])
    with pytest.raises(ValueError, match="has no value at"):
        fa_mode(-1.0, 1.0, 1.0)


@given(power=st.floats(-3, 3), scale=SIZES)
def test_observed_order(power, scale):
    sizes = np.array([0.1, 0.3, 0.5])
    assert observed_order(sizes, scale * sizes**power) == pytest.approx(power, abs=1e-9)
