"""The invariant of ReLU units: linear units and leaky ones, permutations, what is not conserved, wrong shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory import invariants
from linfa.theory.alignment.relu import relu_gradients, relu_invariant

SEEDS = st.integers(0, 10**6)


@given(seed=SEEDS)
def test_linear_units_conserve_it_too(seed):
    rule, network = linfa.fa(), linfa.Network.small((3, 5, 4, 2), scale=1.0, seed=seed)
    state = linfa.dynamics.start(rule, network, seed)
    for cut, C in enumerate(invariants.feedback_alignment(rule, state)):
        units = relu_invariant(*state.weights[cut : cut + 2], state.feedback[cut][0])
        assert units == pytest.approx(np.diagonal(C), rel=1e-12)


@given(slope=st.floats(-1, 1), seed=SEEDS)
def test_leaky_units_conserve_it_too(slope, seed):
    """One hidden layer by hand; the drift of a step is the square of the step."""
    rng = np.random.default_rng(seed)
    W1, W2, B = rng.standard_normal((6, 3)), rng.standard_normal((2, 6)), rng.standard_normal((6, 2))
    X, Y = rng.standard_normal((3, 9)), rng.standard_normal((2, 9))
    z = W1 @ X
    gate = np.where(z > 0, 1.0, slope)
    delta = W2 @ (gate * z) - Y
    G1, G2 = 0.01 * (gate * (B @ delta)) @ X.T, 0.01 * delta @ (gate * z).T
    drift = relu_invariant(W1 - G1, W2 - G2, B) - relu_invariant(W1, W2, B)
    assert drift == pytest.approx((G1**2).sum(-1), rel=1e-9, abs=1e-12)


@given(seed=SEEDS)
def test_units_change_places(seed):
    rng = np.random.default_rng(seed)
    W1, W2, B = rng.standard_normal((6, 3)), rng.standard_normal((2, 6)), rng.standard_normal((6, 2))
    order = rng.permutation(6)
    assert (relu_invariant(W1[order], W2[:, order], B[order]) == relu_invariant(W1, W2, B)[order]).all()


def test_gradients_of_backprop_with_the_transpose():
    """With B = W^T they are those of the loss, by finite differences."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(size) for size in ((5, 3), (4, 5), (2, 4))]
    biases = [rng.standard_normal(k) for k in (5, 4, 2)]
    X, Y = rng.standard_normal((3, 6)), rng.standard_normal((2, 6))

    def loss(weights):
        h = X
        for i, (W, b) in enumerate(zip(weights, biases, strict=True)):
            h = W @ h + b[:, None]
            h = np.maximum(h, 0) if i < 2 else h
        return 0.5 * ((h - Y) ** 2).sum()

    dW, _ = relu_gradients(weights, biases, [W.T for W in weights[1:]], X, lambda y: y - Y)
    for i, W in enumerate(weights):
        direction = rng.standard_normal(W.shape)
        ends = [[*weights[:i], W + step * direction, *weights[i + 1 :]] for step in (1e-6, -1e-6)]
        assert (dW[i] * direction).sum() == pytest.approx((loss(ends[0]) - loss(ends[1])) / 2e-6, rel=1e-6)


def test_wrong_shapes():
    for below, above in (((5, 3), (2, 4)), ((4, 3), (2, 5)), ((4, 3), (3, 4))):
        with pytest.raises(ValueError, match=r"B of shape \(4, 2\) joins W_l \(..., 4, n\) to .*; got"):
            relu_invariant(np.ones(below), np.ones(above), np.ones((4, 2)))
