"""Variances of sampled forward maps, against exact integrals over Gaussian directions and against their recursions."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State
from linfa.rules import Dense, Direct, LayerRates, Layerwise, Mirror, Rule
from linfa.theory import arriving_moments, averaging_variance, directional_variance, forward_maps, signal_variance
from linfa.theory.directional.problem import draw, ensemble, frozen, projected, standard_errors

SEEDS = st.integers(0, 10**6)


def gaussian(dimension):
    """Nodes (K, dimension) and weights (K,) that integrate polynomials of degree 5 in each normal variable exactly."""
    x, w = np.polynomial.hermite_e.hermegauss(3)
    nodes = np.array(list(itertools.product(x, repeat=dimension)))
    weights = np.array([np.prod(c) for c in itertools.product(w / w.sum(), repeat=dimension)])
    return nodes, weights


def integrated(maps, error):
    """For each of the maps that share a pass: variance of M (n_s, n_l) and of M^T e (n_l, c), by quadrature."""
    cuts = np.cumsum([0] + [J.shape[1] for J in maps])
    nodes, weights = gaussian(cuts[-1])
    directions = [nodes[:, a:b] for a, b in itertools.pairwise(cuts)]
    arrived = sum(v @ J.T for v, J in zip(directions, maps, strict=True))
    out = []
    for v in directions:
        seen = arrived[:, :, None] * v[:, None, :]
        both = seen, np.swapaxes(seen, 1, 2) @ error
        out.append([np.tensordot(weights, x**2, 1) - np.tensordot(weights, x, 1) ** 2 for x in both])
    return out


@given(seed=SEEDS)
def test_variances_against_quadrature(seed):
    rng = np.random.default_rng(seed)
    widths = (2, *rng.integers(1, 4, 2), int(rng.integers(1, 4)))
    weights = linfa.Network.small(widths, scale=1.0, seed=seed).weights
    error = rng.standard_normal((widths[-1], 2))
    maps, moments = (f(linfa.dfa(), weights) for f in (forward_maps, arriving_moments))
    for J, S, (entries, signal) in zip(maps, moments, integrated(maps, error), strict=True):
        assert directional_variance(J, S) == pytest.approx(entries, rel=1e-10)
        assert signal_variance(J, S, error) == pytest.approx(signal, rel=1e-10)
    for J, S in zip(*(f(linfa.fa(), weights) for f in (forward_maps, arriving_moments)), strict=True):
        ((entries, _),) = integrated([J], np.eye(len(J)))
        assert directional_variance(J, S) == pytest.approx(entries, rel=1e-10)


@given(seed=SEEDS)
def test_a_single_cut_has_the_law_of_the_forward_gradient(seed):
    """|g|^2 + g_i^2, and with more cuts in the pass the squared length of the signal on all of them."""
    _, network = draw(seed, 3)
    error = np.random.default_rng(seed).standard_normal((network.widths[-1], 1))
    broadcast = forward_maps(linfa.dfa(), network.weights)
    signals = [J.T @ error for J in broadcast]
    for J, S, g in zip(broadcast, arriving_moments(linfa.dfa(), network.weights), signals, strict=True):
        assert signal_variance(J, J @ J.T, error) == pytest.approx((g**2).sum() + g**2)
        assert signal_variance(J, S, error) == pytest.approx(sum((other**2).sum() for other in signals) + g**2)


@given(seed=SEEDS, factor=st.floats(0.1, 3))
def test_metamorphic_variances(seed, factor):
    """Quadratic in maps and errors; turned outputs change nothing if the errors turn too; stacks do as their parts."""
    rng = np.random.default_rng(seed)
    m, k = (int(i) for i in rng.integers(1, 5, 2))
    J, S, e = (
        rng.standard_normal((m, k)),
        np.cov(rng.standard_normal((m, 9))).reshape(m, m),
        rng.standard_normal((m, 2)),
    )
    variance = signal_variance(J, S, e)
    turn = np.linalg.qr(rng.standard_normal((m, m)))[0]
    assert signal_variance(turn @ J, turn @ S @ turn.T, turn @ e) == pytest.approx(variance)
    assert signal_variance(J, S, factor * e) == pytest.approx(factor**2 * variance)
    assert signal_variance(factor * J, factor**2 * S, e) == pytest.approx(factor**2 * variance)
    stacked = signal_variance(*(np.stack([x, 2 * x]) for x in (J, S, e)))
    assert stacked[1] == pytest.approx(signal_variance(2 * J, 2 * S, 2 * e))
    assert directional_variance(np.stack([J, J]), np.stack([S, S]))[1] == pytest.approx(directional_variance(J, S))


@given(seed=SEEDS)
def test_common_noise_is_less_noise(seed):
    """A batch that goes through one M has gradients of no more variance than with directions of its own per sample."""
    rng = np.random.default_rng(seed)
    (m, k), count = rng.integers(1, 5, 2), 6
    J, e, h = rng.standard_normal((m, k)), rng.standard_normal((m, count)), rng.standard_normal(count)
    own = (signal_variance(J, J @ J.T, e) * h**2).mean(1)
    common = signal_variance(J, J @ J.T, (e @ h / count)[:, None])[:, 0]
    assert (common <= own + 1e-12).all()


def test_shapes_are_checked():
    J, e = np.ones((2, 3)), np.ones((2, 1))
    for S, errors in ((np.eye(3), e), (np.eye(2), np.ones((3, 1)))):
        with pytest.raises(ValueError, match=r"J is \(n_s, n_l\), S \(n_s, n_s\), errors \(n_s, c\); got \(2, 3\)"):
            signal_variance(J, S, errors)


def test_variance_of_factors():
    rng = np.random.default_rng(0)
    J, P = rng.standard_normal((3, 2)), rng.standard_normal((2, 3))
    nodes, weights = gaussian(2)
    seen = (nodes @ J.T @ P.T)[:, :, None] * nodes[:, None, :]
    exact = np.tensordot(weights, seen**2, 1) - np.tensordot(weights, seen, 1) ** 2
    assert directional_variance(P @ J, P @ J @ J.T @ P.T) == pytest.approx(exact)


def test_a_layerwise_signal_below_the_top_is_no_single_estimate():
    """Its noises multiply: E[(delta_1)_i^2] = E[(delta_2)^T S (delta_2) + 2 (J_1^T delta_2)_i^2]."""
    rng = np.random.default_rng(1)
    J1, J2, e = rng.standard_normal((2, 2)), rng.standard_normal((1, 2)), np.array([[1.5]])
    g = J2.T @ e
    spread = signal_variance(J2, J2 @ J2.T, e)[0, 0] - g[0, 0] ** 2
    second = spread * np.eye(2) + 2 * g @ g.T
    nodes, weights = gaussian(4)
    v1, v2 = nodes[:, :2], nodes[:, 2:]
    delta2 = (v2 @ J2.T)[:, :1] * v2 * e
    delta1 = (delta2 * (v1 @ J1.T)).sum(1, keepdims=True) * v1
    exact = np.tensordot(weights, delta1**2, 1)
    assert exact == pytest.approx(np.trace(J1 @ J1.T @ second) + 2 * np.diag(J1.T @ second @ J1), rel=1e-10)


@given(a=st.floats(0.01, 1.99), steps=st.integers(0, 60))
def test_averaging_is_its_recursion(a, steps):
    variance = 0.0
    for _ in range(steps):
        variance = (1 - a) ** 2 * variance + a**2
    assert averaging_variance(a, steps) == pytest.approx(variance, rel=1e-10)
    assert averaging_variance(a, steps) <= averaging_variance(a)


@given(a=st.floats(0.1, 1.9))
def test_averaging_settles_and_memory_composes(a):
    assert averaging_variance(a, 500) == pytest.approx(averaging_variance(a))
    there, more = averaging_variance(a, 3), averaging_variance(a, 2)
    assert averaging_variance(a, 5) == pytest.approx((1 - a) ** 4 * there + more)
    assert averaging_variance(1.0) == 1
    assert averaging_variance(1e-6) == pytest.approx(5e-7, rel=1e-5)


@pytest.mark.parametrize("a", [0.0, -0.1, 2.0, 3.0, np.nan])
def test_noise_that_never_settles_is_refused(a):
    with pytest.raises(ValueError, match=r"is in \(0, 2\); got"):
        averaging_variance(a)


def test_with_a_share_of_one_feedback_is_the_last_sample():
    task, network = draw(5, 3)
    rule = frozen(linfa.directional_dfa(rate=2.0, directions=3), 3)
    run = linfa.descend(rule, task, network, 0.5, 4, seed=2)
    forgets = Rule(Direct(), Dense(0.0), Mirror(1.0, 0.0, 3), geometry=LayerRates((0.0,) * 3))
    samples = linfa.descend(forgets, task, network, 1.0, 4, seed=2)
    for B, total in zip(run.feedback, samples.feedback, strict=True):
        assert B[0][1:] == pytest.approx(np.diff(total[0], axis=0), abs=1e-12)


def test_edges_that_share_a_pass():
    rule, weights = Rule(Layerwise(), Dense()), (np.ones((1, 1)), np.full((1, 1), 2.0), np.full((1, 1), 3.0))
    assert [S.item() for S in arriving_moments(rule, weights)] == [4.0, 9.0]
    assert [S.item() for S in arriving_moments(linfa.dfa(), weights)] == [45.0, 45.0]
    assert [S.item() for S in arriving_moments(linfa.ldfa(1, direct=True), weights)] == [4.0]


def test_helpers():
    assert standard_errors(np.array([1.0, -1.0, 1.0, -1.0])) == 0
    rng = np.random.default_rng(0)
    assert projected([np.zeros((3, 2, 2)), np.zeros((3, 1, 2))], rng).tolist() == [0, 0, 0]
    copies = ensemble(linfa.Network.small((2, 3, 1)), 4)
    assert copies.batch == (4,)
    assert State(copies.weights).weights[0][3].tolist() == copies.weights[0][0].tolist()
