"""The design space: parts either compose or say why not, and what they compose to obeys the laws."""

import dataclasses
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa import testing
from linfa.rules import (
    Delta,
    Dense,
    Direct,
    Factored,
    Fixed,
    KolenPollack,
    Layerwise,
    Local,
    Mirror,
    NewtonSchulz,
    Oja,
    Plasticity,
    Polar,
    RandomFactors,
    Rule,
    Standardised,
    SVDStructured,
    Target,
    UnitSign,
    space,
)

UNPUBLISHED = {
    "rank-r directional DFA": Rule(Direct(), RandomFactors(2), Mirror()),
    "rank-r directional DFA under Muon": Rule(Direct(), RandomFactors(2), Mirror(), geometry=NewtonSchulz()),
    "LDFA under Muon": linfa.muon(linfa.ldfa(2, "oja")),
    "normalised LDFA": linfa.normalised(linfa.ldfa(2, "hebb")),
    "sign symmetry on factored weights": linfa.factored(Rule(Layerwise(), UnitSign()), 2),
    "Kolen-Pollack on orthonormal frames": linfa.factored(linfa.kolen_pollack(), 2, retraction="polar"),
    "broadcast Oja on factored weights": linfa.factored(linfa.ldfa(2, "oja", direct=True), 2),
    "SVD-structured feedback that learns": Rule(Direct(), SVDStructured(2), KolenPollack(), decay=0.1),
    "SVD-structured Oja, layer by layer": Rule(Layerwise(), SVDStructured(2), Oja()),
    "rank-r target projection": Rule(Target(), RandomFactors(2)),
    "target projection that learns": Rule(Target(), Dense(), KolenPollack(), decay=0.2),
    "reconciled modules with rank-r heads": Rule(Local(2, lam=0.1), RandomFactors(2), KolenPollack()),
    "reconciled modules under the polar geometry": dataclasses.replace(linfa.sgr(2), geometry=Polar()),
    "whitened direct Kolen-Pollack": linfa.normalised(linfa.dkp(), "whitened"),
    "delta rule, broadcast": Rule(Direct(), Dense(), Delta()),
    "delta rule of rank r, standardised": Rule(Layerwise(), RandomFactors(2), Delta(), activity=Standardised()),
}
"""Rules that no paper has, as far as we know; at depths 4 to 6 in examples/records/design-space."""


@pytest.mark.parametrize("name", UNPUBLISHED)
def test_rules_of_no_paper_pass(name):
    certificate = linfa.verify(UNPUBLISHED[name], depths=(1, 2, 3))
    assert certificate.passed, str(certificate)
    assert not space.Cell({}, UNPUBLISHED[name]).published


@given(testing.compositions(), st.data())
def test_whatever_composes_obeys_the_laws(rule, data):
    problem = data.draw(testing.problems(rule, depth=data.draw(st.integers(1, 4))))
    law = data.draw(st.sampled_from(testing.laws(rule)))
    law(problem)


def test_cells_compose_or_say_why_not():
    signal, step = list(space.space(*space.SIGNAL)), list(space.space(*space.STEP, route=Layerwise(), feedback=Dense()))
    for cell in itertools.chain(signal, step):
        assert (cell.rule is None) == (cell.refusal is not None)
        if cell.rule:
            assert all(getattr(cell.rule, kind) == part for kind, part in cell.parts.items())
        else:
            assert any(str(part) in cell.refusal for part in cell.parts.values())
            with pytest.raises(linfa.rules.CompositionError, match=re.escape(cell.refusal)):
                Rule(**cell.parts)
    assert len(signal) == 7 * 8 * 7
    assert sum(cell.rule is not None for cell in step) == 18


def test_the_catalogue_is_in_the_space():
    kinds = {kind: {type(part) for part in parts} for kind, parts in space.PARTS.items()}
    for rule in linfa.rules.named().values():
        assert space.Cell({}, rule).published
        assert all(type(getattr(rule, kind)) in kinds[kind] for kind in kinds)


def test_every_part_has_an_entry():
    """A new part joins the table, or this fails."""
    bases = {"route": linfa.rules.Route, "feedback": linfa.rules.Feedback, "plasticity": Plasticity,
             "parameterisation": linfa.rules.Parameterisation, "geometry": linfa.rules.Geometry,
             "activity": linfa.rules.Activity}  # fmt: skip
    exempt = {linfa.rules.LayerRates}  # its rates are as many as the layers of one network

    def finals(kind):
        below = [each for child in kind.__subclasses__() for each in finals(child)]
        return [kind, *below] if getattr(kind, "__final__", False) else below

    for kind, base in bases.items():
        ours = {part for part in finals(base) if part.__module__.startswith("linfa.")}
        assert ours - exempt == {type(part) for part in space.PARTS[kind]}


@pytest.mark.parametrize(
    ("kind", "setting"),
    [("route", "exact_top"), ("route", "lam"), ("route", "modules"), ("parameterisation", "retraction"),
     ("parameterisation", "penalties"), ("geometry", "keep_norm")],
)  # fmt: skip
def test_what_changes_the_equations_is_there_with_and_without(kind, setting):
    """And nothing twice."""
    found = [part for part in space.PARTS[kind] if hasattr(part, setting)]
    assert {bool(getattr(part, setting)) for part in found} == {False, True}
    assert len({*space.PARTS[kind]}) == len(space.PARTS[kind])


def test_an_unknown_kind():
    with pytest.raises(KeyError, match="colour"):
        list(space.space("colour"))
    assert space.compose(route=Direct(), feedback=Dense(), plasticity=Fixed()).published
    assert not space.compose(route=Layerwise(), feedback=Dense(), parameterisation=Factored(2)).published
    assert not space.compose(route=Direct(), feedback=UnitSign()).published  # which composes to nothing
