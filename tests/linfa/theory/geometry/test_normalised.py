"""What normalised networks do not feel: scale, and the symmetric part of an error taken back."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa import observe
from linfa.dynamics import State, start, velocity
from linfa.rules import Whitened
from linfa.theory import normalised_step, symmetric_part


def test_a_step_is_the_theorem_of_pythagoras():
    assert normalised_step(9.0, 4.0, 1.0) == 25.0
    squares = np.array([1.0, 4.0])
    np.testing.assert_array_equal(normalised_step(squares, np.zeros(2), 0.3), squares)
    with pytest.raises(ValueError, match=r"at least 0; got -1 and 0\.1"):
        normalised_step(-1.0, 1.0, 0.1)
    with pytest.raises(ValueError, match=r"at least 0; got 1 and -0\.1"):
        normalised_step(1.0, 1.0, -0.1)


@given(st.integers(0, 10**6))
def test_whitening_takes_no_symmetric_part_back(seed):
    """At a = C^(1/2) h moved to a + eps S h, whitening gives h back: by the matrix square root of another library."""
    rng = np.random.default_rng(seed)
    a, error, S = rng.standard_normal((3, 7)), rng.standard_normal((3, 7)), rng.standard_normal((3, 3))
    h, kept = Whitened().forward(a, None)
    moved = a + 1e-3 * (S + S.T) @ h
    root = scipy.linalg.sqrtm(moved @ moved.T).real
    if np.linalg.eigvalsh(a @ h.T + 1e-3 * (S + S.T))[0] > 1e-3:  # still a positive root
        np.testing.assert_allclose(np.linalg.solve(root, moved), h, atol=1e-9)
    back = Whitened().backward(error, kept)
    np.testing.assert_allclose(symmetric_part(back, h), 0, atol=1e-11 * np.abs(back).max())


def test_the_antisymmetric_part_is_taken_back():
    """A rotation of the inputs rotates the whitened units, which the loss does feel."""
    rng = np.random.default_rng(0)
    h, kept = Whitened().forward(rng.standard_normal((3, 7)), None)
    back = Whitened().backward(rng.standard_normal((3, 7)), kept)
    assert np.abs(back @ h.T).max() > 0.1


def test_shapes():
    with pytest.raises(ValueError, match=r"one shape; got \(2, 3\) and \(2, 2\)"):
        symmetric_part(np.zeros((2, 3)), np.zeros((2, 2)))


def test_the_last_weight_has_a_scale():
    rule, task = linfa.normalised(linfa.bp()), linfa.Task.from_spectrum([2.0, 1.0], n_in=4, seed=0)
    state = start(rule, linfa.Network.small((4, 3, 2), 1.0, seed=0))
    v = velocity(rule, state, task.batch)
    hidden, last = (abs((W * G).sum()) for W, G in zip(state.weights, v.weights, strict=True))
    assert hidden < 1e-13
    assert last > 0.1


@pytest.mark.parametrize(("kind", "conserved"), [("whitened", True), ("standardised", False)])
def test_singular_values_stay_where_all_is_whitened(kind, conserved):
    task, network = linfa.Task.from_spectrum([2.0, 1.0], n_in=4, seed=0), linfa.Network.small((4, 3, 2), 1.0, seed=0)
    run = linfa.simulate(linfa.normalised(linfa.fa(), kind), task, network, [0.0, 0.3], seed=1)
    s = np.linalg.svd(run.weights[0], compute_uv=False)
    assert bool(np.abs(s[1] - s[0]).max() < 1e-8) == conserved
    np.testing.assert_allclose((run.weights[0] ** 2).sum((1, 2)), (run.weights[0][0] ** 2).sum(), rtol=1e-8)


def test_a_whitened_singular_value_can_vanish_in_finite_time():
    """Inputs that are not white: the speed goes as 1/s, and descent ends up jumping around s = 0."""
    rng = np.random.default_rng(0)
    task = linfa.Task.teacher(rng.standard_normal((3, 4)), Sxx=np.diag([3.0, 1.0, 0.5, 0.1]))
    rule, network = linfa.normalised(linfa.fa(), "whitened"), linfa.Network.small((4, 4, 3), 0.7, seed=1)
    run = linfa.descend(rule, task, network, 1e-4, 4000, seed=1, record=100)
    s = np.linalg.svd(run.weights[0] @ np.sqrt(task.Sxx), compute_uv=False)
    assert s[-1].min() < 0.02 * s[0].min()


def test_scale_of_one_row_alone():
    rule, task = linfa.normalised(linfa.bp(), "whitened"), linfa.Task.from_spectrum([2.0, 1.0], n_in=4, seed=0)
    W1, W2 = linfa.Network.small((4, 3, 2), 1.0, seed=0).weights
    once = observe.loss(rule, State((W1, W2), ((),)), task)
    row = observe.loss(rule, State((W1 * [[2.0], [1.0], [1.0]], W2), ((),)), task)
    assert abs(row - once) > 1e-3  # which only standardised units do not feel
