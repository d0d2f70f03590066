"""Wide networks with low-rank feedback and their narrow equivalents, for drawn shapes, depths and starts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State
from linfa.rules import Dense, Direct, RandomFactors, Rule
from linfa.theory import AssumptionError, examples
from linfa.theory.base import relative_error
from linfa.theory.dimension.bottleneck import bottleneck

SEEDS = st.integers(0, 10**6)


@given(
    hidden=st.lists(st.integers(2, 7), min_size=1, max_size=3),
    rank=st.integers(1, 2),
    direct=st.booleans(),
    decay=st.sampled_from([0.0, 0.2]),
    seed=SEEDS,
)
def test_flow_from_a_start_inside_the_frames(hidden, rank, direct, decay, seed):
    rule = Rule(Direct() if direct else linfa.rules.Layerwise(), RandomFactors(rank), decay=decay)
    rng, widths = np.random.default_rng(seed), (3, *hidden, 4)
    feedback = examples.feedback(rule, rng, widths)
    zero = bottleneck(rule, State(linfa.Network.zero(widths).weights, feedback))
    inner = tuple(0.3 * rng.standard_normal(V.shape) for V in zero.network.weights)
    start = State(zero.widen(inner), feedback)
    narrow = bottleneck(rule, start)
    assert narrow.network.widths == (3, *(rank for _ in hidden), 4)
    assert relative_error(narrow.network.weights, inner) <= 1e-12
    task = linfa.Task.teacher(0.5 * rng.standard_normal((4, 3)), examples.moment(rng, 3, 0.4, 1.2))
    wide = linfa.simulate(rule, task, linfa.Network(start.weights), [0.0, 1.0, 2.0], feedback=feedback, rtol=1e-11)
    small = linfa.simulate(narrow.rule, task, narrow.network, [0.0, 1.0, 2.0], feedback=narrow.feedback, rtol=1e-11)
    assert relative_error(narrow.widen(small.weights), wide.weights) <= 1e-8


@given(seed=SEEDS, k=st.integers(2, 9))
def test_two_layers_in_the_symmetric_frame(seed, k):
    """The feedback K^(1/2) P with K = Q^T Q makes the same map."""
    rng = np.random.default_rng(seed)
    Q, P = rng.standard_normal((k, 2)), rng.standard_normal((2, 3))
    rule = linfa.ldfa(2, "fixed")
    (B,) = bottleneck(rule, State(linfa.Network.zero((3, k, 3)).weights, ((Q, P),))).feedback[0]
    values, basis = np.linalg.eigh(Q.T @ Q)
    symmetric = (basis * np.sqrt(values)) @ basis.T @ P
    assert np.allclose(B.T @ B, symmetric.T @ symmetric)


@given(seed=SEEDS)
def test_the_width_of_the_wide_network_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    task = linfa.Task.from_spectrum([1.5, 1.0, 0.5], seed=seed)
    B = rng.standard_normal((2, 3))
    maps = []
    for k in (2, 5, 40):
        turned = examples.frame(rng, k, 2) @ B
        maps.append(linfa.descend(linfa.fa(), task, linfa.Network.zero((3, k, 3)), 0.02, 50, feedback=((turned,),)).map)
    assert relative_error(maps[0], maps[1]) <= 1e-11
    assert relative_error(maps[0], maps[2]) <= 1e-11


def test_feedback_of_less_rank_than_its_factors():
    state = State(linfa.Network.zero((3, 5, 4)).weights, ((np.ones((5, 2)), np.ones((2, 4))),))
    assert bottleneck(linfa.ldfa(2, "fixed"), state).network.widths == (3, 1, 4)
    state = State(linfa.Network.zero((3, 5, 4)).weights, ((np.zeros((5, 4)),),))
    narrow = bottleneck(linfa.fa(), state)
    assert narrow.network.widths == (3, 1, 4)
    assert not narrow.feedback[0][0].any()


def test_a_layer_that_is_taught_exactly_keeps_its_width():
    rule = linfa.ldfa(1, "fixed", direct=True)
    network = linfa.Network.zero((3, 5, 6, 2))
    narrow = bottleneck(rule, linfa.dynamics.start(rule, network))
    assert narrow.network.widths == (3, 1, 6, 2)
    assert narrow.rule.feedback == Dense()


@pytest.mark.parametrize(
    ("rule", "scale", "text"),
    [
        (linfa.fa(), 1.0, r"W_1\(0\) leaves the columns of the feedback by \d"),
        (linfa.bp(), 0.0, "feedback follows the weights"),
        (linfa.ldfa(1, "oja"), 0.0, "feedback learns"),
        (linfa.ldfa(1, "fixed", clamp=1.0), 0.0, "clamped at 1.0"),
        (linfa.rules.pepita(), 0.0, "not errors carried down"),
    ],
)
def test_violated_assumptions_are_named(rule, scale, text):
    network = linfa.Network.small((3, 4, 2), scale=scale, seed=0)
    with pytest.raises(AssumptionError, match=text):
        bottleneck(rule, linfa.dynamics.start(rule, network))
