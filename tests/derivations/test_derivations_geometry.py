"""The derivations of other geometries notice a wrong formula."""

import pytest
import sympy as sp

from derivations import polar_modes
from derivations.proof import ProofError

MUTATIONS = [
    (polar_modes, "polar_of", lambda coefficient, frame: coefficient * frame),
    (polar_modes, "polar_of", lambda coefficient, frame: -sp.sign(coefficient) * frame),
    (polar_modes, "polar_mode", lambda t, weights: sp.prod([w + 2 * t for w in weights])),
    (polar_modes, "polar_mode", lambda t, weights: sp.Add(*(w + t for w in weights))),
    (polar_modes, "polar_arrival", lambda s, weights: s ** (1 / len(weights))),
    (polar_modes, "polar_oscillation", lambda s, weights, lr: len(weights) * lr * s),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
