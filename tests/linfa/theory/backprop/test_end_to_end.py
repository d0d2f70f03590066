"""The velocity of the product of balanced layers: against its formula, the layers, and its symmetries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power

import linfa
from linfa.theory import DepthMode, end_to_end, end_to_end_flow, examples, singular_value_speed

SIZES, SEEDS, DEPTHS = st.integers(1, 5), st.integers(0, 10**6), st.integers(1, 6)


def _draw(seed, m, n):
    rng = np.random.default_rng(seed)
    return rng, examples.matrix(rng, m, n, 0.3, 2.0), rng.standard_normal((m, n))


def _power(S, p):
    values, basis = np.linalg.eigh(S)
    return (basis * np.where(values < 1e-10, 0.0, values) ** p) @ basis.T


@given(n=SIZES, m=SIZES, N=DEPTHS, seed=SEEDS)
def test_matrix_powers(n, m, N, seed):
    _, W, E = _draw(seed, m, n)
    total = sum(_power(W @ W.T, (j - 1) / N) @ E @ _power(W.T @ W, (N - j) / N) for j in range(1, N + 1))
    assert end_to_end(W, E, N) == pytest.approx(total, rel=1e-9, abs=1e-11)


@given(n=SIZES, N=DEPTHS, seed=SEEDS)
def test_fractional_powers_of_square_maps(n, N, seed):
    _, W, E = _draw(seed, n, n)
    roots = [fractional_matrix_power(S, 1 / N) for S in (W @ W.T, W.T @ W)]
    left, right = ([np.linalg.matrix_power(S, j) for j in range(N)] for S in roots)
    total = sum(A @ E @ B for A, B in zip(left, right[::-1], strict=True))
    assert end_to_end(W, E, N) == pytest.approx(total, rel=1e-8, abs=1e-9)


@given(n=SIZES, m=SIZES, depth=st.integers(1, 4), seed=SEEDS)
def test_layers(n, m, depth, seed):
    """A small step of every layer moves the product by the velocity; any E, not that of a loss."""
    rng, _, E = _draw(seed, m, n)
    other = linfa.Task.teacher(examples.matrix(rng, m, n, 1.0, 2.0))
    hidden = [min(n, m) + 1] * (depth - 1)
    weights = linfa.Network.aligned(other, hidden, rng.uniform(0, 2, min(n, m)), seed=seed).weights
    moved = np.zeros((m, n))
    for at in range(depth):
        below, above = np.eye(n), np.eye(weights[at].shape[0])
        for W in weights[:at]:
            below = W @ below
        for W in weights[at + 1 :]:
            above = W @ above
        moved += above @ above.T @ E @ below.T @ below
    W = weights[0] if depth == 1 else np.linalg.multi_dot(weights[::-1])
    assert end_to_end(W, E, depth) == pytest.approx(moved, rel=1e-9, abs=1e-7)  # roots of rounding errors if n != m


@given(n=SIZES, m=SIZES, N=DEPTHS, seed=SEEDS, scale=st.floats(0.1, 5))
def test_symmetries(n, m, N, seed, scale):
    rng, W, E = _draw(seed, m, n)
    v = end_to_end(W, E, N)
    L, R = examples.frame(rng, m, m), examples.frame(rng, n, n)
    assert end_to_end(L @ W @ R, L @ E @ R, N) == pytest.approx(L @ v @ R, rel=1e-9, abs=1e-11)
    assert end_to_end(scale * W, E, N) == pytest.approx(scale ** (2 - 2 / N) * v, rel=1e-9, abs=1e-11)
    assert end_to_end(W.T, E.T, N) == pytest.approx(v.T, rel=1e-9, abs=1e-11)
    assert (v * E).sum() >= 0
    stacked = end_to_end(np.stack([W, 2 * W]), np.stack([E, E]), N)
    assert stacked == pytest.approx(np.stack([v, end_to_end(2 * W, E, N)]), rel=1e-9, abs=1e-11)


@given(n=SIZES, m=SIZES, seed=SEEDS)
def test_one_layer_is_gradient_descent(n, m, seed):
    _, W, E = _draw(seed, m, n)
    assert end_to_end(W, E, 1) == pytest.approx(E, rel=1e-12, abs=1e-13)


@given(n=SIZES, m=SIZES, N=DEPTHS, seed=SEEDS)
def test_speeds_are_slopes_of_singular_values(n, m, N, seed):
    rng, _, E = _draw(seed, m, n)
    sigma = 0.5 + 0.5 * np.arange(min(n, m))
    W = (examples.frame(rng, m, min(n, m)) * sigma) @ examples.frame(rng, min(n, m), n)
    h, v = 1e-5, end_to_end(W, E, N)
    up, down = (np.linalg.svd(W + sign * h * v, compute_uv=False) for sign in (1, -1))
    size = np.abs(v).max()
    assert singular_value_speed(W, E, N) == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-5 * size**3)


@given(n=st.integers(1, 4), m=st.integers(1, 4), depth=st.integers(2, 4), seed=SEEDS)
def test_aligned_starts_are_modes(n, m, depth, seed):
    rng = np.random.default_rng(seed)
    task = linfa.Task.teacher(examples.matrix(rng, m, n, 0.5, 1.5))
    network = linfa.Network.aligned(task, [min(n, m)] * (depth - 1), rng.uniform(0.1, 0.5, min(n, m)))
    theory = DepthMode(linfa.bp(), task, linfa.dynamics.State(network.weights, ((),) * (depth - 1)))
    times = np.linspace(0, 2, 5)
    start = np.linalg.multi_dot(network.weights[::-1])
    assert end_to_end_flow(task, start, depth, times) == pytest.approx(theory.predict(times), rel=1e-8, abs=1e-8)


def test_unbalanced_layers_move_otherwise():
    task, network = linfa.Task.from_spectrum([1.5, 0.8], seed=0), linfa.Network.small((2, 3, 2), 0.5, seed=0)
    run = linfa.simulate(linfa.bp(), task, network, [0.0, 1.0, 2.0])
    assert np.abs(end_to_end_flow(task, run.map[0], 2, run.times) - run.map).max() > 0.01


def test_bad_arguments():
    W = np.eye(2)
    for N in (0, 2.5, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"N is a whole number, at least 1: got {N}"):
            end_to_end(W, W, N)
    for call in (end_to_end, singular_value_speed):
        with pytest.raises(ValueError, match=r"W and E have one shape: got \(2, 2\) and \(3, 2\)"):
            call(W, np.ones((3, 2)), 2)
    task = linfa.Task.from_spectrum([1.0, 0.5])
    with pytest.raises(ValueError, match=r"not of full rank: its singular values go down to 0"):
        end_to_end_flow(task, np.diag([1.0, 0.0]), 2, [0.0, 1.0])
    with pytest.raises(ValueError, match="one shape"):
        end_to_end_flow(task, np.ones((3, 2)), 2, [0.0, 1.0])
