"""The derivations of feedback that learns, adapts or carries targets notice a wrong formula."""

import numpy as np
import pytest
import sympy as sp

from derivations import adaptive_feedback, kp_mode, local_learning, target_projection
from derivations.proof import ProofError
from linfa.dynamics import State

MUTATIONS = [
    (adaptive_feedback, "pepita_logdet", lambda F, integral: np.trace(F) * np.trace(integral)),
    (adaptive_feedback, "pepita_logdet_descent", lambda F, E, lr: lr * np.trace(F @ E, axis1=1, axis2=2).cumsum()),
    (adaptive_feedback, "pepita_weights", lambda phi, w1, w2, f: (w1 * sp.exp(phi), w1 * sp.exp(phi) / f)),
    (adaptive_feedback, "pepita_mode", lambda t, w1, w2, f, s: (np.array([1.01 * w1]), np.array([w2]))),
    (adaptive_feedback, "kp_time", lambda b, b0, d, s: sp.log(b / b0) / s),
    (target_projection, "kummer", lambda z: sp.hyper([1], [sp.Rational(4, 3)], -z)),
    (target_projection, "drtp_gain", lambda t, s: s * (1 + t**2) / 2),
    (target_projection, "drtp_fraction", lambda t, s: 1 - sp.exp(-(s**2) * t**3 / 2)),
    (target_projection, "DRTP_PEAK", 1.12472),
    (target_projection, "PEAK_AT", 3.0),
    (kp_mode, "kp_weights", lambda theta, w1, w2, b: (w1 * sp.exp(theta), w2 + theta, b * sp.exp(theta))),
    (kp_mode, "kp_time", lambda b, b0, d, s: sp.log(b / b0) / s),
    (kp_mode, "kp_angle", lambda t, w1, w2, b, s: np.array([0.4])),
    (local_learning, "first_head", lambda state: State((state.weights[0], state.feedback[-1][0].T))),
    (local_learning, "bp_mode", lambda t, s, u0: s + (u0 - s) * sp.exp(-2 * s * t)),
    (local_learning, "readout_memory", lambda t, s, u0: sp.exp(-s * t)),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
