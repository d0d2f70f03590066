"""Factored weights: their start, composition with every rule, penalties and retractions."""

from dataclasses import replace

import numpy as np
import pytest

import linfa
from linfa import observe
from linfa.dynamics import State, start, velocity
from linfa.laws import check_rule
from linfa.rules import (
    SVD,
    Alignment,
    CompositionError,
    Cosine,
    Dense,
    Direct,
    Factored,
    Full,
    LayerRates,
    Modulated,
    Orthogonality,
    Rule,
    Sparsity,
    SVDStructured,
    Transpose,
    named,
)
from linfa.rules.route import Layerwise
from linfa.tree import leaves

ALIGNED = Factored(2, (Alignment(),))
NET = linfa.Network.small((4, 6, 5, 3), 0.8, seed=1)
TASK = linfa.Task.from_spectrum([2.0, 1.0], n_in=4, n_out=3, seed=0)


def test_the_start_is_the_truncated_svd_of_every_layer():
    state = start(linfa.factored(linfa.bp(), 4), NET, 0)
    assert [W.rank for W in state.weights] == [4, 4, 3]
    for W, whole in zip(state.weights, NET.weights, strict=True):
        np.testing.assert_allclose(W.U.T @ W.U, np.eye(W.rank), atol=1e-12)
        s = np.linalg.svd(whole, compute_uv=False)
        np.testing.assert_allclose(np.linalg.norm(W.matrix - whole), np.linalg.norm(s[W.rank :]), atol=1e-12)


@pytest.mark.parametrize("name", [n for n, rule in named().items() if rule.geometry.linear])
def test_full_rank_factors_start_as_the_rule_itself(name):
    """Same map, same errors, same gradients of the weights, for every rule and an ensemble of networks."""
    rule = replace(named()[name], parameterisation=Full())
    ensemble = linfa.Network.small((4, 6, 5, 3), 0.8, seed=1, batch=(2,))
    parts = linfa.factored(rule, 5)
    a, b = start(rule, ensemble, 3), start(parts, ensemble, 3)
    for one, other in zip(observe.gradients(rule, a, TASK), observe.gradients(parts, b, TASK), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)
    for one, other in zip(leaves(a.feedback), leaves(b.feedback), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("make", [linfa.fa, linfa.dfa, linfa.kolen_pollack, linfa.local, linfa.drtp, linfa.pepita,
                                  linfa.weight_mirror, lambda: linfa.ldfa(2, "oja"), lambda: linfa.ldfa(2, "hebb"),
                                  lambda: linfa.sign_symmetry("brSF")])  # fmt: skip
def test_every_rule_learns_factors_lawfully(make):
    check_rule(linfa.factored(make(), 3), depths=(1, 2, 3))


@pytest.mark.parametrize("settings", [{"retraction": "polar"}, {"retraction": "qr"}, {"subspace": True},
                                      {"sparsity": 0.3}, {"alignment": 0.0}, {"orthogonality": 0.0}])  # fmt: skip
def test_every_kind_of_svd_local_is_lawful(settings):
    rule = linfa.svd_local(2, **settings)
    check_rule(rule, depths=(1, 2))


def test_layers_with_rates_of_their_own():
    rule = replace(linfa.factored(linfa.bp(), 3), geometry=LayerRates((1.0, 0.0, 2.0)))
    plain = replace(rule, geometry=linfa.rules.Euclidean())
    state = start(rule, NET, 0)
    v, u = velocity(rule, state, TASK.batch), velocity(plain, state, TASK.batch)
    for rate, a, b in zip((1, 0, 2), v.weights, u.weights, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, rate * y)


def test_structured_feedback_is_an_svd():
    B = start(linfa.svd_local(5, alignment=0.0), NET, 0).feedback
    (Q, P), _ = B
    np.testing.assert_allclose(Q.T @ Q, np.eye(5), atol=1e-12)
    assert P.shape == (5, 3)
    assert not P[3:].any()
    np.testing.assert_allclose(P @ P.T, np.diag(np.diag(P @ P.T)), atol=1e-12)
    spread = start(Rule(Direct(), SVDStructured(50)), linfa.Network.zero((2, 200, 50)), 0).feedback[0]
    assert (spread[0] @ spread[1]).std() == pytest.approx(200**-0.5, rel=0.03)


def test_structured_feedback_of_many_units_needs_no_square_matrix():
    Q, P = SVDStructured(5).start(np.random.default_rng(0), np.broadcast_to(0.0, (3, 200_000)), 0.1)
    np.testing.assert_allclose(Q.T @ Q, np.eye(5), atol=1e-12)
    assert (Q.shape, P.shape, P[3:].any()) == ((200_000, 5), (5, 3), False)


def test_structured_feedback_composes_with_plasticity():
    for plasticity in (linfa.rules.Oja(), linfa.rules.Hebb(), linfa.rules.Normative(), linfa.rules.KolenPollack()):
        check_rule(Rule(Layerwise(), SVDStructured(2), plasticity), depths=(2, 3))


def test_retractions_differ_by_second_order_and_keep_the_step():
    rates, gaps = (0.02, 0.01), []
    for lr in rates:
        one, two = (
            linfa.descend(linfa.svd_local(3, retraction=kind), TASK, NET, lr, 1, seed=2).map[-1]
            for kind in ("polar", "qr")
        )
        gaps.append(np.abs(one - two).max())
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.1)


