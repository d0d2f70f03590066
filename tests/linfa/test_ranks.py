"""Falling ranks: which components stay, how many, and descent in stages."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State, start
from linfa.ranks import RankSchedule, descend_in_stages, energy_rank, truncate
from linfa.rules import SVD
from linfa.tree import leaves

RULE = linfa.svd_local(4)
NET = linfa.Network.small((5, 6, 4), 0.8, seed=1)
TASK = linfa.Task.from_spectrum([2.0, 1.0], n_in=5, n_out=4, seed=0)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6), st.floats(0.05, 1.0))
def test_the_energy_rule_is_the_smallest_rank_that_does(values, tau):
    s = np.array(values)
    r = int(energy_rank(s, tau))
    sums = np.cumsum(np.sort(s**2)[::-1])
    assert sums[r - 1] >= tau * sums[-1] * (1 - 1e-12)
    assert r == 1 or sums[r - 2] < tau * sums[-1]
    assert energy_rank(-s[::-1], tau) == r


@pytest.mark.parametrize("tau", [0.0, 1.1, float("nan")])
def test_shares_outside_one(tau):
    with pytest.raises(ValueError, match="share of the energy"):
        energy_rank([1.0], tau)


def test_the_largest_components_stay_in_their_order():
    W = SVD(np.eye(4)[:, :3], np.array([[1.0], [-3.0], [2.0]]), np.eye(5)[:, :3])
    rule = linfa.factored(linfa.bp(), 3)
    (kept,) = truncate(rule, State((W,)), 2).weights
    np.testing.assert_array_equal(kept.s, [[-3.0], [2.0]])
    np.testing.assert_array_equal(kept.U, W.U[:, 1:])
    np.testing.assert_array_equal(kept.V, W.V[:, 1:])
    assert truncate(rule, State((W,)), 9).weights[0].rank == 3


def test_what_counts_is_the_norm_of_a_component():
    W = SVD(np.eye(3)[:, :2] * [1.0, 5.0], np.array([[2.0], [1.0]]), np.eye(3)[:, :2])
    (kept,) = truncate(linfa.factored(linfa.bp(), 2), State((W,)), 1).weights
    assert kept.s.tolist() == [[1.0]]


def test_feedback_keeps_the_same_components():
    state = start(RULE, NET, 0)
    order = State((state.weights[0]._replace(s=state.weights[0].s[::-1]), state.weights[1]), state.feedback)
    less = truncate(RULE, order, (2, 3))
    (Q, P), (R, S) = state.feedback[0], less.feedback[0]
    np.testing.assert_array_equal(R, Q[:, 2:])
    np.testing.assert_array_equal(S, P[2:])
    assert [W.rank for W in less.weights] == [2, 3]
    ldfa = linfa.factored(linfa.ldfa(4, "fixed"), 4)
    stays = truncate(ldfa, start(ldfa, NET, 0), 2)
    assert stays.feedback[0][0].shape == (6, 4)


def test_columns_of_the_frame_beyond_a_narrow_layer_stay_behind_it():
    net = linfa.Network.small((2, 6, 4), 0.8, seed=1)
    state = start(RULE, net, 0)
    assert (state.weights[0].rank, state.feedback[0][0].shape) == (2, (6, 4))
    less = truncate(RULE, state, 1)
    np.testing.assert_array_equal(less.feedback[0][0], state.feedback[0][0][:, [0, 2, 3]])


def test_every_member_of_an_ensemble_keeps_its_own():
    ensemble = linfa.Network.small((5, 6, 4), 0.8, seed=1, batch=(3,))
    state = start(RULE, ensemble, 0)
    shuffled = state.weights[0]._replace(s=np.random.default_rng(0).permuted(state.weights[0].s, axis=1))
    state = State((shuffled, state.weights[1]), state.feedback)
    less = truncate(RULE, state, 2)
    for k in range(3):
        one = State(
            tuple(SVD(*(part[k] for part in W)) for W in state.weights),
            tuple(tuple(part[k] for part in stored) for stored in state.feedback),
        )
        for a, b in zip(leaves(truncate(RULE, one, 2)), leaves(less), strict=True):
            np.testing.assert_array_equal(a, b[k])


def test_ranks_that_do_not_fit():
    state = start(RULE, NET, 0)
    with pytest.raises(ValueError, match="one for each of 2 layers"):
        truncate(RULE, state, (1, 2, 3))
    with pytest.raises(ValueError, match="at least 1"):
        truncate(RULE, state, 0)
    with pytest.raises(TypeError, match="only factored weights"):
        truncate(linfa.bp(), start(linfa.bp(), NET, 0), 2)


def test_schedules():
    state = start(RULE, NET, 0)
    assert RankSchedule(4, 1, 4, smallest=2).ranks(3, state) == (2, 2)
    assert RankSchedule(4, 1, 4, tau=1.0).ranks(3, state) == (4, 4)
    assert RankSchedule(4, 1, 4, tau=1e-6).ranks(1, state) == (3, 3)
    assert [RankSchedule(5, 2, 3).linear(stage) for stage in range(3)] == [5, 4, 2]
    for make, text in (
        (lambda: RankSchedule(2, 3, 2), "ranks fall"),
        (lambda: RankSchedule(3, 0, 2), "ranks fall"),
        (lambda: RankSchedule(3, 2, 1), "at least 2 stages"),
        (lambda: RankSchedule(3, 2, 2, smallest=0), "smallest rank"),
        (lambda: RankSchedule(3, 2, 2, tau=0.0), "share of the energy"),
    ):
        with pytest.raises(ValueError, match=text):
            make()


def test_stages_go_on_where_the_last_one_ended():
    schedule = RankSchedule(4, 2, 3)
    runs = descend_in_stages(RULE, TASK, NET, 0.01, 100, schedule, record=10)
    assert [[W.rank for W in run.weights] for run in runs] == [[4, 4], [3, 3], [2, 2]]
    for before, after in itertools.pairwise(runs):
        for a, b in zip(leaves(truncate(RULE, before.at(-1), after.weights[0].rank)), leaves(after.at(0)), strict=True):
            np.testing.assert_array_equal(a, b)
    assert runs[-1].loss[-1] < runs[0].loss[0]
    one = linfa.descend(RULE, TASK, NET, 0.01, 100, record=10)
    np.testing.assert_array_equal(one.loss, runs[0].loss)
