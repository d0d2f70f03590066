"""Observables against brute force."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa import observe
from linfa.dynamics import State, start
from linfa.rules import named


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((25, 4)) + 0.3, rng.standard_normal((25, 3))


def test_loss_is_the_mean_over_samples():
    x, y = data()
    network = linfa.Network.small((4, 5, 3), 0.8, seed=1)
    W1, W2 = network.weights
    by_hand = np.mean([0.5 * np.sum((W2 @ W1 @ a - b) ** 2) for a, b in zip(x, y, strict=True)])
    state = State(network.weights)
    assert observe.loss(linfa.bp(), state, linfa.Task.from_data(x, y)) == pytest.approx(by_hand, rel=1e-10)


def test_mode_strengths_on_a_diagonal():
    task = linfa.Task.teacher(np.diag([3.0, 2.0]))
    state = State((np.diag([0.5, 0.25]),))
    np.testing.assert_allclose(observe.mode_strengths(linfa.bp(), state, task), [0.5, 0.25])


@pytest.mark.parametrize(
    ("rule", "between"),
    [
        (linfa.bp(), lambda W, B: (W[1].T, W[1])),
        (linfa.fa(), lambda W, B: (B[0][0], W[1])),
        (linfa.dfa(), lambda W, B: (B[0][0], W[2] @ W[1])),
        (linfa.ldfa(2), lambda W, B: (B[0][0] @ B[0][1], W[1])),
        (linfa.sign_symmetry("frSF"), lambda W, B: (B[0][0] * np.sign(W[1].T), W[1])),
    ],
)
def test_feedback_is_compared_with_what_it_stands_for(rule, between):
    state = start(rule, linfa.Network.small((4, 5, 6, 3), 0.8, seed=1), 0)
    B, W = between(state.weights, state.feedback)
    cosines = observe.feedback_alignment(rule, state, None)
    assert cosines.shape == (2,)
    by_hand = sum(a * b for a, b in zip(B.ravel(), W.T.ravel(), strict=True))
    assert cosines[0] == pytest.approx(by_hand / np.sqrt((B**2).sum() * (W**2).sum()), rel=1e-12)


def test_singular_values_descend():
    state = State((np.diag([1.0, 3.0]), np.array([[2.0, 0.0]])))
    np.testing.assert_allclose(observe.singular_values(linfa.bp(), State((state.weights[0],)), None), [3, 1])
    np.testing.assert_allclose(observe.singular_values(linfa.bp(), state, None), [2])


@pytest.mark.parametrize("name", [n for n in named() if n != "brSF"])
def test_update_alignment(name):
    rule = named()[name]
    task = linfa.Task.from_data(*data())
    state = start(rule, linfa.Network.small((4, 5, 6, 3), 0.8, seed=1), 0)
    cosines = observe.update_alignment(rule, state, task)
    assert cosines.shape == (3,)
    assert (cosines[-1] == pytest.approx(1)) == (not rule.route.lam)  # which also moves the last layer
    if name.startswith("bp"):  # with its own derivative through a normalisation
        np.testing.assert_allclose(cosines, 1)
    else:
        assert abs(cosines[0]) < 0.999


def test_kolen_pollack_aligns():
    task = linfa.Task.from_spectrum([2.0, 1.0], n_in=3, seed=1)
    run = linfa.simulate(linfa.kolen_pollack(0.3), task, linfa.Network.small((3, 5, 2), 0.5, 1), 40.0, seed=4)
    assert abs(run.feedback_alignment[0, 0]) < 0.9
    assert run.feedback_alignment[-1, 0] > 0.9999


def test_cosine_of_nothing_is_zero():
    assert observe.cosine(np.zeros((2, 2)), np.eye(2)) == 0


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6))
def test_ranks_are_ordered(values):
    s = np.sort(np.array(values))[::-1]
    linear = s.sum() ** 2 / (s**2).sum()
    chain = [
        len(s), observe.effective_rank(s), linear, observe.participation_ratio(s), observe.stable_rank(s), 1.0,
    ]  # fmt: skip
    assert all(a >= b - 1e-9 for a, b in pairwise(chain)), chain


def test_known_ranks():
    for kind in (observe.effective_rank, observe.participation_ratio, observe.stable_rank):
        assert kind(np.array([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
        assert kind(np.zeros(3)) == 0
        np.testing.assert_allclose(kind(np.array([[1.0, 0.0], [1.0, 1.0]])), [1, 2])
    assert observe.stable_rank(np.array([2.0, 1.0])) == pytest.approx(1.25)


def test_trajectory_to_arrays(tmp_path):
    task = linfa.Task.from_spectrum([2.0, 1.0])
    run = linfa.simulate(linfa.ldfa(2), task, linfa.Network.small((2, 4, 2), 0.5), 2.0)
    np.savez(tmp_path / "run.npz", **run.to_arrays())
    with np.load(tmp_path / "run.npz") as saved:
        np.testing.assert_array_equal(saved["W2"], run.weights[1])
        np.testing.assert_array_equal(saved["P1"], run.feedback[0][1])
        np.testing.assert_array_equal(saved["loss"], run.loss)


def test_observables_of_an_ensemble_are_those_of_its_members():
    rule, task = linfa.fa(), linfa.Task.from_spectrum([2.0, 1.0], n_in=3, noise=0.1)
    run = linfa.simulate(rule, task, linfa.Network.small((3, 4, 2), 0.5, batch=(2,)), [0.0, 1.0], seed=1)
    for k in range(2):
        state = State(tuple(w[-1, k] for w in run.weights), tuple((m[-1, k],) for (m,) in run.feedback))
        for name in ("loss", "mode_strengths", "singular_values", "feedback_alignment", "update_alignment"):
            alone = getattr(observe, name)(rule, state, task)
            np.testing.assert_allclose(getattr(run, name)[-1, k], alone, atol=1e-12)
    assert run.error_rank().shape == (2, 2, 2)
    assert run.update_rank(observe.stable_rank).shape == (2, 2, 2)


def test_a_fixed_point_has_no_speed():
    task = linfa.Task.from_spectrum([2.0, 1.0])
    run = linfa.simulate(linfa.fa(), task, linfa.Network.small((2, 4, 2), 0.5), 60.0)
    speeds = observe.speed(linfa.fa(), run.states, task)
    assert speeds[-1] < 1e-9 < 0.1 < speeds[0]


def test_conserved_quantities_by_name():
    task = linfa.Task.from_spectrum([2.0, 1.0])
    run = linfa.simulate(linfa.ldfa(2, "hebb"), task, linfa.Network.small((2, 4, 2), 0.5), 2.0)
    assert set(run.conserved) == {"activity_balance", "factor_balance"}
    for values in run.conserved.values():
        for value in values:
            np.testing.assert_allclose(value, np.broadcast_to(value[0], value.shape), atol=1e-7)
