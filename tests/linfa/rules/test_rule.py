"""The rule object: equality, repr, fingerprint, composition."""

import dataclasses

import pytest

import linfa
from linfa.rules import (
    ClosedForm,
    CompositionError,
    Conserved,
    Dense,
    Direct,
    ErrorRank,
    Hebb,
    Homogeneous,
    KolenPollack,
    Layerwise,
    Local,
    Modulated,
    Normative,
    Oja,
    Order,
    RandomFactors,
    Rule,
    Target,
    Transpose,
    UnitSign,
    named,
)


def test_equality_is_of_parts_not_names():
    assert linfa.fa() == Rule(Layerwise(), Dense(), name="something else")
    assert linfa.fa() != linfa.fa(scale=2.0)
    assert linfa.ldfa(3) != linfa.ldfa(4)
    assert linfa.ldfa(3, direct=True) != linfa.ldfa(3)
    assert hash(linfa.fa()) == hash(Rule(Layerwise(), Dense(), name="x"))


def test_fingerprints_are_stable():
    """Certificates and runs on disk quote them: a change here breaks every stored one."""
    assert linfa.fa().fingerprint == "244c31f51e5c2443"
    assert linfa.ldfa(2).fingerprint == "1483f57d3b9c59da"
    assert Rule(Layerwise(), Dense(), name="x").fingerprint == linfa.fa().fingerprint
    assert len({rule.fingerprint for rule in named().values()}) == len(named())


def test_rules_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        linfa.fa().decay = 1.0


def test_repr_shows_the_parts():
    assert repr(linfa.kolen_pollack(0.2)) == (
        "kolen-pollack: Layerwise() / Dense(scale=1.0) / KolenPollack() / decay=0.2"
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((Direct(), Transpose()), "use the Layerwise route"),
        ((Direct(), UnitSign()), "use the Layerwise route"),
        ((Target(), RandomFactors(2), Normative()), "ends of nothing"),
        ((Modulated(), Dense(), KolenPollack()), "nothing to learn"),
        ((Local(lam=0.1), RandomFactors(2, clamp=1.0)), "delivers, which is clamped: use clamp=None or lam=0"),
        ((Local(), Transpose()), "use the Layerwise route"),
        ((Layerwise(), Dense(), Oja()), "moves 2 stored factors"),
        ((Layerwise(), Dense(), Hebb()), "has 1 that may move"),
        ((Layerwise(), Transpose(), KolenPollack()), "has 0 that may move"),
        ((Layerwise(), UnitSign(), KolenPollack()), "follows the weight"),
    ],
)
def test_parts_that_make_no_sense_together(parts, message):
    with pytest.raises(CompositionError, match=message):
        Rule(*parts)


def test_bad_settings():
    for make, message in (
        (lambda: linfa.ldfa(0), "at least 1"),
        (lambda: linfa.ldfa(2, clamp=-1.0), "positive bound"),
        (lambda: linfa.ldfa(2, "anti-hebb"), "choose one of 'oja', 'hebb'"),
        (lambda: linfa.sign_symmetry("sf"), "choose one of 'uSF', 'brSF', 'frSF'"),
        (lambda: linfa.bp(decay=-0.1), "at least 0"),
        (lambda: Direct(exact_top=-1), "at least 0"),
        (lambda: linfa.sgr(modules=1), r"at least 2, .* got 1 \(one is backprop\)"),
        (lambda: linfa.sgr(lam=-0.1), "at least 0; got -0.1"),
        (lambda: linfa.sgr(lam=float("nan")), "at least 0; got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_claims_follow_from_the_parts():
    kinds = lambda rule: {type(c) for c in rule.claims}  # noqa: E731
    assert kinds(linfa.bp()) == {Order, Homogeneous, Conserved, ClosedForm}
    assert ErrorRank in kinds(linfa.ldfa(2))
    assert kinds(linfa.ldfa(2, clamp=1.0)) == {Order}
    assert Order not in kinds(linfa.sign_symmetry("uSF"))
    theories = {c.theory for c in linfa.ldfa(2, "fixed").claims if isinstance(c, ClosedForm)}
    assert theories >= {"ZeroInitFA", "FinalMap"}


def test_edges():
    spans = lambda rule, depth: [(e.activity, e.source) for e in rule.route.edges(depth)]  # noqa: E731
    assert spans(linfa.fa(), 1) == []
    assert spans(linfa.fa(), 4) == [(1, 2), (2, 3), (3, 4)]
    assert spans(linfa.dfa(), 4) == [(1, 4), (2, 4), (3, 4)]
    assert spans(linfa.ldfa(2, direct=True), 4) == [(1, 3), (2, 3)]
    assert spans(linfa.sgr(), 4) == [(1, 4), (2, 4), (3, 4)]
    assert [spans(linfa.sgr(modules=2), depth) for depth in (1, 2, 5)] == [[], [(1, 2)], [(3, 5)]]
    assert [spans(linfa.sgr(modules=3), depth) for depth in (2, 3, 7)] == [[(1, 2)], [(1, 3), (2, 3)], [(3, 7), (5, 7)]]


def test_reconciliation_of_weight_zero_is_local_learning():
    assert linfa.sgr(lam=0.0) == linfa.local()
    assert linfa.sgr(lam=0.0, decay=0.1) == linfa.local(decay=0.1)
    assert linfa.sgr(lam=0.1) != linfa.local()
    assert Rule(Local(lam=0.0), RandomFactors(2, clamp=1.0))
