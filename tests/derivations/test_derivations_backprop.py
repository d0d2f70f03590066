"""The derivations of backprop and of clocks notice a wrong formula."""

import pytest

from derivations import balance_drift, bp_unbalanced_mode, cubic_clock, riccati
from derivations.proof import ProofError
from linfa.theory.backprop import balance_drift as drift
from linfa.theory.backprop.riccati import riccati_qqt
from linfa.theory.backprop.saxe import bp_mode
from linfa.theory.clock import cubic_root, cubic_time

MUTATIONS = [
    (cubic_clock, "cubic_time", lambda a, s, c, h, root=None: 2 * cubic_time(a, s, c, h, root)),
    (cubic_clock, "cubic_time", lambda a, s, c, h, root=None: cubic_time(a, s, c, 2 * h, root)),
    (cubic_clock, "cubic_root", lambda s, c, h: -cubic_root(s, c, h)),
    (cubic_clock, "poly_time", lambda x, x0, p: 0.5),
    (bp_unbalanced_mode, "bp_mode_weights", lambda t, s, w1, w2: (w1, w1)),
    (bp_unbalanced_mode, "bp_mode_unbalanced", lambda t, s, u0, lam: bp_mode(t, 2 * s, u0)),
    (riccati, "riccati_qqt", lambda W1, W2, Sigma, times: riccati_qqt(W1, W2, 2 * Sigma, times)),
    (riccati, "riccati_qqt", lambda W1, W2, Sigma, times: riccati_qqt(W1, -W2, Sigma, times)),
    (riccati, "riccati_qqt", lambda W1, W2, Sigma, times: riccati_qqt(W1, W2, Sigma, times) * (1 + 1e-9)),
    (balance_drift, "balance_drift", lambda weights, G, lr: drift.balance_drift(weights, G, 2 * lr)),
    (balance_drift, "balance_drift", lambda weights, G, lr: [-D for D in drift.balance_drift(weights, G, lr)]),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()


@pytest.mark.parametrize("depth", [2, 5])
def test_other_depths(depth):
    assert balance_drift.derivation(depth).title.endswith(f"depth {depth}")
