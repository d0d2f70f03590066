"""Target projection: its curve against quadrature, the closed form on drawn problems, and what lies outside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

import linfa
from linfa.rules import Fixed, Hebb, LayerRates, RandomFactors, Rule, Target
from linfa.theory import AssumptionError, TargetProjection, ZeroInitFA, drtp_fraction, drtp_gain
from linfa.theory.learned.target_curve import DRTP_PEAK, PEAK_AT

SEEDS = st.integers(0, 10**6)
TASK = linfa.Task.from_spectrum([2.0, 1.0], n_in=3, n_out=2, seed=1)
ZERO = linfa.Network.zero((3, 4, 2))


@given(t=st.floats(0.01, 6), s=st.floats(0.05, 3))
def test_gain_is_the_integral(t, s):
    value = quad(lambda u: s * u * np.exp(s**2 * (u**3 - t**3) / 3), 0, t, epsabs=1e-14, epsrel=1e-12)[0]
    assert drtp_gain(t, s) == pytest.approx(value, rel=1e-9)


@given(t=st.floats(0.1, 3), s=st.floats(0.1, 2), c=st.floats(0.3, 3))
def test_fraction_is_one_curve_in_its_own_time(t, s, c):
    assert drtp_fraction(t / np.cbrt(c) ** 2, c * s) == pytest.approx(drtp_fraction(t, s), rel=1e-12)


def test_fraction_overshoots_and_comes_down_algebraically():
    times = np.linspace(0, 5, 20001)
    x = drtp_fraction(times, 1.3)
    assert x.max() == pytest.approx(DRTP_PEAK, abs=1e-7)
    assert 1.3**2 * times[x.argmax()] ** 3 / 3 == pytest.approx(PEAK_AT, rel=1e-3)
    assert (np.diff(x[: x.argmax()]) > 0).all()
    assert (np.diff(x[x.argmax() :]) < 0).all()
    assert (drtp_fraction(50.0, 1.0) - 1) * 50.0**3 == pytest.approx(1, rel=1e-4)


@given(s=st.floats(0.3, 2))
def test_modes_against_an_integrator(s):
    path = solve_ivp(lambda t, g: s * t * (1 - g * s * t), (0, 3), [0.0], rtol=1e-11, atol=1e-13, t_eval=[1, 3])
    assert drtp_gain(np.array([1.0, 3.0]), s) == pytest.approx(path.y[0], rel=1e-8)


@given(seed=SEEDS, factors=st.booleans())
def test_weights_on_drawn_problems(seed, factors):
    rule = Rule(Target(), RandomFactors(2)) if factors else linfa.drtp()
    setup = TargetProjection.example(rule, seed)
    run = linfa.simulate(rule, setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11, atol=1e-13)
    closed = TargetProjection(rule, setup.task, run.at(0))
    for found, wanted in zip(run.weights, closed.weights(run.times), strict=True):
        assert np.abs(found - wanted).max() < 1e-8 * max(1, np.abs(wanted).max())


@given(seed=SEEDS, lr=st.floats(0.01, 0.1))
def test_descent_is_exact(seed, lr):
    setup = TargetProjection.example(linfa.drtp(), seed)
    run = linfa.descend(linfa.drtp(), setup.task, setup.network, lr, 80, feedback=setup.feedback)
    assert TargetProjection(linfa.drtp(), setup.task, run.at(0)).discrete_error(run) < 1e-11


def test_descent_is_stable_for_the_steps_it_says():
    state = linfa.dynamics.State(linfa.Network.zero((1, 1, 1)).weights, ((np.ones((1, 1)),),))
    task = linfa.Task.from_spectrum([1.0])
    theory = TargetProjection(linfa.drtp(), task, state)
    gap = np.abs(1 - theory.discrete(0.1, 88)[:, 0, 0])
    steps = int(theory.stable_steps(0.1))
    assert steps == 44
    assert (0.1**3 * np.array([steps, steps + 1]) ** 2 < 2).tolist() == [True, False]
    assert gap[88] > 100 * gap[steps]
    zero = linfa.dynamics.State(state.weights, ((np.zeros((1, 1)),),))
    assert TargetProjection(linfa.drtp(), task, zero).stable_steps(0.1) == np.inf


@given(seed=SEEDS)
def test_rotations_of_the_hidden_layer_change_nothing(seed):
    rng = np.random.default_rng(seed)
    B, rotation = rng.standard_normal((4, 2)), np.linalg.qr(rng.standard_normal((4, 4)))[0]
    maps = [
        TargetProjection(linfa.drtp(), TASK, linfa.dynamics.State(ZERO.weights, ((b,),))).predict([0.5, 2.0])
        for b in (B, rotation @ B)
    ]
    assert np.abs(maps[0] - maps[1]).max() < 1e-12


@given(seed=SEEDS)
def test_early_learning_is_that_of_feedback_alignment(seed):
    """W_2 W_1 ~ t^3/2 Sigma Sigma^T B^T B Sigma for both."""
    feedback = ((np.random.default_rng(seed).standard_normal((4, 2)),),)
    state = linfa.dynamics.State(ZERO.weights, feedback)
    one, other = (
        kind(rule, TASK, state).predict([1e-3])
        for kind, rule in ((TargetProjection, linfa.drtp()), (ZeroInitFA, linfa.fa()))
    )
    assert np.abs(one - other).max() < 1e-5 * np.abs(one).max()


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.fa(), "route is not Target"),
        (linfa.local(), "route is not Target"),
        (Rule(Target(), RandomFactors(2), Fixed(), decay=0.1), "weights decay at rate 0.1"),
        (Rule(Target(), RandomFactors(2, clamp=1.0)), "clamped at 1.0"),
        (Rule(Target(), RandomFactors(2), geometry=LayerRates((1.0, 0.0))), "not Euclidean"),
        (Rule(Target(), RandomFactors(2), Hebb()), "feedback learns"),
    ],
)
def test_other_rules_are_refused(rule, text):
    with pytest.raises(AssumptionError, match=text):
        TargetProjection.check_rule(rule)


@pytest.mark.parametrize(
    ("task", "network", "text"),
    [
        (linfa.Task.from_spectrum([1.0], Sxx=np.eye(1) * 1.5), linfa.Network.zero((1, 2, 1)), "an entry of 0.5"),
        (TASK, linfa.Network.small((3, 4, 2), scale=0.1), r"W_1\(0\) is not zero: 0.\d+"),
        (TASK, linfa.Network.zero((3, 4, 4, 2)), "depth is 3, not 2"),
    ],
)
def test_other_starts_are_refused(task, network, text):
    start = linfa.simulate(linfa.drtp(), task, network, [0.0]).at(0)
    with pytest.raises(AssumptionError, match=text):
        TargetProjection(linfa.drtp(), task, start)
