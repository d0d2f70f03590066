"""The first equality of the bridge: a promoted net of Linear layers follows the core's descent, step by step."""

from dataclasses import replace

import numpy as np
import pytest

import linfa
from deep.bridge import Run, fits, quadratic, read
from linfa.dynamics import State
from linfa.rules import (
    Alignment,
    Dense,
    Direct,
    Factored,
    Fixed,
    Hebb,
    KolenPollack,
    Layerwise,
    Local,
    Oja,
    RandomFactors,
    Rule,
    SVDStructured,
    Transpose,
    named,
)
from linfa.tree import leaves

from .covered import promotable  # isort: skip

OWN = {
    "dkp": Rule(Direct(), Dense(), KolenPollack(), name="dkp"),
    "low-rank dfa, oja": Rule(Direct(), RandomFactors(2), Oja(), decay=0.05, name="low-rank dfa, oja"),
    "hebb from random": Rule(Layerwise(), RandomFactors(3), Hebb(), decay=0.02, name="hebb from random"),
    "local, decay, a head of rank 2": Rule(Local(2, 0.3), RandomFactors(2), KolenPollack(), decay=0.1, name="low rank"),
    "local, fixed heads": Rule(Local(3, 0.2), Dense(), Fixed(), name="local, fixed heads"),
    "local, oja": Rule(Local(None, 0.2), RandomFactors(2), Oja(), decay=0.02, name="local, oja"),
    "bp with decay": Rule(Layerwise(), Transpose(), decay=0.1, name="bp with decay"),
    "factored fa": linfa.factored(linfa.fa(), 3),
    "factored ldfa, hebb": linfa.factored(linfa.ldfa(2, "hebb", decay=0.1), 3, "qr"),
    "factored directional dfa": linfa.factored(linfa.directional_dfa(directions=1), 3),
    "factored uSF": linfa.factored(linfa.sign_symmetry("uSF"), 3),
    "svd-local, polar": linfa.svd_local(2, retraction="polar"),
    "svd-local, all": replace(
        linfa.svd_local(2, 0.3, 0.2, cosine=0.4, sparsity=0.1, subspace=True, retraction="qr"), decay=0.1
    ),
    "layerwise svd": Rule(
        Layerwise(), SVDStructured(2), parameterisation=Factored(2, (Alignment(0.3),)), name="layerwise svd"
    ),
}
RULES = promotable() | OWN


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("name", RULES)
def test_promoted_net_follows_descent(name, depth):
    rule = RULES[name]
    if not fits(rule, depth):
        pytest.skip(f"{name} backpropagates more layers exactly than a net of depth {depth} has")
    worst, promoted, _ = Run(rule, depth, seed=depth).follow()
    assert worst <= 1e-10
    first, last = leaves(promoted[0].weights), leaves(promoted[-1].weights)
    moved = max(np.abs(a - b).max() for a, b in zip(first, last, strict=True))
    assert moved > 1e-3


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if any(rule.plasticity.learns(2))])
def test_learning_feedback_moves(name):
    rule = RULES[name]
    _, promoted, _ = Run(rule, 3, seed=0).follow()
    for before, after in zip(promoted[0].feedback, promoted[-1].feedback, strict=True):
        learns = rule.plasticity.learns(len(before))
        for a, b, moves in zip(before, after, learns, strict=True):
            assert (np.abs(a - b).max() > 1e-5) == moves


def test_layer_by_layer_rules_differ():
    """The equality would be empty if every rule had the same gradients."""
    seen = {}
    for name, rule in RULES.items():
        seen[name] = np.concatenate([g.ravel() for g in leaves(tuple(Run(rule, 4, seed=1).gradients()))])
    same = {
        (a, b) for a in seen for b in seen
        if a < b and seen[a].shape == seen[b].shape and np.allclose(seen[a], seen[b], rtol=1e-6)
    }  # fmt: skip
    # Rules that start from the same feedback differ later, when it has learned.
    for a, b in same:
        ra, rb = RULES[a], RULES[b]
        assert (ra.route, ra.feedback, ra.decay) == (rb.route, rb.feedback, rb.decay)


def test_read_gives_a_state():
    rule = named()["ldfa(2, oja)"]
    state = read(Run(rule, 3, seed=0).net, rule)
    assert isinstance(state, State)
    assert [len(stored) for stored in state.feedback] == [2, 2]


def test_quadratic_is_the_loss_of_the_core():
    run = Run(named()["bp"], 2, seed=3)
    from linfa import observe

    state = read(run.net, run.rule)
    core = observe.loss(run.rule, state, run.task)
    assert quadratic(run.net(run.x), run.y).item() == pytest.approx(core, rel=1e-12)