def test_decay_leaves_orthonormal_frames_alone():
    rule = replace(linfa.svd_local(3, 0.0, 0.0, retraction="polar"), decay=0.3)
    task = linfa.Task.teacher(np.zeros((3, 4)))
    state = start(rule, linfa.Network.zero((4, 6, 3)), 0)
    still = velocity(rule, State(tuple(W._replace(s=0 * W.s) for W in state.weights), state.feedback), task.batch)
    for W in still.weights:
        np.testing.assert_allclose(W.U, 0, atol=1e-15)


def test_sparsity_prefers_few_values():
    task, network = linfa.Task.from_spectrum([1.5, 1.0, 0.5], n_in=4, n_out=4), linfa.Network.small((4, 4), 0.8, seed=1)
    last = []
    for weight in (0.0, 0.3):
        rule = replace(linfa.bp(), parameterisation=Factored(4, (Orthogonality(0.5), Sparsity(weight))))
        s = np.abs(linfa.descend(rule, task, network, 0.02, 1500).at(-1).weights[0].s[:, 0])
        last.append(s.sum() / np.linalg.norm(s))
    assert last[1] < last[0]
    assert Sparsity(1.0).value(SVD(np.eye(3), np.ones((3, 1)), np.eye(3))) == pytest.approx(3**0.5)
    nothing = SVD(np.eye(2), np.zeros((2, 1)), np.eye(2))
    assert all(not part.any() for part in Sparsity(1.0).gradient(nothing))
    with pytest.raises(TypeError, match="no symbolic form"):
        linfa.derive(linfa.svd_local(2, sparsity=0.1)).velocity  # noqa: B018


def test_alignment_draws_u_to_the_frame():
    rule = linfa.svd_local(3, alignment=2.0, orthogonality=0.5)
    run = linfa.descend(rule, TASK, linfa.Network.small((4, 6, 3), 0.3, seed=1), 0.01, 2000, record=2000)
    Q = run.feedback[0][0][-1]
    gaps = [np.linalg.norm(U - Q) for U in run.weights[0].U]
    assert gaps[-1] < 0.3 * gaps[0]
    pay = Alignment(1.0)
    W = run.at(-1).weights[0]
    assert pay.value(W) == 0.0
    assert not any(part.any() for part in pay.gradient(W))
    orthonormal = SVD(Q, W.s, W.V)
    assert Alignment(1.0, subspace=True).value(orthonormal, Q) == pytest.approx(0, abs=1e-12)


def test_torch_tensors_descend_like_arrays():
    torch = pytest.importorskip("torch")
    tensors = linfa.Network(tuple(map(torch.as_tensor, NET.weights)))
    for rule in (
        linfa.svd_local(2, sparsity=0.1),
        linfa.svd_local(2, retraction="qr"),
        linfa.svd_local(2, retraction="polar"),
    ):
        a, b = (linfa.descend(rule, TASK, net, 0.01, 20, seed=1) for net in (NET, tensors))
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-9)


def test_runs_go_on_from_a_state():
    for rule in (linfa.fa(), linfa.svd_local(2), linfa.factored(linfa.bp(), 3)):
        whole = linfa.descend(rule, TASK, NET, 0.01, 20)
        first = linfa.descend(rule, TASK, NET, 0.01, 8)
        rest = linfa.descend(rule, TASK, first.at(-1), 0.01, 12)
        for a, b in zip(leaves(whole.at(-1)), leaves(rest.at(-1)), strict=True):
            np.testing.assert_array_equal(a, b)
    flow = linfa.simulate(linfa.fa(), TASK, linfa.simulate(linfa.fa(), TASK, NET, [0.0, 1.0]).at(-1), [0.0, 1.0])
    np.testing.assert_allclose(flow.map[-1], linfa.simulate(linfa.fa(), TASK, NET, [0.0, 2.0]).map[-1], rtol=1e-6)


