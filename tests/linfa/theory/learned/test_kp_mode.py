"""Modes of Kolen-Pollack without decay: the clock and its inverse, aligned problems, and what lies outside."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import linfa
from linfa.dynamics import State
from linfa.rules import Dense, Direct, KolenPollack, LayerRates, Layerwise, Rule
from linfa.theory import AssumptionError, KPMode, bp_mode, kp_angle, kp_time, kp_weights, poly_time
from linfa.theory.learned.frames import diagonal_in, hidden_frame, outer_frames

RULE = linfa.kolen_pollack(0.0)
SEEDS = st.integers(0, 10**6)
WEIGHT = st.floats(-1.2, 1.2)


def weights_at(t, w1, w2, b, s):
    return [w[-1] for w in kp_weights(kp_angle(np.atleast_1d(t), w1, w2, b, s), w1, w2, b)]


@given(w1=WEIGHT, w2=WEIGHT, b=WEIGHT, s=st.floats(-1.5, 1.5))
def test_weights_against_an_integrator(w1, w2, b, s):
    assume(abs(abs(w1) - abs(b)) > 0.05)

    def field(_, x):
        error = s - x[0] * x[1]
        return [x[2] * error, x[0] * error, x[0] * error]

    try:
        closed = np.stack(kp_weights(kp_angle([0.0, 0.7, 3.0], w1, w2, b, s), w1, w2, b))
    except AssumptionError:
        assume(False)
    path = solve_ivp(field, (0, 3), [w1, w2, b], rtol=1e-11, atol=1e-13, t_eval=[0, 0.7, 3], method="DOP853")
    assert np.abs(closed - path.y).max() < 1e-8


@given(
    t=st.floats(0, 4), b0=st.floats(0.1, 1.5), sign=st.sampled_from([-1, 1]), d=st.floats(-2, 2), s=st.floats(0.2, 2)
)
def test_clock_and_angle_are_inverse(t, b0, sign, d, s):
    b0, d = sign * b0, sign * d
    w1, w2, b = weights_at(t, b0, b0 - d, b0, s)
    assert w1 == pytest.approx(b)
    assume(abs(s - w1 * w2) > 1e-3)
    assert kp_time(b, b0, d, s) == pytest.approx(t, rel=1e-8, abs=1e-9)


@given(part=st.floats(0.01, 0.95), b0=st.floats(0.1, 1.5), d=st.floats(-2, 2), s=st.floats(0.2, 2))
def test_clock_is_that_of_the_polynomial(part, b0, d, s):
    end = (d + np.sqrt(d**2 + 4 * s)) / 2
    assume(abs(end - b0) > 0.05)
    b = b0 + part * (end - b0)
    assert kp_time(b, b0, d, s) == pytest.approx(poly_time(b, b0, [-1.0, d, s, 0.0]), rel=1e-8)


@given(t=st.floats(0, 4), w=st.floats(0.1, 1.0), s=st.floats(0.2, 2))
def test_feedback_that_is_the_weight_is_backprop(t, w, s):
    w1, w2, _ = weights_at(t, w, w, w, s)
    assert w1 * w2 == pytest.approx(bp_mode(t, s, w * w), rel=1e-9)


@given(a=st.floats(0, 2), c=st.floats(0, 2), w1=WEIGHT, w2=WEIGHT, b=WEIGHT, s=st.floats(0.2, 1.5))
def test_group_law_and_symmetries(a, c, w1, w2, b, s):
    assume(abs(abs(w1) - abs(b)) > 0.05)
    there = weights_at(a + c, w1, w2, b, s)
    assert weights_at(c, *weights_at(a, w1, w2, b, s), s) == pytest.approx(there, abs=1e-8)
    assert [-w for w in weights_at(a + c, -w1, -w2, -b, s)] == pytest.approx(there, abs=1e-9)
    assert np.array([1, -1, -1]) * weights_at(a + c, w1, -w2, -b, -s) == pytest.approx(there, abs=1e-9)
    scaled = weights_at((a + c) / 4, 2 * w1, 2 * w2, 2 * b, 4 * s)
    assert [w / 2 for w in scaled] == pytest.approx(there, abs=1e-8)


def test_late_times_and_rest():
    assert weights_at(1e3, 0.0, 0.0, 1.0, 2.0)[0] > 0
    w1, w2, _ = weights_at(1e4, 0.3, -0.2, 0.5, 1.3)
    assert w1 * w2 == pytest.approx(1.3, rel=1e-12)
    assert (kp_angle([0.0, 5.0], 0.0, 0.4, 0.0, 1.0) == 0).all()
    assert (kp_angle([0.0, 5.0], 2.0, 0.5, 0.3, 1.0) == 0).all()
    assert weights_at(100.0, 0.5, 0.1, 0.5, -1.0)[0] == pytest.approx(0, abs=1e-40)  # s < 0, d^2 < -4s: unlearned
    assert weights_at(100.0, 0.5, -0.1, -0.5, 1.0)[0] == pytest.approx(0, abs=1e-40)  # w_1 = -b: the same


def test_places_beyond_a_fixed_point_are_refused():
    for b in (-0.1, 1.0, 1.5):
        with pytest.raises(ValueError, match="one of -1, 0 and 1, fixed points, lies between"):
            kp_time(b, 0.5, 0.0, 1.0)


def test_degenerate_modes_are_refused():
    for t in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="times are finite and at least 0; got"):
            kp_angle([0.0, t], 0.5, 0.2, 0.5, 1.0)
    with pytest.raises(AssumptionError, match="two roots of a mode nearly coincide: they are 0 apart"):
        kp_angle([1.0], 0.5, 0.2, 0.5, 0.0)


@given(seed=SEEDS)
def test_conserved_along_predictions(seed):
    setup = KPMode.example(RULE, seed)
    theory = KPMode(RULE, setup.task, State(setup.network.weights, setup.feedback))
    w1, w2, b = theory.strengths(setup.times)
    for conserved in (w1**2 - b**2, b - w2):
        assert np.abs(conserved - conserved[0]).max() < 1e-10 * max(1, np.abs(w1).max() ** 2)


@given(seed=SEEDS)
def test_rotations_are_followed(seed):
    rng, setup = np.random.default_rng(seed), KPMode.example(RULE, seed)
    (W1, W2), ((B,),) = setup.network.weights, setup.feedback
    on_x, on_h, on_y = (np.linalg.qr(rng.standard_normal((i, i)))[0] for i in (W1.shape[1], *B.shape))
    turned = State((on_h @ W1 @ on_x.T, on_y @ W2 @ on_h.T), ((on_h @ B @ on_y.T,),))
    task = linfa.Task.teacher(on_y @ setup.task.Syx @ on_x.T)
    one = KPMode(RULE, setup.task, State((W1, W2), ((B,),))).predict([0.5, 3.0])
    other = KPMode(RULE, task, turned).predict([0.5, 3.0])
    assert np.abs(on_y @ one @ on_x.T - other).max() < 1e-8


@given(seed=SEEDS)
def test_broadcast_in_two_layers_is_the_same(seed):
    rule = Rule(Direct(), Dense(), KolenPollack())
    setup = KPMode.example(rule, seed)
    run = linfa.simulate(rule, setup.task, setup.network, [0.0, 2.0], feedback=setup.feedback, rtol=1e-11, atol=1e-13)
    assert KPMode(rule, setup.task, run.at(0)).error(run) < 1e-8


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.kolen_pollack(0.1), "weights decay at rate 0.1"),
        (linfa.fa(), "does not learn by Kolen-Pollack"),
        (linfa.ldfa(2, "kolen-pollack"), "not one matrix"),
        (linfa.local(), "not errors carried down"),
        (Rule(Direct(exact_top=1), Dense(), KolenPollack()), "no feedback edge"),
        (Rule(Layerwise(), Dense(), KolenPollack(), geometry=LayerRates((1.0, 0.0))), "not Euclidean"),
    ],
)
def test_other_rules_are_refused(rule, text):
    with pytest.raises(AssumptionError, match=text):
        KPMode.check_rule(rule)


EYE = np.eye(2)
TASK = linfa.Task.teacher(np.diag([2.0, 1.0]))


@pytest.mark.parametrize(
    ("weights", "B", "task", "text"),
    [
        ((0 * EYE, 0 * EYE), EYE, linfa.Task.teacher(EYE, np.diag([1.0, 1.5])), "not white: .* 0.5"),
        ((0 * EYE, 0 * EYE, EYE), EYE, TASK, "depth is 3, not 2"),
        ((EYE, EYE), np.ones((2, 2)), TASK, "hidden units of two modes overlap by"),
        ((EYE, np.eye(3, 2)), np.array([[1.0, 0, 1], [0, 1, 0]]), linfa.Task.teacher(np.eye(3, 2)), "frames by"),
        ((np.array([[1.0, 1.0], [0.0, 1.0]]), 0 * EYE), EYE, TASK, "not aligned"),
        ((EYE, EYE / 2), EYE, linfa.Task.teacher(np.diag([2.0, 0.0])), "two roots"),
    ],
)
def test_other_starts_are_refused(weights, B, task, text):
    feedback = ((B,),) * (len(weights) - 1)
    with pytest.raises(AssumptionError, match=text):
        KPMode(RULE, task, State(weights, feedback))


def test_frames():
    both = EYE, np.diag([1.0, -2.0])
    assert np.sort(np.abs([diagonal_in("M", M, *outer_frames(*both)) for M in both])).tolist() == [[1, 1], [1, 2]]
    with pytest.raises(AssumptionError, match=r"two modes overlap by 0\.7"):
        hidden_frame(np.array([[1.0, 1.0], [0.0, 1.0]]))
    with pytest.raises(AssumptionError, match=r"M is off the common frames by 1$"):
        diagonal_in("M", np.ones((2, 2)), EYE, EYE)
