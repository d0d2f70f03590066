"""The least rate of backprop: a bound on the slope of the error, where it is met, and its floor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

import linfa
from linfa.dynamics import State, velocity
from linfa.theory import convergence_rate, examples, imbalance_rate, invariants

SIZES, SEEDS = st.integers(1, 5), st.integers(0, 10**6)


def _rate_of(weights, task):
    """-d/dt log |E| from the velocities of the layers, E in whitened coordinates."""
    v = velocity(linfa.bp(), State(weights, ((),) * (len(weights) - 1)), task.batch).weights
    root = sqrtm(task.Sxx).real

    def through(layers):
        out = root
        for W in layers:
            out = W @ out
        return out

    E = task.Syx @ np.linalg.inv(root) - through(weights)
    moved = sum(through([*weights[:i], v[i], *weights[i + 1 :]]) for i in range(len(weights)))
    return (E * moved).sum() / (E**2).sum()


def _draw(seed, widths, white=False):
    rng = np.random.default_rng(seed)
    n, m = widths[0], widths[-1]
    moment = np.eye(n) if white else examples.moment(rng, n, 0.3, 2.0)
    task = linfa.Task.teacher(rng.standard_normal((m, n)), moment)
    return rng, task, linfa.Network.small(widths, 1.0, seed=seed).weights


@given(widths=st.lists(SIZES, min_size=2, max_size=5), seed=SEEDS)
def test_no_error_falls_more_slowly(widths, seed):
    _, task, weights = _draw(seed, widths)
    assert _rate_of(weights, task) >= convergence_rate(weights, task.Sxx) - 1e-10


@given(depth=st.integers(1, 5), seed=SEEDS)
def test_chains_meet_it(depth, seed):
    _, task, weights = _draw(seed, [1] * (depth + 1))
    assert _rate_of(weights, task) == pytest.approx(convergence_rate(weights, task.Sxx), rel=1e-9)


@given(n=SIZES, m=SIZES, extra=st.integers(0, 2), seed=SEEDS)
def test_the_slowest_error_meets_it(n, m, extra, seed):
    """E between the least singular vectors of W_2 and W_1."""
    _, _, (W1, W2) = _draw(seed, (n, max(n, m) + extra, m), white=True)
    E = np.outer(np.linalg.svd(W2)[0][:, m - 1], np.linalg.svd(W1)[2][n - 1])
    task = linfa.Task.teacher(W2 @ W1 + E)
    assert _rate_of((W1, W2), task) == pytest.approx(convergence_rate((W1, W2)), rel=1e-8)


@given(n=SIZES, k=SIZES, m=SIZES, seed=SEEDS)
def test_two_layers(n, k, m, seed):
    _, _, (W1, W2) = _draw(seed, (n, k, m))
    sides = np.linalg.eigvalsh(W2 @ W2.T)[0], np.linalg.eigvalsh(W1.T @ W1)[0]
    assert convergence_rate((W1, W2)) == pytest.approx(sum(sides), rel=1e-9, abs=1e-12)
    both = tuple(np.stack([W, 2 * W]) for W in (W1, W2))
    assert convergence_rate(both) == pytest.approx(sum(sides) * np.array([1, 4]), rel=1e-9, abs=1e-12)
    assert imbalance_rate(*both) == pytest.approx(imbalance_rate(W1, W2) * np.array([1, 4]), rel=1e-9, abs=1e-12)


@given(n=SIZES, k=st.integers(1, 11), m=SIZES, seed=SEEDS)
def test_the_floor(n, k, m, seed):
    """It is below the rate, and is kept along the flow as the imbalance is."""
    rng, task, (W1, W2) = _draw(seed, (n, k, m))
    gains = rng.uniform(0.1, 2, 2)
    W1, W2 = gains[0] * W1, gains[1] * W2
    floor = imbalance_rate(W1, W2, task.Sxx)
    assert -1e-12 <= floor <= convergence_rate((W1, W2), task.Sxx) + 1e-10
    (D,) = invariants.balance(None, State((W1, W2), ((),)))
    values = np.linalg.eigvalsh(D)[::-1]
    parts = [values[m - 1] if m <= k else 0.0, -values[k - n] if n <= k else 0.0]
    expected = np.maximum(parts, 0).sum() * np.linalg.eigvalsh(task.Sxx)[0]
    assert floor == pytest.approx(expected, rel=1e-9, abs=1e-11)


@given(n=SIZES, c=st.floats(0.1, 3), seed=SEEDS)
def test_imbalance_of_one_size(n, c, seed):
    """W_2^T W_2 - W_1 W_1^T = c I: the floor is |c|, met from W_1 = 0."""
    W1, frame = np.zeros((n, n)), examples.frame(np.random.default_rng(seed), n, n)
    assert imbalance_rate(W1, np.sqrt(c) * frame) == pytest.approx(c, rel=1e-10)
    assert imbalance_rate(np.sqrt(c) * frame, W1) == pytest.approx(c, rel=1e-10)
    assert convergence_rate((W1, np.sqrt(c) * frame)) == pytest.approx(c, rel=1e-10)


def test_balanced_and_narrow_networks_have_no_floor():
    assert imbalance_rate(*linfa.Network.balanced((3, 4, 2), 0.7).weights) == pytest.approx(0, abs=1e-15)
    assert imbalance_rate(np.ones((1, 2)), np.zeros((2, 1))) == 0
    assert convergence_rate((np.ones((1, 2)), np.ones((2, 1)))) == 0


def test_one_layer():
    assert convergence_rate((np.ones((2, 3)),), np.diag([0.5, 1.0, 2.0])) == pytest.approx(0.5)
    assert convergence_rate((np.ones((4, 2, 3)),)) == pytest.approx(np.ones(4))


def test_bad_arguments():
    weights = np.ones((2, 3)), np.ones((1, 2))
    for rate in (convergence_rate, lambda weights, Sxx: imbalance_rate(*weights, Sxx)):
        with pytest.raises(ValueError, match=r"Sxx is \(3, 3\) for these weights; got shape \(2, 2\)"):
            rate(weights, np.eye(2))
        with pytest.raises(ValueError, match="Sxx is not symmetric: entries differ by up to 1"):
            rate(weights, np.eye(3) + np.eye(3, k=1))
        with pytest.raises(ValueError, match="not a second moment: it has the negative eigenvalue -2"):
            rate(weights, np.diag([1.0, 1.0, -2.0]))
        with pytest.raises(ValueError, match="W_2 takes 3 inputs but W_1 gives 2 outputs"):
            rate((np.ones((2, 3)), np.ones((1, 3))), None)
