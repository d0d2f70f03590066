"""The derivations of feedback alignment notice a wrong formula."""

import pytest
import sympy as sp

from derivations import (
    fa_closed_pair,
    fa_commuting_inputs,
    fa_decay,
    fa_drift,
    fa_gram,
    fa_layer_rates,
    fa_lyapunov,
)
from derivations.proof import ProofError
from linfa.dynamics import State
from linfa.theory.alignment.gram import FAGram


class WrongMap(FAGram):
    def map(self, A, G):
        return super().map(A, G) - A * self.J.T * A


MUTATIONS = [
    (fa_drift, "fa_drift", lambda B, G, lr: lr * B * G * G.T * B.T),
    (fa_drift, "fa_drift", lambda B, G, lr: lr**2 * G * G.T),
    (fa_gram, "FAGram", WrongMap),
    (fa_lyapunov, "seen_error_rate", lambda W1, W2, B, E: -(E.T * B.T * B * W2 * B * E).trace()),
    (fa_closed_pair, "closed_pair_velocity", lambda W1, M, D, S: (D - M * W1, (D - M * W1) * W1.T)),
    (fa_closed_pair, "closed_pair_velocity", lambda W1, M, D, S: (D - M * W1 * S, W1 * (D - M * W1 * S).T)),
    (fa_layer_rates, "at_equal_rates", lambda x, r: State((r[1] * x.weights[0], x.weights[1] / r[1]), x.feedback)),
    (fa_layer_rates, "timescale", lambda s: sp.cbrt(2 / s)),
    (fa_commuting_inputs, "timescale", lambda s: sp.cbrt(3 / s**2)),
    (fa_commuting_inputs, "amplitude", lambda s, x: sp.cbrt(s) * x),
    (fa_commuting_inputs, "gain", lambda s, x: x / sp.cbrt(2 * s)),
    (fa_decay, "fa_decay_residual", lambda s, decay: s / (1 + decay**3)),
    (fa_decay, "fa_decay_end", lambda Sigma, B, decay: (B @ Sigma, Sigma, Sigma)),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
