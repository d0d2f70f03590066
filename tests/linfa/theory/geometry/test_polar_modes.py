"""Polar updates: arrivals against root finding, frames found again, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State
from linfa.rules import NewtonSchulz, Polar, Rule
from linfa.theory import AssumptionError, PolarModes, newton_schulz_gain, polar_arrival, polar_mode, polar_oscillation

BP, FA = linfa.muon(linfa.bp()), linfa.muon(linfa.fa())
WEIGHTS = st.lists(st.floats(0, 0.7), min_size=1, max_size=5)


@given(st.floats(1, 5), WEIGHTS)
def test_arrival_inverts_the_mode(s, weights):
    time = polar_arrival(s, weights)
    assert polar_mode(time, weights) == pytest.approx(s, rel=1e-12)
    root = s ** (1 / len(weights))
    assert root - max(weights) - 1e-12 <= time <= root - min(weights) + 1e-12


@given(st.floats(1, 5), WEIGHTS, st.floats(0, 0.1))
def test_a_later_start_arrives_earlier(s, weights, shift):
    """The flow of one mode is a shift in time."""
    later = polar_arrival(s, [w + shift for w in weights])
    assert later == pytest.approx(polar_arrival(s, weights) - shift, abs=1e-12)


@given(st.floats(1, 3), WEIGHTS, st.floats(1e-3, 0.1))
def test_the_jump_is_within_two_slopes(s, weights, lr):
    time = polar_arrival(s, weights)
    slope = sum(polar_mode(time + lr, weights) / (w + time + lr) for w in weights)
    assert 0 < polar_oscillation(s, weights, lr) <= lr * slope * (1 + 1e-9)


def test_wrong_starts_of_a_mode():
    with pytest.raises(ValueError, match=r"at least 0; got -0\.1"):
        polar_arrival(1.0, [-0.1, 0.2])
    with pytest.raises(ValueError, match="below s = 1; got 4"):
        polar_arrival(1.0, [2.0, 2.0])


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([BP, FA, linfa.muon(linfa.dfa()), linfa.muon(linfa.ldfa(2, "fixed"))]))
def test_frames_are_found_whatever_the_basis(seed, rule):
    """Rotated hidden layers have the same arrivals."""
    setup = PolarModes.example(rule, seed)
    rng, sizes = np.random.default_rng(seed), setup.network.widths
    turn = [np.eye(sizes[0]), *(np.linalg.qr(rng.standard_normal((n, n)))[0] for n in sizes[1:-1]), np.eye(sizes[-1])]
    weights = tuple(turn[i + 1] @ w @ turn[i].T for i, w in enumerate(setup.network.weights))
    feedback = []
    for edge, stored in zip(rule.route.edges(len(weights)), setup.feedback, strict=True):
        above, below = turn[edge.source].T, turn[edge.activity]
        if len(stored) == 2:
            feedback.append((below @ stored[0], stored[1] @ above))
        else:
            feedback.append(tuple(below @ B @ above for B in stored))
    one = PolarModes(rule, setup.task, State(setup.network.weights, setup.feedback))
    two = PolarModes(rule, setup.task, State(weights, tuple(feedback)))
    np.testing.assert_allclose(one.arrivals, two.arrivals, rtol=1e-9)
    np.testing.assert_allclose(one.predict(setup.times), two.predict(setup.times), atol=1e-9)


def test_modes_that_the_feedback_misses_stay():
    rule, task = linfa.muon(linfa.ldfa(1, "fixed")), linfa.Task.teacher(np.diag([2.0, 1.0]))
    stored = ((np.array([[1.0], [0.0]]), np.array([[1.0, 0.0]])),)
    run = linfa.simulate(rule, task, linfa.Network.zero((2, 2, 2)), 1.0, feedback=stored)
    closed = PolarModes(rule, task, run.at(0))
    assert closed.arrivals.tolist() == [np.sqrt(2), np.inf]
    np.testing.assert_allclose(closed.predict([1.0])[0], np.diag([1.0, 0.0]), atol=1e-12)
    assert closed.error(run) < 1e-8


def test_all_modes_at_one_speed_where_backprop_takes_turns():
    task = linfa.Task.from_spectrum([3.0, 1.0], seed=0)
    network = linfa.Network.aligned(task, [2], 1e-4)
    polar, plain = (linfa.simulate(rule, task, network, [0.0, 0.9]) for rule in (BP, linfa.bp()))
    np.testing.assert_allclose(polar.mode_strengths[1], (0.01 + 0.9) ** 2, rtol=1e-9)
    assert plain.mode_strengths[1, 0] > 30 * plain.mode_strengths[1, 1]


def _closed(rule, network, feedback=(), task=None):
    task = task or linfa.Task.teacher(np.diag([2.0, 1.0]))
    return PolarModes(rule, task, State(tuple(np.asarray(w, float) for w in network), tuple(feedback)))


I2 = np.eye(2)


@pytest.mark.parametrize(
    ("network", "text"),
    [
        ((I2 * 2, I2), r"at or above its singular value, by 1"),
        ((-0.1 * I2, 0.2 * I2), r"shrinks, from 0\.2: its layers do not agree in sign"),
        (([[0.1, 0.05], [0.0, 0.1]], I2), r"not aligned: weights and feedback are off the modes of the task by"),
    ],
)
def test_starts_outside_the_assumptions(network, text):
    with pytest.raises(AssumptionError, match=text):
        _closed(BP, network, ((),))


def test_feedback_outside_the_assumptions():
    with pytest.raises(AssumptionError, match=r"not aligned: .* off the modes of the task by 0\.29"):
        _closed(FA, (0.1 * I2, 0.1 * I2), ((np.array([[1.0, 0.3], [0.0, 1.0]]),),))
    with pytest.raises(AssumptionError, match="not white"):
        _closed(BP, (0.1 * I2, 0.1 * I2), ((),), linfa.Task.teacher(I2, Sxx=np.diag([1.0, 2.0])))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.bp(), r"not along polar factors: Euclidean\(\)"),
        (Rule(BP.route, BP.feedback, geometry=Polar(keep_norm=True)), "not along polar factors"),
        (Rule(BP.route, BP.feedback, geometry=NewtonSchulz()), "not along polar factors"),
        (linfa.muon(linfa.bp(decay=0.1)), "decay at rate 0.1"),
        (linfa.muon(linfa.kolen_pollack()), "feedback learns"),
        (linfa.muon(linfa.drtp()), "not errors carried down"),
        (linfa.muon(linfa.ldfa(2, "fixed", clamp=1.0)), "clamped at 1.0"),
        (linfa.muon(linfa.sign_symmetry("uSF")), "follows the weights"),
    ],
)
def test_rules_outside_the_assumptions(rule, text):
    with pytest.raises(AssumptionError, match=text):
        PolarModes.example(rule)


def test_no_prediction_after_the_first_arrival():
    closed = _closed(BP, (0.1 * I2, 0.1 * I2), ((),))
    assert closed.predict([0.9]).shape == (1, 2, 2)
    with pytest.raises(ValueError, match=r"arrives at time 0\.9, where the flow ends; got 0\.91"):
        closed.predict([0.0, 0.91])
    with pytest.raises(ValueError, match=r"arrives at time 0\.9, where alignment becomes unstable; got 1\.2"):
        closed.descent(0.1, 12)


def test_after_the_first_arrival_alignment_can_be_unstable():
    """The aligned oscillation is a solution of descent, but rounding errors off its frames grow beyond it."""
    setup = PolarModes.example(BP, 0)
    run = linfa.descend(BP, setup.task, setup.network, 0.02, 80, feedback=setup.feedback)
    closed = PolarModes(BP, setup.task, run.at(0))
    U, Vt = closed.modes.U, closed.modes.Vt
    off = np.linalg.norm(run.map - U @ (U.T @ run.map @ Vt.T * np.eye(len(Vt))) @ Vt, axis=(1, 2))
    first = int(closed.arrivals.min() / 0.02)
    assert off[: first + 1].max() < 1e-14
    assert 0.01 < off.max() < 0.2


def test_newton_schulz_gain():
    assert newton_schulz_gain(0.0) == 0
    assert newton_schulz_gain(0.3, steps=0) == 0.3
    with pytest.raises(ValueError, match=r"are in \[0, 1\]; got 0.1 to 1.1"):
        newton_schulz_gain([0.1, 1.1])
