"""The derivations of low-dimensional feedback notice a wrong formula, and hold for several rules and depths."""

import dataclasses

import numpy as np
import pytest
import sympy as sp

import linfa
from derivations import (
    bottleneck,
    compressed_backprop,
    factor_balance,
    frozen_readout,
    normative_riccati,
    oja_flow,
    plateau_escape,
)
from derivations.proof import ProofError
from linfa.rules import Direct, Layerwise, RandomFactors, Rule
from linfa.theory.dimension.bottleneck import Bottleneck
from linfa.theory.dimension.bottleneck import bottleneck as narrowed


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_depths(depth):
    assert factor_balance.derivation(depth).title.endswith(f"depth {depth}")
    for route, decay in ((Layerwise(), 0.0), (Direct(), 0.2), (Direct(1), 0.0)):
        rule = Rule(route, RandomFactors(2), decay=decay)
        assert bottleneck.derivation(depth, rule).title.endswith(f"depth {depth}")


def _loud(rule, state):
    narrow = narrowed(rule, state)
    return dataclasses.replace(narrow, feedback=tuple((2 * B,) for (B,) in narrow.feedback))


def _scaled(function, factor):
    return lambda *arguments: factor * function(*arguments)


def _left(cls, equations):
    return (sp.Symbol("x"),)


def _squares(rule, state):
    return [Q.T @ Q + P @ P.T for Q, P in state.feedback]


WIDEN = Bottleneck.widen
MUTATIONS = [
    (bottleneck, bottleneck, "bottleneck", _loud),
    (bottleneck, Bottleneck, "widen", lambda self, weights: tuple(2 * W for W in WIDEN(self, weights))),
    (frozen_readout, frozen_readout, "frozen_readout_error", lambda W2, B, E0, t: (-2 * W2 * B * t).exp() * E0),
    (frozen_readout, frozen_readout, "frozen_readout_error", lambda W2, B, E0, t: 2 * (-W2 * B * t).exp() * E0),
    (frozen_readout, frozen_readout, "frozen_readout_limit", lambda W2, B, E0: E0 - np.linalg.pinv(B) @ B @ E0),
    (frozen_readout, frozen_readout, "frozen_readout_max_lr", lambda W2, B: 2.0),
    (frozen_readout, frozen_readout.FrozenReadout, "residuals", classmethod(_left)),
    (compressed_backprop, compressed_backprop, "compressed_task", lambda task, P: linfa.Task.teacher(2 * P @ task.Syx)),
    (compressed_backprop, compressed_backprop.CompressedBackprop, "residuals", classmethod(_left)),
    (oja_flow, oja_flow, "oja_projector", _scaled(oja_flow.oja_projector, 2)),
    (oja_flow, oja_flow, "oja_tangent", _scaled(oja_flow.oja_tangent, -1)),
    (oja_flow, oja_flow.OjaProjector, "residuals", classmethod(_left)),
    (normative_riccati, normative_riccati.NormativeFactors, "residuals", classmethod(_left)),
    (factor_balance, factor_balance, "kp_gap", lambda t, rate, gap: sp.exp(-2 * rate * t) * gap),
    (factor_balance, factor_balance.invariants, "factor_balance", _squares),
    (factor_balance, factor_balance.invariants, "activity_balance", lambda rule, state: [w @ w.T for w in state[0]]),
    (plateau_escape, plateau_escape, "plateau_matrix", lambda W1, B, Syx: W1.T @ W1),
]


@pytest.mark.parametrize(("module", "owner", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, owner, name, wrong, monkeypatch):
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
