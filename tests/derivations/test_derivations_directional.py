"""The derivations of feedback that follows the forward map notice a wrong formula."""

import numpy as np
import pytest
import sympy as sp

import linfa
from derivations import directional_variance, mirror_decay
from derivations.proof import ProofError
from linfa.algebra import T
from linfa.rules import Direct, Layerwise, Mirror, RandomFactors, Rule
from linfa.theory import AssumptionError, forward_maps, signal_variance


def one_to_an_edge(rule, weights):
    return tuple(J @ T(J) for J in forward_maps(rule, weights))


MUTATIONS = [
    (mirror_decay, "leaky_flow", lambda t, leak, start, drive: sp.exp(-leak * t) * start + t * drive),
    (mirror_decay, "leaky_flow", lambda t, leak, start, drive: sp.exp(-2 * leak * t) * (start - drive) + drive),
    (mirror_decay, "leaky_descent", lambda steps, a, start, drive: [start * (1 - a) ** n for n in range(steps + 1)]),
    (mirror_decay, "mirror_targets", lambda rule, state: tuple(2 * T(J) for J in forward_maps(rule, state.weights))),
    (directional_variance, "directional_variance", lambda J, S: np.diag(S)[:, None] + 0 * J),
    (directional_variance, "directional_variance", lambda J, S: np.diag(S)[:, None] + 2 * J**2),
    (directional_variance, "signal_variance", lambda J, S, e: (T(e) @ S @ e) * (1 + 0 * T(J) @ e)),
    (directional_variance, "signal_variance", lambda J, S, e: signal_variance(J, J @ T(J), e)),
    (directional_variance, "arriving_moments", one_to_an_edge),
    (directional_variance, "averaging_variance", lambda a, steps=None: a / (2 - a)),
    (
        directional_variance,
        "averaging_variance",
        lambda a, t=None: a / (2 - a) * (1 if t is None else 1 - (1 - a) ** t),
    ),
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


def test_layerwise_edges_have_a_pass_of_their_own(monkeypatch):
    assert directional_variance.derivation(Layerwise())
    monkeypatch.setattr(directional_variance, "arriving_moments", one_to_an_edge)
    assert directional_variance.derivation(Layerwise())
