"""What the feedback does not see: conserved rates, exact decay on the plateau, and plateaus without an end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.dimension.plateau import measured, plateau_matrix, plateau_rates

SEEDS = st.integers(0, 10**6)
RULE = linfa.ldfa(2, "fixed")


@given(n=st.integers(1, 5), k=st.integers(2, 5), seed=SEEDS)
def test_conserved_by_any_data(n, k, seed):
    rng = np.random.default_rng(seed)
    task = linfa.Task.teacher(examples.matrix(rng, 3, n, 0.3, 1.2), examples.moment(rng, n, 0.4, 1.3), noise=0.2)
    Q, P = examples.matrix(rng, k, 2, 0.8, 1.25), examples.matrix(rng, 2, 3, 0.8, 1.25)
    network = linfa.Network.small((n, k, 3), scale=0.7, seed=seed)
    run = linfa.descend(RULE, task, network, 0.05, 40, batch_size=5, seed=seed, feedback=((Q, P),))
    before, after = (plateau_matrix(run.weights[0][i], Q @ P, task.Syx) for i in (0, -1))
    assert np.allclose(before, after, rtol=0, atol=1e-12)


@given(seed=SEEDS)
def test_exact_decay_where_the_feedback_sees_no_error(seed):
    rng = np.random.default_rng(seed)
    network = linfa.Network.small((4, 5, 3), scale=0.8, seed=seed)
    P = rng.standard_normal((2, 3))
    unseen = rng.standard_normal((3, 4))
    unseen -= np.linalg.pinv(P) @ P @ unseen
    task = linfa.Task.teacher(network.weights[1] @ network.weights[0] + unseen)
    feedback, times = ((rng.standard_normal((5, 2)), P),), np.array([0.0, 0.5, 2.0])
    run = linfa.simulate(RULE, task, network, times, feedback=feedback, rtol=1e-11, atol=1e-13)
    assert np.allclose(run.weights[0], network.weights[0], atol=1e-9)
    closed = linfa.theory.frozen_hidden_error(network.weights[0], unseen, times)
    assert relative_error(closed, task.Syx - run.map) <= 1e-8


@pytest.mark.parametrize("eps", [0.05, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_slopes(eps, seed):
    rng = np.random.default_rng(seed)
    task = linfa.Task.teacher(examples.matrix(rng, 3, 3, 0.8, 1.5))
    feedback = ((examples.matrix(rng, 4, 2, 0.8, 1.25), examples.matrix(rng, 2, 3, 0.8, 1.25)),)
    network = linfa.Network((eps * examples.matrix(rng, 4, 3, 0.5, 1.0), eps * rng.standard_normal((3, 4))))
    (rate,) = plateau_rates(network.weights[0], feedback[0][0] @ feedback[0][1], task.Syx)
    seen = measured(RULE, task, network, feedback, (60.0, 200.0))
    assert seen[0, 0] == pytest.approx(rate, rel=0.05)


@given(n=st.integers(1, 5), k=st.integers(1, 5), m=st.integers(1, 5), seed=SEEDS)
def test_rotations_and_scale(n, k, m, seed):
    rng = np.random.default_rng(seed)
    W1, Syx = rng.standard_normal((k, n)), rng.standard_normal((m, n))
    r = min(2, k, m)
    B = examples.matrix(rng, k, r, 0.5, 1.0) @ examples.matrix(rng, r, m, 0.5, 1.0)
    O, U, V = (examples.frame(rng, size, size) for size in (k, m, n))  # noqa: E741
    rates = plateau_rates(W1, B, Syx)
    assert np.allclose(plateau_rates(O @ W1 @ V.T, O @ B @ U.T, U @ Syx @ V.T), rates, atol=1e-9)
    assert np.allclose(plateau_rates(0.1 * W1, B, Syx), 0.01 * rates, atol=1e-12)
    assert np.allclose(plateau_rates(W1, 3 * B, Syx), rates, atol=1e-9)
    assert len(rates) == n - min(r, n)
    assert (rates >= -1e-12).all()


def test_ends():
    """No feedback: the readout learns on what it was given; no start: a plateau for ever; full rank: no plateau."""
    W1 = np.diag([2.0, 1.0])
    assert plateau_rates(W1, np.zeros((2, 2)), np.eye(2)).tolist() == [1, 4]
    assert plateau_rates(0 * W1, np.diag([1.0, 0.0]), np.eye(2)).tolist() == [0]
    assert plateau_rates(W1, np.eye(2), np.eye(2)).size == 0
    assert plateau_rates(np.ones((1, 2)), np.ones((1, 2)), np.eye(2)).tolist() == [0]


@pytest.mark.parametrize("shapes", [((2, 3), (3, 2), (2, 3)), ((2, 3), (2, 4), (2, 3)), ((2, 3), (2, 2), (2, 2))])
def test_shapes_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match=r"W_1 \(2, 3\), B .* and Syx .* do not fit"):
        plateau_matrix(*map(np.ones, shapes))
