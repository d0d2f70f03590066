"""Every theory on its own examples, for every rule that claims it, and the errors outside its assumptions."""

import dataclasses
import itertools

import numpy as np
import pytest
import sympy as sp
from hypothesis import settings

import linfa
from linfa.rules import ClosedForm, Direct, Layerwise, RandomFactors, Rule, Transpose
from linfa.theory import AssumptionError, by_name
from linfa.theory import named as theories
from linfa.theory.base import relative_error
from linfa.theory.examples import rules

RULES = rules()
CLAIMED = [
    (claim.theory, name) for name, rule in RULES.items() for claim in rule.claims if isinstance(claim, ClosedForm)
]
BY_THEORY = {theory: [name for claimed, name in CLAIMED if claimed == theory] for theory in theories()}


def run_of(kind, rule, seed):
    setup = kind.example(rule, seed)
    run = linfa.simulate(
        rule, setup.task, setup.network, setup.times, feedback=setup.feedback, seed=seed, rtol=1e-11, atol=1e-13
    )
    return setup, run, kind(rule, setup.task, run.at(0))


def test_every_theory_is_claimed_by_some_rule():
    assert {theory for theory, _ in CLAIMED} == set(theories())


def problems(theory):
    """Seeds and the rules that claim a theory in turn: as many as the profile says, and every rule at least once."""
    names = BY_THEORY[theory]
    number = max(settings().max_examples, len(names))
    return list(zip(range(number), itertools.islice(itertools.cycle(names), number), strict=True))


@pytest.mark.parametrize("theory", theories())
def test_examples_agree_with_the_flow(theory):
    for seed, name in problems(theory):
        _, run, closed = run_of(by_name(theory), RULES[name], seed)
        assert closed.error(run) <= 1e-8, (name, seed)


@pytest.mark.parametrize("theory", [name for name, kind in theories().items() if kind.exact_in_discrete_time])
def test_discrete_theories_are_exact_in_descent(theory):
    kind = by_name(theory)
    for seed, name in problems(theory):
        rule, setup, rng = RULES[name], kind.example(RULES[name], seed), np.random.default_rng(seed)
        lr, record = rng.uniform(0.01, 0.1), int(rng.integers(1, 8))
        run = linfa.descend(rule, setup.task, setup.network, lr, 80, feedback=setup.feedback, record=record)
        assert kind(rule, setup.task, run.at(0)).discrete_error(run, lr) <= 1e-11, (name, seed, lr, record)


@pytest.mark.parametrize(("theory", "name"), CLAIMED)
def test_nothing_is_left_of_the_mode_equations(theory, name):
    residuals = by_name(theory).residuals(linfa.derive(RULES[name], 2))
    assert residuals
    assert all(isinstance(r, sp.Expr) and r == 0 for r in residuals)


@pytest.mark.parametrize("theory", theories())
def test_other_rules_are_refused(theory):
    for name in RULES.keys() - BY_THEORY[theory]:
        with pytest.raises(AssumptionError):
            by_name(theory).example(RULES[name])


@pytest.mark.parametrize(("theory", "name"), CLAIMED)
def test_flow_only_theories_say_so(theory, name):
    kind, rule = by_name(theory), RULES[name]
    setup = kind.example(rule, 0)
    run = linfa.descend(rule, setup.task, setup.network, 0.02, 3, feedback=setup.feedback)
    error = kind(rule, setup.task, run.at(0)).discrete_error(run)
    assert (error is not None) == kind.exact_in_discrete_time


def test_statement_and_source_are_given():
    for kind in theories().values():
        assert kind.statement
        assert "new" not in kind.source.split()


# Outside the assumptions.

FA, LDFA, BP, KP, NORM = (
    linfa.fa(),
    linfa.ldfa(2, "fixed"),
    linfa.bp(),
    linfa.kolen_pollack(),
    RULES["ldfa(2, normative)"],
)
COLOURED = np.diag([1.0, 1.31, 1.0])


def _start(rule, task, network):
    return linfa.simulate(rule, task, network, [0.0]).at(0)


def _theory(kind, rule, network, **kwargs):
    task = linfa.Task.from_spectrum([2.0, 1.0], n_in=3, n_out=2, seed=1, **kwargs)
    network = network(task) if callable(network) else network
    return by_name(kind)(rule, task, _start(rule, task, network))


def _aligned(task):
    return linfa.Network.aligned(task, [2], 0.1)


def _aligned_elsewhere(task):
    return _aligned(linfa.Task.from_spectrum([2.0, 1.0], n_in=3, n_out=2, seed=2))


