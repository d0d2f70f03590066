"""Fast directional feedback: product rule, slow manifold, backprop, and backprop on fewer targets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State, velocity
from linfa.theory import (
    CompressedBackprop,
    compressed_feedback,
    compressed_task,
    following_feedback,
    forward_maps,
    map_velocities,
)
from linfa.theory.base import relative_error
from linfa.theory.directional.convergence import from_the_map, realisable
from linfa.theory.directional.problem import draw

SEEDS = st.integers(0, 10**6)


@given(seed=SEEDS, depth=st.integers(2, 5))
def test_map_velocities_are_a_derivative(seed, depth):
    rng = np.random.default_rng(seed)
    weights = draw(seed, depth)[1].weights
    moves = tuple(rng.standard_normal(W.shape) for W in weights)
    h = 1e-5
    there, back = (tuple(W + sign * h * V for W, V in zip(weights, moves, strict=True)) for sign in (1, -1))
    for rule in (linfa.dfa(), linfa.fa(), linfa.ldfa(1, direct=True)):
        slopes = zip(forward_maps(rule, there), forward_maps(rule, back), strict=True)
        for dJ, (a, b) in zip(map_velocities(rule, weights, moves), slopes, strict=True):
            assert dJ == pytest.approx((a - b) / (2 * h), abs=1e-7)


@given(seed=SEEDS)
def test_following_feedback_is_the_map_without_delay(seed):
    weights = draw(seed, 3)[1].weights
    for closed in (following_feedback(linfa.dfa(), weights, weights, 0.0),
                   following_feedback(linfa.dfa(), weights, tuple(0 * W for W in weights), 3.0)):  # fmt: skip
        for B, J in zip(closed, forward_maps(linfa.dfa(), weights), strict=True):
            assert pytest.approx(J.T) == B
    grown = following_feedback(linfa.dfa(), weights, weights, 1.0)  # J of cut 2 grows at rate 1, of cut 1 at rate 2
    assert grown[0] == pytest.approx(-forward_maps(linfa.dfa(), weights)[0].T)
    assert grown[1] == pytest.approx(0 * grown[1])


def test_without_delay_directional_dfa_is_backprop():
    task, network = realisable(1, 3)
    state = State(network.weights, tuple((J.T,) for J in forward_maps(linfa.dfa(), network.weights)))
    mine = velocity(linfa.directional_dfa(), state, task.batch)
    exact = velocity(linfa.bp(), State(network.weights, ((), ())), task.batch)
    for a, b in zip(mine.weights, exact.weights, strict=True):
        assert a == pytest.approx(b, abs=1e-12)
    assert not any(moves[0].any() for moves in mine.feedback)


def test_faster_feedback_is_nearer_to_backprop():
    task, network = realisable(2, 3)
    times = [0.0, 0.7, 1.5]
    exact = linfa.simulate(linfa.bp(), task, network, times)
    errors = [relative_error(exact.weights, from_the_map(linfa.directional_dfa(rate), task, network, times).weights)
              for rate in (5.0, 20.0, 80.0)]  # fmt: skip
    assert errors[0] > 3 * errors[1] > 9 * errors[2] > 0


def test_alignment_follows_from_zero():
    task, network = realisable(4, 3)
    run = linfa.simulate(linfa.directional_dfa(20.0), task, network, [0.0, 0.05, 0.2, 1.0])
    hidden = run.update_alignment[:, :-1]
    assert (hidden[0] == 0).all()
    assert (hidden[1:] > 0.9).all()
    assert (hidden[-1] > hidden[1]).all()


@given(seed=SEEDS)
def test_compressed_feedback(seed):
    rng = np.random.default_rng(seed)
    m, k, r = (int(i) for i in rng.integers(1, 5, 3))
    J, P, turn = rng.standard_normal((m, k)), rng.standard_normal((r, m)), np.linalg.qr(rng.standard_normal((r, r)))[0]
    B = compressed_feedback(J, P)
    assert np.linalg.matrix_rank(B, tol=1e-9) <= r
    assert compressed_feedback(J, turn @ P) == pytest.approx(B)
    assert compressed_feedback(2 * J, 3 * P) == pytest.approx(18 * B)
    assert compressed_feedback(J, np.linalg.qr(rng.standard_normal((m, m)))[0]) == pytest.approx(J.T)
    error = rng.standard_normal((m, 1))
    step = 1e-6
    loss = [0.5 * ((P @ (error + h * (J @ np.eye(k)[:, :1]))) ** 2).sum() for h in (step, -step)]
    assert (B @ error)[0, 0] == pytest.approx((loss[0] - loss[1]) / (2 * step), abs=1e-6 * (1 + abs(B).max()))


def test_compressed_feedback_checks_shapes():
    with pytest.raises(ValueError, match="P takes 3 errors where the map of the edge gives 2"):
        compressed_feedback(np.ones((2, 4)), np.ones((1, 3)))


@given(seed=SEEDS, depth=st.integers(2, 4))
def test_on_the_manifold_the_field_is_backprop_on_fewer_targets(seed, depth):
    task, network = realisable(seed, depth, outputs=3)
    P = np.random.default_rng(seed).standard_normal((2, 3))
    *below, above = network.weights
    maps = forward_maps(linfa.dfa(), network.weights)
    state = State(network.weights, tuple(((P @ J).T, P) for J in maps))
    mine = velocity(linfa.directional_dfa(rank=2), state, task.batch)
    small = State((*below, P @ above), ((),) * (depth - 1))
    exact = velocity(linfa.bp(), small, compressed_task(task, P).batch).weights
    for a, b in zip((*mine.weights[:-1], P @ mine.weights[-1]), exact, strict=True):
        assert a == pytest.approx(b, abs=1e-11)
    assert not any(abs(moves[0]).max() > 1e-12 for moves in mine.feedback)
    for (Q, own), J in zip(state.feedback, maps, strict=True):
        assert Q @ own == pytest.approx(compressed_feedback(J, P))


@settings(max_examples=5)
@given(seed=st.integers(0, 10**4))
def test_two_layers_come_to_the_closed_form_of_compressed_backprop(seed):
    kept = linfa.ldfa(2, "kolen-pollack")
    setup = CompressedBackprop.example(kept, seed)
    closed = CompressedBackprop(kept, setup.task, State(setup.network.weights, setup.feedback))
    errors = []
    for rate in (100.0, 200.0):
        rule, times = linfa.directional_dfa(rate, rank=2), [0.0, 0.5, 1.0]
        run = linfa.simulate(rule, setup.task, setup.network, times, feedback=setup.feedback, rtol=1e-10)
        errors.append(relative_error(closed.predict(times), closed.observed(run)))
    assert errors[0] < 0.1
    assert 1.8 < errors[0] / errors[1] < 2.2


def test_one_p_for_all_edges_matters():
    """With factors of their own the edges do not add up to backprop on any targets P y of theirs."""
    task, network = realisable(0, 3, outputs=3)
    rng = np.random.default_rng(0)
    maps, own = forward_maps(linfa.dfa(), network.weights), rng.standard_normal((2, 2, 3))
    state = State(network.weights, tuple(((P @ J).T, P) for J, P in zip(maps, own, strict=True)))
    mine = velocity(linfa.directional_dfa(rank=2), state, task.batch).weights
    *below, above = network.weights
    exact = velocity(linfa.bp(), State((*below, own[0] @ above), ((), ())), compressed_task(task, own[0]).batch).weights
    assert mine[0] == pytest.approx(exact[0])
    assert mine[1] != pytest.approx(exact[1], abs=1e-3)
