"""The clock of backprop at any depth, its inverse and its limits, and the theory of aligned starts."""

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

import linfa
from linfa.dynamics import State
from linfa.theory import AssumptionError, DepthMode, bp_mode, depth_clock, depth_mode, depth_time, log_beta, power_clock

DEPTHS = st.sampled_from([2, 2.5, 3, 4, 7, 30])
STRENGTHS = st.floats(0.02, 3.0)
TIMES = st.floats(0, 4)


@given(y=st.floats(1e-6, 40), a=st.floats(0.1, 4))
def test_log_beta_is_hypergeometric(y, a):
    with mpmath.workdps(40):
        z = 1 - mpmath.exp(-mpmath.mpf(y))
        closed = z**a / a * mpmath.hyp2f1(1, a, 1 + a, z)
    assert log_beta(y, a) == pytest.approx(float(closed), rel=1e-13)


@given(x=st.floats(0.01, 0.999), p=st.integers(1, 12))
def test_log_beta_is_the_clock_of_powers(x, p):
    assert log_beta(-np.log1p(-(x**p)), 1 / p) / p == pytest.approx(power_clock(x, p), rel=1e-12)


@given(fractions=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)), s=st.floats(0.1, 3),
       N=st.sampled_from([1, 1.5, 2, 3, 5, 40, np.inf]), above=st.booleans())  # fmt: skip
def test_clock_is_the_integral(fractions, s, N, above):
    u0, u = (s / f if above else s * f for f in fractions)
    integral = quad(lambda v: np.exp((2 / N - 2) * v + v) / (s - np.exp(v)), np.log(u0), np.log(u), epsabs=1e-13)[0]
    assert depth_clock(u, u0, s, N) == pytest.approx(integral, rel=1e-9, abs=1e-11)


@given(start=st.floats(0.01, 0.5), end=st.floats(0.5, 0.99), s=st.floats(0.1, 3))
def test_clocks_that_are_known(start, end, s):
    u0, u = start * s, end * s
    logits = np.log(u * (s - u0) / (u0 * (s - u)))
    assert depth_clock(u, u0, s, 1) == pytest.approx(np.log((s - u0) / (s - u)), rel=1e-12)
    assert depth_clock(u, u0, s, 2) == pytest.approx(logits / s, rel=1e-12)
    limit = logits / s**2 + (1 / u0 - 1 / u) / s
    assert depth_clock(u, u0, s, np.inf) == pytest.approx(limit, rel=1e-12)
    assert depth_clock(u, u0, s, 1e6) == pytest.approx(limit, rel=1e-4)
    assert depth_time(u, u0, s, 2 + 1e-9) == pytest.approx(depth_time(u, u0, s, 2), rel=1e-7)


@pytest.mark.parametrize("N", [3, 5, 20])
def test_small_starts_take_a_power_of_them(N):
    u0 = 1e-40
    assert depth_clock(1.0, u0, 1.7, N) == pytest.approx(u0 ** (2 / N - 1) / ((1 - 2 / N) * 1.7), rel=1e-5)


@given(start=st.floats(0.01, 3.0), s=st.floats(0, 3), N=DEPTHS, times=st.lists(TIMES, min_size=1, max_size=6))
def test_inverse_pair(start, s, N, times):
    u = depth_mode(times, s, start, N)
    seen = np.abs(u - s) > 1e-3 * max(s, start)
    assert depth_time(u[seen], start, s, N) == pytest.approx(np.array(times)[seen], rel=1e-9, abs=1e-9)
    order = np.argsort(times)
    assert (np.diff(u[order]) * np.sign(s - start) >= -1e-14).all()


@given(t1=TIMES, t2=TIMES, s=st.floats(0, 3), u0=STRENGTHS, N=DEPTHS)
@example(t1=1.0, t2=1.0, s=0.25, u0=3.0, N=30)  # Newton starts where u rounds to s
def test_group_law(t1, t2, s, u0, N):
    assert depth_mode(t1 + t2, s, u0, N) == pytest.approx(depth_mode(t2, s, depth_mode(t1, s, u0, N), N), rel=1e-10)


@given(t=TIMES, s=st.floats(0.05, 2), u0=STRENGTHS, N=DEPTHS, scale=st.floats(0.2, 4))
def test_change_of_units(t, s, u0, N, scale):
    """u -> c u and s -> c s turn t into t / c^(2 - 2/N)."""
    scaled = depth_mode(t / scale ** (2 - 2 / N), scale * s, scale * u0, N)
    assert scaled == pytest.approx(scale * depth_mode(t, s, u0, N), rel=1e-10)


@given(t=TIMES, s=st.floats(0, 3), u0=st.floats(0, 3))
def test_two_layers(t, s, u0):
    assert depth_mode(t, s, u0, 2) == pytest.approx(bp_mode(t, s, u0), rel=1e-12)


@given(s=st.floats(0, 2), u0=STRENGTHS, N=DEPTHS)
def test_mode_solves_its_equation(s, u0, N):
    times = np.linspace(0, 3, 7)
    flow = solve_ivp(lambda _, u: N * u ** (2 - 2 / N) * (s - u), (0, 3), [u0], "DOP853", times, rtol=1e-12, atol=1e-14)
    assert depth_mode(times, s, u0, N) == pytest.approx(flow.y[0], rel=1e-9)


