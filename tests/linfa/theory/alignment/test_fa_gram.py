"""The width-free reduction of FA against full networks, drawn at random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad_vec

import linfa
from linfa.theory.alignment.gram import FAGram, fa_gram_descent, fa_gram_flow
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.alignment.zero_init_fa import ZeroInitFA
from linfa.theory.base import relative_error

SEEDS = st.integers(0, 10**6)


@given(seed=SEEDS, k=st.integers(1, 500), lr=st.floats(0.005, 0.05))
def test_descent_is_exact_at_any_width(seed, k, lr):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 7, 2)
    root = np.eye(n) + 0.3 * rng.standard_normal((n, n)) / np.sqrt(n)
    task = linfa.Task.teacher(rng.standard_normal((m, n)) / np.sqrt(n), root @ root.T, noise=0.3)
    W1, W2, B = (rng.standard_normal(shape) / np.sqrt(k) for shape in ((k, n), (m, k), (k, m)))
    run = linfa.descend(linfa.dfa(), task, linfa.Network((W1, W2)), lr, 40, feedback=((B,),))
    data = FAGram.of(W1, W2, B)
    A, G = fa_gram_descent(task, data, lr, 40)
    assert relative_error(data.map(A, G), run.map) <= 1e-11
    assert relative_error((W1 + B @ A, W2 + G @ B.T + A @ W1.T), run.weights) <= 1e-11


@given(seed=SEEDS, part=st.floats(0.2, 0.8))
def test_the_flow_is_a_semigroup(seed, part):
    """To stop and to take the state reached as a start leads to the same end."""
    problem = FixedFeedbackProblem.draw(seed, white=False)
    (W1, W2), B = problem.network.weights, problem.B
    whole, data = [0.0, part * 2.0, 2.0], FAGram.of(*problem.network.weights, problem.B)
    A, G = fa_gram_flow(problem.task, data, whole)
    there = FAGram.of(W1 + B @ A[1], W2 + G[1] @ B.T + A[1] @ W1.T, B)
    rest = fa_gram_flow(problem.task, there, [0.0, 2.0 - part * 2.0])
    assert np.allclose(there.map(*rest)[-1], data.map(A, G)[-1], atol=1e-9)


def test_the_flow_integrates_the_error():
    problem = FixedFeedbackProblem.draw(4, white=False)
    data = FAGram.of(*problem.network.weights, problem.B)

    def error(t):
        return problem.residuals(problem.run([t]))[0]

    A, _ = fa_gram_flow(problem.task, data, [0.0, 1.0])
    assert np.allclose(A[-1], quad_vec(error, 0.0, 1.0, epsabs=1e-10)[0], atol=1e-9)


@given(seed=SEEDS)
def test_from_zero_weights_it_is_the_closed_form(seed):
    problem = FixedFeedbackProblem.draw(seed, scale=0.0)
    run, data = problem.run(np.linspace(0, 3, 4)), FAGram.of(*problem.network.weights, problem.B)
    assert not any(np.any(part) for part in (data.K, data.N, data.J, data.S))
    closed = ZeroInitFA(linfa.fa(), problem.task, run.at(0))
    assert relative_error(closed.predict(run.times), data.map(*fa_gram_flow(problem.task, data, run.times))) <= 1e-8


@given(seed=SEEDS)
def test_networks_of_the_same_data_learn_the_same(seed):
    """Turn the hidden layer: nothing that the data keep changes."""
    problem = FixedFeedbackProblem.draw(seed)
    (W1, W2), B = problem.network.weights, problem.B
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(B), len(B))))[0]
    for one, other in zip(FAGram.of(W1, W2, B), FAGram.of(Q @ W1, W2 @ Q.T, Q @ B), strict=True):
        assert np.allclose(one, other, atol=1e-12)


def test_data_of_another_task():
    task, data = linfa.Task.teacher(np.ones((2, 3))), FAGram.of(np.ones((4, 3)), np.ones((2, 4)), np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"H is \(2, 2\) for this task; got shape \(1, 1\)"):
        fa_gram_descent(task, data._replace(H=np.ones((1, 1))), 0.1, 3)
    with pytest.raises(ValueError, match=r"S is \(3, 3\) for this task; got shape \(2, 2\)"):
        fa_gram_flow(task, data._replace(S=np.ones((2, 2))), [0.0, 1.0])
    with pytest.raises(ValueError, match="lr is a positive number; got 0"):
        fa_gram_descent(task, data, 0, 3)
