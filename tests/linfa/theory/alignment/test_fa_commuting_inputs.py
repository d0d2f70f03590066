"""FA on inputs that commute with the seen task: special cases, networks, and inputs that do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State
from linfa.theory.alignment.commuting_inputs import CommutingInputsFA
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.alignment.zero_init_fa import ZeroInitFA
from linfa.theory.base import AssumptionError, relative_error

SEEDS = st.integers(0, 10**6)


def theory_of(task, B, kind=CommutingInputsFA):
    return kind(linfa.fa(), task, State(linfa.Network.zero((task.n_in, len(B), task.n_out)).weights, ((B,),)))


@given(seed=SEEDS, xi=st.floats(0.3, 3.0))
def test_inputs_of_one_variance_are_white_ones_in_another_time(seed, xi):
    problem, times = FixedFeedbackProblem.draw(seed), np.linspace(0, 4, 9)
    weight, n = problem.task.Syx, problem.task.n_in
    closed = theory_of(linfa.Task.teacher(weight, xi * np.eye(n)), problem.B)
    assert np.allclose(closed.variances, xi)
    white = theory_of(linfa.Task.teacher(weight), problem.B, ZeroInitFA)
    assert np.allclose(closed.predict(times / xi), white.predict(times), atol=1e-9)
    assert np.allclose(closed.discrete(0.02 / xi, 50), white.discrete(0.02, 50), atol=1e-10)


@given(seed=SEEDS, rank=st.integers(1, 3))
def test_weights_of_networks(seed, rank):
    rule = linfa.ldfa(rank, "fixed")
    setup = CommutingInputsFA.example(rule, seed)
    run = linfa.simulate(
        rule, setup.task, setup.network, [0.0, 1.0, 4.0], feedback=setup.feedback, rtol=1e-11, atol=1e-13
    )
    closed = CommutingInputsFA(rule, setup.task, run.at(0))
    assert relative_error(closed.weights(run.times), run.weights) <= 1e-8
    assert closed.error(run) <= 1e-8


def test_a_diagonal_task():
    """Every mode by itself: quadrature of its own cubic law."""
    from scipy.integrate import solve_ivp

    weight, xi, b = np.array([2.0, 0.5]), np.array([0.4, 1.7]), np.array([1.5, -0.8])
    closed = theory_of(linfa.Task.teacher(np.diag(weight), np.diag(xi)), np.diag(b))
    times = np.linspace(0, 3, 7)
    for i in range(2):
        s = abs(b[i]) * weight[i]
        path = solve_ivp(lambda t, a, s=s, i=i: xi[i] * (s - a**3 / 2), (0, 3), [0.0], "DOP853", times, rtol=1e-12)
        assert np.allclose(closed.predict(times)[:, i, i], path.y[0] ** 3 / (2 * s) * weight[i], atol=1e-9)


def test_an_unseen_task_is_never_learned():
    closed = theory_of(linfa.Task.teacher(np.diag([1.0, 0.0]), np.diag([0.5, 1.0])), np.diag([0.0, 1.0]))
    assert not closed.predict([0.0, 3.0]).any()
    assert not closed.discrete(0.1, 3).any()


def test_other_inputs_are_refused_and_would_be_wrong():
    task, B = linfa.Task.teacher(np.diag([2.0, 0.5]), np.array([[1.0, 0.5], [0.5, 1.0]])), np.eye(2)
    with pytest.raises(AssumptionError, match=r"Sxx does not commute with .* off by 0\.\d"):
        theory_of(task, B)
    run = linfa.simulate(linfa.fa(), task, linfa.Network.zero((2, 2, 2)), [0.0, 1.0], feedback=((B,),))
    unchecked = object.__new__(CommutingInputsFA)
    for name, value in (("rule", linfa.fa()), ("task", task), ("start", run.at(0))):
        object.__setattr__(unchecked, name, value)
    assert unchecked.error(run) > 0.01


def test_other_starts():
    task = linfa.Task.teacher(np.eye(2), np.diag([0.5, 1.0]))
    with pytest.raises(AssumptionError, match=r"W_2\(0\) is not zero: 1"):
        CommutingInputsFA(linfa.fa(), task, State((np.zeros((2, 2)), np.eye(2)), ((np.eye(2),),)))
    deep = linfa.simulate(linfa.fa(), task, linfa.Network.zero((2, 2, 2, 2)), [0.0]).at(0)
    with pytest.raises(AssumptionError, match="depth is 3, not 2"):
        CommutingInputsFA(linfa.fa(), task, deep)
    with pytest.raises(AssumptionError, match="feedback learns"):
        CommutingInputsFA.example(linfa.kolen_pollack(0.0))
