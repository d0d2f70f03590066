"""Layer rates as a change of feedback, from any start, and the errors outside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State
from linfa.rules import Dense, Direct, LayerRates, Layerwise, RandomFactors, Rule
from linfa.theory.alignment.layer_rates import LayerRatesFA, at_equal_rates
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.alignment.zero_init_fa import ZeroInitFA
from linfa.theory.base import AssumptionError, relative_error
from linfa.theory.result import flow_error

SEEDS, RATES = st.integers(0, 10**6), st.floats(0.2, 2.0)


def rule_of(first, second, feedback=None, route=None):
    return Rule(route or Layerwise(), feedback or Dense(), geometry=LayerRates((first, second)))


@given(seed=SEEDS, first=RATES, second=RATES)
def test_descent_from_any_start_is_the_same_in_other_units(seed, first, second):
    problem = FixedFeedbackProblem.draw(seed, white=False)
    begin = State(problem.network.weights, ((problem.B,),))
    run = linfa.descend(rule_of(first, second), problem.task, problem.network, 0.03, 50, feedback=begin.feedback)
    small = at_equal_rates(begin, (first, second))
    equal = linfa.descend(linfa.fa(), problem.task, linfa.Network(small.weights), 0.03, 50, feedback=small.feedback)
    assert relative_error(equal.map, run.map) <= 1e-11
    assert relative_error(equal.weights, at_equal_rates(run.states, (first, second)).weights) <= 1e-11


@given(a=RATES, b=RATES, c=RATES, d=RATES, seed=SEEDS)
def test_changes_of_rates_multiply(a, b, c, d, seed):
    rng = np.random.default_rng(seed)
    shapes = ((3, 2), (2, 3), (3, 2))
    W1, W2, B = (rng.standard_normal(shape) for shape in shapes)
    state = State((W1, W2), ((B,),))
    twice, once = at_equal_rates(at_equal_rates(state, (a, b)), (c, d)), at_equal_rates(state, (a * c, b * d))
    for left, right in zip((*twice.weights, *twice.feedback[0]), (*once.weights, *once.feedback[0]), strict=True):
        assert np.allclose(left, right, rtol=1e-12)


@given(seed=SEEDS, first=RATES, second=RATES, scale=st.floats(0.5, 2.0))
def test_the_same_factor_on_both_rates_is_a_change_of_time(seed, first, second, scale):
    problem, times = FixedFeedbackProblem.draw(seed, scale=0.0), np.linspace(0, 3, 4)
    start = State(problem.network.weights, ((problem.B,),))
    slow = LayerRatesFA(rule_of(first, second), problem.task, start)
    fast = LayerRatesFA(rule_of(scale * first, scale * second), problem.task, start)
    assert np.allclose(fast.predict(times / scale), slow.predict(times), rtol=1e-9, atol=1e-12)
    equal = ZeroInitFA(linfa.fa(), problem.task, start)
    assert np.allclose(LayerRatesFA(rule_of(1.0, 1.0), problem.task, start).predict(times), equal.predict(times))


@pytest.mark.parametrize(
    ("feedback", "route"), [(None, Direct()), (RandomFactors(3), None), (RandomFactors(2), Direct())]
)
def test_weights_and_other_parts(feedback, route):
    rule = rule_of(0.5, 1.7, feedback, route)
    assert flow_error(LayerRatesFA, rule, 4) <= 1e-8
    setup = LayerRatesFA.example(rule, 4)
    run = linfa.simulate(rule, setup.task, setup.network, [0.0, 2.0], feedback=setup.feedback, rtol=1e-11)
    assert relative_error(LayerRatesFA(rule, setup.task, run.at(0)).weights(run.times), run.weights) <= 1e-8
    assert set(LayerRatesFA.residuals(linfa.derive(rule, 2))) == {0}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.fa(), "no learning rates of their own"),
        (rule_of(0.0, 1.0), r"not two positive numbers: \(0\.0, 1\.0\)"),
        (rule_of(1.0, 0.0), "not two positive numbers"),
        (Rule(Layerwise(), Dense(), geometry=LayerRates((1.0, 1.0, 1.0))), "not two positive numbers"),
        (Rule(Layerwise(), Dense(), decay=0.1, geometry=LayerRates((1.0, 1.0))), "weights decay at rate 0.1"),
        (rule_of(1.0, 1.0, linfa.rules.Transpose()), "feedback follows the weights"),
    ],
)
def test_other_rules(rule, text):
    with pytest.raises(AssumptionError, match=text):
        LayerRatesFA.example(rule)


def test_other_starts():
    rule, task = rule_of(0.5, 2.0), linfa.Task.from_spectrum([1.0, 0.5])
    with pytest.raises(AssumptionError, match=r"W_1\(0\) is not zero"):
        LayerRatesFA(rule, task, State((np.ones((3, 2)), np.zeros((2, 3))), ((np.ones((3, 2)),),)))
    deep = Rule(Direct(exact_top=1), Dense(), geometry=LayerRates((0.5, 2.0)))
    with pytest.raises(AssumptionError, match="no feedback edge"):
        LayerRatesFA.check_rule(deep)
    with pytest.raises(AssumptionError, match="depth is 3, not 2"):
        LayerRatesFA(rule, task, linfa.simulate(linfa.fa(), task, linfa.Network.zero((2, 2, 2, 2)), [0.0]).at(0))
    with pytest.raises(ValueError, match=r"learning rates are positive here; got 0\.5 and 0"):
        at_equal_rates(State((np.ones((3, 2)), np.zeros((2, 3))), ((np.ones((3, 2)),),)), (0.5, 0))
