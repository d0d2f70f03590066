"""ZeroInitFA against flow and descent for drawn shapes, ranks and both routes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.simulate import Diverged
from linfa.theory.alignment.zero_init_fa import LARGEST_STEP, ZeroInitFA
from linfa.theory.base import relative_error

SIZES = st.integers(1, 5)
DRAWN = {
    "n": SIZES,
    "k": SIZES,
    "m": SIZES,
    "direct": st.booleans(),
    "degenerate": st.booleans(),
    "seed": st.integers(0, 10**6),
}


def problem(n, k, m, direct, degenerate, seed, noise=0.2):
    """A rule, a task and feedback with entries of order one; degenerate: orthogonal feedback and a flat spectrum."""
    rng = np.random.default_rng(seed)
    s = rng.uniform(0.2, 2.0, rng.integers(1, min(n, m) + 1))
    B = rng.standard_normal((k, m)) / np.sqrt(m)
    if degenerate:
        s, B = np.ones(min(n, m)), np.eye(k, m)
    task = linfa.Task.from_spectrum(s, n_in=n, n_out=m, noise=noise, seed=seed)
    return linfa.dfa() if direct else linfa.fa(), task, linfa.Network.zero((n, k, m)), ((B,),)


@given(**DRAWN)
def test_flow(**drawn):
    rule, task, network, feedback = problem(**drawn)
    run = linfa.simulate(rule, task, network, np.linspace(0, 5, 11), feedback=feedback, rtol=1e-11, atol=1e-13)
    closed = ZeroInitFA(rule, task, run.at(0))
    assert closed.error(run) <= 1e-8
    assert relative_error(closed.weights(run.times), run.weights) <= 1e-8
    assert relative_error(closed.loss(run.times), run.loss) <= 1e-8
    assert relative_error(closed.alignment(run.times[1:]), run.feedback_alignment[1:, 0]) <= 1e-7
    assert (np.diff(closed.loss(run.times)) <= 1e-14).all()


@given(**DRAWN, fraction=st.floats(0.05, 0.98))
def test_descent(fraction, **drawn):
    rule, task, network, feedback = problem(**drawn)
    closed = ZeroInitFA(rule, task, linfa.dynamics.State(network.weights, feedback))
    lr = min(fraction * closed.max_lr, 1.0)
    run = linfa.descend(rule, task, network, lr, 60, feedback=feedback)
    assert closed.discrete_error(run) <= 1e-11
    assert relative_error(closed.discrete_weights(lr, 60), run.weights) <= 1e-11


@given(seed=st.integers(0, 10**6))
def test_rank_of_the_feedback_limits_what_is_learned(seed):
    rule, task = linfa.ldfa(2, "fixed"), linfa.Task.from_spectrum([2.0, 1.5, 1.0, 0.5], seed=seed)
    run = linfa.simulate(rule, task, linfa.Network.zero((4, 5, 4)), 5.0, seed=seed, rtol=1e-11)
    closed = ZeroInitFA(rule, task, run.at(0))
    assert len(closed.modes.s) == 2
    assert closed.error(run) <= 1e-8


def test_learning_rates_around_the_limit():
    rule, task, network, feedback = problem(3, 4, 3, False, False, 5, noise=0.0)
    limit = ZeroInitFA(rule, task, linfa.dynamics.State(network.weights, feedback)).max_lr
    below = linfa.descend(rule, task, network, 0.99 * limit, 4000, feedback=feedback, record=4000)
    closed = ZeroInitFA(rule, task, below.at(0))
    assert below.loss[-1] == pytest.approx(closed.loss([np.inf])[0], abs=1e-6)
    with np.errstate(all="ignore"), pytest.raises(Diverged):
        linfa.descend(rule, task, network, 1.01 * limit, 4000, feedback=feedback, record=4000)


@pytest.mark.parametrize(("h", "converges"), [(LARGEST_STEP, True), (LARGEST_STEP + 1e-4, False)])
def test_the_largest_step(h, converges):
    a = g = 0.0
    for _ in range(40000):
        left = 1 - g * a
        if abs(left) > 100:
            break
        a, g = a + h / 2 * left, g + h * left * a
    assert (abs(1 - g * a) < 1e-9) == converges


def test_a_task_that_the_feedback_does_not_see():
    task = linfa.Task.teacher(np.diag([1.0, 0.0]))
    closed = ZeroInitFA(
        linfa.fa(), task, linfa.dynamics.State(linfa.Network.zero((2, 2, 2)).weights, ((np.diag([0.0, 1.0]),),))
    )
    times = np.array([0.0, 3.0])
    assert not closed.predict(times).any()
    assert closed.loss(times).tolist() == [0.5, 0.5]
    assert closed.alignment(times).tolist() == [0, 0]
    assert closed.max_lr == np.inf
