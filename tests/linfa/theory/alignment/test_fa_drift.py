"""What FA conserves and how descent moves it, for gradients of no particular loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory.alignment.drift import fa_drift, fa_frozen_part
from linfa.theory.alignment.problem import FixedFeedbackProblem, gauss

SIZES, SEEDS = st.integers(1, 6), st.integers(0, 10**6)


def invariant(W1, W2, B):
    return W1 @ W1.T - B @ W2 - (B @ W2).T


@given(n=SIZES, k=SIZES, m=SIZES, steps=st.integers(1, 20), lr=st.floats(0.001, 1.0), seed=SEEDS)
def test_the_drift_is_exact_for_any_gradients(n, k, m, steps, lr, seed):
    rng = np.random.default_rng(seed)
    W1, W2, B = rng.standard_normal((k, n)), rng.standard_normal((m, k)), rng.standard_normal((k, m))
    gradients = rng.standard_normal((steps, m, n)) / np.sqrt(steps)
    before, frozen = invariant(W1, W2, B), fa_frozen_part(W1, B)
    for G in gradients:
        W1, W2 = W1 - lr * B @ G, W2 - lr * G @ W1.T
    scale = np.abs(W1 @ W1.T).max() + np.abs(B @ W2).max()
    drift = fa_drift(B, gradients, lr)
    assert np.abs(invariant(W1, W2, B) - before - drift).max() <= 1e-11 * scale
    assert np.linalg.eigvalsh(drift).min() >= -1e-12 * scale
    assert np.abs(fa_frozen_part(W1, B) - frozen).max() <= 1e-11 * scale


@given(seed=SEEDS, half=st.floats(0.1, 0.5))
def test_the_drift_adds_over_steps_and_grows_with_the_square_of_the_rate(seed, half):
    rng = np.random.default_rng(seed)
    B, gradients = rng.standard_normal((4, 3)), rng.standard_normal((10, 3, 2))
    whole = fa_drift(B, gradients, 0.1)
    assert np.allclose(whole, fa_drift(B, gradients[:4], 0.1) + fa_drift(B, gradients[4:], 0.1), rtol=1e-12)
    assert np.allclose(fa_drift(B, gradients, half * 0.1), half**2 * whole, rtol=1e-12)


@given(n=SIZES, k=SIZES, r=SIZES, seed=SEEDS)
def test_the_frozen_part_is_a_projection_that_the_feedback_does_not_reach(n, k, r, seed):
    rng = np.random.default_rng(seed)
    W1, B = rng.standard_normal((k, n)), rng.standard_normal((k, min(r, k))) @ rng.standard_normal((min(r, k), 4))
    frozen = fa_frozen_part(W1, B)
    assert np.allclose(B.T @ frozen, 0, atol=1e-10)
    assert np.allclose(fa_frozen_part(frozen, B), frozen, atol=1e-12)
    assert np.allclose(fa_frozen_part(W1 + B @ rng.standard_normal((4, n)), B), frozen, atol=1e-10)


def test_without_feedback_everything_is_frozen():
    assert fa_frozen_part(np.ones((2, 1)), np.zeros((2, 3))).tolist() == [[1.0], [1.0]]


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="B takes 2 errors and a gradient has 3 rows"):
        fa_drift(np.ones((4, 2)), np.ones((5, 3, 1)), 0.1)
    with pytest.raises(ValueError, match="B delivers to 4 units and W_1 has 3"):
        fa_frozen_part(np.ones((3, 2)), np.ones((4, 2)))


def test_another_rule_does_not_conserve_it():
    problem = FixedFeedbackProblem.draw(3, full=True)
    run = linfa.simulate(linfa.kolen_pollack(0.0), problem.task, problem.network, [0.0, 2.0], feedback=((problem.B,),))
    start, end = (invariant(run.weights[0][i], run.weights[1][i], problem.B) for i in (0, 1))
    assert np.abs(end - start).max() > 1e-2


@given(degree=st.integers(0, 30), end=st.floats(0.5, 3.0))
def test_gauss(degree, end):
    times, weights = gauss(end)
    assert weights @ times**degree == pytest.approx(end ** (degree + 1) / (degree + 1), rel=1e-12)