def test_states_that_do_not_fit():
    fa, parts = start(linfa.fa(), NET, 0), start(linfa.factored(linfa.bp(), 2), NET, 0)
    for rule, state, feedback, text in (
        (linfa.fa(), fa, ((np.ones((6, 5)),), (np.ones((5, 3)),)), "feedback of its own"),
        (linfa.factored(linfa.fa(), 2), fa, None, "stores U, s, V for a weight, and the state has ndarray"),
        (linfa.bp(), parts, None, "stores W for a weight, and the state has SVD"),
        (linfa.bp(), State(fa.weights, ()), None, "feedback for 0 edges"),
        (linfa.bp(), State(fa.weights[1:], ((), ())), None, "the state 6 to 3"),
    ):
        with pytest.raises(ValueError, match=text):
            linfa.descend(rule, TASK, state, 0.01, 1, feedback=feedback)


def test_arrays_of_a_run_have_the_names_of_the_factors():
    arrays = linfa.descend(linfa.svd_local(2), TASK, NET, 0.01, 3).to_arrays()
    assert {"U1", "s1", "V1", "U3", "Q1", "P2"} <= set(arrays)
    assert arrays["s2"].shape == (4, 2, 1)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Factored(0), ValueError, "rank of a weight is at least 1"),
        (lambda: Factored(2, retraction="cayley"), ValueError, "unknown retraction 'cayley'"),
        (lambda: Orthogonality(-0.1), ValueError, "weight of a penalty is at least 0"),
        (lambda: linfa.muon(linfa.svd_local(2)), CompositionError, "direction of one matrix"),
        (lambda: Rule(Layerwise(), Transpose(), parameterisation=ALIGNED), CompositionError, "frame"),
        (lambda: Rule(Direct(), Dense(), parameterisation=ALIGNED), CompositionError, "frame"),
        (lambda: Rule(Modulated(), SVDStructured(2), parameterisation=ALIGNED), CompositionError, "frame"),
        (lambda: replace(linfa.svd_local(2), feedback=SVDStructured(3)), CompositionError, "rank 3, the weights 2"),
        (lambda: start(linfa.factored(linfa.bp(), 5), linfa.Network.small((4, 6, 4)), 0), ValueError,
         "rank 5 fit no layer: the largest possible rank here is 4"),
        (lambda: start(linfa.svd_local(7, alignment=0.0), linfa.Network.small((8, 6, 8)), 0), ValueError,
         "rank 7 fits no edge: the largest possible rank here is 6"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_penalties_are_no_claims_and_no_conservation():
    kinds = lambda rule: {type(c).__name__ for c in rule.claims}  # noqa: E731
    assert "Conserved" in kinds(linfa.factored(linfa.fa(), 2))
    assert "Conserved" not in kinds(linfa.svd_local(2))
    assert "Conserved" not in kinds(linfa.factored(linfa.fa(), 2, "qr"))
    assert "Order" not in kinds(linfa.svd_local(2, sparsity=0.1))
    assert linfa.svd_local(3).rank == 3
    assert linfa.svd_local(3).at_rank(2) == linfa.svd_local(2)


def test_the_cosine_penalty_turns_columns_and_keeps_their_lengths():
    rule = linfa.svd_local(2, alignment=0.0, orthogonality=0.0, cosine=1.0)
    state = start(rule, linfa.Network.small((4, 6, 3), 0.7, seed=1), seed=2)
    still = State(tuple(W._replace(s=0 * W.s) for W in state.weights), state.feedback)  # the loss moves no frame
    run = linfa.simulate(rule, linfa.Task.teacher(np.zeros((3, 4))), still, 60.0, rtol=1e-11, atol=1e-13)
    ((Q, _),) = state.feedback
    first, last = run.at(0).weights[0].U, run.at(-1).weights[0].U
    lengths = np.linalg.norm(last, axis=0)
    np.testing.assert_allclose(lengths, np.linalg.norm(first, axis=0), atol=1e-9)  # at right angles to the column
    assert ((last * Q).sum(0) / lengths > 1 - 1e-6).all()
    nothing = still.weights[0]._replace(U=0 * first)
    assert not any(part.any() for part in Cosine(1.0).gradient(nothing, Q))
    assert Cosine(1.0).value(nothing) == 0.0
    check_rule(linfa.svd_local(2, cosine=0.3), depths=(2, 3))
