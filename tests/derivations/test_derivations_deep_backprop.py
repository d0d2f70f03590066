"""The derivations of backprop at any depth hold at several, and notice a wrong formula."""

import numpy as np
import pytest

from derivations import depth_mode, end_to_end_flow, rate_bound
from derivations.proof import ProofError
from linfa.theory import convergence_rate, depth_clock, end_to_end, imbalance_rate, log_beta
from linfa.theory.scalar import log


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("module", [depth_mode, end_to_end_flow, rate_bound])
def test_depths(module, depth):
    assert str(depth) in module.derivation(depth=depth).title


@pytest.mark.parametrize("seed", range(1, 4))
def test_instances(seed):
    assert end_to_end_flow.derivation(3, size=4, seed=seed)
    assert rate_bound.derivation(2, seed=seed)


def _transposed_powers(W, E, N):
    return end_to_end(W.T, E, N)


MUTATIONS = [
    (depth_mode, "depth_clock", lambda u, u0, s, N: 2 * depth_clock(u, u0, s, N)),
    (depth_mode, "depth_clock", lambda u, u0, s, N: log(u * (s - u0) / (u0 * (s - u))) / s),
    (depth_mode, "depth_clock", lambda u, u0, s, N: depth_clock(u, u0, s, N) + u0),
    (depth_mode, "depth_mode", lambda times, s, u0, N: s - (s - u0) * np.exp(-times)),
    (depth_mode, "log_beta", lambda y, a: log_beta(y, a + 1)),
    (end_to_end_flow, "end_to_end", lambda W, E, N: end_to_end(W, E, N + 1)),
    (end_to_end_flow, "end_to_end", _transposed_powers),
    (end_to_end_flow, "singular_value_speed", lambda W, E, N: np.diagonal(E)),
    (rate_bound, "convergence_rate", lambda weights: 2 * convergence_rate(weights)),
    (rate_bound, "convergence_rate", lambda weights: convergence_rate(weights[:1])),
    (rate_bound, "imbalance_rate", lambda W1, W2: imbalance_rate(W1, 0 * W2)),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
