"""Normative factors that learn a weight which stands still."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State
from linfa.rules import Hebb, LayerRates, Layerwise, Normative, RandomFactors, Rule, SVDFactors
from linfa.theory import AssumptionError, examples
from linfa.theory.dimension.eckart_young import best_feedback
from linfa.theory.dimension.normative_factors import NormativeFactors

FROZEN = LayerRates((0.0, 0.0))
RULE = Rule(Layerwise(), RandomFactors(2), Normative(), geometry=FROZEN)


@given(seed=st.integers(0, 10**6))
def test_group_law_and_rotations(seed):
    setup = NormativeFactors.example(RULE, seed)
    (W1, W2), ((Q, P),), task = setup.network.weights, setup.feedback, setup.task
    theory = NormativeFactors(RULE, task, State((W1, W2), ((Q, P),)))
    half = linfa.simulate(RULE, task, setup.network, [0.0, 1.5], feedback=setup.feedback, rtol=1e-11, atol=1e-13)
    late = NormativeFactors(RULE, task, half.at(-1))
    for early, closed in zip(late.predict([1.0]), theory.predict([2.5]), strict=True):
        assert np.allclose(early, closed, atol=1e-8)
    rng = np.random.default_rng(seed)
    U, V, R = (examples.frame(rng, size, size) for size in (*Q.shape, P.shape[1]))
    start = State((U @ W1, R @ W2 @ U.T), ((U @ Q @ V, V.T @ P @ R.T),))
    turned = NormativeFactors(RULE, task.teacher(R @ task.Syx), start).predict([1.0])[1]
    assert np.allclose(turned, U @ theory.predict([1.0])[1] @ R.T, atol=1e-10)


def test_the_end_is_the_best_feedback_of_the_modes_that_are_held():
    W2, P = np.diag([3.0, 2.0, 1.0]), 0.1 * np.eye(2, 3)
    theory = NormativeFactors(RULE, linfa.Task.from_spectrum([1.0] * 3), State((np.eye(3), W2), ((P.T, P),)))
    end = theory.predict([40.0])[1][0]
    assert np.allclose(end, best_feedback(W2, 2))
    assert abs(end[2, 2]) < 1e-12


def test_the_truncated_decomposition_is_at_rest():
    rule = Rule(Layerwise(), SVDFactors(2), Normative(), geometry=FROZEN)
    run = linfa.simulate(rule, linfa.Task.from_spectrum([1.0] * 3), linfa.Network.small((3, 4, 3), 1.0), [0.0, 5.0])
    theory = NormativeFactors(rule, run.task, run.at(0))
    assert theory.error(run) <= 1e-8
    for before, after in zip(theory.predict([0.0]), theory.predict([5.0]), strict=True):
        assert np.allclose(before, after)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.ldfa(2, "normative"), "exactly W_1, W_2 should be frozen: Euclidean"),
        (Rule(Layerwise(), RandomFactors(2), Normative(), geometry=LayerRates((1.0, 1.0))), "exactly W_2 should be"),
        (Rule(Layerwise(), RandomFactors(2), Hebb(), geometry=FROZEN), "by the normative plasticity: Hebb"),
        (Rule(Layerwise(), RandomFactors(2), Normative(), 0.1, geometry=FROZEN), "weights decay at rate 0.1"),
        (Rule(Layerwise(), RandomFactors(2, 1.0), Normative(), geometry=FROZEN), "clamped"),
    ],
)
def test_rules_outside_the_assumptions(rule, text):
    with pytest.raises(AssumptionError, match=text):
        NormativeFactors.example(rule)


def test_starts_outside_the_assumptions():
    setup = NormativeFactors.example(RULE, 0)
    (Q, P), weights = setup.feedback[0], setup.network.weights
    with pytest.raises(AssumptionError, match="not lambda-balanced"):
        NormativeFactors(RULE, setup.task, State(weights, ((2 * Q, P),)))
    deep, stored = linfa.Network.zero((2, 2, 2, 2)), ((np.eye(2), np.eye(2)),) * 2
    with pytest.raises(AssumptionError, match="depth is 3, not 2"):
        NormativeFactors(RULE, linfa.Task.from_spectrum([1.0, 1.0]), State(deep.weights, stored))
