"""Relaxation rates about the end of FA and the learning rates that go with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State, velocity
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.alignment.rates import fa_end_max_lr, fa_end_rates, fa_tangent
from linfa.theory.alignment.zero_init_fa import ZeroInitFA

SEEDS, SIZES = st.integers(0, 10**6), st.integers(1, 4)


def jacobian(task, W1, W2, B, step=1e-20):
    """Of the whole velocity with respect to all weights, by a complex step."""
    flat, columns = np.concatenate([W1.ravel(), W2.ravel()]).astype(complex), []
    for unit in np.eye(flat.size):
        y = flat + 1j * step * unit
        state = State((y[: W1.size].reshape(W1.shape), y[W1.size :].reshape(W2.shape)), ((B,),))
        v = velocity(linfa.fa(), state, task.batch)
        columns.append(np.concatenate([w.ravel() for w in v.weights]).imag / step)
    return np.stack(columns, 1)


@given(n=SIZES, k=SIZES, m=SIZES, seed=SEEDS)
def test_rates_are_those_of_the_whole_network(n, k, m, seed):
    """All motions that are not neutral, also where part of the error stays: the Jacobian of every weight."""
    rng = np.random.default_rng(seed)
    Sigma, B = rng.standard_normal((m, n)) / np.sqrt(n), rng.standard_normal((k, m))
    task = linfa.Task.teacher(Sigma)
    theory = ZeroInitFA(linfa.fa(), task, State((np.zeros((k, n)), np.zeros((m, k))), ((B,),)))
    (W1,), (W2,) = theory.weights([np.inf])
    rates = fa_end_rates(Sigma, B)
    found = np.linalg.eigvals(-jacobian(task, W1, W2, B))
    for rate in rates[rates > 0.05]:
        assert np.abs(found - rate).min() <= 1e-5 * rates[-1]
    for value in found[np.abs(found) > 1e-3 * rates[-1]]:
        assert np.abs(rates - value).min() <= 1e-3 * rates[-1]


@given(n=SIZES, k=SIZES, m=SIZES, seed=SEEDS)
def test_the_tangent_is_linear_algebra(n, k, m, seed):
    rng = np.random.default_rng(seed)
    W1, W2, B, E = (rng.standard_normal(shape) for shape in ((k, n), (m, k), (k, m), (m, n)))
    Sxx = np.cov(rng.standard_normal((n, 9))).reshape(n, n)
    expected = (W2 @ B @ E + E @ W1.T @ W1) @ Sxx
    assert np.allclose(fa_tangent(W1, W2, B, Sxx) @ E.ravel(), expected.ravel(), atol=1e-10)
    assert np.array_equal(fa_tangent(W1, W2, B), fa_tangent(W1, W2, B, np.eye(n)))


@given(seed=SEEDS)
def test_with_the_transpose_it_is_the_kernel_of_backprop(seed):
    rng = np.random.default_rng(seed)
    W1, W2 = rng.standard_normal((3, 4)), rng.standard_normal((2, 3))
    kernel = fa_tangent(W1, W2, W2.T)
    assert np.allclose(kernel, kernel.T)
    assert np.linalg.eigvalsh(kernel).min() >= -1e-12


@given(seed=SEEDS, scale=st.floats(0.1, 10.0))
def test_rates_follow_the_units(seed, scale):
    problem = FixedFeedbackProblem.draw(seed)
    Sigma, B = problem.task.Syx, problem.B
    rates = fa_end_rates(Sigma, B)
    assert rates.size == Sigma.size
    assert np.allclose(fa_end_rates(scale * Sigma, B), np.cbrt(scale) ** 2 * rates, rtol=1e-9, atol=1e-9)
    assert fa_end_max_lr(Sigma, scale * B) == pytest.approx(fa_end_max_lr(Sigma, B) / np.cbrt(scale) ** 2)
    largest = np.linalg.svd(B @ Sigma, compute_uv=False)[0]
    assert fa_end_max_lr(Sigma, B) == pytest.approx(4 / (3 * np.cbrt(2 * largest) ** 2), rel=1e-12)


def test_the_late_error_decays_at_the_slowest_rate():
    problem = FixedFeedbackProblem.draw(5, scale=0.0, full=True)
    theory = ZeroInitFA(linfa.fa(), problem.task, problem.run([0.0]).at(0))
    s = theory.modes.s
    late = theory.unlearned([20.0, 21.0]).max(-1)
    assert np.log(late[0] / late[1]) == pytest.approx(1.5 * np.cbrt(2 * s.min()) ** 2, rel=1e-6)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"W_2 is \(n_out, 3\) .* got \(2, 4\)"):
        fa_tangent(np.ones((3, 2)), np.ones((2, 4)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="nothing of the task"):
        fa_end_max_lr(np.diag([1.0, 0.0]), np.diag([0.0, 1.0]))
