"""The cubic law of aligned starts, and the angle to the feedback, against flows of their own."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import linfa
from linfa.dynamics import State
from linfa.observe import participation_ratio
from linfa.theory import AlignedStartFA, AssumptionError, aligned_cosine, alignment_tangent
from linfa.theory.alignment.zero_init_fa import ZeroInitFA
from linfa.theory.base import relative_error
from linfa.theory.modes.problem import AlignedProblem

SEEDS = st.integers(0, 10**6)
FA = linfa.fa()


def _example(seed, rule=FA):
    setup = AlignedStartFA.example(rule, seed)
    return setup, AlignedStartFA(rule, setup.task, State(setup.network.weights, setup.feedback))


@given(seed=SEEDS)
def test_weights_on_a_flow_of_its_own(seed):
    setup, theory = _example(seed)
    (W1, W2), B, Sigma = setup.network.weights, setup.feedback[0][0], setup.task.Syx

    def field(_, z):
        one, two = z[: W1.size].reshape(W1.shape), z[W1.size :].reshape(W2.shape)
        E = Sigma - two @ one
        return np.concatenate([(B @ E).ravel(), (E @ one.T).ravel()])

    end = solve_ivp(field, (0, 2.0), np.concatenate([W1.ravel(), W2.ravel()]), rtol=1e-10, atol=1e-12).y[:, -1]
    one, two = end[: W1.size].reshape(W1.shape), end[W1.size :].reshape(W2.shape)
    assert relative_error(theory.predict([2.0])[0], two @ one) <= 1e-7
    assert relative_error(theory.second_weight([2.0])[0], two) <= 1e-7


@given(seed=SEEDS, t=st.floats(0.01, 20.0), degenerate=st.booleans())
def test_zero_second_weight_is_the_zero_start(seed, t, degenerate):
    problem = AlignedProblem.draw(seed)
    task, B = problem.task, problem.B
    if degenerate:
        task, B = linfa.Task.teacher(problem.U @ problem.Vt), problem.R @ problem.U.T
    state = State(problem.zero.weights, ((B,),))
    closed = AlignedStartFA(FA, task, state), ZeroInitFA(FA, task, state)
    assert relative_error(closed[1].predict([t]), closed[0].predict([t])) <= 1e-9
    assert relative_error(closed[1].weights([t])[1], closed[0].second_weight([t])) <= 1e-9
    assert relative_error(closed[1].discrete(0.05, 30), closed[0].discrete(0.05, 30)) <= 1e-12


@given(seed=SEEDS, t=st.floats(0.01, 10.0))
def test_rotations_carry_over(seed, t):
    setup, theory = _example(seed)
    rng = np.random.default_rng(seed)
    (W1, W2), B, Sigma = setup.network.weights, setup.feedback[0][0], setup.task.Syx
    left, hidden, right = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (*W2.shape, W1.shape[1]))
    state = State((W1 @ right.T, left @ W2 @ hidden.T), ((hidden @ B @ left.T,),))
    turned = AlignedStartFA(FA, linfa.Task.teacher(left @ Sigma @ right.T), state)
    assert np.allclose(turned.predict([t])[0], left @ theory.predict([t])[0] @ right.T, atol=1e-8)


def test_one_output_is_inside_for_any_width():
    rng = np.random.default_rng(3)
    task, B = linfa.Task.teacher(rng.standard_normal((1, 3))), rng.standard_normal((5, 1))
    W2 = rng.standard_normal((1, 5))
    W2 *= np.sign(W2 @ B)
    network = linfa.Network((np.zeros((5, 3)), W2))
    run = linfa.simulate(FA, task, network, 3.0, feedback=((B,),), rtol=1e-11, atol=1e-13)
    assert AlignedStartFA(FA, task, run.at(0)).error(run) <= 1e-8


def test_violations_are_named():
    setup, _ = _example(4)
    (W1, W2), stored, task = setup.network.weights, setup.feedback, setup.task

    def refused(text, task=task, weights=(W1, W2), feedback=stored, rule=FA):
        with pytest.raises(AssumptionError, match=text):
            AlignedStartFA(rule, task, State(weights, feedback))

    refused(r"W_1\(0\) is not zero", weights=(W1 + 1, W2))
    refused(r"W_2\(0\) opposes the feedback: W_2\(0\) B has the eigenvalue -", weights=(W1, -W2))
    refused(
        "not aligned: .* is off the common eigenvectors by", weights=(W1, W2 + np.arange(W2.size).reshape(W2.shape))
    )
    refused("not aligned", task=linfa.Task.teacher(np.arange(1.0, task.Syx.size + 1).reshape(task.Syx.shape)))
    refused("not white", task=linfa.Task.teacher(task.Syx, np.diag(np.arange(1.0, task.n_in + 1))))
    refused("feedback follows the weights", rule=linfa.bp())
    refused("weights decay", rule=dataclasses.replace(FA, decay=0.1))
    square = linfa.Network.zero((task.n_in, 3, 3, task.n_out))
    refused("depth is 3", weights=square.weights, feedback=((np.eye(3),), (np.ones((3, task.n_out)),)))


LENGTHS = st.floats(0.1, 2.0)


@given(a=LENGTHS, along=LENGTHS, across=LENGTHS, size=LENGTHS, seed=SEEDS)
def test_the_tangent_is_that_of_the_vectors(a, along, across, size, seed):
    frame = np.linalg.qr(np.random.default_rng(seed).standard_normal((4, 2)))[0].T
    w, b = along * frame[0] + across * frame[1] + a**2 / 2 * size * frame[0], size * frame[0]
    angle = np.arccos(w @ b / np.linalg.norm(w) / size)
    assert np.tan(angle) == pytest.approx(alignment_tangent(a, along, across, size), rel=1e-6)
    assert alignment_tangent(a, along, across, size) < alignment_tangent(a / 2, along, across, size)


@given(seed=SEEDS)
def test_the_cosine_is_that_of_the_matrices(seed):
    rng = np.random.default_rng(seed)
    a, h = rng.uniform(0.1, 2, (2, 4))
    U, R = (np.linalg.qr(rng.standard_normal((6, 4)))[0] for _ in range(2))
    B, W2 = (R * np.sqrt(h)) @ U.T, (U * np.sqrt(h) * a**2 / 2) @ R.T
    cosine = (W2 * B.T).sum() / np.linalg.norm(W2) / np.linalg.norm(B)
    assert aligned_cosine(a, h) == pytest.approx(cosine)
    assert aligned_cosine(3 * a, 2 * h) == pytest.approx(cosine)
    assert aligned_cosine(a, np.ones(4)) ** 2 == pytest.approx(participation_ratio(a) / 4)
    assert aligned_cosine(np.ones(4), np.full(4, 0.3)) == pytest.approx(1)


@pytest.mark.parametrize(("a", "h"), [([0.0, 0.0], [1.0, 1.0]), ([1.0, 0.0], [0.0, 1.0]), ([1.0, 1.0], [-1.0, 3.0])])
def test_no_angle_without_a_seen_mode(a, h):
    with pytest.raises(ValueError, match="some mode that the feedback sees has moved"):
        aligned_cosine(a, h)
