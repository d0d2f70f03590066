"""Every derivation proves itself, prints, and notices a wrong step."""

import pytest
import sympy as sp

import linfa
from derivations import bp_balance, fa_invariant, final_map, kolen_pollack_decay, named, saxe_mode, words, zero_init_fa
from derivations.__main__ import main
from derivations.proof import Derivation, ProofError, equal, nothing_left
from linfa.expressions import evaluate
from linfa.symbolic import DECAY, polynomial


@pytest.mark.parametrize("name", sorted(named()))
def test_proofs_hold_and_print(name, capsys):
    proof = named()[name]()
    assert len(proof.steps) >= 3
    assert proof.title in str(proof)
    assert proof.latex().count(r"\item") == len(proof.steps)
    assert main([name, "--latex"]) == 0
    assert capsys.readouterr().out.startswith(r"\paragraph")
    assert proof._repr_latex_().startswith("$")


def test_the_list(capsys):
    assert main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(named())


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_depths(depth):
    for module in (fa_invariant, bp_balance, kolen_pollack_decay):
        assert module.derivation(depth=depth).title.endswith(f"depth {depth}")


def test_two_factors():
    assert fa_invariant.derivation(3, linfa.ldfa(2, "fixed"))
    assert kolen_pollack_decay.derivation(3, linfa.ldfa(2, "kolen-pollack", decay=0.2))
    assert kolen_pollack_decay.derivation(2, linfa.kolen_pollack(0.0))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "k", "m", "rank"), [(4, 3, 3, 2), (3, 1, 2, 1), (2, 2, 2, 2), (3, 4, 3, 1)])
def test_final_map_instances(n, k, m, rank, seed):
    assert final_map.derivation(n, k, m, rank, seed)


def test_other_rules_do_not_pass():
    for rule in (linfa.kolen_pollack(0.0), linfa.ldfa(2, "oja")):
        with pytest.raises(ProofError, match="does not hold"):
            fa_invariant.derivation(2, rule)
    with pytest.raises(ProofError, match="does not hold"):
        kolen_pollack_decay.derivation(2, linfa.fa())


MUTATIONS = [
    (saxe_mode, "bp_mode", lambda t, s, u0: u0 / (sp.exp(-s * t) + u0 * (1 - sp.exp(-s * t)) / s)),
    (zero_init_fa, "timescale", lambda s: sp.cbrt(3 / s**2)),
    (zero_init_fa, "amplitude", lambda s, x: sp.cbrt(s) * x),
    (zero_init_fa, "gain", lambda s, x: x / sp.cbrt(2 * s)),
    (zero_init_fa, "phi3", lambda x: sp.log((1 + x) / (1 - x)) / 2),
    (kolen_pollack_decay, "kp_gap", lambda t, decay, gap: sp.exp(-2 * decay * t) * gap),
    (final_map, "final_map", lambda Syx, B, Sxx: Syx),
    (final_map, "final_loss", lambda Syx, B, Sxx: 1.0),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()


def test_steps():
    x = sp.Symbol("x")
    with pytest.raises(ProofError, match="step 2 does not hold: second"):
        Derivation("t", (), (equal("first", x, x), equal("second", x, -x)), "s")
    assert not nothing_left("none", (), "r").holds
    assert not nothing_left("some", (sp.Integer(0), x), "r").holds
    A, B = words.letter("A"), words.letter("B")
    assert not equal("matrices do not commute", A * B, B * A).holds


def test_words_and_matrices_agree():
    equations = linfa.derive(linfa.kolen_pollack(), 2)
    v = equations.velocity.weights[1]
    values = {"W_1": sp.Matrix([[1, 2], [3, 4]]), "W_2": sp.Matrix([[5, 6]]), "E": sp.Matrix([[7, 8]])}
    expected = values["E"] * values["W_1"].T - DECAY * values["W_2"]
    assert evaluate(v, values) == expected
    assert words.of(v) == polynomial(v)