ZERO, SMALL = linfa.Network.zero((3, 4, 2)), linfa.Network.small((3, 4, 2), seed=3)
ROWS = [
    ("SaxeMode", BP, _aligned, {"Sxx": COLOURED}, "not white: Sxx - I has an entry of 0.31"),
    ("SaxeMode", BP, SMALL, {}, "unbalanced by"),
    ("SaxeMode", BP, _aligned_elsewhere, {}, "not aligned"),
    ("SaxeMode", BP, linfa.Network.balanced((3, 3, 3, 2)), {}, "depth is 3, not 2"),
    ("SaxeMode", FA, _aligned, {}, "not backprop"),
    ("SaxeMode", linfa.bp(decay=0.1), _aligned, {}, "weights decay at rate 0.1"),
    ("ZeroInitFA", FA, ZERO, {"Sxx": COLOURED}, "not white: Sxx - I has an entry of 0.31"),
    ("ZeroInitFA", FA, SMALL, {}, r"W_1\(0\) is not zero"),
    ("ZeroInitFA", FA, linfa.Network((ZERO.weights[0], SMALL.weights[1])), {}, r"W_2\(0\) is not zero"),
    ("ZeroInitFA", FA, linfa.Network.zero((3, 4, 4, 2)), {}, "depth is 3, not 2"),
    ("ZeroInitFA", BP, ZERO, {}, "feedback follows the weights"),
    ("ZeroInitFA", KP, ZERO, {}, "feedback learns"),
    ("ZeroInitFA", linfa.ldfa(1, "oja"), ZERO, {}, "feedback learns|weights decay"),
    ("ZeroInitFA", linfa.ldfa(1, "fixed", decay=0.1), ZERO, {}, "weights decay"),
    ("ZeroInitFA", linfa.ldfa(1, "fixed", clamp=1.0), ZERO, {}, "clamped"),
    ("ZeroInitFA", Rule(Direct(exact_top=1), RandomFactors(1)), ZERO, {}, "no feedback edge"),
    ("FinalMap", FA, SMALL, {}, r"W_1\(0\) is not zero"),
    ("FinalMap", FA, linfa.Network.zero((3, 4, 4, 2)), {}, "depth is 3, not 2"),
    ("FinalMap", KP, ZERO, {}, "feedback learns|weights decay"),
    ("KolenPollackDecay", FA, SMALL, {}, "does not learn by Kolen-Pollack"),
    ("EckartYoung", linfa.ldfa(2, "oja"), SMALL, {}, "normative"),
    ("EckartYoung", linfa.ldfa(2, "normative", decay=0.1), SMALL, {}, "weights decay"),
    ("EckartYoung", linfa.ldfa(1, "normative"), ZERO, {}, "no spectral gap in W_2"),
]


@pytest.mark.parametrize(("kind", "rule", "network", "task", "text"), ROWS)
def test_violated_assumptions_are_named(kind, rule, network, task, text):
    with pytest.raises(AssumptionError, match=text):
        _theory(kind, rule, network, **task)


def test_kolen_pollack_over_several_layers_is_refused():
    rule = Rule(Direct(), linfa.rules.Dense(), linfa.rules.KolenPollack())
    with pytest.raises(AssumptionError, match="several layers"):
        by_name("KolenPollackDecay").example(rule)


def test_redrawn_and_unusual_parts_are_refused():
    with pytest.raises(AssumptionError, match="drawn anew"):
        by_name("ZeroInitFA").example(linfa.sign_symmetry("brSF"))

    class Other(linfa.rules.Euclidean):
        pass

    with pytest.raises(AssumptionError, match="not Euclidean"):
        by_name("SaxeMode").example(Rule(Layerwise(), Transpose(), geometry=Other()))


def test_factors_that_miss_a_mode_are_refused():
    setup = by_name("EckartYoung").example(NORM, 0)
    blind = tuple(tuple(0 * B for B in stored) for stored in setup.feedback)
    with pytest.raises(AssumptionError, match="miss a leading mode"):
        by_name("EckartYoung")(NORM, setup.task, linfa.dynamics.State(setup.network.weights, blind))


def test_feedback_that_sees_too_little_is_refused():
    task = linfa.Task.teacher(np.diag([1.0, 0.0]))
    state = linfa.dynamics.State(linfa.Network.zero((2, 3, 2)).weights, ((np.eye(3)[:, :1] @ np.eye(2)[1:],),))
    with pytest.raises(AssumptionError, match="B Syx has rank 0"):
        by_name("FinalMap")(FA, task, state)


def test_a_start_of_another_shape_is_refused():
    task = linfa.Task.from_spectrum([1.0, 1.0])
    with pytest.raises(ValueError, match="maps 2 inputs to 2 outputs"):
        by_name("ZeroInitFA")(FA, task, linfa.dynamics.State(ZERO.weights, ((np.ones((4, 2)),),)))
    with pytest.raises(ValueError, match="feedback for 0 edges"):
        by_name("ZeroInitFA")(FA, task, linfa.dynamics.State(linfa.Network.zero((2, 2, 2)).weights, ()))
    ensemble = linfa.Network.zero((2, 2, 2), batch=(5,))
    with pytest.raises(AssumptionError, match="not a single network"):
        by_name("ZeroInitFA")(FA, task, linfa.dynamics.State(ensemble.weights, ((np.ones((2, 2)),),)))


def test_names():
    with pytest.raises(ValueError, match="no theory is called 'Saxe'"):
        by_name("Saxe")
    with pytest.raises(AttributeError, match="no attribute 'Saxe'"):
        linfa.theory.Saxe  # noqa: B018


def test_relative_error():
    assert relative_error(np.zeros(2), np.array([0.0, 0.5])) == 0.5
    assert relative_error((np.ones(1), np.array([4.0])), (np.ones(1), np.array([3.0]))) == 0.25
    assert np.isnan(relative_error(np.ones(2), np.array([np.nan, 1.0])))
    with pytest.raises(ValueError, match="shape"):
        relative_error(np.ones(2), np.ones((2, 2)))


def test_theories_are_frozen():
    _, _, closed = run_of(by_name("SaxeMode"), BP, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        closed.task = None
