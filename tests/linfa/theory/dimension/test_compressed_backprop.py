"""LDFA's Q-only learning against backprop on fewer targets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State
from linfa.rules import Direct, KolenPollack, RandomFactors, Rule
from linfa.theory import AssumptionError, examples
from linfa.theory.base import relative_error
from linfa.theory.dimension.compressed_backprop import CompressedBackprop, compressed_task

SEEDS = st.integers(0, 10**6)
RULE = linfa.ldfa(2, "kolen-pollack")


@given(seed=SEEDS, r=st.integers(1, 3), wider=st.integers(0, 2))
def test_any_start_along_the_flow(seed, r, wider):
    rng, m = np.random.default_rng(seed), r + wider
    task = linfa.Task.teacher(rng.standard_normal((m, 3)), examples.moment(rng, 3, 0.4, 1.3), noise=0.2)
    P, times = examples.matrix(rng, r, m, 0.8, 1.2), np.linspace(0, 2, 5)
    W1, W2 = linfa.Network.small((3, 4, m), scale=0.7, seed=seed).weights
    rule = linfa.ldfa(r, "kolen-pollack")
    run = linfa.simulate(rule, task, linfa.Network((W1, W2)), times, feedback=(((P @ W2).T, P),), rtol=1e-11)
    narrow = linfa.simulate(linfa.bp(), compressed_task(task, P), linfa.Network((W1, P @ W2)), times, rtol=1e-11)
    assert relative_error(narrow.weights, (run.weights[0], P @ run.weights[1])) <= 1e-8


@given(seed=SEEDS)
def test_rotated_projections(seed):
    setup = CompressedBackprop.example(RULE, seed)
    ((Q, P),) = setup.feedback
    R = examples.frame(np.random.default_rng(seed), 2, 2)
    one = CompressedBackprop(RULE, setup.task, State(setup.network.weights, ((Q, P),)))
    other = CompressedBackprop(RULE, setup.task, State(setup.network.weights, ((Q @ R.T, R @ P),)))
    (inputs, seen, _), (same, turned, _) = one.predict(setup.times), other.predict(setup.times)
    assert np.allclose(R @ seen, turned, atol=1e-10)
    assert np.allclose(inputs, same, atol=1e-10)


def test_all_targets_are_backprop():
    task = linfa.Task.from_spectrum([2.0, 1.0], n_in=3, seed=0)
    network = linfa.Network.aligned(task, [4], 0.1)
    W2, times = network.weights[1], np.linspace(0, 3, 4)
    theory = CompressedBackprop(RULE, task, State(network.weights, ((W2.T, np.eye(2)),)))
    saxe = linfa.theory.SaxeMode(linfa.bp(), task, State(network.weights, ((),)))
    assert np.allclose(theory.predict(times)[1], saxe.predict(times))


def test_the_smaller_task_has_the_moments_of_its_targets():
    rng = np.random.default_rng(0)
    x, y, P = rng.standard_normal((30, 3)) + 1, rng.standard_normal((30, 4)), rng.standard_normal((2, 4))
    small, direct = compressed_task(linfa.Task.from_data(x, y), P), linfa.Task.from_data(x, y @ P.T)
    for name in ("Sxx", "Syx", "Syy", "mean_x", "mean_y", "inputs", "targets"):
        assert np.allclose(getattr(small, name), getattr(direct, name))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.kolen_pollack(0.0), "not two factors of which Q learns alone: Dense"),
        (linfa.ldfa(2, "oja"), "not two factors of which Q learns alone: .* Oja"),
        (linfa.ldfa(2, "kolen-pollack", decay=0.1), "weights decay at rate 0.1"),
        (linfa.ldfa(2, "kolen-pollack", clamp=1.0), "clamped"),
        (Rule(Direct(1), RandomFactors(2), KolenPollack()), "no feedback edge"),
    ],
)
def test_rules_outside_the_assumptions(rule, text):
    with pytest.raises(AssumptionError, match=text):
        CompressedBackprop.example(rule)


def test_starts_outside_the_assumptions():
    setup = CompressedBackprop.example(RULE, 1)
    (W1, W2), ((Q, P),), task = setup.network.weights, setup.feedback, setup.task
    with pytest.raises(AssumptionError, match=r"Q\(0\) is off W_2\^T P\^T by 0\.5"):
        CompressedBackprop(RULE, task, State((W1, W2), ((Q + 0.5, P),)))
    with pytest.raises(AssumptionError, match="not lambda-balanced"):
        CompressedBackprop(RULE, task, State((2 * W1 + 0.1, W2), ((Q, P),)))
    coloured = linfa.Task.teacher(task.Syx, np.diag(np.linspace(1, 1.5, task.n_in) + 0.25))
    with pytest.raises(AssumptionError, match="not white"):
        CompressedBackprop(RULE, coloured, State((W1, W2), ((Q, P),)))
    deep, stored = linfa.Network.zero((2, 2, 2, 2)), ((np.eye(2), np.eye(2)),) * 2
    with pytest.raises(AssumptionError, match="depth is 3, not 2"):
        CompressedBackprop(RULE, linfa.Task.from_spectrum([1.0, 1.0]), State(deep.weights, stored))
