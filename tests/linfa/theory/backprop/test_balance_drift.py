"""The drift of the balance under descent, for gradients of no particular loss."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory.backprop.balance_drift import balance_drift

WIDTHS, SEEDS = st.lists(st.integers(1, 6), min_size=3, max_size=6), st.integers(0, 10**6)


def balance(weights):
    return [above.T @ above - below @ below.T for below, above in itertools.pairwise(weights)]


def random(widths, seed):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in itertools.pairwise(widths)]
    return weights, rng.standard_normal((widths[-1], widths[0]))


def step(weights, G, lr):
    """Chain rule, from the top down."""
    moved, back = [], G
    for layer in range(len(weights) - 1, -1, -1):
        below = np.eye(weights[0].shape[1])
        for w in weights[:layer]:
            below = w @ below
        moved.insert(0, weights[layer] - lr * back @ below.T)
        back = weights[layer].T @ back
    return moved


@given(widths=WIDTHS, lr=st.floats(0.001, 1.0), seed=SEEDS)
def test_the_drift_is_exact(widths, lr, seed):
    weights, G = random(widths, seed)
    after = step(weights, G, lr)
    scale = max(np.abs(w).max() ** 2 for w in (*weights, *after)) * max(widths)
    drift = balance_drift(weights, G, lr)
    assert len(drift) == len(weights) - 1
    for old, new, moved in zip(balance(weights), balance(after), drift, strict=True):
        assert np.abs(new - old - moved).max() <= 1e-13 * scale


@given(widths=st.tuples(*3 * [st.integers(1, 6)]), lr=st.floats(0.001, 1.0), seed=SEEDS)
def test_two_layers(widths, lr, seed):
    (W1, W2), G = random(widths, seed)
    expected = lr**2 * (W1 @ G.T @ G @ W1.T - W2.T @ G @ G.T @ W2)
    assert balance_drift((W1, W2), G, lr)[0] == pytest.approx(expected, rel=1e-11, abs=1e-12)


@given(widths=WIDTHS, seed=SEEDS)
def test_leading_axes_are_steps(widths, seed):
    drawn = [random(widths, seed + i) for i in range(3)]
    stacked = [np.stack(layer) for layer in zip(*(weights for weights, _ in drawn), strict=True)]
    together = balance_drift(stacked, np.stack([G for _, G in drawn]), 0.1)
    for i, (weights, G) in enumerate(drawn):
        for cut, alone in enumerate(balance_drift(weights, G, 0.1)):
            assert together[cut][i] == pytest.approx(alone, rel=1e-11, abs=1e-13)


def test_orthogonal_changes_and_the_flow():
    weights, G = random((3, 4, 2), 0)
    assert balance_drift(weights, G, 0.2)[0] == pytest.approx(4 * balance_drift(weights, G, 0.1)[0])
    R = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
    turned = balance_drift((R @ weights[0], weights[1] @ R.T), G, 0.1)[0]
    assert turned == pytest.approx(R @ balance_drift(weights, G, 0.1)[0] @ R.T, abs=1e-14)


def test_the_whole_path_drifts_in_proportion_to_the_learning_rate():
    task, network = linfa.Task.from_spectrum([2.0, 1.0], seed=0), linfa.Network.small((2, 3, 2), scale=0.5, seed=1)

    def moved(lr):
        run = linfa.descend(linfa.bp(), task, network, lr, round(2 / lr), record=round(2 / lr))
        first, last = (balance([w[i] for w in run.weights])[0] for i in (0, -1))
        return np.abs(last - first).max()

    assert moved(0.01) / moved(0.005) == pytest.approx(2, rel=0.1)


def test_a_gradient_that_does_not_fit():
    with pytest.raises(ValueError, match=r"the map has shape \(2, 3\), its gradient \(3, 2\)"):
        balance_drift((np.ones((4, 3)), np.ones((2, 4))), np.ones((3, 2)), 0.1)
