"""Certificates: right rules pass, wrong ones fail where they are wrong."""

import json
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pytest

import linfa
from linfa.algebra import T
from linfa.rules import (
    Claim,
    Conserved,
    Dense,
    ErrorRank,
    Homogeneous,
    KolenPollack,
    Layerwise,
    Order,
    Plasticity,
    RandomFactors,
    Rule,
    named,
)
from linfa.theory import invariants
from linfa.verify import Check, verify, widths


@pytest.mark.parametrize("name", named())
def test_every_rule_passes(name):
    certificate = linfa.verify(named()[name])
    assert certificate.passed, str(certificate)
    readings = {check.reading for check in certificate.checks}
    assert "promoted" in readings or "torch" not in certificate.versions


@pytest.mark.parametrize("seed", range(1, 4))
def test_other_seeds_pass(seed):
    for rule in (linfa.fa(), linfa.ldfa(3, "oja"), linfa.kolen_pollack(0.3)):
        assert linfa.verify(rule, seed=seed, promoted=False).passed


def test_large_ranks_get_large_problems():
    rule = linfa.ldfa(9, "hebb")
    assert min(widths(rule, 3)) > 9
    assert linfa.verify(rule).passed


def failures(rule, **kw):
    return [check for check in verify(rule, promoted=False, **kw).checks if not check.passed]


@final
@dataclass(frozen=True)
class Crooked(Plasticity):
    """Kolen-Pollack of half the strength."""

    reads: ClassVar[tuple[str, ...]] = ("G",)
    factors: ClassVar[tuple[int, ...]] = (1,)

    def velocity(self, stored, moments):
        return (-0.5 * T(moments.G),)

    def learns(self, stored):
        return (True,)

    def claims(self, rule):
        return (Conserved(invariants.kolen_pollack, 1),)


def test_a_wrong_rule_fails_in_proof_and_simulation():
    wrong = failures(Rule(Layerwise(), Dense(), Crooked(), name="crooked"))
    assert {check.reading for check in wrong} == {"symbolic", "simulated"}
    assert all("conserved" in check.claim for check in wrong)
    assert any("refuted" in check.detail for check in wrong)


@pytest.mark.parametrize(
    ("claim", "word"), [(Order(2), "order 2"), (Homogeneous(2), "degree 2"), (ErrorRank(1), "rank at most 1")]
)
def test_a_wrong_claim_fails_alone(claim, word):
    rule = Rule(Layerwise(), RandomFactors(2), KolenPollack(), name="boast")
    object.__setattr__(rule, "claims", (*rule.claims, claim))
    wrong = failures(rule)
    assert wrong
    assert all(word in check.claim for check in wrong)


def test_an_unknown_claim_raises():
    @dataclass(frozen=True)
    class Fame(Claim):
        pass

    rule = linfa.bp()
    object.__setattr__(rule, "claims", (Fame(),))
    with pytest.raises(TypeError, match="Fame"):
        verify(rule, promoted=False)


def test_json_holds_everything():
    certificate = verify(linfa.fa(), promoted=False)
    read = json.loads(certificate.to_json())
    assert read["passed"] is True
    assert read["fingerprint"] == linfa.fa().fingerprint
    assert len(read["checks"]) == len(certificate.checks)
    assert {"claim", "reading", "error", "tolerance", "detail", "passed"} == set(read["checks"][0])
    assert "numpy" in read["versions"]


def test_verdicts():
    assert Check("c", "simulated", 1e-9, 1e-8, "").passed
    assert not Check("c", "simulated", 1e-7, 1e-8, "").passed
    assert not Check("c", "simulated", float("nan"), 1e-8, "").passed
    assert not Check("c", "symbolic", np.inf, 0.0, "").passed


def test_text_marks_failures():
    text = str(verify(Rule(Layerwise(), Dense(), Crooked(), name="crooked"), promoted=False))
    assert "FAIL" in text
    assert "of" in text.splitlines()[-1]


@pytest.mark.parametrize("plasticity", ["oja", "hebb", "normative", "kolen-pollack", "fixed"])
def test_decay_takes_back_what_it_breaks(plasticity):
    rule = linfa.ldfa(2, plasticity, decay=0.1)
    assert linfa.verify(rule).passed, str(linfa.verify(rule))
