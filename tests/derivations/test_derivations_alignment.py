"""The derivations of feedback alignment notice a wrong formula."""

import pytest

from derivations import fa_drift
from derivations.proof import ProofError

MUTATIONS = [
    (fa_drift, "fa_drift", lambda B, G, lr: lr * B * G * G.T * B.T),
    (fa_drift, "fa_drift", lambda B, G, lr: lr**2 * G * G.T),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
