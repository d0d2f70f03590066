"""ZeroInitDFA: the weights themselves, two layers against ZeroInitFA, laws of the modes, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State
from linfa.theory import AssumptionError, examples
from linfa.theory.alignment.zero_init_fa import ZeroInitFA, timescale
from linfa.theory.base import relative_error
from linfa.theory.depth.common_modes import dfa_factor, dfa_timescale
from linfa.theory.depth.zero_init_dfa import BROADCAST, ZeroInitDFA

SEEDS = st.integers(0, 10**6)
RULES = {"dfa": linfa.dfa(), "fa": linfa.fa(), "low rank": BROADCAST, "layerwise, low rank": linfa.ldfa(2, "fixed")}


def closed(rule, setup):
    return ZeroInitDFA(rule, setup.task, State(setup.network.weights, setup.feedback))


@given(rule=st.sampled_from(sorted(RULES)), seed=SEEDS)
def test_every_weight(rule, seed):
    rule = RULES[rule]
    setup = ZeroInitDFA.example(rule, seed)
    run = linfa.simulate(rule, setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11, atol=1e-13)
    weights = closed(rule, setup).weights(run.times)
    assert max(np.abs(a - b).max() for a, b in zip(weights, run.weights, strict=True)) <= 1e-8
    product = weights[0]
    for W in weights[1:]:
        product = W @ product
    assert relative_error(closed(rule, setup).predict(run.times), product) <= 1e-11


@given(seed=SEEDS, lr=st.floats(0.01, 0.1))
def test_two_layers_are_zero_init_fa(seed, lr):
    rule = linfa.fa()
    setup = ZeroInitFA.example(rule, seed)
    state = State(setup.network.weights, setup.feedback)
    deep, shallow = (kind(rule, setup.task, state) for kind in (ZeroInitDFA, ZeroInitFA))
    assert relative_error(shallow.predict(setup.times), deep.predict(setup.times)) <= 1e-11
    assert relative_error(shallow.weights(setup.times), deep.weights(setup.times)) <= 1e-7
    assert relative_error(shallow.discrete(lr, 30), deep.discrete(lr, 30)) <= 1e-11


@given(seed=SEEDS, factor=st.floats(0.5, 2.0))
def test_scaling(seed, factor):
    """Feedback c times as strong is a task learned c^((2^L - 2)/p) times as fast."""
    rule = linfa.dfa()
    setup = ZeroInitDFA.example(rule, seed)
    L = len(setup.network.weights)
    state = State(setup.network.weights, tuple((factor * B,) for (B,) in setup.feedback))
    faster = ZeroInitDFA(rule, setup.task, state).predict(setup.times / factor ** ((2**L - 2) / (2**L - 1)))
    assert relative_error(closed(rule, setup).predict(setup.times), faster) <= 1e-10


@given(seed=SEEDS)
def test_rotations(seed):
    rule = linfa.dfa()
    setup = ZeroInitDFA.example(rule, seed)
    rng = np.random.default_rng(seed)
    turn = [np.linalg.qr(rng.standard_normal((len(B), len(B))))[0] for (B,) in setup.feedback]
    U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in setup.task.Syx.shape)
    feedback = tuple((R @ B @ U.T,) for R, (B,) in zip(turn, setup.feedback, strict=True))
    task = linfa.Task.teacher(U @ setup.task.Syx @ V.T)
    turned = ZeroInitDFA(rule, task, State(setup.network.weights, feedback)).predict(setup.times)
    assert relative_error(closed(rule, setup).predict(setup.times), U.T @ turned @ V) <= 1e-8


@given(squares=st.lists(st.floats(0.1, 4.0), min_size=1, max_size=5))
def test_factor_by_its_recursion(squares):
    phi = 1.0
    for cut, h in enumerate(squares, 1):
        phi *= phi * h / 2**cut
    assert dfa_factor(squares) == pytest.approx(phi, rel=1e-12)
    assert dfa_timescale(squares) == pytest.approx(phi ** (-1 / (2 ** (len(squares) + 1) - 1)), rel=1e-12)


def test_known_values():
    assert dfa_timescale((4.0,)) == pytest.approx(timescale(2.0), rel=1e-14)
    assert dfa_timescale((1.0, 0.0)) == np.inf


def test_depth_sharpens_the_step():
    """The time from a tenth to nine tenths of a mode, in units of the time to its half, falls with depth."""
    widths = []
    for depth in (2, 3, 4, 5):
        state = State(linfa.Network.zero((1,) * (depth + 1)).weights, ((np.ones((1, 1)),),) * (depth - 1))
        times = np.linspace(0, 8, 4001)
        learned = ZeroInitDFA(linfa.dfa(), linfa.Task.teacher(np.ones((1, 1))), state).predict(times)[:, 0, 0]
        tenth, half, most = (times[np.searchsorted(learned, level)] for level in (0.1, 0.5, 0.9))
        widths.append((most - tenth) / half)
    assert (np.diff(widths) < -0.05).all()


def test_layers_that_see_different_modes_are_refused():
    task = linfa.Task.teacher(np.diag([1.0, 2.0]))
    rng = np.random.default_rng(0)
    feedback = tuple((rng.standard_normal((3, 2)),) for _ in range(2))
    with pytest.raises(AssumptionError, match=r"layers 1 and 2 see different modes: .* do not commute, by 0\.0"):
        ZeroInitDFA(linfa.dfa(), task, State(linfa.Network.zero((2, 3, 3, 2)).weights, feedback))


def test_other_starts_are_refused():
    shared = ((np.eye(2),),) * 2
    zero, small = linfa.Network.zero((2, 2, 2, 2)), linfa.Network.small((2, 2, 2, 2))
    white = linfa.Task.teacher(np.eye(2))
    with pytest.raises(AssumptionError, match=r"W_1\(0\) is not zero"):
        ZeroInitDFA(linfa.dfa(), white, State(small.weights, shared))
    with pytest.raises(AssumptionError, match="not white: Sxx - I has an entry of 1"):
        ZeroInitDFA(linfa.dfa(), linfa.Task.teacher(np.eye(2), np.diag([1.0, 2.0])), State(zero.weights, shared))
    with pytest.raises(AssumptionError, match="depth is 1"):
        ZeroInitDFA(linfa.dfa(), white, State((np.zeros((2, 2)),), ()))
    with pytest.raises(AssumptionError, match="feedback learns"):
        ZeroInitDFA.check_rule(linfa.kolen_pollack(0.0))
    with pytest.raises(AssumptionError, match="no feedback edge"):
        ZeroInitDFA.check_rule(linfa.ldfa(2, "fixed", direct=True))


def test_a_mode_that_one_layer_misses_is_not_learned():
    """Its lower weights grow without end, in proportion to time."""
    rng = np.random.default_rng(0)
    rule, task = linfa.dfa(), linfa.Task.teacher(np.diag([1.0, 0.7]))
    feedback = ((np.eye(2),), (examples.frame(rng, 3, 1) @ np.array([[1.0, 0.0]]),))
    run = linfa.simulate(rule, task, linfa.Network.zero((2, 2, 3, 2)), [0.0, 5.0, 10.0], feedback=feedback, rtol=1e-11)
    theory = ZeroInitDFA(rule, task, run.at(0))
    assert theory.error(run) <= 1e-8
    assert theory.weights(run.times)[0][:, 1, 1] == pytest.approx(0.7 * run.times)
    assert run.weights[0][:, 1, 1] == pytest.approx(0.7 * run.times)
