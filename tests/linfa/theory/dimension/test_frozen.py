"""One of two layers frozen: closed forms against the equation itself, limits, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import linfa
from linfa.dynamics import State
from linfa.rules import (
    Dense,
    Direct,
    FixedSign,
    LayerRates,
    Layerwise,
    Normative,
    Oja,
    RandomFactors,
    RedrawnSign,
    Rule,
    SVDFactors,
    Transpose,
    UnitSign,
)
from linfa.theory import AssumptionError, examples
from linfa.theory.base import relative_error
from linfa.theory.dimension.frozen_hidden import FrozenHidden, frozen_hidden_error
from linfa.theory.dimension.frozen_readout import (
    FrozenReadout,
    frozen_readout_error,
    frozen_readout_limit,
    frozen_readout_max_lr,
)
from linfa.theory.result import descent_error, flow_error

SEEDS = st.integers(0, 10**6)
SIZES = st.integers(1, 5)
READOUT, HIDDEN = LayerRates((0.7, 0.0)), LayerRates((0.0, 1.3))


def drawn(n, k, m, r, seed):
    """W_2, Q, P, E and Sxx."""
    rng, r = np.random.default_rng(seed), min(r, k, m)
    Q, P = examples.matrix(rng, k, r, 0.5, 1.2), examples.matrix(rng, r, m, 0.5, 1.2)
    return rng.standard_normal((m, k)), Q, P, rng.standard_normal((m, n)), examples.moment(rng, n, 0.5, 1.5)


def integrated(field, E0, times):
    flow = solve_ivp(lambda _, e: field(e.reshape(E0.shape)).ravel(), (0, times[-1]), E0.ravel(), "DOP853", times,
                     rtol=1e-11, atol=1e-13)  # fmt: skip
    return flow.y.T.reshape(-1, *E0.shape)


@given(n=SIZES, k=SIZES, m=SIZES, r=SIZES, seed=SEEDS)
def test_the_equation_of_the_error(n, k, m, r, seed):
    W2, Q, P, E0, Sxx = drawn(n, k, m, r, seed)
    B, W1, times = Q @ P, np.random.default_rng(seed).standard_normal((k, n)), np.array([0.0, 0.3, 1.0])
    flow = integrated(lambda E: -W2 @ B @ E @ Sxx, E0, times)
    assert relative_error(frozen_readout_error(W2, B, E0, times, Sxx), flow) <= 1e-8
    flow = integrated(lambda E: -E @ W1.T @ W1 @ Sxx, E0, times)
    assert relative_error(frozen_hidden_error(W1, E0, times, Sxx), flow) <= 1e-8
    for closed, first in ((frozen_readout_error, (W2, B)), (frozen_hidden_error, (W1,))):
        assert np.allclose(closed(*first, E0, times), closed(*first, E0, times, np.eye(n)))


@given(n=SIZES, k=SIZES, m=SIZES, r=SIZES, seed=SEEDS)
def test_semigroup_and_rotations(n, k, m, r, seed):
    W2, Q, P, E0, Sxx = drawn(n, k, m, r, seed)
    B, rng = Q @ P, np.random.default_rng(seed)
    once, both = frozen_readout_error(W2, B, E0, [0.4, 1.0], Sxx)
    assert np.allclose(frozen_readout_error(W2, B, once, [0.6], Sxx)[0], both)
    R, turn, V = (examples.frame(rng, size, size) for size in (m, k, n))
    turned = frozen_readout_error(R @ W2 @ turn.T, turn @ B @ R.T, R @ E0 @ V.T, [1.0], V @ Sxx @ V.T)
    assert np.allclose(turned[0], R @ both @ V.T)
    assert np.allclose(frozen_hidden_error(turn @ W2.T, E0.T, [1.0]), frozen_hidden_error(W2.T, E0.T, [1.0]))


@given(n=SIZES, k=SIZES, m=SIZES, r=SIZES, seed=SEEDS)
def test_the_limit(n, k, m, r, seed):
    """With P W_2 Q = M given, the low-rank closed form, its limit and an oblique projection."""
    _, Q, P, E0, Sxx = drawn(n, k, m, r, seed)
    rng, r = np.random.default_rng(seed), P.shape[0]
    M = np.eye(r) + 0.3 * rng.standard_normal((r, r)) / r
    rest, up, down = rng.standard_normal((m, k)), np.linalg.pinv(P), np.linalg.pinv(Q)
    W2 = up @ M @ down + rest - up @ P @ rest @ Q @ down
    limit = frozen_readout_limit(W2, Q @ P, E0)
    assert np.allclose(P @ limit, 0, atol=1e-12)
    assert np.allclose(frozen_readout_error(W2, Q @ P, E0, [200.0], Sxx)[0], limit, atol=1e-9)
    assert np.allclose(frozen_readout_limit(W2, Q @ P, limit), limit)
    left = np.eye(r) - frozen_readout_error(M, np.eye(r), np.eye(r), [0.8])[0]
    low = E0 - W2 @ Q @ np.linalg.inv(M) @ left @ P @ E0
    assert np.allclose(frozen_readout_error(W2, Q @ P, E0, [0.8])[0], low)


def test_what_is_not_seen_can_grow_beyond_the_error_at_the_start():
    E0 = np.array([[1.0], [0.0]])
    limit = frozen_readout_limit(np.array([[1.0], [5.0]]), np.array([[1.0, 0.0]]), E0)
    assert np.linalg.norm(limit) > np.linalg.norm(E0)


@given(a=st.floats(0.1, 2), b=st.floats(-2, 2), xi=st.floats(0.3, 2))
def test_the_largest_learning_rate(a, b, xi):
    W2 = np.array([[a, -b], [b, a]])
    lr = frozen_readout_max_lr(W2, np.eye(2), xi * np.eye(3))
    assert abs(1 - lr * xi * (a + 1j * b)) == pytest.approx(1.0)
    assert frozen_readout_max_lr(W2, np.eye(2)) == pytest.approx(xi * lr)


def test_no_feedback_at_all():
    W2, B, E0 = np.ones((2, 3)), np.zeros((3, 2)), np.ones((2, 2))
    assert frozen_readout_limit(W2, B, E0).tolist() == E0.tolist()
    assert frozen_readout_max_lr(W2, B) == np.inf


@pytest.mark.parametrize("W2", [np.array([[-1.0]]), np.array([[0.0]])])
def test_no_decay_of_the_error_is_refused(W2):
    for call in (lambda: frozen_readout_limit(W2, np.eye(1), W2), lambda: frozen_readout_max_lr(W2, np.eye(1))):
        with pytest.raises(AssumptionError, match=r"does not decay: W_2 B has an eigenvalue of real part -?[01]"):
            call()


@pytest.mark.parametrize("feedback", [Dense(), RandomFactors(2), Transpose(), UnitSign(), FixedSign()])
@given(seed=SEEDS)
def test_theories_of_many_rules(feedback, seed):
    for kind, geometry in ((FrozenReadout, READOUT), (FrozenHidden, HIDDEN)):
        rule = Rule(Layerwise(), feedback, geometry=geometry)
        assert flow_error(kind, rule, seed) <= 1e-8
        assert descent_error(kind, rule, seed, steps=50) <= 1e-11


@pytest.mark.parametrize("feedback", [Dense(), Transpose(), FixedSign()])
def test_nothing_is_left_of_the_mode_equations(feedback):
    for kind, geometry in ((FrozenReadout, READOUT), (FrozenHidden, HIDDEN)):
        residuals = kind.residuals(linfa.derive(Rule(Layerwise(), feedback, geometry=geometry), 2))
        assert residuals == (0, 0)


def test_limit_of_a_network():
    rule, task = Rule(Direct(), Dense(), geometry=READOUT), linfa.Task.teacher(np.diag([1.0, 2.0]), noise=0.1)
    network = linfa.Network((np.zeros((2, 2)), np.array([[1.0, 0.2], [0.0, 1.0]])))
    run = linfa.simulate(rule, task, network, [0.0, 60.0], feedback=((np.array([[1.0, 0.5], [0.0, 0.0]]),),))
    theory = FrozenReadout(rule, task, run.at(0))
    assert np.allclose(theory.observed(run)[-1], theory.limit)
    assert theory.max_lr == pytest.approx(2 / 0.7)


RULES = [
    (FrozenReadout, Rule(Layerwise(), Dense()), "exactly W_2 should be frozen: Euclidean"),
    (FrozenReadout, Rule(Layerwise(), Dense(), geometry=LayerRates((0.0, 0.0))), "exactly W_2 should be frozen"),
    (FrozenReadout, Rule(Layerwise(), Dense(), geometry=HIDDEN), "exactly W_2 should be frozen"),
    (FrozenReadout, Rule(Layerwise(), Dense(), geometry=LayerRates((1.0, 0.0, 0.0))), "exactly W_2 should be frozen"),
    (FrozenReadout, Rule(Layerwise(), RandomFactors(2), Oja(), geometry=READOUT), "feedback learns"),
    (FrozenReadout, Rule(Direct(1), Dense(), geometry=READOUT), "no feedback edge"),
    (FrozenReadout, Rule(Layerwise(), RandomFactors(2, 1.0), geometry=READOUT), "clamped at 1.0"),
    (FrozenReadout, Rule(Layerwise(), RedrawnSign(), geometry=READOUT), "drawn anew"),
    (FrozenReadout, Rule(Layerwise(), Dense(), decay=0.2, geometry=READOUT), "weights decay at rate 0.2"),
    (FrozenHidden, Rule(Layerwise(), Dense(), geometry=READOUT), "exactly W_1 should be frozen"),
    (FrozenHidden, Rule(Layerwise(), Transpose(), decay=0.2, geometry=HIDDEN), "weights decay at rate 0.2"),
    (FrozenHidden, Rule(Layerwise(), SVDFactors(2, 1.0), Normative(), geometry=HIDDEN), "clamped"),
]


@pytest.mark.parametrize(("kind", "rule", "text"), RULES)
def test_rules_outside_the_assumptions(kind, rule, text):
    with pytest.raises(AssumptionError, match=text):
        kind.example(rule)


@pytest.mark.parametrize(("kind", "geometry"), [(FrozenReadout, READOUT), (FrozenHidden, HIDDEN)])
def test_depth(kind, geometry):
    network, task = linfa.Network.zero((2, 2, 2, 2)), linfa.Task.from_spectrum([1.0, 1.0])
    feedback = ((np.eye(2),),) * 2
    with pytest.raises(AssumptionError, match="depth is 3, not 2"):
        kind(Rule(Layerwise(), Dense(), geometry=geometry), task, State(network.weights, feedback))
