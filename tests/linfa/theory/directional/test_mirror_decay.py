"""Mirrors on frozen weights: the leaky average, its laws and limits, and what lies outside."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

import linfa
from linfa.dynamics import State
from linfa.rules import Dense, Direct, LayerRates, Layerwise, Mirror, RandomFactors, Rule
from linfa.theory import AssumptionError, MirrorDecay, forward_maps, leaky_descent, leaky_flow, mirror_targets
from linfa.theory.directional.mirror_decay import RULES
from linfa.theory.directional.problem import frozen

SEEDS = st.integers(0, 10**6)
RATE = st.floats(0, 3)
NUMBER = st.floats(-2, 2)


@given(t=st.floats(0, 5), leak=RATE, start=NUMBER, drive=NUMBER)
def test_leaky_flow_is_its_integral(t, leak, start, drive):
    taken = quad(lambda s: np.exp(-leak * (t - s)) * drive, 0, t, epsabs=1e-13)[0]
    assert leaky_flow(t, leak, start, drive) == pytest.approx(np.exp(-leak * t) * start + taken, abs=1e-11)


@given(t=st.floats(0, 3), s=st.floats(0, 3), leak=RATE, start=NUMBER, drive=NUMBER)
def test_leaky_flow_is_a_group(t, s, leak, start, drive):
    there = leaky_flow(t, leak, start, drive)
    assert leaky_flow(s, leak, there, drive) == pytest.approx(leaky_flow(t + s, leak, start, drive), abs=1e-11)
    assert leaky_flow(-t, leak, there, drive) == pytest.approx(start, abs=1e-9)


@given(leak=st.floats(0.5, 3), start=NUMBER, drive=NUMBER)
def test_leaky_limits(leak, start, drive):
    assert leaky_flow(100.0, leak, start, drive) == pytest.approx(drive / leak)
    assert leaky_flow(2.0, 1e-9, start, drive) == pytest.approx(leaky_flow(2.0, 0.0, start, drive), abs=1e-7)
    small = 1e-4
    fine = leaky_descent(20000, small * leak, np.array(start), np.array(small * drive))[-1]
    assert fine == pytest.approx(leaky_flow(2.0, leak, start, drive), abs=1e-3)


@given(a=st.floats(-0.5, 2), steps=st.integers(0, 30), start=NUMBER, drive=NUMBER)
def test_leaky_descent_is_its_recursion(a, steps, start, drive):
    x, path = start, [start]
    for _ in range(steps):
        x = (1 - a) * x + drive
        path.append(x)
    assert leaky_descent(steps, a, np.array(start), np.array(drive)) == pytest.approx(np.array(path), rel=1e-11)


def theory(rule, seed):
    setup = MirrorDecay.example(rule, seed)
    return MirrorDecay(rule, setup.task, State(setup.network.weights, setup.feedback))


@given(index=st.integers(0, len(RULES) - 1), seed=SEEDS)
def test_bias_is_forgotten_at_the_rate_of_the_leak(index, seed):
    rule = RULES[index]
    closed, learn = theory(rule, seed), rule.plasticity
    times = np.array([0.0, 0.3, 2.0])
    for B, goal in zip(closed.predict(times), mirror_targets(rule, closed.start), strict=True):
        if learn.leak:
            bias = B - learn.gain / learn.leak * goal
            assert bias == pytest.approx(np.exp(-learn.leak * times)[:, None, None] * bias[0], abs=1e-12)
        else:
            assert B - B[0] == pytest.approx(learn.gain * np.multiply.outer(times, goal), abs=1e-12)


@given(index=st.integers(0, len(RULES) - 1), seed=SEEDS)
def test_one_step_of_descent_is_the_velocity(index, seed):
    rule, lr = RULES[index], 0.13
    closed = theory(rule, seed)
    v = linfa.dynamics.velocity(rule, closed.start, closed.task.batch)
    assert not any(dW.any() for dW in v.weights)
    for B, stored, moves in zip(closed.discrete(lr, 1), closed.start.feedback, v.feedback, strict=True):
        assert B[1] == pytest.approx(stored[0] + lr * moves[0], abs=1e-12)
        assert not any(dP.any() for dP in moves[1:])


@given(seed=SEEDS)
def test_metamorphic(seed):
    """Turned outputs turn the feedback, and hidden units in another basis too."""
    rule = RULES[1]
    closed, rng = theory(rule, seed), np.random.default_rng(seed)
    W1, W2, W3 = closed.start.weights
    (B1,), (B2,) = closed.start.feedback
    on_h, on_y = (np.linalg.qr(rng.standard_normal((len(W), len(W))))[0] for W in (W1, W3))
    turned = State((on_h @ W1, W2 @ on_h.T, on_y @ W3), ((on_h @ B1 @ on_y.T,), (B2 @ on_y.T,)))
    one, other = closed.predict([0.7]), MirrorDecay(rule, closed.task, turned).predict([0.7])
    assert other[0] == pytest.approx(on_h @ one[0] @ on_y.T, abs=1e-11)
    assert other[1] == pytest.approx(one[1] @ on_y.T, abs=1e-11)


def test_in_the_end_feedback_is_the_scaled_map():
    for rule in (RULES[0], RULES[3], RULES[5]):
        closed = theory(rule, 3)
        learn = rule.plasticity
        for B, goal in zip(closed.predict([80.0]), mirror_targets(rule, closed.start), strict=True):
            assert B[0] == pytest.approx(learn.gain / learn.leak * goal, abs=1e-12)


def test_maps_of_edges():
    A, B, C = np.ones((2, 3)), np.diag([1.0, 2.0]), np.array([[1.0, 1.0]])
    weights = (A, B, C)
    assert [J.tolist() for J in forward_maps(linfa.dfa(), weights)] == [[[1.0, 2.0]], [[1.0, 1.0]]]
    assert [J.tolist() for J in forward_maps(linfa.fa(), weights)] == [[[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0]]]
    assert forward_maps(linfa.dfa(), (A,)) == ()
    stack = tuple(np.stack([W, 2 * W]) for W in weights)
    assert forward_maps(linfa.dfa(), stack)[0].tolist() == [[[1.0, 2.0]], [[4.0, 8.0]]]


def test_sampled_directions_have_no_exact_discrete_form():
    rule = frozen(linfa.directional_dfa(directions=3), 2)
    closed = theory(rule, 0)
    assert closed.discrete(0.1, 4) is None
    assert closed.predict([0.0, 1.0])[0].shape == (2, *closed.start.feedback[0][0].shape)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.directional_dfa(), r"exactly W_1, W_2 should be frozen: Euclidean\(\)"),
        (dataclasses.replace(linfa.directional_dfa(), geometry=LayerRates((0.0, 1.0))), "exactly W_1, W_2 should"),
        (frozen(linfa.fa(), 2), r"does not follow the forward map: Fixed\(\)"),
        (frozen(linfa.kolen_pollack(), 2), "does not follow the forward map"),
        (dataclasses.replace(frozen(linfa.weight_mirror(), 2), decay=0.3), "weights decay at rate 0.3"),
        (frozen(Rule(Direct(exact_top=1), Dense(), Mirror()), 2), "no feedback edge in a network of depth 2"),
        (frozen(Rule(Layerwise(), Dense(), Mirror()), 1), "no feedback edge in a network of depth 1"),
        (frozen(Rule(Layerwise(), RandomFactors(2, clamp=1.0), Mirror()), 2), "clamped at 1.0"),
    ],
)
def test_other_rules_are_refused(rule, text):
    with pytest.raises(AssumptionError, match=text):
        MirrorDecay.check_rule(rule)


def test_another_depth_is_refused():
    network = linfa.Network.small((2, 2, 2, 2))
    task = linfa.Task.from_spectrum([1.0, 1.0])
    with pytest.raises(AssumptionError, match="depth is 3, not 2"):
        MirrorDecay(RULES[0], task, State(network.weights, ((np.eye(2),), (np.eye(2),))))
