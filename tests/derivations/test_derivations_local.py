"""The derivations of local learning notice a wrong formula."""

import itertools

import pytest

from derivations import reconciliation_gradient, telescoping_identity, words
from derivations.proof import ProofError
from linfa.theory.local import discord, energy

MUTATIONS = [
    (telescoping_identity, "gradient_gaps", lambda d, maps: d),
    (telescoping_identity, "gradient_gaps", lambda d, maps: tuple(-x for x in discord.gradient_gaps(d, maps))),
    (telescoping_identity, "discords", lambda g, maps: tuple(a - b for a, b in itertools.pairwise(g))),
    (reconciliation_gradient, "discord_gradient", lambda M, C, *S: energy.discord_gradient(C, M, *S)),
    (reconciliation_gradient, "discord_gradient", lambda M, C, *S: 2 * energy.discord_gradient(M, C, *S)),
    (reconciliation_gradient, "discord_energy", lambda M, C, *S: 2 * energy.discord_energy(M, C, *S)),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()


def test_other_depths_and_modules():
    assert len(telescoping_identity.derivation((2, 5)).steps) == 2 + 2 * (1 + 4)
    assert len(telescoping_identity.derivation((6,), modules=3).steps) == 2 + 2 * 2
    assert reconciliation_gradient.derivation(((2, None),))


def test_trace_is_cyclic_and_blind_to_transposition():
    A, B, S, At, Bt = (words.letter(name) for name in ("A", "B", "S_xx", "A^T", "B^T"))
    for same in (A * B - B * A, A * S * B - S * At * Bt, 3 * A * S * At - 3 * S * At * A, A * A * B - A * B * A):
        assert words.trace(same) == 0
    for other in (A * S * B - S * A * B, A * S * B - At * S * B, A * A * B - A * B, A * S * B - 2 * S * B * A):
        assert words.trace(other) != 0
