"""FA through one direction: its clock against quadrature, its weights against networks, special cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

import linfa
from linfa.dynamics import State
from linfa.theory.alignment.rank_one import RankOneFA, weighted_cubic_clock
from linfa.theory.alignment.zero_init_fa import ZeroInitFA
from linfa.theory.base import AssumptionError, relative_error

SEEDS = st.integers(0, 10**6)
S, C, H = st.floats(0.2, 3.0), st.floats(-2.0, 2.0), st.floats(0.3, 3.0)


@given(s=S, c=C, h=H, part=st.floats(0.05, 0.95), power=st.integers(0, 2))
def test_the_clock_is_an_integral(s, c, h, part, power):
    top = np.roots([-h / 2, 0.0, -c, s])
    top = top.real.max()
    value = quad(lambda u: u**power / (s - c * u - h * u**3 / 2), 0, part * top, epsabs=0, epsrel=1e-12)[0]
    closed = weighted_cubic_clock(power, part * top, -np.log1p(-part), s, c, h)
    assert closed == pytest.approx(value, rel=1e-6)


@given(seed=SEEDS, rank=st.integers(1, 3))
def test_networks(seed, rank):
    rule = linfa.ldfa(rank, "fixed")
    setup = RankOneFA.example(rule, seed)
    run = linfa.simulate(rule, setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11, atol=1e-13)
    closed = RankOneFA(rule, setup.task, run.at(0))
    assert closed.error(run) <= 1e-8
    assert relative_error(closed.first_weight(run.times), run.weights[0]) <= 1e-8


@given(seed=SEEDS)
def test_one_output_alone(seed):
    """m = 1: a scalar equation for alpha, integrated on its own, for readouts that oppose the feedback as well."""
    rng = np.random.default_rng(seed)
    k, n = rng.integers(1, 5, 2)
    b, w, teacher = rng.standard_normal(k), rng.standard_normal(k), rng.uniform(0.5, 1.5) * rng.standard_normal(n)
    start = State((np.zeros((k, n)), w[None]), ((b[:, None],),))
    times = np.linspace(0, 3, 7)
    closed = RankOneFA(linfa.fa(), linfa.Task.teacher(teacher[None]), start).predict(times)[:, 0]
    s, c, h = np.linalg.norm(teacher), b @ w, b @ b
    path = solve_ivp(lambda t, a: s - c * a - h * a**3 / 2, (0, 3), [0.0], "DOP853", times, rtol=1e-12, atol=1e-14)
    alpha = path.y[0][:, None]
    assert np.allclose(closed, alpha * (c + h * alpha**2 / 2) * teacher / s, atol=1e-9)


@given(seed=SEEDS)
def test_from_zero_weights_it_is_zero_init(seed):
    setup = RankOneFA.example(linfa.fa(), seed)
    start = State(linfa.Network.zero(setup.network.widths).weights, setup.feedback)
    both = [kind(linfa.fa(), setup.task, start).predict(setup.times) for kind in (RankOneFA, ZeroInitFA)]
    assert relative_error(*both) <= 1e-9


def test_it_ends_where_the_feedback_sees_no_error():
    setup = RankOneFA.example(linfa.fa(), 3)
    closed = RankOneFA(linfa.fa(), setup.task, State(setup.network.weights, setup.feedback))
    (end,) = closed.predict([1e4])
    assert np.allclose(closed.beam.p @ (setup.task.Syx - end), 0, atol=1e-10)


@pytest.mark.parametrize(
    ("B", "W1", "text"),
    [
        (np.eye(2), np.zeros((2, 2)), "more than one direction: its singular values are"),
        (np.diag([0.0, 1.0]), np.zeros((2, 2)), r"sees nothing: \|q\|\^2 \|Sigma\^T p\| is 0"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "sees nothing"),
        (np.diag([1.0, 0.0]), np.eye(2), r"W_1\(0\) is not zero: 1"),
    ],
)
def test_other_starts(B, W1, text):
    task = linfa.Task.teacher(np.diag([1.0, 0.0]))
    with pytest.raises(AssumptionError, match=text):
        RankOneFA(linfa.fa(), task, State((W1, np.ones((2, 2))), ((B,),)))


def test_other_inputs_and_rules():
    start = State((np.zeros((2, 2)), np.ones((2, 2))), ((np.diag([1.0, 0.0]),),))
    with pytest.raises(AssumptionError, match=r"not white: Sxx - I has an entry of 0\.5"):
        RankOneFA(linfa.fa(), linfa.Task.teacher(np.eye(2), np.diag([0.5, 1.0])), start)
    with pytest.raises(AssumptionError, match="feedback follows the weights"):
        RankOneFA.example(linfa.bp())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((3, 0.1, 0.1, 1.0, 1.0, 1.0), "power is 0, 1 or 2; got 3"),
        ((0, 0.1, 0.1, 0.0, 1.0, 1.0), "s and h are positive; got 0.0 and 1.0"),
        ((0, 0.1, 0.1, 1.0, 1.0, -1.0), "s and h are positive; got 1.0 and -1.0"),
    ],
)
def test_outside_of_the_clock(arguments, text):
    with pytest.raises(ValueError, match=text):
        weighted_cubic_clock(*arguments)
