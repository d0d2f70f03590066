"""Feedback through the weights below: determinants, column spaces, aligned modes, and what lies outside."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import expm, logm

import linfa
from linfa.dynamics import State
from linfa.rules import LayerRates, Modulated, RandomFactors, Rule, SVDFactors
from linfa.theory import (
    AssumptionError,
    PepitaMode,
    bp_mode,
    column_projector,
    pepita_logdet,
    pepita_logdet_descent,
    pepita_mode,
)

RULE = linfa.pepita()
SEEDS = st.integers(0, 10**6)
SIZE = st.floats(0.2, 1.2)


@given(seed=SEEDS)
def test_logdet_of_a_constant_error(seed):
    rng = np.random.default_rng(seed)
    F, E = rng.standard_normal((3, 2)), 0.3 * rng.standard_normal((2, 3))
    assert pepita_logdet(F, E) == pytest.approx(np.trace(logm(expm(F @ E))).real, abs=1e-9)
    assert pepita_logdet(F, np.stack([E, 2 * E])) == pytest.approx(np.array([1, 2]) * pepita_logdet(F, E))
    fine = pepita_logdet_descent(F, np.tile(E, (4096, 1, 1)), 1 / 4096)
    assert fine[0] == 0
    assert fine[-1] == pytest.approx(pepita_logdet(F, E), abs=1e-2)


@given(seed=SEEDS)
def test_projectors(seed):
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((5, 2)) @ rng.standard_normal((2, 3))
    P = column_projector(W)
    assert np.abs(P @ P - P).max() < 1e-12
    assert np.trace(P) == pytest.approx(2)
    assert np.abs(P @ W - W).max() < 1e-12
    assert np.abs(P - column_projector(W @ rng.standard_normal((3, 3)))).max() < 1e-8


def test_dead_units_stay_dead_and_zero_weights_learn_nothing():
    task = linfa.Task.from_spectrum([1.0, 0.5], n_in=3, n_out=2, seed=0)
    W1, W2 = linfa.Network.small((3, 5, 2), scale=1.0, seed=1).weights
    W1[1] = 0
    run = linfa.simulate(RULE, task, linfa.Network((W1, W2)), 3.0, seed=2)
    assert not run.weights[0][:, 1].any()
    assert np.array_equal(linfa.simulate(RULE, task, linfa.Network.zero((3, 5, 2)), 3.0).map[-1], np.zeros((2, 3)))


@given(w1=SIZE, w2=st.floats(-1, 1), f=st.floats(-1.2, 1.2), s=st.floats(0.2, 1.5), sign=st.sampled_from([-1, 1]))
def test_modes_against_an_integrator(w1, w2, f, s, sign):
    w1, times = sign * w1, [0.0, 0.5, 3.0]
    assume(f == 0 or abs(f) > 1e-3)
    try:
        closed = np.stack(pepita_mode(times, w1, w2, f, s))
    except AssumptionError:
        assume(False)
    path = solve_ivp(
        lambda _, w: [f * w[0] * (s - w[0] * w[1]), w[0] * (s - w[0] * w[1])],
        (0, 3), [w1, w2], rtol=1e-11, atol=1e-13, t_eval=times, method="DOP853",
    )  # fmt: skip
    assert np.abs(closed - path.y).max() < 1e-8


@given(t=st.floats(0, 4), w=SIZE, s=st.floats(0.2, 1.5))
def test_unit_feedback_in_balance_is_backprop(t, w, s):
    w1, w2 = pepita_mode([t], w, w, 1.0, s)
    assert w1 * w2 == pytest.approx(bp_mode(t, s, w * w), rel=1e-9)


@given(a=st.floats(0, 2), b=st.floats(0, 2), w1=SIZE, w2=st.floats(-1, 1), f=st.floats(0.2, 1.2), s=st.floats(0.2, 1.5))
def test_group_law_and_units(a, b, w1, w2, f, s):
    there = np.ravel(pepita_mode([a + b], w1, w2, f, s))
    on_the_way = np.ravel(pepita_mode([a], w1, w2, f, s))
    assert np.ravel(pepita_mode([b], *on_the_way, f, s)) == pytest.approx(there, abs=1e-8)
    assert np.ravel(pepita_mode([(a + b) / 4], 2 * w1, 2 * w2, f, 4 * s)) == pytest.approx(2 * there, abs=1e-8)
    assert np.ravel(pepita_mode([a + b], w1, -w2, -f, -s)) == pytest.approx([1, -1] * there, abs=1e-9)
    assert there[0] - f * there[1] == pytest.approx(w1 - f * w2, abs=1e-9)


def test_small_feedback_meets_no_feedback():
    none, small = (np.stack(pepita_mode([0.3, 3.0], 0.7, -0.4, f, 1.2)) for f in (0.0, 1e-6))
    assert np.abs(none - small).max() < 1e-5
    assert np.ravel(pepita_mode([2.0], 0.0, 0.3, 0.0, 1.0)).tolist() == [0.0, 0.3]
    assert np.ravel(pepita_mode([2.0], 0.0, 0.3, 0.5, 1.0)).tolist() == [0.0, 0.3]


def test_negative_feedback_can_unlearn():
    w1, w2 = pepita_mode([0.0, 10.0, 20.0], 0.3, 0.0, -1.0, 1.0)
    assert np.diff(np.log(w1))[1] == pytest.approx(-10, rel=1e-3)
    assert w1[-1] * w2[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "rule", [Rule(Modulated(), RandomFactors(r)) for r in (1, 3)] + [Rule(Modulated(), SVDFactors(2))]
)
@given(seed=SEEDS)
def test_factors_of_any_rank(rule, seed):
    setup = PepitaMode.example(rule, seed)
    run = linfa.simulate(
        rule, setup.task, setup.network, [0.0, 1.0, 4.0], feedback=setup.feedback, rtol=1e-11, atol=1e-13
    )
    assert PepitaMode(rule, setup.task, run.at(0)).error(run) < 1e-8


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.fa(), "route is not Modulated"),
        (Rule(Modulated(), RandomFactors(1), decay=0.1), "weights decay at rate 0.1"),
        (Rule(Modulated(), RandomFactors(1, clamp=1.0)), "clamped"),
        (Rule(Modulated(), RandomFactors(1), geometry=LayerRates((1.0, 0.0))), "not Euclidean"),
    ],
)
def test_other_rules_are_refused(rule, text):
    with pytest.raises(AssumptionError, match=text):
        PepitaMode.check_rule(rule)


EYE = np.eye(2)
TASK = linfa.Task.teacher(np.diag([2.0, 1.0]))


@pytest.mark.parametrize(
    ("weights", "F", "task", "text"),
    [
        ((EYE, EYE), EYE, linfa.Task.teacher(EYE, np.diag([1.0, 1.5])), "not white: .* 0.5"),
        ((EYE, EYE, EYE), EYE, TASK, "depth is 3, not 2"),
        ((EYE, EYE), np.array([[1.0, 1.0], [0.0, 1.0]]), TASK, "off the common frames|overlap"),
        ((np.ones((2, 2)), EYE), EYE, TASK, "hidden units of two modes overlap by"),
        ((EYE, EYE), EYE, linfa.Task.teacher(np.diag([2.0, 0.0])), "two roots of a mode nearly coincide"),
    ],
)
def test_other_starts_are_refused(weights, F, task, text):
    with pytest.raises(AssumptionError, match=text):
        PepitaMode(RULE, task, State(weights, ((F,),)))
