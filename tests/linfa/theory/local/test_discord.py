"""Discords against sums written out, invariances of their energy, and what lies outside."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfa.dynamics import State
from linfa.rules import sgr
from linfa.theory import (
    discord_energy,
    discord_gradient,
    discords,
    gradient_gaps,
    head_gap_bound,
    module_ends,
    module_maps,
)

SEEDS = st.integers(0, 10**6)


def problem(seed, n=3, m=2, N=12):
    """Two heads, and samples of an input and a target with their moments."""
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((n, N)), rng.standard_normal((m, N))
    moments = X @ X.T / N, Y @ X.T / N, Y @ Y.T / N
    return rng, rng.standard_normal((m, n)), rng.standard_normal((m, n)), X, Y, moments


@given(seed=SEEDS, K=st.integers(2, 6))
def test_gaps_are_the_sum_written_out(seed, K):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, K)
    g = [rng.standard_normal((n, 3)) for n in sizes]
    maps = [rng.standard_normal((b, a)) for a, b in itertools.pairwise(sizes)]
    d = [g[k] - maps[k].T.dot(g[k + 1]) for k in range(K - 1)]
    for k, gap in enumerate(gradient_gaps(discords(g, maps), maps)):
        total = np.zeros_like(g[k])
        for j in range(k, K - 1):
            carried = d[j]
            for i in range(j, k, -1):
                carried = maps[i - 1].T.dot(carried)
            total += carried
        np.testing.assert_allclose(gap, total, atol=1e-10)
        exact = g[-1]
        for A in reversed(maps[k:]):
            exact = A.T.dot(exact)
        np.testing.assert_allclose(gap, g[k] - exact, atol=1e-10)


@given(seed=SEEDS)
def test_gaps_are_linear_and_local_below(seed):
    rng = np.random.default_rng(seed)
    d, other = ([rng.standard_normal((2, 3)) for _ in range(3)] for _ in range(2))
    maps = [rng.standard_normal((2, 2)) for _ in range(3)]
    both = gradient_gaps([a + 2 * b for a, b in zip(d, other, strict=True)], maps)
    for total, a, b in zip(both, gradient_gaps(d, maps), gradient_gaps(other, maps), strict=True):
        np.testing.assert_allclose(total, a + 2 * b, atol=1e-12)
    below = gradient_gaps([d[0] + 1, *d[1:]], maps)
    assert all(np.array_equal(a, b) for a, b in zip(below[1:], gradient_gaps(d, maps)[1:], strict=True))


@given(seed=SEEDS)
def test_energy_is_that_of_the_samples(seed):
    _, M, C, X, Y, moments = problem(seed)
    total = 0.0
    for x, y in zip(X.T, Y.T, strict=True):
        q = M.T.dot(M.dot(x) - y) - C.T.dot(C.dot(x) - y)
        total += q.dot(q) / 2 / X.shape[1]
    assert discord_energy(M, C, *moments) == pytest.approx(total, rel=1e-10)


@given(seed=SEEDS)
def test_gradient_is_the_slope_of_the_energy(seed):
    rng, M, C, _, _, moments = problem(seed)
    H, h = rng.standard_normal(M.shape), 1e-4
    up, down = (discord_energy(M + s * h * H, C, *moments) for s in (1, -1))
    slope = (discord_gradient(M, C, *moments) * H).sum()
    assert slope == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-5)


@given(seed=SEEDS)
def test_energy_is_symmetric_and_blind_to_the_basis(seed):
    rng, M, C, _, _, (Sxx, Syx, Syy) = problem(seed)
    energy = discord_energy(M, C, Sxx, Syx, Syy)
    assert discord_energy(C, M, Sxx, Syx, Syy) == pytest.approx(energy)
    U, V = (np.linalg.qr(rng.standard_normal((k, k)))[0] for k in M.shape)
    turned = U @ M @ V.T, U @ C @ V.T, V @ Sxx @ V.T, U @ Syx @ V.T, U @ Syy @ U.T
    assert discord_energy(*turned) == pytest.approx(energy)
    np.testing.assert_allclose(discord_gradient(*turned), U @ discord_gradient(M, C, Sxx, Syx, Syy) @ V.T, atol=1e-9)


@given(seed=SEEDS)
def test_equal_heads_are_a_minimum_of_zero(seed):
    _, M, _, _, _, moments = problem(seed)
    assert discord_energy(M, M, *moments) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(discord_gradient(M, M, *moments), 0, atol=1e-12)


@given(seed=SEEDS)
def test_heads_are_within_their_bound(seed):
    _, M, C, _, _, moments = problem(seed)
    bound = head_gap_bound(discord_energy(M, C, *moments), *moments)
    assert ((M - C) ** 2).sum() <= bound * (1 + 1e-9)


def test_the_bound_is_met_by_a_target_that_is_noise_alone():
    """D x is no help against noise: with orthogonal heads of one size D = 0, and the discord is that of the noise."""
    M, C = np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]])
    moments = np.eye(2), np.zeros((2, 2)), 3 * np.eye(2)
    assert head_gap_bound(discord_energy(M, C, *moments), *moments) == pytest.approx(((M - C) ** 2).sum())


def test_targets_that_the_input_tells_leave_heads_free():
    T = np.array([[1.0, 2.0], [0.5, -1.0]])
    moments = np.eye(2), T, T @ T.T
    assert discord_energy(T, 0 * T, *moments) == pytest.approx(0)
    assert head_gap_bound(0.0, *moments) == np.inf


def test_ensembles():
    _, M, C, _, _, moments = problem(0)
    stack = np.stack([M, C]), np.stack([C, C])
    np.testing.assert_allclose(discord_energy(*stack, *moments), [discord_energy(M, C, *moments), 0], atol=1e-12)


def test_modules_of_a_network():
    rule, W = sgr(modules=2), tuple(np.full((2, 2), k + 1.0) for k in range(5))
    assert module_ends(rule, 5) == (0, 3, 5)
    first, second = module_maps(rule, State(W))
    np.testing.assert_array_equal(first, W[2] @ W[1] @ W[0])
    np.testing.assert_array_equal(second, W[4] @ W[3])
    assert module_ends(sgr(), 3) == (0, 1, 2, 3)


def test_what_does_not_fit():
    one = np.ones((1, 1))
    with pytest.raises(ValueError, match="1 maps between modules do not fit 3 signals"):
        discords((one, one, one), (one,))
    with pytest.raises(ValueError, match="2 maps between modules do not fit 1 signals"):
        gradient_gaps((one,), (one, one))
    _, M, C, _, _, (Sxx, Syx, Syy) = problem(0)
    for wrong in ((M, C.T, Sxx, Syx, Syy), (M, C, Syy, Syx, Syy), (M, C, Sxx, Syx.T, Syy), (M, C, Sxx, Syx, Sxx)):
        for formula in (discord_energy, discord_gradient):
            with pytest.raises(ValueError, match=r"do not fit M of shape \(2, 3\)"):
                formula(*wrong)
