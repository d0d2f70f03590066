"""The law suite over every rule of the catalogue, depths 1 to 6."""

from dataclasses import dataclass
from typing import ClassVar, final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linfa.algebra import T
from linfa.rules import (
    Conserved,
    Dense,
    ErrorRank,
    KolenPollack,
    Layerwise,
    Order,
    Plasticity,
    RandomFactors,
    Rule,
    named,
)
from linfa.testing import LAWS, Problem, check_rule, law_conserved, law_error_rank, law_order, problems
from linfa.theory import invariants


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@given(st.data())
def test_law(law, data):
    problem = data.draw(problems())
    if law.__name__ == "law_conserved" and problem.rule.feedback.redrawn:
        return
    law(problem)


@pytest.mark.parametrize("name", named())
def test_every_rule_at_every_depth(name):
    check_rule(named()[name], depths=range(1, 7))


@given(problems(Rule(Layerwise(), RandomFactors(2), KolenPollack(), decay=0.2)))
@settings(max_examples=10)
def test_decay_of_what_is_not_conserved(problem):
    law_conserved(problem)


@final
@dataclass(frozen=True)
class Backwards(Plasticity):
    """Kolen-Pollack with the wrong sign, claiming what the right one conserves."""

    reads: ClassVar[tuple[str, ...]] = ("G",)
    factors: ClassVar[tuple[int, ...]] = (1,)

    def velocity(self, stored, moments):
        return (T(moments.G),)

    def learns(self, stored):
        return (True,)

    def claims(self, rule):
        return (Conserved(invariants.kolen_pollack, 1),)


def test_a_wrong_rule_breaks_a_law():
    wrong = Rule(Layerwise(), Dense(), Backwards(), decay=0.1, name="backwards")
    with pytest.raises(AssertionError, match="conserved"):
        check_rule(wrong)


def test_a_wrong_order_is_noticed():
    rule = named()["fa"]
    object.__setattr__(rule, "claims", (Order(2),))
    with pytest.raises(AssertionError, match="observed order 1"):
        law_order(Problem(rule, (3, 4, 3), seed=1))


def test_a_wrong_rank_is_noticed():
    rule = named()["ldfa(2, fixed)"]
    assert ErrorRank(2) in rule.claims

    @dataclass(frozen=True)
    class Boasting(RandomFactors):
        def shapes(self, n_h, n_e):
            return ((n_h, n_e), (n_e, n_e))

        def rank_between(self, n_h, n_e):
            return min(n_h, n_e)

    with pytest.raises(AssertionError, match="rank above 1"):
        law_error_rank(Problem(Rule(Layerwise(), Boasting(1)), (4, 5, 4), seed=1))
