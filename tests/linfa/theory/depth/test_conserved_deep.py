"""What deep feedback alignment conserves: its exact drift in descent, and where it stops to hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.rules import Direct, RandomFactors, Rule
from linfa.theory import examples, invariants
from linfa.theory.depth.conserved import drift


@given(depth=st.integers(2, 5), direct=st.booleans(), seed=st.integers(0, 10**6))
def test_drift_in_descent(depth, direct, seed):
    """A step with any mini-batch adds exactly the square of the step of W_l."""
    rule = linfa.dfa() if direct else linfa.fa()
    quantity = invariants.direct_feedback_alignment if direct else invariants.feedback_alignment
    rng = np.random.default_rng(seed)
    widths = (3, *rng.integers(2, 5, depth - 1).tolist(), 2)
    task = linfa.Task.teacher(rng.standard_normal((2, 3)), examples.moment(rng, 3, 0.3, 1.5), noise=0.3)
    network = linfa.Network.small(widths, scale=0.7, seed=seed)
    run = linfa.descend(rule, task, network, 0.05, 5, batch_size=4, seed=seed)
    for W, C in zip(run.weights, quantity(rule, run.states), strict=False):
        step = np.diff(W, axis=0)
        assert np.allclose(np.diff(C, axis=0), step @ np.swapaxes(step, -1, -2), rtol=0, atol=1e-12 * np.abs(C).max())
        assert (np.linalg.eigvalsh(C[-1] - C[0]) >= -1e-11 * np.abs(C).max()).all()


def test_two_layers_are_feedback_alignment():
    rule = linfa.dfa()
    state = linfa.dynamics.start(rule, linfa.Network.small((3, 4, 2), scale=1.0), seed=1)
    (direct,), (layerwise,) = (
        q(rule, state) for q in (invariants.direct_feedback_alignment, invariants.feedback_alignment)
    )
    assert np.array_equal(direct, layerwise)


def test_a_narrow_layer_in_between():
    """Rows outside the span are refused, and what a projection leaves of the invariant is not conserved."""
    rule, widths = linfa.dfa(), (3, 4, 1, 3)
    network = linfa.Network.small(widths, scale=0.7, seed=0)
    state = linfa.dynamics.start(rule, network, seed=0)
    with pytest.raises(ValueError, match=r"rows of B_1 are not in the span of those of B_2: off by 1\.2"):
        invariants.direct_feedback_alignment(rule, state)

    def projected(rule, state):
        (B1,), (B2,) = state.feedback
        return (invariants.mismatch(state.weights[0], state.weights[1], B1 @ np.linalg.pinv(B2)),)

    run = linfa.simulate(rule, linfa.Task.teacher(np.eye(3)), network, 2.0, feedback=state.feedback, rtol=1e-10)
    (value,) = projected(rule, run.states)
    assert np.abs(value[-1] - value[0]).max() > 1e-2


def test_layerwise_feedback_is_refused():
    for rule in (linfa.fa(), Rule(Direct(exact_top=1), RandomFactors(1))):
        state = linfa.dynamics.start(rule, linfa.Network.small((2, 2, 2, 2)))
        with pytest.raises(ValueError, match="not every edge carries the output error"):
            invariants.direct_feedback_alignment(rule, state)


def test_backprop_does_not_keep_it():
    assert drift(invariants.feedback_alignment, linfa.kolen_pollack(0.0), 0, 3) > 1e-3
