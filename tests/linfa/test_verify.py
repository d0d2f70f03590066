"""Certificates: right rules pass, wrong ones fail where they are wrong."""

import json
import platform
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pytest

import linfa
from linfa import theory
from linfa.algebra import T, product
from linfa.rules import (
    Claim,
    ClosedForm,
    Conserved,
    Dense,
    ErrorRank,
    Feedback,
    Fixed,
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
from linfa.verify import Certificate, Check, relative, verify, widths


@pytest.mark.parametrize("name", named())
def test_every_rule_passes(name):
    certificate = linfa.verify(named()[name])
    assert certificate.passed, str(certificate)
    readings = {check.reading for check in certificate.checks}
    assert "promoted" in readings or "torch" not in certificate.versions or "not promoted" in certificate.notes[0]
    claimed = {check.claim for check in certificate.checks if check.reading not in ("law", "promoted")}
    assert {str(claim) for claim in named()[name].claims} == claimed


def test_the_promoted_reading_only_adds():
    core, both = (linfa.verify(linfa.dkp(), promoted=promoted) for promoted in (False, True))
    assert core.checks == tuple(check for check in both.checks if check.reading != "promoted") != both.checks


@pytest.mark.parametrize("seed", range(1, 4))
def test_other_seeds_pass(seed):
    for rule in (linfa.fa(), linfa.ldfa(3, "oja"), linfa.kolen_pollack(0.3)):
        assert linfa.verify(rule, seed=seed, promoted=False, depths=(2, 3)).passed


def test_large_ranks_get_large_problems():
    rule = linfa.ldfa(9, "hebb")
    assert min(widths(rule, 3)) > 9
    assert linfa.verify(rule).passed


def failures(rule, promoted=False):
    return [check for check in verify(rule, promoted=promoted).checks if not check.passed]


def claiming(rule, *claims):
    """The same rule with claims of its own."""
    object.__setattr__(rule, "claims", claims)
    return rule


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
    assert {check.reading for check in wrong} == {"symbolic", "simulated", "law"}
    assert all("conserve" in check.claim for check in wrong)
    assert any("refuted" in check.detail for check in wrong)


FIXED_FEEDBACK = Conserved(invariants.feedback_alignment, 2)


@final
@dataclass(frozen=True)
class Drifting(Plasticity):
    """Feedback that follows the weight gradient with the wrong sign, and claims to be fixed."""

    reads: ClassVar[tuple[str, ...]] = ("G",)
    factors: ClassVar[tuple[int, ...]] = (1,)

    def velocity(self, stored, moments):
        return (0.3 * T(moments.G),)

    def learns(self, stored):
        return (True,)

    def claims(self, rule):
        return (FIXED_FEEDBACK,)


@final
@dataclass(frozen=True)
class Negated(Feedback):
    """Delivers -B e where its factors say B."""

    names: ClassVar[tuple[str, ...]] = ("B",)

    def shapes(self, n_h, n_e):
        return ((n_h, n_e),)

    def start(self, rng, forward, std):
        return Dense().start(rng, forward, std)

    def factors(self, stored, weight):
        return stored

    def carry(self, stored, weight, error):
        return -(product(self.factors(stored, weight)) @ error)


def test_the_invariant_of_feedback_alignment_is_refuted_for_feedback_that_drifts():
    wrong = failures(Rule(Layerwise(), Dense(), Drifting(), name="drifting"), promoted=True)
    drift = "A step of descent moves what the flow conserves by lr^2 times its value at the velocity, exactly"
    assert {(check.reading, check.claim) for check in wrong} == {
        ("symbolic", str(FIXED_FEEDBACK)), ("simulated", str(FIXED_FEEDBACK)), ("law", drift),
    }  # fmt: skip
    assert failures(claiming(linfa.fa(), FIXED_FEEDBACK), promoted=True) == []


def test_a_sign_error_in_the_delivery_is_seen_in_every_reading():
    rule = claiming(Rule(Layerwise(), Negated(), Fixed(), name="negated"), FIXED_FEEDBACK)
    wrong = failures(rule, promoted=True)
    assert {"symbolic", "simulated"} <= {check.reading for check in wrong if check.claim == str(FIXED_FEEDBACK)}
    beside = [check for check in wrong if check.claim == "one rule"]  # the torch layers follow the factors
    assert len(beside) == 5  # every depth but 1, which has no feedback
    assert all(check.error > 1e-3 for check in beside)


@final
@dataclass(frozen=True)
class Transposed(Plasticity):
    """Kolen-Pollack with the transpose forgotten."""

    reads: ClassVar[tuple[str, ...]] = ("G",)
    factors: ClassVar[tuple[int, ...]] = (1,)

    def velocity(self, stored, moments):
        return (-moments.G,)

    def learns(self, stored):
        return (True,)

    def claims(self, rule):
        return (Conserved(invariants.kolen_pollack, 1),)


def test_a_forgotten_transpose_does_not_fit_the_problems():
    rule = Rule(Layerwise(), Dense(), Transposed(), name="transposed")
    with pytest.raises(Exception, match=r"(?i)shape|mismatch|broadcast|dimension|align"):
        verify(rule, promoted=False)
    for depth in (2, 3):
        sizes = widths(rule, depth)
        assert any(sizes[edge.activity] != sizes[edge.source] for edge in rule.route.edges(depth))


@pytest.mark.parametrize(("claim", "word"), [(Homogeneous(2), "degree 2"), (ErrorRank(1), "rank at most 1")])
@pytest.mark.parametrize("rule", [linfa.ldfa(2, "fixed"), linfa.ldfa(2, "oja", direct=True)], ids=lambda r: r.name)
def test_a_wrong_claim_fails_in_torch_too(rule, claim, word):
    wrong = failures(claiming(Rule(rule.route, rule.feedback, rule.plasticity), *rule.claims, claim), promoted=True)
    assert {check.reading for check in wrong} == {"simulated", "promoted"}
    assert all(word in check.claim for check in wrong)


def test_a_wrong_rate_of_decay_fails():
    rule = claiming(linfa.kolen_pollack(0.3), Conserved(invariants.kolen_pollack, 2))
    assert {check.reading for check in failures(rule)} == {"symbolic", "simulated", "law"}


def test_a_closed_form_of_another_rule_is_no_certificate():
    with pytest.raises(theory.AssumptionError):
        verify(claiming(linfa.fa(), ClosedForm("SaxeMode")), promoted=False)


def test_what_is_not_a_number_never_passes():
    assert relative(np.array([1.0, np.nan]), np.array([1.0, 2.0])) == np.inf
    assert relative(np.array([1.0]), np.array([np.nan])) == np.inf
    rule = claiming(linfa.fa(scale=float("nan")), Homogeneous())
    checks = [check for check in verify(rule, promoted=True).checks if check.reading != "law"]
    assert len(checks) == 13
    assert {check.detail[-1] for check in checks if check.passed} == {"1"}  # without feedback there is none to be wrong


def test_relative_is_in_units_of_the_larger_of_one_and_what_is_expected():
    assert relative(np.array([3.0, 8.0]), np.array([3.0, -10.0])) == pytest.approx(1.8)
    assert relative(np.array([0.25]), np.array([0.0])) == 0.25


@pytest.mark.parametrize("depths", [(), (0, 1)])
def test_depths_are_at_least_one(depths):
    with pytest.raises(ValueError, match="at least 1; got"):
        verify(linfa.fa(), depths=depths)


def test_a_claim_that_fails_at_one_depth_alone_fails_there():
    def quantity(rule, state):
        """The first weight of five layers."""
        depth = len(state.weights)
        return (state.weights[0],) if depth == 5 else ()

    rule = claiming(linfa.fa(), Conserved(quantity, 1))
    assert failures(rule)
    assert all(check.passed for check in verify(rule, promoted=False, depths=(1, 2, 3, 4, 6)).checks)


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
    assert read["versions"]["numpy"] == np.__version__
    assert read["versions"]["python"] == platform.python_version()
    assert Certificate.from_json(certificate.to_json()) == certificate
    for row, check in zip(read["checks"], certificate.checks, strict=True):
        assert row["passed"] is check.passed is True
        assert (row["error"], row["tolerance"]) == (check.error, check.tolerance)


def test_json_of_a_failure_is_plain_json():
    certificate = verify(Rule(Layerwise(), Dense(), Crooked(), name="crooked"), promoted=False)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads(certificate.to_json(), parse_constant=refuse)
    assert read["passed"] is certificate.passed is False
    assert Certificate.from_json(certificate.to_json()) == certificate
    assert [row["passed"] for row in read["checks"]] == [check.passed for check in certificate.checks]
    assert "inf" in [row["error"] for row in read["checks"]]


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
