"""Reconciliation in the rule: what it reaches, what it leaves alone, and its meaning as a loss."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State, start, velocity
from linfa.laws import Problem
from linfa.rules import Dense, Fixed, KolenPollack, Local, RandomFactors, Rule
from linfa.testing import check_rule
from linfa.theory import reconciliation_run

SEEDS = st.integers(0, 10**6)


def parts(v):
    return [*v.weights, *(matrix for stored in v.feedback for matrix in stored)]


@given(seed=SEEDS, depth=st.integers(2, 6), modules=st.none() | st.integers(2, 6))
def test_velocity_is_affine_in_lam(seed, depth, modules):
    problem = Problem(linfa.sgr(modules), (4, *(3,) * (depth - 1), 2), seed, noise=0.2, samples=25)
    zero, one, three = (
        parts(velocity(linfa.sgr(modules, lam), problem.generic, problem.task.batch)) for lam in (0.0, 1.0, 3.0)
    )
    for a, b, c in zip(zero, one, three, strict=True):
        np.testing.assert_allclose(c - a, 3 * (b - a), atol=1e-9 * (1 + np.abs(b - a).max()))


@given(seed=SEEDS, modules=st.none() | st.integers(2, 4))
def test_the_first_module_is_left_alone(seed, modules):
    rule = linfa.sgr(modules, 0.7)
    problem = Problem(rule, (4, 5, 3, 4, 2), seed, noise=0.2)
    with_, without = (velocity(r, problem.generic, problem.task.batch) for r in (rule, linfa.sgr(modules, 0.0)))
    end = rule.route.edges(4)[0].activity
    for cut, (a, b) in enumerate(zip(with_.weights, without.weights, strict=True), 1):
        assert np.array_equal(a, b) == (cut <= end)
    for number, ((a,), (b,)) in enumerate(zip(with_.feedback, without.feedback, strict=True)):
        assert np.array_equal(a, b) == (number == 0)


@given(seed=SEEDS)
def test_no_gradient_crosses_modules(seed):
    """What is above does not move what is below."""
    rule = linfa.sgr(lam=0.5)
    problem, rng = Problem(rule, (3, 4, 3, 4, 2), seed, noise=0.2), np.random.default_rng(seed)
    state = problem.generic
    other = State(
        (*state.weights[:2], *(rng.standard_normal(W.shape) for W in state.weights[2:])),
        (*state.feedback[:2], (rng.standard_normal(state.feedback[2][0].shape),)),
    )
    a, b = (velocity(rule, s, problem.task.batch) for s in (state, other))
    assert all(np.array_equal(a.weights[i], b.weights[i]) for i in (0, 1))
    assert all(np.array_equal(a.feedback[i][0], b.feedback[i][0]) for i in (0, 1))
    assert not np.array_equal(a.weights[2], b.weights[2])


@given(seed=SEEDS)
def test_modules_of_one_layer_are_no_modules(seed):
    state = Problem(linfa.sgr(), (3, 4, 3, 2), seed).generic
    task = Problem(linfa.sgr(), (3, 4, 3, 2), seed).task
    for a, b in zip(*(parts(velocity(linfa.sgr(k), state, task.batch)) for k in (None, 3)), strict=True):
        np.testing.assert_array_equal(a, b)


@given(seed=SEEDS)
def test_a_module_moves_as_its_product_only(seed):
    """A module W_4 W_3 adds to M what one layer M adds, through its factors."""
    problem = Problem(linfa.sgr(2), (3, 4, 3, 4, 2), seed, noise=0.2)
    state, batch = problem.generic, problem.task.batch
    W1, W2, W3, W4 = state.weights

    def added(modules, s):
        v, w = (velocity(linfa.sgr(modules, lam), s, batch).weights for lam in (0.5, 0.0))
        return [a - b for a, b in zip(v, w, strict=True)]

    below, alone = added(2, state), added(None, State((W2 @ W1, W4 @ W3), state.feedback))
    np.testing.assert_allclose(below[2], W4.T @ alone[1], atol=1e-10)
    np.testing.assert_allclose(below[3], alone[1] @ W3.T, atol=1e-10)


@given(seed=SEEDS)
def test_low_rank_heads_follow_the_chain_rule(seed):
    rule = Rule(Local(lam=0.5), RandomFactors(2), KolenPollack())
    problem = Problem(rule, (4, 3, 5, 3), seed, noise=0.2)
    state = problem.state
    full = State(state.weights, tuple((Q @ P,) for Q, P in state.feedback))
    low, dense = velocity(rule, state, problem.task.batch), velocity(linfa.sgr(lam=0.5), full, problem.task.batch)
    for a, b in zip(low.weights, dense.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    for (_, P), (dQ, dP), (dB,) in zip(state.feedback, low.feedback, dense.feedback, strict=True):
        np.testing.assert_allclose(dQ, dB @ P.T, atol=1e-10)
        assert not dP.any()


def test_the_loss_of_a_module_falls_while_its_input_is_fixed():
    """With what is below frozen, the flow of the last module descends its loss and discord together."""
    rule = linfa.sgr(lam=0.5)
    problem = Problem(rule, (3, 4, 2), 1, noise=0.3)
    state, task = problem.generic, problem.task
    (W1, W2), ((B,),) = state.weights, state.feedback

    def total(W2):
        e = W2 @ W1 @ task.batch.X - task.batch.Y
        q = W2.T @ e - B @ (B.T @ W1 @ task.batch.X - task.batch.Y)
        return (e**2).sum() / 2 + 0.5 * (q**2).sum()

    v = velocity(rule, state, task.batch).weights[1]
    slope = (total(W2 + 1e-5 * v) - total(W2 - 1e-5 * v)) / 2e-5
    assert slope == pytest.approx(-(v**2).sum(), rel=1e-6)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("lam", [0.0, 0.2])
def test_fixed_heads_obey_the_laws(depth, lam):
    for rule in (Rule(Local(2, lam), Dense(), Fixed()), Rule(Local(2, lam), Dense(), KolenPollack(), decay=0.1)):
        check_rule(rule, depths=(depth,))


def test_invariants_of_three_modules_at_a_depth_with_layers_inside():
    from linfa.verify import symbolic

    rule = linfa.sgr(3)
    proofs = [check for claim in rule.conserved() for check in symbolic(claim, rule, (3, 4))]
    assert all(check.passed for check in proofs)
    equations = linfa.derive(rule, 5)
    for claim in rule.conserved():
        assert claim.quantity(rule, equations.state)
        assert equations.prove(claim)


def test_heads_that_agree_part_again():
    """Each follows an input of its own, so that agreement lasts only at the output; reconciliation keeps it closer."""
    task = linfa.Task.from_spectrum([2.0, 1.0, 0.5], noise=0.3, seed=1)
    network, apart = linfa.Network.small((3, 4, 4, 3), 0.7, 1), []
    _, W2, W3 = network.weights
    for lam in (0.0, 1.0):
        run = linfa.simulate(linfa.sgr(lam=lam), task, network, 3.0, feedback=(((W3 @ W2).T,), (W3.T,)))
        first, second = (np.swapaxes(B, -1, -2) for (B,) in run.feedback)
        _, W2s, W3s = run.weights
        apart.append([np.abs(first - second @ W2s).max(), np.abs(second - W3s).max()])
    (without, top), (with_, _) = apart
    assert top < 1e-9
    assert 1e-2 < with_ < without


@pytest.mark.parametrize("seed", [101, 102])
def test_more_reconciliation_less_discord(seed):
    apart, aligned = zip(*(reconciliation_run(lam, seed) for lam in (0.0, 0.03, 0.3)), strict=True)
    assert apart[0] > apart[1] > apart[2]
    assert aligned[0] < aligned[1] < aligned[2]


def test_rules_of_one_name_are_of_one_kind():
    assert dataclasses.replace(linfa.sgr(), name="mine") == linfa.sgr()
    assert start(linfa.sgr(2), linfa.Network.zero((2, 3, 3, 2)), 0).feedback[0][0].shape == (3, 2)
