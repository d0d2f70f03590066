"""The closed pair of FA against networks, the width-free reduction and the closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory.alignment.closed_pair import closed_pair_flow, closed_pair_velocity
from linfa.theory.alignment.gram import FAGram, fa_gram_flow
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.alignment.zero_init_fa import ZeroInitFA
from linfa.theory.base import relative_error

SEEDS = st.integers(0, 10**6)


@given(seed=SEEDS)
def test_it_agrees_with_the_width_free_reduction(seed):
    """W_1 = W_1(0) + B A, and B W_2 from A and G."""
    problem, times = FixedFeedbackProblem.draw(seed, white=False), [0.0, 1.0, 3.0]
    (W1, W2), B, task = problem.network.weights, problem.B, problem.task
    first, M = closed_pair_flow(W1, B @ W2, B @ task.Syx, task.Sxx, times)
    A, G = fa_gram_flow(task, FAGram.of(W1, W2, B), times)
    assert relative_error((first, M), (W1 + B @ A, B @ (W2 + G @ B.T + A @ W1.T))) <= 1e-8


@given(seed=SEEDS)
def test_from_zero_it_is_the_closed_form(seed):
    problem, times = FixedFeedbackProblem.draw(seed, scale=0.0), np.linspace(0, 4, 5)
    theory = ZeroInitFA(linfa.fa(), problem.task, problem.run([0.0]).at(0))
    W1, W2 = theory.weights(times)
    k, n = W1.shape[1:]
    pair = closed_pair_flow(np.zeros((k, n)), np.zeros((k, k)), problem.B @ problem.task.Syx, np.eye(n), times)
    assert relative_error((W1, problem.B @ W2), pair) <= 1e-8


@given(seed=SEEDS)
def test_it_conserves_what_feedback_alignment_does(seed):
    """W_1 W_1^T - M - M^T, at any state, also one whose M no network has."""
    rng = np.random.default_rng(seed)
    W1, M, seen, root = (rng.standard_normal(shape) for shape in ((4, 3), (4, 4), (4, 3), (3, 3)))
    dW1, dM = closed_pair_velocity(W1, M, seen, root @ root.T)
    assert np.allclose(dW1 @ W1.T + W1 @ dW1.T, dM + dM.T)


@given(seed=SEEDS)
def test_it_turns_with_the_hidden_layer(seed):
    rng = np.random.default_rng(seed)
    W1, M, seen = (rng.standard_normal(shape) for shape in ((4, 3), (4, 4), (4, 3)))
    Q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    dW1, dM = closed_pair_velocity(W1, M, seen, np.eye(3))
    turned = closed_pair_velocity(Q @ W1, Q @ M @ Q.T, Q @ seen, np.eye(3))
    assert np.allclose(turned[0], Q @ dW1)
    assert np.allclose(turned[1], Q @ dM @ Q.T)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"M is \(2, 2\) for a W_1 of shape \(2, 3\); got \(3, 3\)"):
        closed_pair_flow(np.zeros((2, 3)), np.eye(3), np.zeros((2, 3)), np.eye(3), [0.0, 1.0])
    with pytest.raises(ValueError, match=r"Sxx is \(3, 3\)"):
        closed_pair_flow(np.zeros((2, 3)), np.eye(2), np.zeros((2, 3)), np.eye(2), [0.0, 1.0])
