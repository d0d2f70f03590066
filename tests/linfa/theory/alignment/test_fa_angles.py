"""Alignment angles from zero weights: limits, bounds, and networks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.observe import cosine
from linfa.theory.alignment.angles import backprop_cosine, backprop_product, pseudoinverse_cosine
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.alignment.zero_init_fa import ZeroInitFA
from linfa.theory.base import AssumptionError

SEEDS = st.integers(0, 10**6)
TIMES = np.array([0.0, 0.01, 0.5, 2.0, 8.0, 40.0])


def theory_of(Sigma, B):
    task = linfa.Task.teacher(Sigma)
    network = linfa.Network.zero((task.n_in, len(B), task.n_out))
    return ZeroInitFA(linfa.fa(), task, linfa.dynamics.State(network.weights, ((B,),)))


def drawn(seed, **kwargs):
    problem = FixedFeedbackProblem.draw(seed, scale=0.0, **kwargs)
    return problem, theory_of(problem.task.Syx, problem.B)


@given(seed=SEEDS)
def test_angles_of_simulated_networks(seed):
    problem, theory = drawn(seed)
    run = problem.run([0.0, 0.7, 2.0])
    E = problem.residuals(run)
    hidden = problem.B @ E, run.weights[1].mT @ E
    assert np.allclose(backprop_product(theory, run.times), (hidden[0] * hidden[1]).sum((-1, -2)), atol=1e-9)
    assert np.allclose(backprop_cosine(theory, run.times), cosine(*hidden), atol=1e-7)


@given(seed=SEEDS)
def test_never_uphill_and_never_beyond_one(seed):
    _, theory = drawn(seed)
    assert (backprop_product(theory, TIMES) >= 0).all()
    values = backprop_cosine(theory, TIMES)
    assert values[0] == 0
    assert (values[1:4] > 0).all()
    assert (values <= 1 + 1e-12).all()


@given(seed=SEEDS)
def test_the_inverse_from_the_first_moment_on(seed):
    """Continuous at time 0, where W_2 = 0 has no inverse, and accurate when next to nothing is left to learn."""
    _, theory = drawn(seed, full=True)
    values = pseudoinverse_cosine(theory, TIMES)
    assert (values > 0).all()
    assert (values <= 1 + 1e-12).all()
    assert values[0] == pytest.approx(pseudoinverse_cosine(theory, [1e-5])[0], rel=1e-9)
    s = theory.modes.s
    assert values[0] == pytest.approx(len(s) / np.sqrt((s**2).sum() * (s**-2).sum()), rel=1e-10)


@given(seed=SEEDS, size=st.integers(1, 5))
def test_modes_that_are_all_alike_are_perfectly_aligned(seed, size):
    rng = np.random.default_rng(seed)
    Sigma = 1.5 * np.linalg.qr(rng.standard_normal((size, size)))[0]
    B = 0.7 * np.linalg.qr(rng.standard_normal((size + 2, size)))[0]
    assert np.allclose(pseudoinverse_cosine(theory_of(Sigma, B), TIMES), 1, atol=1e-12)
    assert np.allclose(backprop_cosine(theory_of(Sigma, B), TIMES[1:5]), 1, atol=1e-12)


def test_when_nothing_is_left_there_is_no_angle():
    assert np.isnan(pseudoinverse_cosine(theory_of(np.eye(2), np.eye(2)), [1.0, 1e4])).tolist() == [False, True]


def test_one_fast_mode_spoils_the_inverse():
    values = pseudoinverse_cosine(theory_of(np.diag([2.0, 0.5]), np.eye(2)), TIMES[:3])
    assert (values < 0.95).all()


@pytest.mark.parametrize(
    ("Sigma", "B", "text"),
    [
        (np.eye(2), np.ones((3, 2)), "B Sigma has rank 1, Sigma 2"),
        (np.zeros((2, 2)), np.eye(2), "B Sigma has rank 0, Sigma 0"),
    ],
)
def test_feedback_that_loses_a_mode_has_no_inverse_angle(Sigma, B, text):
    with pytest.raises(AssumptionError, match=text):
        pseudoinverse_cosine(theory_of(Sigma, B), TIMES)
