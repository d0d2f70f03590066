"""Changes of units and of coordinates, on closed forms and on networks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory.alignment.covariance import fa_speed, rotated_task
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.alignment.zero_init_fa import ZeroInitFA

SEEDS, FACTORS = st.integers(0, 10**6), st.floats(0.2, 5.0)


def closed(task, B, times):
    state = linfa.dynamics.State(linfa.Network.zero((task.n_in, len(B), task.n_out)).weights, ((B,),))
    return ZeroInitFA(linfa.fa(), task, state).predict(times)


@given(seed=SEEDS, kappa=FACTORS, gamma=FACTORS)
def test_the_closed_form_scales(seed, kappa, gamma):
    problem, times = FixedFeedbackProblem.draw(seed), np.linspace(0, 4, 9)
    task = replace(problem.task, Syx=kappa * problem.task.Syx, Syy=None)
    usual = closed(problem.task, problem.B, times)
    fast = closed(task, np.sqrt(gamma) * problem.B, times / fa_speed(kappa, gamma))
    assert np.allclose(fast, kappa * usual, rtol=1e-9, atol=1e-12 * kappa)


@given(a=FACTORS, b=FACTORS, c=FACTORS, d=FACTORS)
def test_speeds_multiply(a, b, c, d):
    assert fa_speed(a * b, c * d) == pytest.approx(fa_speed(a, c) * fa_speed(b, d), rel=1e-12)


@given(seed=SEEDS)
def test_the_closed_form_turns(seed):
    problem, times = FixedFeedbackProblem.draw(seed), np.linspace(0, 4, 9)
    task, rng = problem.task, problem.rng
    R, S = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (task.n_out, task.n_in))
    turned = rotated_task(task, R, S)
    assert np.allclose(closed(turned, problem.B @ R.T, times), R @ closed(task, problem.B, times) @ S.T, atol=1e-9)
    back = rotated_task(turned, R.T, S.T)
    assert np.allclose(back.Syx, task.Syx, atol=1e-12)
    assert np.allclose(back.Syy, task.Syy, atol=1e-12)


def test_a_start_that_is_not_zero_does_see_the_feedback():
    """The same H with another B: from weights that are not zero the map differs."""
    problem = FixedFeedbackProblem.draw(2, full=True)
    flipped = linfa.simulate(linfa.fa(), problem.task, problem.network, [0.0, 2.0], feedback=((-problem.B,),))
    assert np.abs(flipped.map[-1] - problem.run([0.0, 2.0]).map[-1]).max() > 1e-2


def test_what_is_no_change_of_units():
    with pytest.raises(ValueError, match="task_scale is positive; got -1"):
        fa_speed(-1.0, 1.0)
    with pytest.raises(ValueError, match="feedback_scale is positive; got 0"):
        fa_speed(1.0, 0.0)
    task = linfa.Task.teacher(np.ones((2, 1)))
    with pytest.raises(ValueError, match="R is an orthogonal matrix of size 2: off by 3"):
        rotated_task(task, 2 * np.eye(2), np.eye(1))
    with pytest.raises(ValueError, match="S is an orthogonal matrix of size 1: off by inf"):
        rotated_task(task, np.eye(2), np.eye(2))
