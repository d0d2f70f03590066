"""The mirror: what its sampled directions see, which edges share them, and how descent averages them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.algebra import T, product
from linfa.dynamics import State, start, velocity
from linfa.rules import CompositionError, Dense, Direct, Layerwise, Mirror, Modulated, RandomFactors, Rule, Target

WIDTHS = (2, 3, 4, 2, 3, 2)
ROUTES = (Direct(), Direct(exact_top=1), Layerwise())


def problem(depth, feedback=Dense(), route=Direct(), mirror=Mirror(1.0, 0.0, 1), members=None):  # noqa: B008
    """A rule that forgets nothing, so that its velocity is the sample itself, with a state and a task."""
    widths = WIDTHS[: depth + 1]
    network = linfa.Network.small(widths, scale=1.0, seed=depth)
    if members:
        network = linfa.Network(tuple(np.broadcast_to(W, (members, *W.shape)) for W in network.weights))
    rule = Rule(route, feedback, mirror)
    return rule, start(rule, network, seed=3), linfa.Task.from_spectrum([1.0], widths[0], widths[-1])


def maps(rule, state):
    edges = rule.route.edges(len(state.weights))
    return [product(tuple(reversed(state.weights[edge.activity : edge.source]))) for edge in edges]


def samples(rule, state, task, seed=0):
    return [moves[0] for moves in velocity(rule, state, task.batch, np.random.default_rng(seed)).feedback]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("depth", [3, 4, 5])
def test_samples_are_unbiased_at_every_depth(route, depth):
    rule, state, task = problem(depth, route=route, members=20000)
    for seen, J in zip(samples(rule, state, task, seed=depth), maps(rule, state), strict=True):
        error = (seen - T(J)).mean(0) / (seen.std(0) / 20000**0.5)
        assert np.abs(error).max() < 4.5


@pytest.mark.parametrize("route", ROUTES)
def test_more_directions_less_noise(route):
    spread = []
    for directions in (1, 16):
        rule, state, task = problem(4, route=route, mirror=Mirror(1.0, 0.0, directions), members=4000)
        spread.append([seen.var(0).mean() for seen in samples(rule, state, task)])
    for one, many in zip(*spread, strict=True):
        assert one / many == pytest.approx(16, rel=0.15)


def test_edges_into_one_cut_hear_each_other():
    """On a broadcast the noise of every edge is in the estimates of the others; layerwise edges have their own pass."""
    for route, shared in ((Direct(), True), (Direct(exact_top=1), True), (Layerwise(), False)):
        rule, state, task = problem(4, route=route)
        quiet = State((*state.weights[:1], 0 * state.weights[1], *state.weights[2:]), state.feedback)
        before, after = samples(rule, state, task), samples(rule, quiet, task)
        # Without W_2 nothing comes from cut 1, whose map it is part of: the others lose its noise, or nothing.
        assert np.abs(after[0]).max() > 0 if shared else not after[0].any()
        for a, b in zip(before[1:], after[1:], strict=True):
            assert bool(np.abs(a - b).max() > 1e-3) is shared


def test_a_single_edge_sees_only_itself():
    for route in (Direct(), Layerwise()):
        rule, state, task = problem(2, route=route, mirror=Mirror(1.0, 0.0, 3))
        v = np.random.default_rng(0).standard_normal((WIDTHS[1], 3))
        assert samples(rule, state, task)[0] == pytest.approx((state.weights[1] @ v @ v.T / 3).T)


@given(gain=st.floats(0, 3), leak=st.floats(0, 3), seed=st.integers(0, 99))
def test_velocity_is_gain_times_sample_minus_leak(gain, leak, seed):
    for route in ROUTES:
        rule, state, task = problem(4, route=route)
        mine = samples(Rule(route, Dense(), Mirror(gain, leak, 1)), state, task, seed)
        for v, seen, (B,) in zip(mine, samples(rule, state, task, seed), state.feedback, strict=True):
            assert v == pytest.approx(gain * seen - leak * B, abs=1e-12)


@given(seed=st.integers(0, 99))
def test_without_a_generator_the_expectation_is_taken(seed):
    for mirror in (Mirror(1.0, 0.0, 2), Mirror(1.0, 0.0)):
        rule, state, task = problem(4, mirror=mirror)
        rng = None if mirror.directions else np.random.default_rng(seed)
        for moves, J in zip(velocity(rule, state, task.batch, rng).feedback, maps(rule, state), strict=True):
            assert moves[0] == pytest.approx(J.T)


def test_seeds_reproduce():
    task, network = linfa.Task.from_spectrum([1.0, 0.5]), linfa.Network.small((2, 4, 3, 2), scale=0.5)
    rule = linfa.directional_dfa(directions=2)
    one, same, other = (linfa.descend(rule, task, network, 0.1, 20, seed=seed) for seed in (7, 7, 8))
    for a, b, c in zip(one.feedback, same.feedback, other.feedback, strict=True):
        assert (a[0] == b[0]).all()
        assert np.abs(a[0] - c[0]).max() > 1e-3
    flow = linfa.simulate(rule, task, network, 2.0)
    assert (flow.loss == linfa.simulate(linfa.directional_dfa(), task, network, 2.0).loss).all()


def test_mini_batches_and_directions_are_streams_of_their_own():
    """The samples of the data do not change with the number of directions, nor do the directions with the batch."""
    task, network = linfa.Task.from_spectrum([1.0, 0.5]), linfa.Network.small((2, 4, 2), scale=0.5)
    runs = [linfa.descend(linfa.directional_dfa(directions=N), task, network, 0.1, 1, batch_size=4) for N in (1, 5)]
    assert (runs[0].weights[1] == runs[1].weights[1]).all()  # the output layer's error is exact
    runs = [linfa.descend(linfa.directional_dfa(directions=3), task, network, 0.1, 1, batch_size=n) for n in (None, 4)]
    assert (runs[0].feedback[0][0] == runs[1].feedback[0][0]).all()


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("rank", [None, 2])
def test_momentum_form(route, rank):
    """B <- (1 - a) B + a M^T with a = lr * rate and the samples M of the maps before each step, weights learning."""
    feedback = Dense(0.0) if rank is None else RandomFactors(rank)
    rule, lr, seed = Rule(route, feedback, Mirror(4.0, 4.0, 3)), 0.05, 5
    task, network = linfa.Task.from_spectrum([0.5, 0.4]), linfa.Network.small((2, 4, 3, 2), scale=0.8)
    run = linfa.descend(rule, task, network, lr, 15, seed=seed)
    rng = np.random.default_rng((seed, 3))
    sampler = Rule(route, feedback, Mirror(1.0, 0.0, 3))
    stored = [matrices[0] for matrices in run.at(0).feedback]
    for step in range(15):
        seen = velocity(sampler, run.at(step), task.batch, rng).feedback
        stored = [0.8 * B + 0.2 * M[0] for B, M in zip(stored, seen, strict=True)]
        for B, matrices in zip(stored, run.at(step + 1).feedback, strict=True):
            assert matrices[0] == pytest.approx(B, abs=1e-12)


@pytest.mark.parametrize("route", ROUTES)
def test_rank_composes(route):
    """Q takes in P times the sample that full feedback would take in, and P stays."""
    rule, state, task = problem(4, route=route)
    low, _, _ = problem(4, RandomFactors(2), route, Mirror(1.0, 0.5, 1))
    factored = start(low, linfa.Network(state.weights), seed=1)
    moves = velocity(low, factored, task.batch, np.random.default_rng(0)).feedback
    for (dQ, dP), (Q, P), seen in zip(moves, factored.feedback, samples(rule, state, task), strict=True):
        assert dQ == pytest.approx(seen @ P.T - 0.5 * Q)
        assert not dP.any()
        assert np.linalg.matrix_rank(Q @ P) <= 2


def test_named_rules():
    assert linfa.directional_dfa(2.0, 5) == Rule(Direct(), Dense(0.0), Mirror(2.0, 2.0, 5))
    assert linfa.directional_dfa(rank=3) == Rule(Direct(), RandomFactors(3), Mirror(1.0, 1.0))
    assert linfa.directional_dfa(rank=3).name == "directional-dfa(3)"
    assert linfa.weight_mirror(0.2, 4) == Rule(Layerwise(), Dense(), Mirror(1.0, 0.2, 4))
    state = start(linfa.directional_dfa(), linfa.Network.small((2, 3, 2)))
    assert not state.feedback[0][0].any()
    assert Mirror().learns(1) == (True,)
    assert Mirror().learns(2) == (True, False)


@pytest.mark.parametrize("rates", [(-1.0, 1.0), (1.0, -0.1), (float("nan"), 1.0)])
def test_negative_rates_are_refused(rates):
    with pytest.raises(ValueError, match="gain and leak are rates, at least 0; got"):
        Mirror(*rates)


@pytest.mark.parametrize("directions", [0, -3])
@pytest.mark.parametrize("make", [Mirror, linfa.directional_dfa, linfa.weight_mirror])
def test_directions_are_at_least_one(make, directions):
    with pytest.raises(ValueError, match=f"number of samples, at least 1, or None; got {directions}"):
        make(directions=directions)


def test_negative_rates_of_named_rules():
    for make in (lambda: linfa.directional_dfa(rate=-1.0), lambda: linfa.weight_mirror(leak=-1.0)):
        with pytest.raises(ValueError, match="gain and leak are rates"):
            make()


def test_parts_that_do_not_fit():
    for route in (Target(), Modulated()):
        with pytest.raises(CompositionError, match="ends of nothing"):
            Rule(route, Dense(), Mirror())
    with pytest.raises(CompositionError, match="has 0 that may move"):
        Rule(Layerwise(), linfa.rules.Transpose(), Mirror())
