"""The derivations of modes notice a wrong formula."""

import numpy as np
import pytest
import sympy as sp

from derivations import fa_aligned_mode, fa_alignment_angle, fa_sharpness, final_loss_two_modes, scalar_chain
from derivations.proof import ProofError

MUTATIONS = [
    (fa_aligned_mode, "fa_mode", lambda t, s, h: s * np.tanh(t)),
    (fa_aligned_mode, "fa_half_time", lambda s, h: 0.9378),
    (fa_aligned_mode, "timescale", lambda s: sp.cbrt(2 / s)),
    (fa_aligned_mode, "amplitude", lambda s, x: sp.cbrt(s) * x),
    (fa_aligned_mode, "gain", lambda s, x: x / sp.cbrt(2 * s)),
    (scalar_chain, "chain_weights", lambda feedback, start: [(w, *feedback, 1) for w in start]),
    (scalar_chain, "chain_polynomial", lambda feedback, start, s: (s, 0, 0, -1)),
    (fa_alignment_angle, "alignment_tangent", lambda a, along, across, size: across / (along + size * a**2)),
    (fa_alignment_angle, "alignment_tangent", lambda a, along, across, size: across / (along - size * a**2 / 2)),
    (fa_alignment_angle, "cubic_time", lambda a, s, c, h, root: sp.log(1 - a / root)),
    (fa_sharpness, "fa_sharpness", lambda w1, w2, b: b * w2 + 2 * w1**2),
    (fa_sharpness, "fa_sharpness_slope", lambda w1, w2, b: b * (b * w2 - w1**2) / (b * w2 + w1**2)),
    (fa_sharpness, "edge_is_stable", lambda w1, w2, b: b * w2 > w1**2),
    (final_loss_two_modes, "two_mode_loss", lambda s1, s2, angle: s1**2 * s2**2 / (s1**2 + s2**2)),
    (final_loss_two_modes, "final_loss", lambda Syx, B: 0.5),
    (scalar_chain, "fa_rest_points", lambda s, b, c: np.array([1.0])),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
