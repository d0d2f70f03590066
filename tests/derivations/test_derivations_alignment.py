"""The derivations of feedback alignment notice a wrong formula."""

import pytest

from derivations import fa_drift, fa_gram
from derivations.proof import ProofError
from linfa.theory.alignment.gram import FAGram


class WrongMap(FAGram):
    def map(self, A, G):
        return super().map(A, G) - A * self.J.T * A


MUTATIONS = [
    (fa_drift, "fa_drift", lambda B, G, lr: lr * B * G * G.T * B.T),
    (fa_drift, "fa_drift", lambda B, G, lr: lr**2 * G * G.T),
    (fa_gram, "FAGram", WrongMap),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
