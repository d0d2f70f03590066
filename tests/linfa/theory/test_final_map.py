"""Where FA ends, against long flows and exact arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory import examples
from linfa.theory.dimension.final_map import FinalMap, final_loss, final_map

SEEDS = st.integers(0, 10**6)


@given(m=st.integers(1, 5), wider=st.integers(0, 2), k=st.integers(1, 5), white=st.booleans(), seed=SEEDS)
def test_flow(m, wider, k, white, seed):
    rng, n = np.random.default_rng(seed), m + wider
    Sxx = None if white else examples.moment(rng, n, 0.6, 1.5)
    task = linfa.Task.teacher(examples.matrix(rng, m, n, 0.8, 1.8), Sxx, noise=0.1)
    feedback = ((examples.matrix(rng, k, m, 0.8, 1.25),),)
    network = linfa.Network((np.zeros((k, n)), 0.1 * rng.standard_normal((m, k))))
    run = linfa.simulate(linfa.fa(), task, network, [0.0, 100.0], feedback=feedback, rtol=1e-11, atol=1e-13)
    closed = FinalMap(linfa.fa(), task, run.at(0))
    assert closed.error(run) <= 1e-8
    assert closed.loss == pytest.approx(run.loss[-1], rel=1e-8)
    if k >= m:
        assert np.allclose(closed.predict([0.0])[0], task.optimum)


@given(m=st.integers(1, 5), n=st.integers(1, 5), r=st.integers(1, 5), seed=SEEDS)
def test_algebra(m, n, r, seed):
    """Only the rows of B matter; the loss is what the map leaves, and at least Eckart and Young's."""
    rng = np.random.default_rng(seed)
    r = min(r, m)
    Sxx = examples.moment(rng, n, 0.5, 2.0)
    star, P = rng.standard_normal((m, n)), rng.standard_normal((r, m))
    mixed = rng.standard_normal((r, r)) + 3 * np.eye(r)
    W = final_map(star @ Sxx, P, Sxx)
    assert np.allclose(final_map(star @ Sxx, mixed @ P, Sxx), W)
    left = star - W
    loss = final_loss(star @ Sxx, P, Sxx)
    assert loss == pytest.approx(0.5 * np.trace(left @ Sxx @ left.T), abs=1e-9)
    s = np.linalg.svd(star @ np.linalg.cholesky(Sxx), compute_uv=False)
    assert loss >= 0.5 * (s[r:] ** 2).sum() - 1e-9
    U = np.linalg.svd(star @ np.linalg.cholesky(Sxx))[0]
    assert final_loss(star @ Sxx, U[:, :r].T, Sxx) == pytest.approx(0.5 * (s[r:] ** 2).sum(), abs=1e-9)
    R = P @ star
    assert np.allclose(W, star @ Sxx @ R.T @ np.linalg.pinv(R @ Sxx @ R.T) @ R, atol=1e-6 * np.abs(star).max())


def test_two_modes_and_one_direction():
    s1, s2, phi = 2.0, 1.0, 0.7
    P = np.array([[np.cos(phi), np.sin(phi)]])
    expected = (s1 * s2) ** 2 / (2 * ((s1 * P[0, 0]) ** 2 + (s2 * P[0, 1]) ** 2))
    assert final_loss(np.diag([s1, s2]), P) == pytest.approx(expected, rel=1e-14)


def test_inputs_without_variance():
    Sxx = np.diag([1.0, 0.0])
    assert final_map(np.array([[2.0, 0.0]]), np.ones((1, 1)), Sxx).tolist() == [[2.0, 0.0]]
