"""Normalised activities: what they are, their derivative, and what they cannot be put together with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa import observe
from linfa.dynamics import State, signals, start, velocity
from linfa.rules import (
    CompositionError,
    Conserved,
    ErrorRank,
    Homogeneous,
    Local,
    Order,
    Rule,
    Standardised,
    Whitened,
)
from linfa.task import Batch
from linfa.testing import random_task

KINDS = ("standardised", "whitened")
SEEDS = st.integers(0, 10**6)


def data(seed=0, N=30):
    rng = np.random.default_rng(seed)
    return linfa.Task.from_data(rng.standard_normal((N, 4)) @ rng.standard_normal((4, 4)) + 0.5,
                                rng.standard_normal((N, 3)) + 0.2)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_backprop_is_the_gradient_of_the_normalised_loss(kind, depth):
    """By central differences of the observable loss, also where layers are wider than what reaches them."""
    rule, rng = linfa.normalised(linfa.bp(), kind), np.random.default_rng(depth)
    for widths in ((4, *(3,) * (depth - 1), 3), (4, *(6, 5, 6, 4)[: depth - 1], 3)):
        for task in (data(depth), random_task(4, 3, depth, noise=0.2)):
            weights = linfa.Network.small(widths, 1.0, seed=depth).weights
            state, h = State(weights, ((),) * (depth - 1)), 1e-5
            v = velocity(rule, state, task.batch)
            for layer, W in enumerate(weights):
                turn = rng.standard_normal(W.shape)
                ends = [(*weights[:layer], W + s * h * turn, *weights[layer + 1 :]) for s in (1, -1)]
                up, down = (observe.loss(rule, State(end, state.feedback), task) for end in ends)
                slope = -(v.weights[layer] * turn).sum()
                assert slope == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-8)


def test_derivatives_are_those_of_autodiff():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, error = (
        torch.tensor(rng.standard_normal((2, 3, 8)), requires_grad=True),
        torch.tensor(rng.standard_normal((3, 8))),
    )
    one = torch.full((8, 1), 8**-0.5, dtype=a.dtype)
    centred = a - (a @ one) @ one.mT
    C = centred @ centred.mT
    values, basis = torch.linalg.eigh(C)
    by_kind = {
        Standardised(): centred / torch.sqrt(torch.diagonal(C, dim1=-2, dim2=-1))[..., None],
        Whitened(): (basis / values.sqrt()[..., None, :]) @ basis.mT @ centred,
    }
    for activity, wanted in by_kind.items():
        h, kept = activity.forward(a.detach(), one)
        np.testing.assert_allclose(h, wanted.detach(), atol=1e-12)
        (exact,) = torch.autograd.grad((wanted * error).sum(), a, retain_graph=True)
        np.testing.assert_allclose(activity.backward(error, kept), exact, atol=1e-12)


@given(st.integers(1, 5), st.integers(1, 5), SEEDS)
def test_whitened_is_symmetric_in_its_derivative(n, N, seed):
    """It is the gradient of the nuclear norm: <x, D y> = <D x, y>, of a matrix of any rank."""
    rng = np.random.default_rng(seed)
    x, y, a = rng.standard_normal((3, n, N))
    rank = rng.integers(1, min(n, N) + 1)
    U, s, Vt = np.linalg.svd(a, full_matrices=False)
    _, kept = Whitened().forward((U[:, :rank] * (s[:rank] + 0.5)) @ Vt[:rank], None)
    backward = Whitened().backward
    assert (x * backward(y, kept)).sum() == pytest.approx((backward(x, kept) * y).sum(), abs=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", [data(), random_task(4, 3, 1)])
def test_hidden_moments(kind, task):
    rule = linfa.normalised(linfa.fa(), kind)
    state = start(rule, linfa.Network.small((4, 3, 4, 3), 0.8, seed=1), 0)
    batch = rule.activity.prepared(task.batch)
    for cut, h in enumerate(signals(rule, state, task.batch).activities[1:-1], 1):
        C = h @ h.T
        if kind == "standardised":
            np.testing.assert_allclose(np.diagonal(C), 1, atol=1e-12)
        if kind == "whitened":
            U = np.linalg.svd(h)[0][:, :3]  # three units pass on at most three dimensions
            np.testing.assert_allclose(C, U @ U.T if cut == 2 else np.eye(3), atol=1e-12)
        if batch.one is not None:
            np.testing.assert_allclose(h @ batch.one, 0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_what_the_network_does(kind):
    """On the samples themselves, and in the loss, the mode strengths and the singular values."""
    task, rule = data(), linfa.normalised(linfa.fa(), kind)
    state = start(rule, linfa.Network.small((4, 5, 3, 3), 0.8, seed=1), 0)
    M = observe.network_map(rule, state, task)
    x, y = task.inputs.T, task.targets.T
    samples = Batch(x / np.sqrt(30), y / np.sqrt(30), np.full((30, 1), 30**-0.5))
    output = signals(rule, state, samples).activities[-1] * np.sqrt(30)
    np.testing.assert_allclose(M @ (x - x.mean(1, keepdims=True)), output, atol=1e-11)
    assert observe.loss(rule, state, task) == pytest.approx(0.5 * ((output - y) ** 2).sum(0).mean(), rel=1e-12)
    np.testing.assert_allclose(observe.singular_values(rule, state, task), np.linalg.svd(M)[1], rtol=1e-12)
    assert observe.total_map(state).shape == M.shape
    assert np.abs(observe.total_map(state) - M).max() > 0.1


def test_the_map_of_a_plain_network_is_the_product_bit_for_bit():
    task, rule = data(), linfa.fa()
    state = start(rule, linfa.Network.small((4, 5, 3, 3), 0.8, seed=1), 0)
    W1, W2, W3 = state.weights
    np.testing.assert_array_equal(observe.network_map(rule, state, task), W3 @ W2 @ W1)
    X, Y, _ = task.batch
    assert observe.loss(rule, state, task) == 0.5 * ((W3 @ W2 @ W1 @ X - Y) ** 2).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_trajectories_see_the_normalisation(kind):
    task, rule = data(), linfa.normalised(linfa.dfa(), kind)
    run = linfa.descend(rule, task, linfa.Network.small((4, 3, 3, 3), 0.8, seed=1, batch=(2,)), 1e-3, 3)
    assert run.map.shape == (4, 2, 3, 4)
    for k in range(2):
        state = State(tuple(w[3, k] for w in run.weights), tuple((m[3, k],) for (m,) in run.feedback))
        np.testing.assert_allclose(run.map[3, k], observe.network_map(rule, state, task), atol=1e-11)
        assert run.loss[3, k] == pytest.approx(observe.loss(rule, state, task), rel=1e-10)
        _, above, top = observe.layer_maps(rule, state, task)
        cosine = observe.cosine(state.feedback[0][0], (top @ above).T)
        assert run.feedback_alignment[3, k, 0] == pytest.approx(cosine, abs=1e-10)
    exact = linfa.normalised(linfa.bp(), kind)
    run = linfa.descend(exact, task, linfa.Network.small((4, 3, 3, 3), 0.8, seed=1), 1e-3, 1)
    np.testing.assert_allclose(run.update_alignment, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_without_hidden_units_there_is_nothing_to_normalise(kind):
    task, network = data(), linfa.Network.small((4, 3), 0.8, seed=1)
    for rule in (linfa.bp(), linfa.fa()):
        one, two = (velocity(r, start(r, network), task.batch).weights for r in (rule, linfa.normalised(rule, kind)))
        np.testing.assert_allclose(one[0], two[0], atol=1e-12)


def test_units_that_do_not_vary_stay_at_zero():
    rule = linfa.normalised(linfa.fa())
    network = linfa.Network((np.diag([1.0, 0.0, 2.0]), np.ones((2, 3))))
    seen = signals(rule, start(rule, network), linfa.Task.teacher(np.ones((2, 3))).batch)
    np.testing.assert_array_equal(seen.activities[1][1], 0)
    np.testing.assert_array_equal(seen.errors[1][1], 0)
    still = velocity(rule, start(rule, linfa.Network.zero((3, 4, 2))), linfa.Task.teacher(np.ones((2, 3))).batch)
    assert not any(v.any() for v in still.weights)


@given(SEEDS)
def test_a_unit_constant_changes_no_moment(seed):
    X, Y, one = random_task(3, 2, seed, samples=9).batch
    batch = Batch(X, Y, one).with_unit_constant()
    assert (batch.one**2).sum() == pytest.approx(1)
    for S, T in ((batch.X, X), (batch.Y, Y)):
        np.testing.assert_array_equal(S @ S.T, T @ T.T)
        np.testing.assert_allclose(S @ batch.one, T @ one, atol=1e-15)
    assert batch.with_unit_constant() is batch
    assert Batch(X, Y).with_unit_constant().one is None


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.pepita(), "they travel forward"),
        (linfa.directional_dfa(), "makes every sample depend on all: use the Layerwise route"),
        (linfa.ldfa(2, "normative", direct=True), "depend on all"),
        (linfa.sgr(), r"use lam=0 with Standardised\(\)"),
    ],
)
def test_what_does_not_go_together(rule, text):
    with pytest.raises(CompositionError, match=text):
        linfa.normalised(rule)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rule", [linfa.dfa(), linfa.kolen_pollack(), linfa.weight_mirror(), linfa.drtp(), linfa.local(), linfa.ldfa(2),
             linfa.ldfa(2, direct=True), linfa.sign_symmetry("frSF"), Rule(Local(2), linfa.rules.Dense())]
)  # fmt: skip
def test_what_goes_together_obeys_the_laws(rule, kind):
    linfa.testing.check_rule(linfa.normalised(rule, kind), depths=(2, 4))


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown normalisation 'layer': choose one of 'standardised', 'whitened'"):
        linfa.normalised(linfa.fa(), "layer")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_claimed_that_no_longer_holds(kind):
    for rule in (linfa.bp(), linfa.fa(), linfa.ldfa(2, "hebb"), linfa.kolen_pollack(), linfa.muon(linfa.bp())):
        claims = {type(claim) for claim in linfa.normalised(rule, kind).claims}
        assert claims == {Homogeneous}
    assert {Order, Conserved, ErrorRank} <= {type(claim) for claim in linfa.ldfa(2, "hebb").claims}


def test_errors_of_rank_one_do_not_stay_so():
    """Which is why a normalised rule claims no rank: the derivative adds a multiple of the activity to each error."""
    rule = linfa.normalised(linfa.ldfa(1, "fixed"))
    state = start(rule, linfa.Network.small((4, 5, 3), 0.8, seed=1), 0)
    values = np.linalg.svd(observe.gradients(rule, state, data())[0], compute_uv=False)
    assert values[1] > 0.01 * values[0]


def test_kolen_pollack_still_meets_the_weights():
    """Not claimed, for want of a symbolic form, but true: the head above sees the same activity."""
    rule = linfa.normalised(linfa.kolen_pollack(0.5), "standardised")
    run = linfa.descend(rule, data(), linfa.Network.small((4, 3, 3), 0.8, seed=1), 0.01, 50)
    gap = run.feedback[0][0] - np.swapaxes(run.weights[1], -1, -2)
    np.testing.assert_allclose(gap, (1 - 0.005) ** np.arange(51)[:, None, None] * gap[0], atol=1e-12)


def test_no_equations():
    rule = linfa.normalised(linfa.fa())
    for call in (lambda: linfa.derive(rule, 2), lambda: linfa.discover(rule, (2, 2, 2))):
        with pytest.raises(TypeError, match=r"Standardised\(\) divides by what varies with the data"):
            call()
    assert not rule.symbolic
    assert linfa.verify(rule, promoted=False).notes == ("not derived: a part of the rule has no symbolic form",)


@pytest.mark.parametrize("geometry", [linfa.rules.NewtonSchulz(), linfa.rules.Polar(keep_norm=True)])
def test_rules_whose_steps_have_no_symbolic_form_are_verified_too(geometry):
    certificate = linfa.verify(Rule(linfa.fa().route, linfa.fa().feedback, geometry=geometry), promoted=False)
    assert certificate.passed
    assert certificate.notes == ("not derived: a part of the rule has no symbolic form",)


def test_no_symbols():
    from linfa.algebra import row_norms, svd

    W = linfa.derive(linfa.bp(), 1).state.weights[0]
    for function in (row_norms, svd):
        with pytest.raises(TypeError, match="no symbolic form"):
            function(W)


def test_a_fingerprint_of_its_own():
    prints = {linfa.normalised(linfa.fa(), kind).fingerprint for kind in KINDS} | {linfa.fa().fingerprint}
    assert len(prints) == 3
    assert repr(linfa.normalised(linfa.fa(), "whitened")).endswith("Fixed() / Whitened()")
