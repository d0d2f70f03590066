"""The balances of two learning factors: exact drifts in descent, and rules that do not keep them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.rules import Hebb, KolenPollack, Layerwise, Normative, Oja, RandomFactors, Rule
from linfa.theory import invariants
from linfa.theory.dimension.factors import violation


def squared(steps):
    return steps @ np.swapaxes(steps, -1, -2)


@given(plasticity=st.sampled_from([Hebb(), Normative(), KolenPollack(), Oja()]), seed=st.integers(0, 10**6))
def test_drift_in_descent(plasticity, seed):
    """A step adds the square of the step of one side and takes that of the other, on any mini-batch."""
    rule = Rule(Layerwise(), RandomFactors(2), plasticity)
    rng = np.random.default_rng(seed)
    task = linfa.Task.teacher(rng.standard_normal((3, 3)), noise=0.3)
    run = linfa.descend(rule, task, linfa.Network.small((3, 4, 3), 0.7, seed), 0.02, 6, batch_size=4, seed=seed)
    dW1 = np.diff(run.weights[0], axis=0)
    dQ, dP = (np.diff(factor, axis=0) for factor in run.feedback[0])
    if type(plasticity) in (Hebb, Normative):
        (balance,) = invariants.factor_balance(rule, run.states)
        drift = squared(np.swapaxes(dQ, -1, -2)) - squared(dP)
        assert np.allclose(np.diff(balance, axis=0), drift, atol=1e-12)
    if type(plasticity) is not Normative:
        (balance,) = invariants.activity_balance(rule, run.states)
        assert np.allclose(np.diff(balance, axis=0), squared(dW1) - squared(dQ), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_any_motion_of_the_weights(seed):
    """The same factors on other data of another network: only the plasticity matters."""
    for plasticity, frozen in ((Normative(), (0.0, 2.0)), (Normative(), (0.0, 0.0)), (Hebb(), (0.0, 2.0))):
        rule = Rule(Layerwise(), RandomFactors(2), plasticity, geometry=linfa.rules.LayerRates(frozen))
        assert violation(rule, 2 * seed, (invariants.factor_balance, 2)) <= 1e-8


def test_rules_that_keep_neither():
    assert violation(linfa.ldfa(2, "oja"), 0, (invariants.factor_balance, 2)) > 1e-3
    normative = Rule(Layerwise(), RandomFactors(2), Normative())
    assert violation(normative, 0, (invariants.activity_balance, 2)) > 1e-3


def test_feedback_becomes_the_projected_weight():
    rule = linfa.ldfa(2, "kolen-pollack", decay=0.3)
    task, network = linfa.Task.from_spectrum([2.0, 1.5, 1.0], seed=0), linfa.Network.small((3, 5, 3), 0.5, 1)
    run = linfa.simulate(rule, task, network, [0.0, 90.0], rtol=1e-11, atol=1e-13)
    (Q, P), W2 = run.at(-1).feedback[0], run.weights[1][-1]
    assert np.allclose(Q @ P, W2.T @ P.T @ P, atol=1e-9)
