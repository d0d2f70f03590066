"""The reduction of deep feedback alignment: wide networks, invariances, the two-layer identity, wrong grams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.depth.common_modes import effective_feedback
from linfa.theory.depth.width_free import width_free_descent
from linfa.theory.depth.zero_init_dfa import ZeroInitDFA

SEEDS = st.integers(0, 10**6)


@given(depth=st.integers(2, 4), width=st.integers(1, 200), direct=st.booleans(), seed=SEEDS)
def test_any_width(depth, width, direct, seed):
    rng = np.random.default_rng(seed)
    rule, widths = linfa.dfa() if direct else linfa.fa(), (3, *(width,) * (depth - 1), 2)
    task = linfa.Task.teacher(rng.uniform(-0.5, 0.5, (2, 3)), examples.moment(rng, 3, 0.4, 1.2), noise=0.3)
    run = linfa.descend(rule, task, linfa.Network.zero(widths), 0.02, 30, seed=seed)
    seen = effective_feedback(rule, run.at(0).feedback, depth)
    small = width_free_descent(task, tuple(B.T @ B for B in seen), 0.02, 30)
    assert relative_error(small.weights(seen), run.weights) <= 1e-11
    assert relative_error(small.signals(tuple(B.T @ B for B in seen))[-1], run.map) <= 1e-11


@given(seed=SEEDS)
def test_two_layers(seed):
    """A step of any size adds (lr E)(lr E)^T to A A^T - M - M^T, the reduced invariant of feedback alignment."""
    rng = np.random.default_rng(seed)
    task = linfa.Task.teacher(rng.uniform(-0.5, 0.5, (2, 3)))
    A, (M,) = width_free_descent(task, (np.diag(rng.uniform(0.5, 1.5, 2)),), 0.05, 40)
    step = np.diff(A, axis=0)
    drift = np.swapaxes(step, -1, -2)
    assert np.allclose(
        np.diff(A @ np.swapaxes(A, -1, -2) - M - np.swapaxes(M, -1, -2), axis=0), step @ drift, atol=1e-14
    )


@given(seed=SEEDS)
def test_common_modes_are_the_closed_form(seed):
    setup = ZeroInitDFA.example(linfa.fa(), seed)
    state = linfa.dynamics.State(setup.network.weights, setup.feedback)
    theory = ZeroInitDFA(linfa.fa(), setup.task, state)
    grams = tuple(B.T @ B for B in theory.feedback)
    small = width_free_descent(setup.task, grams, 0.05, 60)
    assert relative_error(theory.discrete(0.05, 60), small.signals(grams)[-1]) <= 1e-10


def test_wrong_grams():
    task = linfa.Task.teacher(np.eye(2))
    for H, text in (
        (np.eye(3), r"H_1 is \(2, 2\), the size of the output; got shape \(3, 3\)"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "not symmetric: entries differ by up to 0.5"),
        (np.diag([1.0, -0.3]), "negative eigenvalue -0.3"),
    ):
        with pytest.raises(ValueError, match=text):
            width_free_descent(task, (H,), 0.1, 1)