def test_ends():
    times = np.array([[0.0], [1.0], [1e6]])
    u = depth_mode(times, np.array([1.0, 2.0, 0.0, 1.0, 1e-60]), np.array([0.0, 2.0, 0.5, 0.3, 0.5]), 4)
    assert u.shape == (3, 5)
    assert u[0] == pytest.approx([0.0, 2.0, 0.5, 0.3, 0.5])
    assert u[2, [0, 1, 3]] == pytest.approx([0.0, 2.0, 1.0])
    assert u[:, 2] == pytest.approx((0.5**-1.5 + 6 * times[:, 0]) ** (-1 / 1.5), rel=1e-12)  # u' = -4 u^(5/2)
    assert u[:, 4] == pytest.approx(u[:, 2], rel=1e-13)
    assert depth_clock([2.0, 1.5], 1.5, 2.0, 3).tolist() == [np.inf, 0.0]
    assert depth_clock(2.0, 2.0, 2.0, 3) == 0.0
    tiny = depth_mode([0.0, 1.0], 1.0, 1e-200, 3)
    assert tiny == pytest.approx([1e-200, 1e-200], rel=1e-12)


@given(t=st.floats(0, 50), s=st.floats(0, 3), u0=st.floats(0, 3), N=DEPTHS)
@example(t=50.0, s=0.7, u0=3.0, N=3)
def test_modes_never_pass_the_task(t, s, u0, N):
    assert min(s, u0) <= depth_mode(t, s, u0, N) <= max(s, u0)


def test_bad_arguments():
    with pytest.raises(ValueError, match="N is at least 1: got 0"):
        depth_clock(0.5, 0.1, 1.0, 0)
    for N in (1, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"N is at least 2 and finite: got {N}"):
            depth_mode(0.5, 1.0, 0.1, N)
    for call in (lambda s, u0: depth_clock(0.5, u0, s, 3), lambda s, u0: depth_mode(0.5, s, u0, 3)):
        with pytest.raises(ValueError, match=r"singular values are at least 0: got -1\.0"):
            call(-1.0, 0.1)
        with pytest.raises(ValueError, match=r"the start is at least 0: got -0\.1"):
            call(1.0, -0.1)
    with pytest.raises(ValueError, match=r"strengths are positive: got 0\.0, from 0\.1"):
        depth_clock([0.5, 0.0], 0.1, 1.0, 3)
    with pytest.raises(ValueError, match="s lies between the start and some strength"):
        depth_time([0.5, 1.5], 0.1, 1.0, 3)
    with pytest.raises(ValueError, match="s lies between the start and some strength"):
        depth_time(0.5, 1.0, 1.0, 3)
    for times in ([-1.0, 1.0], [0.0, np.inf]):
        with pytest.raises(ValueError, match="times are finite and at least 0: got"):
            depth_mode(times, 1.0, 0.1, 3)


def test_the_same_body_under_sympy():
    u, u0, s = sp.symbols("u u_0 s", positive=True)
    at = {u: sp.Rational(3, 2), u0: sp.Rational(1, 5), s: 2}
    for N in (2, 3, 4):
        assert float(sp.N(depth_clock(u, u0, s, N).subs(at))) == pytest.approx(float(depth_clock(1.5, 0.2, 2.0, N)))


# The theory.


def _theory(task, network):
    return DepthMode(linfa.bp(), task, State(network.weights, ((),) * (network.depth - 1)))


TASK = linfa.Task.from_spectrum([1.5, 0.8], n_in=3, n_out=2, seed=1)


@given(n=st.integers(1, 4), m=st.integers(1, 4), depth=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_flow_above_and_below(n, m, depth, seed):
    """Strengths on either side of the task, equal and vanishing singular values."""
    rng = np.random.default_rng(seed)
    s = rng.choice([0.0, 0.7, 1.4], min(n, m))
    task = linfa.Task.from_spectrum(s, n_in=n, n_out=m, seed=seed)
    network = linfa.Network.aligned(task, [min(n, m) + 1] * (depth - 1), rng.uniform(0.05, 2, min(n, m)), seed=seed)
    run = linfa.simulate(linfa.bp(), task, network, np.linspace(0, 2, 5), rtol=1e-11, atol=1e-13)
    assert DepthMode(linfa.bp(), task, run.at(0)).error(run) <= 1e-8


def test_depth_two_is_saxe():
    network, times = linfa.Network.aligned(TASK, [4], [0.1, 0.2]), np.linspace(0, 5, 9)
    saxe = linfa.theory.SaxeMode(linfa.bp(), TASK, State(network.weights, ((),)))
    assert _theory(TASK, network).predict(times) == pytest.approx(saxe.predict(times), abs=1e-13)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_nothing_is_left_at_any_depth(depth):
    assert DepthMode.residuals(linfa.derive(linfa.bp(), depth)) == (0,) * depth


def test_violated_assumptions_are_named():
    aligned = linfa.Network.aligned(TASK, [3, 2], 0.1)
    other = linfa.Network.aligned(linfa.Task.from_spectrum([1.5, 0.8], n_in=3, n_out=2, seed=2), [3, 2], 0.1)
    coloured = linfa.Task.teacher(TASK.Syx, np.diag([1.0, 1.31, 1.0]))
    rows = [
        (TASK, linfa.Network((np.zeros((2, 3)),)), "depth is 1: there is no hidden layer"),
        (TASK, linfa.Network.small((3, 3, 3, 2)), "unbalanced by"),
        (coloured, aligned, r"not white: Sxx - I has an entry of 0\.31"),
        (TASK, other, "off the singular vectors of Syx"),
        (TASK, linfa.Network((*aligned.weights[:2], -aligned.weights[2])), r"its lowest strength there is -0\.1"),
    ]
    for task, network, text in rows:
        with pytest.raises(AssumptionError, match=text):
            _theory(task, network)
    for rule in (linfa.fa(), linfa.bp(decay=0.1), linfa.dfa(), linfa.kolen_pollack()):
        with pytest.raises(AssumptionError):
            DepthMode.example(rule)
