"""What falls under FA and what need not, at states and along flows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State, velocity
from linfa.theory.alignment.lyapunov import falls_for_ever, rising_loss, seen_error, seen_error_rate
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.base import AssumptionError

SEEDS = st.integers(0, 10**6)


@given(seed=SEEDS)
def test_the_rate_at_any_state(seed):
    """Against the derivative of the quantity along the simulated velocity, by a central difference."""
    problem = FixedFeedbackProblem.draw(seed, scale=0.8, white=False)
    task, weights, B = problem.task, problem.network.weights, problem.B
    v = velocity(linfa.fa(), State(weights, ((B,),)), task.batch).weights

    def value(h):
        W1, W2 = (W + h * dW for W, dW in zip(weights, v, strict=True))
        return seen_error(B, task.Syx - W2 @ W1 @ task.Sxx, task.Sxx)

    E = task.Syx - weights[1] @ weights[0] @ task.Sxx
    slope = (8 * (value(1e-3) - value(-1e-3)) - value(2e-3) + value(-2e-3)) / 12e-3
    assert seen_error_rate(*weights, B, E) == pytest.approx(slope, rel=1e-7, abs=1e-8)


@given(seed=SEEDS, white=st.booleans())
def test_where_it_falls_for_ever_it_falls(seed, white):
    problem = FixedFeedbackProblem.draw(seed, scale=0.4, white=white)
    (W1, W2), B = problem.network.weights, problem.B
    W1, W2 = 0 * W1, W2 + B.T  # which the feedback sees as positive more often than not
    run = problem._replace(network=linfa.Network((W1, W2))).run(np.linspace(0, 5, 26))
    values = seen_error(B, problem.residuals(run), problem.task.Sxx)
    if falls_for_ever(W1, W2, B):
        assert (np.diff(values) <= 1e-9 * values[0]).all()


@given(seed=SEEDS)
def test_from_zero_it_falls_for_ever(seed):
    problem = FixedFeedbackProblem.draw(seed, scale=0.0)
    assert falls_for_ever(*problem.network.weights, problem.B)


@given(seed=SEEDS)
def test_whitened_coordinates(seed):
    problem = FixedFeedbackProblem.draw(seed, white=False)
    values, basis = np.linalg.eigh(problem.task.Sxx)
    whitened = problem.task.Syx @ (basis / np.sqrt(values))
    assert seen_error(problem.B, problem.task.Syx, problem.task.Sxx) == pytest.approx(seen_error(problem.B, whitened))


@given(beta=st.floats(1.05, 10.0))
def test_the_loss_rises_at_first_at_the_rate_given(beta):
    task, network, B = rising_loss(beta)
    run = linfa.simulate(linfa.fa(), task, network, [0.0, 1e-5, 2e-5], feedback=((B,),), rtol=1e-12, atol=1e-15)
    slope = (4 * run.loss[1] - 3 * run.loss[0] - run.loss[2]) / 2e-5
    assert slope == pytest.approx(beta - 1 / beta, rel=1e-3)
    assert falls_for_ever(*network.weights, B)


def test_a_search_finds_rising_losses_but_never_from_zero():
    rises = 0
    for seed in range(20):
        problem = FixedFeedbackProblem.draw(seed, scale=1.5)
        rises += bool((np.diff(problem.run(np.linspace(0, 3, 31)).loss) > 1e-6).any())
        zero = FixedFeedbackProblem.draw(seed, scale=0.0)
        assert (np.diff(zero.run(np.linspace(0, 3, 31)).loss) <= 1e-9).all()
    assert rises


def test_outside():
    with pytest.raises(AssumptionError, match="Sxx is not invertible: its lowest eigenvalue is 0"):
        seen_error(np.eye(2), np.eye(2), np.diag([1.0, 0.0]))
    with pytest.raises(ValueError, match="beta is more than 1; got 1"):
        rising_loss(1.0)
