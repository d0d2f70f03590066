"""The wide limit of FA: against its own two coordinates, zero weights, rotations, units, and growing networks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import linfa
from linfa.dynamics import State
from linfa.theory import examples
from linfa.theory.alignment.zero_init_fa import ZeroInitFA
from linfa.theory.wide import wide_fa as file
from linfa.theory.wide.finite_size import WIDTHS, mean_error
from linfa.theory.wide.wide_fa import fa_wide, fa_wide_kernels

DRAWN = {
    "n": st.integers(1, 4),
    "m": st.integers(1, 4),
    "r": st.integers(1, 3),
    "sigma1": st.just(0.0) | st.floats(1e-3, 1.5),
    "overlap": st.just(0.0) | st.floats(1e-3, 1),
    "seed": st.integers(0, 10**6),
}
TIMES = np.linspace(0, 5, 6)


def problem(n, m, r, seed):
    rng = np.random.default_rng(seed)
    r = min(r, m)
    return examples.matrix(rng, m, n, 0.3, 2.0), examples.matrix(rng, r, m, 0.5, 1.5)


def coordinates(Sigma, H, sigma1, overlap):
    """A (t) and G (t) of A' = Sigma - W, G' = E A^T with W = (sigma_1^2 + overlap) A + G H A, integrated."""
    m, n = Sigma.shape

    def field(_, u):
        A, G = u[: m * n].reshape(m, n), u[m * n :].reshape(m, m)
        E = Sigma - (sigma1**2 + overlap) * A - G @ H @ A
        return np.concatenate([E.ravel(), (E @ A.T).ravel()])

    u = solve_ivp(field, (0, TIMES[-1]), np.zeros(m * n + m * m), "DOP853", TIMES, rtol=1e-11, atol=1e-13).y.T
    return u[:, : m * n].reshape(-1, m, n), u[:, m * n :].reshape(-1, m, m)


@given(**DRAWN)
def test_its_two_coordinates(n, m, r, sigma1, overlap, seed):
    Sigma, B = problem(n, m, r, seed)
    H = B.T @ B
    A, G = coordinates(Sigma, H, sigma1, overlap)
    W = (sigma1**2 + overlap) * A + G @ H @ A
    assert fa_wide(Sigma, B, sigma1, TIMES, overlap) == pytest.approx(W, rel=1e-7, abs=1e-8)
    gram, seen = fa_wide_kernels(Sigma, B, sigma1, TIMES, overlap)
    assert gram == pytest.approx(sigma1**2 * np.eye(n) + np.swapaxes(A, 1, 2) @ H @ A, rel=1e-7, abs=1e-8)
    assert seen == pytest.approx(overlap * np.eye(m) + G @ H, rel=1e-7, abs=1e-8)


@given(n=DRAWN["n"], m=DRAWN["m"], r=DRAWN["r"], seed=DRAWN["seed"])
def test_without_a_start_it_is_zero_init_fa(n, m, r, seed):
    Sigma, B = problem(n, m, r, seed)
    state = State(linfa.Network.zero((n, len(B), m)).weights, ((B,),))
    closed = ZeroInitFA(linfa.fa(), linfa.Task.teacher(Sigma), state)
    assert fa_wide(Sigma, B, 0.0, TIMES) == pytest.approx(closed.predict(TIMES), rel=1e-9, abs=1e-9)


@given(n=DRAWN["n"], m=DRAWN["m"], r=DRAWN["r"], seed=DRAWN["seed"])
def test_from_large_weights_the_rank_of_the_feedback_does_not_matter(n, m, r, seed):
    Sigma, B = problem(n, m, r, seed)
    lazy = -np.expm1(-TIMES)[:, None, None] * Sigma
    assert fa_wide(Sigma, B, 100.0, TIMES / 100.0**2) == pytest.approx(lazy, rel=1e-3, abs=1e-6)


@given(**DRAWN, factor=st.floats(0.3, 3.0))
def test_units(n, m, r, sigma1, overlap, seed, factor):
    """c times the task is c^(2/3) times as fast from weights c^(1/3) as large."""
    Sigma, B = problem(n, m, r, seed)
    fast = fa_wide(factor * Sigma, B, np.cbrt(factor) * sigma1, TIMES / factor ** (2 / 3), factor ** (2 / 3) * overlap)
    assert fast == pytest.approx(factor * fa_wide(Sigma, B, sigma1, TIMES, overlap), rel=1e-8, abs=1e-9)


@given(**DRAWN)
def test_rotations(n, m, r, sigma1, overlap, seed):
    Sigma, B = problem(n, m, r, seed)
    rng = np.random.default_rng(seed)
    X, Y, Z = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (n, m, len(B)))
    turned = fa_wide(Y @ Sigma @ X.T, Z @ B @ Y.T, sigma1, TIMES, overlap)
    assert turned == pytest.approx(Y @ fa_wide(Sigma, B, sigma1, TIMES, overlap) @ X.T, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("error", [file._low_rank, file._partial, file._one_output])
def test_errors_halve_when_networks_are_four_times_as_wide(error):
    narrow, wide = (np.mean([mean_error(error, k, seed) for seed in range(6)]) for k in WIDTHS)
    assert narrow / wide == pytest.approx(2, abs=0.6)


def test_bad_arguments():
    with pytest.raises(
        ValueError, match=r"B is \(k, n_out\) for Sigma \(n_out, n_in\); got shapes \(2, 3\) and \(2, 2\)"
    ):
        fa_wide(np.eye(2), np.ones((2, 3)), 1.0, TIMES)
    with pytest.raises(ValueError, match=r"at least 0; got -0\.75: the feedback opposes the readout"):
        fa_wide_kernels(np.eye(2), np.eye(2), 0.5, TIMES, overlap=-1.0)
