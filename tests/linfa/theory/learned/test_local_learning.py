"""Local learning: the first layer and its head under backprop, the memory of the readout, and what lies outside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

import linfa
from linfa.dynamics import State
from linfa.rules import Dense, Fixed, KolenPollack, LayerRates, Local, RandomFactors, Rule
from linfa.theory import AssumptionError, LocalMode, bp_mode, first_head, readout_memory

RULE = linfa.local()
SEEDS = st.integers(0, 10**6)


@given(t=st.floats(0, 5), s=st.floats(0.2, 2), u0=st.floats(0.01, 3))
def test_memory_is_the_integrated_strength(t, s, u0):
    used = quad(lambda x: bp_mode(x, s, u0), 0, t, epsabs=1e-13)[0]  # w_1^2 = u
    assert readout_memory(t, s, u0) == pytest.approx(np.exp(-used), rel=1e-9)


@given(a=st.floats(0, 3), b=st.floats(0, 3), s=st.floats(0.2, 2), u0=st.floats(0.01, 3))
def test_memory_fades_as_a_semigroup(a, b, s, u0):
    later = readout_memory(b, s, bp_mode(a, s, u0))
    assert readout_memory(a + b, s, u0) == pytest.approx(readout_memory(a, s, u0) * later, rel=1e-10)


@given(seed=SEEDS)
def test_layers_above_do_not_reach_the_first(seed):
    setup, rng = LocalMode.example(RULE, seed), np.random.default_rng(seed)
    (W1, *above), ((B,), *others) = setup.network.weights, setup.feedback
    other = State((W1, *(rng.standard_normal(W.shape) for W in above)), ((B,), *others))
    one = LocalMode(RULE, setup.task, State((W1, *above), ((B,), *others))).predict(setup.times)
    assert np.array_equal(one, LocalMode(RULE, setup.task, other).predict(setup.times))


@given(seed=SEEDS)
def test_prediction_at_later_times_starts_anew(seed):
    setup = LocalMode.example(RULE, seed)
    run = linfa.simulate(RULE, setup.task, setup.network, [0.0, 0.5], feedback=setup.feedback, rtol=1e-12, atol=1e-15)
    first, then = (LocalMode(RULE, setup.task, run.at(i)) for i in (0, 1))
    assert np.abs(first.predict([0.5, 1.5]) - then.predict([0.0, 1.0])).max() < 1e-8


def test_a_readout_that_starts_as_the_head_stays_the_head():
    setup = LocalMode.example(RULE, 0)
    (B,), W1 = setup.feedback[0], setup.network.weights[0]
    run = linfa.simulate(RULE, setup.task, linfa.Network((W1, B.T)), 5.0, feedback=((B,),), rtol=1e-11, atol=1e-13)
    assert np.abs(run.weights[1] - first_head(run).weights[1]).max() < 1e-13


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.bp(), "route is not Local"),
        (linfa.drtp(), "route is not Local"),
        (linfa.sgr(modules=2, lam=0.0), "several layers"),
        (linfa.local(decay=0.1), "weights decay at rate 0.1"),
        (Rule(Local(), Dense(), Fixed()), "heads do not descend"),
        (Rule(Local(), RandomFactors(1), KolenPollack()), "heads are not full"),
        (Rule(Local(), RandomFactors(1, clamp=1.0), KolenPollack()), "clamped"),
        (Rule(Local(), Dense(), KolenPollack(), geometry=LayerRates((1.0, 0.0))), "not Euclidean"),
    ],
)
def test_other_rules_are_refused(rule, text):
    with pytest.raises(AssumptionError, match=text):
        LocalMode.check_rule(rule)


def test_other_starts_are_refused():
    setup = LocalMode.example(RULE, 0)
    (B,), W1 = setup.feedback[0], setup.network.weights[0]

    def theory(W1, B, task=setup.task):
        return LocalMode(RULE, task, State((W1, B.T), ((B,),)))

    with pytest.raises(AssumptionError, match=r"not aligned: .* by 0\.\d"):
        theory(W1 @ np.linalg.qr(np.random.default_rng(0).standard_normal((setup.task.n_in,) * 2))[0], B)
    coloured = linfa.Task.teacher(setup.task.Syx, np.diag(np.linspace(1, 1.5, setup.task.n_in)))
    with pytest.raises(AssumptionError, match="not white"):
        theory(W1, B, coloured)
    with pytest.raises(AssumptionError, match="no hidden layer"):
        LocalMode(RULE, setup.task, State((setup.task.Syx,), ()))
