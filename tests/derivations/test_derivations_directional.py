"""The derivations of feedback that follows the forward map notice a wrong formula."""

import pytest
import sympy as sp

import linfa
from derivations import mirror_decay
from derivations.proof import ProofError
from linfa.algebra import T
from linfa.rules import Direct, Mirror, RandomFactors, Rule
from linfa.theory import AssumptionError, forward_maps

MUTATIONS = [
    (mirror_decay, "leaky_flow", lambda t, leak, start, drive: sp.exp(-leak * t) * start + t * drive),
    (mirror_decay, "leaky_flow", lambda t, leak, start, drive: sp.exp(-2 * leak * t) * (start - drive) + drive),
    (mirror_decay, "leaky_descent", lambda steps, a, start, drive: [start * (1 - a) ** n for n in range(steps + 1)]),
    (mirror_decay, "mirror_targets", lambda rule, state: tuple(2 * T(J) for J in forward_maps(rule, state.weights))),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()


@pytest.mark.parametrize("depth", [2, 4])
def test_mirrors_at_other_depths_and_with_factors(depth):
    for rule in (
        linfa.weight_mirror(0.5),
        linfa.directional_dfa(rank=2),
        Rule(Direct(), RandomFactors(2), Mirror(0.3, 2.0)),
    ):
        assert mirror_decay.derivation(depth, rule).title.endswith(f"depth {depth}")


def test_other_rules_do_not_pass():
    with pytest.raises(AssumptionError, match="does not follow the forward map"):
        mirror_decay.derivation(2, linfa.fa())
