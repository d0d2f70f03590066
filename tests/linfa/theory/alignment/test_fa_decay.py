"""The end of FA and BP with weight decay: networks, limits, monotonicity, and the errors outside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

import linfa
from linfa.dynamics import State, velocity
from linfa.rules import Dense, Direct, Layerwise, Rule
from linfa.theory.alignment.decay import bp_decay_end, fa_decay_end, fa_decay_residual
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.base import relative_error
from linfa.theory.dimension.final_map import final_map
from linfa.theory.modes.problem import observed_order

SEEDS, DECAY, POSITIVE = st.integers(0, 10**6), st.floats(0.05, 3.0), st.floats(0.01, 5.0)


@given(s=POSITIVE, decay=DECAY, h=POSITIVE)
def test_the_residual_is_the_root(s, decay, h):
    root = brentq(lambda e: h * e**3 + decay**3 * (e - s), 0, s, xtol=1e-15, rtol=1e-14)
    assert fa_decay_residual(s, decay, h) == pytest.approx(root, rel=1e-10)


@given(s=POSITIVE, decay=DECAY, h=POSITIVE, more=st.floats(1.01, 2.0))
def test_it_grows_with_the_decay_and_with_the_task_and_falls_with_the_feedback(s, decay, h, more):
    e = fa_decay_residual(s, decay, h)
    assert 0 < e < s
    assert fa_decay_residual(s, more * decay, h) > e
    assert fa_decay_residual(more * s, decay, h) > e
    assert fa_decay_residual(s, decay, more * h) < e
    assert s * more - fa_decay_residual(more * s, decay, h) > s - e  # and so does what is learned


@given(s=POSITIVE, decay=DECAY, h=POSITIVE, c=st.floats(0.1, 10.0))
def test_units(s, decay, h, c):
    """W -> c^(1/2), rates c: e(c s, c^(2/3) lambda) = c e; and b -> b c with h -> c^2 h."""
    e = fa_decay_residual(s, decay, h)
    assert fa_decay_residual(c * s, np.cbrt(c) ** 2 * decay, h) == pytest.approx(c * e, rel=1e-9)
    assert fa_decay_residual(c * s, c * decay, c * h) == pytest.approx(c * e, rel=1e-9)
    seen = fa_decay_residual(np.sqrt(h) * s, decay)
    assert seen / np.sqrt(h) == pytest.approx(e, rel=1e-9)


def test_small_decay():
    decays = np.array([1e-4, 1e-5])
    off = fa_decay_residual(2.0, decays[0], 0.7), fa_decay_residual(2.0, decays[1], 0.7)
    leading = decays * np.cbrt(2.0 / 0.7)
    assert observed_order(decays, np.abs(np.array(off) / leading - 1)) == pytest.approx(1, abs=0.05)


@given(seed=SEEDS, decay=DECAY)
def test_the_rules_rest_there(seed, decay):
    """The velocity that linfa simulates vanishes, broadcast or layer by layer."""
    problem = FixedFeedbackProblem.draw(seed)
    W1, W2, E = fa_decay_end(problem.task.Syx, problem.B, decay)
    assert np.allclose(E, problem.task.Syx - W2 @ W1, atol=1e-10)
    assert np.allclose(W1, problem.B @ E / decay, atol=1e-10)
    assert np.trace(problem.B @ W2) == pytest.approx((problem.B @ E).ravel() @ (problem.B @ E).ravel() / decay**2)
    for route in (Layerwise(), Direct()):
        rule = Rule(route, Dense(), decay=decay)
        v = velocity(rule, State((W1, W2), ((problem.B,),)), problem.task.batch)
        assert max(np.abs(w).max() for w in v.weights) <= 1e-10


@given(seed=SEEDS)
def test_without_decay_it_is_the_end_of_feedback_alignment(seed):
    problem = FixedFeedbackProblem.draw(seed, full=True)
    end = fa_decay_end(problem.task.Syx, problem.B, 1e-9)
    assert np.allclose(end.W2 @ end.W1, final_map(problem.task.Syx, problem.B), atol=1e-7)


@given(seed=SEEDS, decay=st.floats(0.3, 1.0))
def test_descent_comes_to_rest_there(seed, decay):
    problem = FixedFeedbackProblem.draw(seed, scale=0.3)
    rule = Rule(Layerwise(), Dense(), decay=decay)
    run = linfa.descend(rule, problem.task, problem.network, 0.1, 800, feedback=((problem.B,),), record=800)
    end = fa_decay_end(problem.task.Syx, problem.B, decay)
    assert relative_error(end[:2], tuple(W[-1] for W in run.weights)) <= 1e-4


@given(seed=SEEDS, decay=st.floats(0.2, 1.5))
def test_backprop_rests_at_the_soft_threshold(seed, decay):
    """And it is the minimum of 1/2 |Sigma - M|^2 + lambda |M|_*: no map nearby has less."""
    rng = np.random.default_rng(seed)
    Sigma = rng.standard_normal((3, 4))
    end = bp_decay_end(Sigma, decay)

    def cost(M):
        return 0.5 * ((Sigma - M) ** 2).sum() + decay * np.linalg.svd(M, compute_uv=False).sum()

    for _ in range(5):
        assert cost(end + 0.1 * rng.standard_normal((3, 4))) >= cost(end)
    task = linfa.Task.teacher(Sigma)
    network = linfa.Network.aligned(task, [3], np.maximum(np.linalg.svd(Sigma, compute_uv=False) - decay, 0))
    v = velocity(linfa.bp(decay), State(network.weights, ((),)), task.batch)
    kept = np.linalg.svd(Sigma, compute_uv=False) > decay
    assert np.allclose(network.weights[1] @ network.weights[0], end)
    assert not kept.any() or max(np.abs(w).max() for w in v.weights) <= 1e-10


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: fa_decay_residual(1.0, 0.0), r"decay is a positive rate; got 0\.0"),
        (lambda: fa_decay_end(np.eye(2), np.eye(2), -1.0), r"decay is a positive rate; got -1\.0"),
        (lambda: bp_decay_end(np.eye(2), 0.0), "decay is a positive rate"),
        (lambda: fa_decay_end(np.eye(2), np.ones((4, 3)), 1.0), "B takes 3 errors and Sigma has 2 rows"),
        (lambda: fa_decay_residual(1.0, 1.0, h=0.0), r"h more than 0; got c = 1, h = 0"),
    ],
)
def test_outside(call, text):
    with pytest.raises(ValueError, match=text):
        call()
