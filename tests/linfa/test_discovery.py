"""Invariant discovery against the counts known in closed form, and against simulation."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pytest
import sympy as sp

import linfa
from linfa.algebra import T
from linfa.discovery import discover
from linfa.rules import Dense, Direct, KolenPollack, Layerwise, Plasticity, Rule, named
from linfa.theory.conservation import invariant_count


def entries(state):
    names = {f"W_{number}": w for number, w in enumerate(state.weights, 1)}
    return {sp.Symbol(f"{n}[{i}, {j}]"): w[..., i, j] for n, w in names.items() for i, j in np.ndindex(*w.shape[-2:])}


@pytest.mark.parametrize(
    "name", [n for n, rule in named().items() if rule.symbolic and "direct" not in n and "muon" not in n]
)
def test_what_is_found_is_explained_and_proved(name):
    found = discover(named()[name], (2, 3, 2), seed=1)
    assert found.explained == len(found)
    assert found.proved is True


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("name", ["bp", "fa", "kolen-pollack", "local", "sgr(2)"])
def test_deeper_networks(name, depth):
    found = discover(named()[name], (2,) * (depth + 1))
    expected = {"bp": 3 * (depth - 1), "fa": 3 * (depth - 1), "local": 3 * (depth - 1), "sgr(2)": 3 * (depth - 1)}
    if name in expected:
        assert len(found) == expected[name]
    assert found.explained == len(found)


def test_polynomials_stay_along_the_flow():
    found = discover(linfa.bp(), (2, 3, 1), seed=2)
    task, network = linfa.Task.from_spectrum([2.0], n_in=2, n_out=1, seed=3), linfa.Network.small((2, 3, 1), 1.0)
    run = linfa.simulate(linfa.bp(), task, network, 3.0, rtol=1e-11)
    values = entries(run.states)
    for p in found.polynomials:
        along = sp.lambdify(list(values), p)(*values.values())
        np.testing.assert_allclose(along, along[0], atol=1e-9)
        assert np.ptp(sp.lambdify(list(values), p**2 + next(iter(values)))(*values.values())) > 1e-3


def test_direct_feedback_has_an_invariant_that_is_no_short_matrix():
    """C_1 = W_1 W_1^T - B_1 B_2^+ W_2 - (.)^T needs a pseudo-inverse; it is found as polynomials, and proved."""
    found = discover(linfa.dfa(), (2, 2, 2, 2), seed=3)
    assert found.proved is True
    assert found.explained == 3 < len(found) == 6
    assert "W_1[0, 0]" in str(found)


def test_what_is_no_polynomial_is_found_by_numbers():
    found = discover(linfa.muon(linfa.fa()), (2, 3, 2), seed=1)
    assert (len(found), found.explained, found.proved) == (5, 0, None)
    assert len(discover(linfa.muon(linfa.bp()), (2, 2, 2))) == 0


def test_sizes_that_have_no_invariant_of_degree_one():
    assert len(discover(linfa.bp(), (2, 2, 2), degree=1)) == 0
    found = discover(linfa.fa(), (2, 4, 1), degree=1)
    assert len(found) == 3 * 2
    assert [str(m) for m in found.matrices] == ["N_1.T*W_1"]


def test_one_task_has_more_of_them_than_any_data():
    task = linfa.Task.teacher(np.array([[1.0, 2.0], [3.0, -1.0]]))
    anything, one = discover(linfa.drtp(), (2, 2, 2)), discover(linfa.drtp(), (2, 2, 2), task=task)
    assert len(anything) == 0
    assert len(one) == invariant_count("drtp", 2, 2, 2, 2) == 9
    assert one.proved is None


@final
@dataclass(frozen=True)
class Crossed(Plasticity):
    """Kolen-Pollack at twice the rate: a rule of one's own, with an invariant of its own."""

    reads: ClassVar[tuple[str, ...]] = ("G",)
    factors: ClassVar[tuple[int, ...]] = (1,)

    def velocity(self, stored, moments):
        return (-2 * T(moments.G),)

    def learns(self, stored):
        return (True,)

    def claims(self, rule):
        return ()


def test_a_rule_of_ones_own():
    found = discover(Rule(Layerwise(), Dense(), Crossed(), name="crossed"), (2, 2, 2))
    assert "-2*W_2 + B_1.T" in map(str, found.matrices)
    assert len(found) == invariant_count("kolen-pollack", 2, 2, 2, 2)
    assert found.proved is True
    assert discover(Rule(Direct(), Dense(), KolenPollack()), (2, 2, 2)).explained == 17


def test_a_wrong_polynomial_is_refuted(monkeypatch):
    from linfa.discovery import _Space

    right = _Space.conserved
    monkeypatch.setattr(_Space, "explained", lambda self, matrices: 0)
    assert discover(linfa.bp(), (2, 2, 2)).proved is True
    monkeypatch.setattr(_Space, "conserved", lambda self: np.eye(right(self).shape[1])[:1])
    found = discover(linfa.bp(), (2, 2, 2))
    assert found.proved is False
    assert "REFUTED" in str(found)


def test_errors():
    with pytest.raises(ValueError, match="degree is 1 or 2; got 3"):
        discover(linfa.bp(), (2, 2), degree=3)
    with pytest.raises(ValueError, match="smaller widths"):
        discover(linfa.bp(), (6, 6, 6))
    task = linfa.Task.teacher(np.random.default_rng(0).standard_normal((2, 2)))
    with pytest.raises(ArithmeticError, match="whole numbers"):
        discover(linfa.drtp(), (2, 2, 2), task=task)
