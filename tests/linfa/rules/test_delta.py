"""The delta rule descends 1/2 E|B error + activity|^2: against its slope on samples, its minimum, and its moments."""

import numpy as np
import pytest

import linfa
from linfa.dynamics import start, velocity
from linfa.rules import Delta, Dense, Direct, Layerwise, RandomFactors, Rule

W = linfa.Network.small((4, 5, 4, 3), 0.8, seed=1).weights


def data(centred):
    """Inputs and targets of 40 samples, with means or without."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 4)) + 0.4, rng.standard_normal((40, 3)) - 0.3
    return (x - x.mean(0), y - y.mean(0)) if centred else (x, y)


def carried(route, feedback, x, y):
    """By edge the errors (N, n_e) that it carries and the activities (N, n_h) at its end, by explicit matrices."""
    h1, h2 = x @ W[0].T, x @ W[0].T @ W[1].T
    e = h2 @ W[2].T - y
    if isinstance(route, Direct):
        return (e, h1), (e, h2)
    B = np.linalg.multi_dot([*feedback[1], e.T]).T if len(feedback[1]) > 1 else e @ feedback[1][0].T
    return (B, h1), (e, h2)


def moved(route, kind, x, y):
    """Velocities of the feedback, what is stored, and what it carries."""
    rule = Rule(route, kind, Delta())
    state = start(rule, linfa.Network(W), seed=3)
    v = velocity(rule, state, linfa.Task.from_data(x, y).batch)
    return v.feedback, state.feedback, carried(route, state.feedback, x, y)


def loss(B, e, h):
    """1/2 E|B e + h|^2, in plain sums that are analytic in B."""
    return sum(((B.dot(a) + b) ** 2).sum() for a, b in zip(e, h, strict=True)) / 2 / len(e)


def slope(f, matrix, step=1e-20):
    """The gradient entry by entry, the imaginary part at an imaginary step."""
    out = np.zeros(matrix.shape)
    for entry in np.ndindex(*matrix.shape):
        there = matrix.astype(complex)
        there[entry] += 1j * step
        out[entry] = f(there).imag / step
    return out


@pytest.mark.parametrize("kind", [Dense(), RandomFactors(2)], ids=repr)
@pytest.mark.parametrize("route", [Direct(), Layerwise()], ids=repr)
def test_it_descends_its_loss_where_errors_have_no_mean(route, kind):
    for dB, stored, (e, h) in zip(*moved(route, kind, *data(centred=True)), strict=True):
        B, *P = stored
        there = lambda B: loss(B.dot(P[0]) if P else B, e, h)  # noqa: B023, E731
        np.testing.assert_allclose(dB[0], -slope(there, B), rtol=1e-11, atol=1e-13)
        assert not any(other.any() for other in dB[1:])


@pytest.mark.parametrize("route", [Direct(), Layerwise()], ids=repr)
def test_with_means_it_forgets_by_the_covariance(route):
    for (dB,), (B,), (e, h) in zip(*moved(route, Dense(), *data(centred=False)), strict=True):
        G = sum(np.outer(a, b) for a, b in zip(e, h, strict=True)) / len(e)
        assert np.abs(e.mean(0)).max() > 0.1
        np.testing.assert_allclose(dB, -G.T - B @ np.cov(e.T, bias=True), rtol=1e-11, atol=1e-13)


def test_it_ends_at_the_least_squares_prediction():
    x, y = data(centred=True)
    rule = Rule(Direct(), Dense(), Delta(), geometry=linfa.rules.LayerRates((0.0, 0.0, 0.0)))
    run = linfa.simulate(rule, linfa.Task.from_data(x, y), linfa.Network(W), 60.0, rtol=1e-10, atol=1e-12)
    for (B,), (e, h) in zip(run.at(-1).feedback, carried(Direct(), None, x, y), strict=True):
        np.testing.assert_allclose(B, -np.linalg.lstsq(e, h, rcond=None)[0].T, rtol=0, atol=1e-8)
