"""Closed forms of factored weights against other solvers, their limits, and the errors outside their assumptions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import linfa
from linfa.rules import SVD
from linfa.theory import (
    AssumptionError,
    FactoredMode,
    factored_alignment,
    factored_mode,
    factored_mode_polynomial,
    factored_rates,
    orthogonality_error,
    orthogonality_max_lr,
    orthogonality_step,
    orthogonality_value,
    truncation_error,
)
from linfa.theory.backprop.depth_clock import depth_mode
from linfa.theory.clock import poly_time

UNIT = st.floats(0.05, 1.5)
TIMES = np.linspace(0, 3, 13)


@given(UNIT, UNIT, st.integers(1, 3))
def test_balanced_layers_are_chains_of_three(s, x, layers):
    closed = depth_mode(TIMES, s, x ** (3 * layers), 3 * layers)
    np.testing.assert_allclose(factored_mode(TIMES, s, x, 0.0, layers), closed, rtol=1e-7, atol=1e-10)


@given(UNIT, st.floats(0.05, 0.9), st.integers(1, 4))
def test_modes_against_an_integrator(s, x, layers):
    c = 1 - x * x

    def field(_, y):  # every layer u, x, v on its own
        w = np.prod(y)
        return w / y * (s - w)

    start = np.tile([1.0, x, 1.0], layers)
    run = solve_ivp(field, (0, 3), start, "Radau", TIMES, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(factored_mode(TIMES, s, x, c, layers), run.y.prod(0), rtol=1e-5, atol=1e-7)


@given(UNIT, st.floats(0.05, 0.9))
def test_the_clock_of_one_layer_in_partial_fractions(s, x):
    c = 1 - x * x
    w = factored_mode(np.array([0.4]), s, x, c)
    (y,) = (r.real for r in np.roots([1.0, 0.0, c, -w[0]]) if abs(r.imag) < 1e-9)
    if abs(s - x) > 1e-3:
        assert poly_time(y, x, factored_mode_polynomial(s, c)) == pytest.approx(0.4, rel=1e-5)


@given(UNIT, st.floats(0.05, 0.9), st.floats(0, 1), st.floats(0, 1))
def test_modes_go_on_from_where_they_are(s, x, first, second):
    c = 1 - x * x
    w = factored_mode(np.array([first]), s, x, c)[0]
    (y,) = (r.real for r in np.roots([1.0, 0.0, c, -w]) if abs(r.imag) < 1e-9)
    both = factored_mode(np.array([first + second]), s, x, c)
    np.testing.assert_allclose(factored_mode(np.array([second]), s, y, c), both, rtol=1e-8)


def test_modes_at_rest_stay():
    assert factored_mode(np.array([0.0, 5.0]), s=1.0, x=0.0, c=1.0, layers=2).tolist() == [0.0, 0.0]
    assert factored_mode(np.array([1e6]), s=0.0, x=0.5, c=0.75)[0] == pytest.approx(0, abs=1e-12)
    assert factored_mode(np.array([1e6]), s=0.7, x=0.5, c=0.75)[0] == pytest.approx(0.7)


@given(st.floats(0.1, 3), st.floats(0.05, 2), st.floats(0, 2), st.floats(0, 2))
def test_singular_values_form_a_semigroup_and_obey_their_equation(sigma, w, first, second):
    once = orthogonality_value(second, orthogonality_value(first, sigma, w), w)
    assert once == pytest.approx(orthogonality_value(first + second, sigma, w), rel=1e-10)
    h = 1e-5
    slope = (orthogonality_value(first + h, sigma, w) - orthogonality_value(first - h, sigma, w)) / (2 * h)
    y = orthogonality_value(first, sigma, w)
    assert slope == pytest.approx(-4 * w * y * (y * y - 1), rel=1e-4, abs=1e-6)


def test_the_last_of_a_gap_falls_at_eight_times_the_weight():
    late = orthogonality_error(np.array([10.0, 11.0]), np.array([0.3, 1.4]), weight=0.2)
    assert np.log(late[0] / late[1]) == pytest.approx(1.6, rel=1e-6)


def test_descent_on_the_penalty_from_far_away_grows_where_it_is_said_to():
    rate = 0.05
    edge = np.sqrt(1 + 1 / (2 * rate))
    assert orthogonality_step(0.99 * edge, rate) < 0.99 * edge
    assert orthogonality_step(1.01 * edge, rate) > 1.01 * edge


@given(st.integers(0, 1000))
def test_rates_are_the_spectrum_of_the_tangent_operator(seed):
    rng = np.random.default_rng(seed)
    r, m, n = 2, 4, 3
    s = rng.uniform(0.2, 2, r)
    U, V = (np.linalg.qr(rng.standard_normal((k, k)))[0][:, :r] for k in (m, n))
    S = np.diag(s)

    def moved(G):
        return G @ V @ S @ S @ V.T + U @ np.diag(np.diag(U.T @ G @ V)) @ V.T + U @ S @ S @ U.T @ G

    operator = np.stack([moved(E.reshape(m, n)).ravel() for E in np.eye(m * n)], 1)
    expected = np.sort(factored_rates(s, m, n).ravel())
    np.testing.assert_allclose(np.linalg.eigvalsh(operator), expected, atol=1e-10)


@given(st.integers(0, 1000))
def test_the_exact_error_always_lowers_the_loss(seed):
    rng = np.random.default_rng(seed)
    W = SVD(*(rng.standard_normal(shape) for shape in ((4, 2), (2, 1), (3, 2))))
    g, h = rng.standard_normal(4), rng.standard_normal(3)
    assert factored_alignment(W, g, g, h) >= 0


@pytest.mark.parametrize("s", [np.ones(3), np.ones((1, 1))])
def test_values_that_do_not_fit(s):
    with pytest.raises(ValueError, match="r at most 2; got shape"):
        factored_rates(s, 2, 5)


def test_weights_of_the_penalty():
    with pytest.raises(ValueError, match=r"is positive; got 0.0"):
        orthogonality_max_lr(0.0)


def test_leaving_out_nothing_costs_nothing():
    assert truncation_error(np.array([1.0, 2.0]), 2) == 0


TASK = linfa.Task.from_spectrum([2.0, 1.0], n_in=3, n_out=3, seed=1)
BP2 = linfa.factored(linfa.bp(), 2)


def aligned(strengths=(0.4, 0.1, 0.0), task=TASK, hidden=(4,)):
    return linfa.Network.aligned(task, list(hidden), strengths, seed=2)


def start(rule=BP2, network=None, task=TASK):
    return linfa.simulate(rule, task, network or aligned(), [0.0]).at(0)


def altered(number, **parts):
    state = start()
    weights = list(state.weights)
    weights[number] = weights[number]._replace(**parts)
    return linfa.dynamics.State(tuple(weights), state.feedback)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.bp(), "not free factors: Full"),
        (linfa.svd_local(2), "not free factors"),
        (linfa.factored(linfa.bp(), 2, "polar"), "not free factors"),
        (linfa.factored(linfa.fa(), 2), "not backprop"),
        (linfa.factored(linfa.bp(decay=0.1), 2), "weights decay"),
    ],
)
def test_other_rules_are_refused(rule, text):
    with pytest.raises(AssumptionError, match=text):
        FactoredMode.example(rule)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (lambda: altered(0, U=1.1 * start().weights[0].U), r"U_1\^T U_1 - I is not zero: 0.21"),
        (lambda: altered(1, V=1.1 * start().weights[1].V), r"V_2\^T V_2 - I is not zero: 0.21"),
        (lambda: altered(1, s=2 * start().weights[1].s), "the difference of s_2 and s_1 is not zero"),
        (lambda: altered(0, U=-start().weights[0].U), "strengths along the components are not all positive"),
        (lambda: start(network=linfa.Network.small((3, 4, 3), 0.5)), "angle between components of layers 1 and 2"),
        (lambda: start(linfa.factored(linfa.bp(), 3), linfa.Network.small((3, 4, 2, 3))), "different ranks"),
        (lambda: start(network=aligned(task=linfa.Task.from_spectrum([2.0, 1.0], n_in=3, n_out=3, seed=5))), "across"),
    ],
)
def test_starts_outside_the_assumptions(state, text):
    with pytest.raises(AssumptionError, match=text):
        FactoredMode(BP2, TASK, state())


def test_inputs_have_to_be_white():
    task = linfa.Task.teacher(np.diag([2.0, 1.0]), Sxx=np.diag([1.0, 2.0]))
    with pytest.raises(AssumptionError, match="not white"):
        FactoredMode(BP2, task, start(task=task, network=aligned((0.4, 0.1), task)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_modes_of_any_rank(seed, rank):
    rule = linfa.factored(linfa.bp(), rank)
    setup = FactoredMode.example(rule, seed)
    run = linfa.simulate(rule, setup.task, setup.network, setup.times, rtol=1e-11, atol=1e-13)
    assert FactoredMode(rule, setup.task, run.at(0)).error(run) <= 1e-8


def test_small_factored_layers_learn_small_modes_slower_than_backprop():
    """A mode from small s grows by s' ~ (1 + 2 s^2 ..) sigma: no plateau, as u and v start at 1."""
    full, parts = (linfa.simulate(rule, TASK, aligned((0.4, 0.1, 0.0), hidden=()), TIMES) for rule in (linfa.bp(), BP2))
    assert (parts.loss[1:5] < full.loss[1:5]).all()


def test_the_penalty_holds_what_fixed_feedback_would_let_go():
    """Free factors overshoot under feedback that is not the transpose; the penalty, and a retraction, hold them."""
    network, largest = linfa.Network.small((4, 6, 3), 0.5, seed=3), []
    task = linfa.Task.from_spectrum([2.0, 1.0], n_in=4, n_out=3, seed=0)
    rules = [linfa.svd_local(2, alignment=0.0, orthogonality=weight) for weight in (0.1, 0.5, 2.5)]
    for rule in (*rules, linfa.svd_local(2, alignment=0.0, orthogonality=0.0, retraction="polar")):
        run = linfa.descend(rule, task, network, 0.002, 3000, record=20)
        assert run.loss[-1] < run.loss[0]
        largest.append(np.abs(run.states.matrices[0]).max())
    assert largest[0] > 10 > 4 > largest[1] > 1.5 * largest[2]
    assert largest[2] > largest[3]
    U, _, V = run.at(-1).weights[0]
    assert max(np.abs(F.T @ F - np.eye(2)).max() for F in (U, V)) < 1e-14
