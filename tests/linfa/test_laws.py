"""The law suite over every rule of the catalogue, depths 1 to 6."""

import sys
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import linfa
from linfa import laws as module
from linfa import testing
from linfa.algebra import T, is_symbolic
from linfa.dynamics import start
from linfa.laws import law_conserved, law_error_rank, law_order
from linfa.rules import (
    Conserved,
    Dense,
    ErrorRank,
    Euclidean,
    Factored,
    Homogeneous,
    KolenPollack,
    Layerwise,
    Local,
    NewtonSchulz,
    Order,
    Plasticity,
    Polar,
    RandomFactors,
    Rule,
    named,
)
from linfa.testing import LAWS, Problem, check_rule, laws, problems
from linfa.theory import invariants


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@given(st.data())
def test_law(law, data):
    law(data.draw(problems()))


@pytest.mark.parametrize("name", named())
def test_every_rule_at_every_depth(name):
    check_rule(named()[name], depths=range(1, 7))


@given(problems(Rule(Layerwise(), RandomFactors(2), KolenPollack(), decay=0.2)))
@settings(max_examples=10)
def test_decay_of_what_is_not_conserved(problem):
    law_conserved(problem)


@final
@dataclass(frozen=True)
class Backwards(Plasticity):
    """Kolen-Pollack with the wrong sign, claiming what the right one conserves."""

    reads: ClassVar[tuple[str, ...]] = ("G",)
    factors: ClassVar[tuple[int, ...]] = (1,)

    def velocity(self, stored, moments):
        return (T(moments.G),)

    def learns(self, stored):
        return (True,)

    def claims(self, rule):
        return (Conserved(invariants.kolen_pollack, 1),)


def test_a_wrong_rule_breaks_a_law():
    wrong = Rule(Layerwise(), Dense(), Backwards(), decay=0.1, name="backwards")
    with pytest.raises(AssertionError, match="conserved"):
        check_rule(wrong)


def test_a_plasticity_that_is_not_proportional_to_the_loss_is_noticed():
    @dataclass(frozen=True)
    class Bent(Plasticity):
        reads: ClassVar[tuple[str, ...]] = ("G",)
        proportional: ClassVar[bool] = True

        def velocity(self, stored, moments):
            return (-T(moments.G @ T(moments.G) @ moments.G),)

        def learns(self, stored):
            return (True,)

        def claims(self, rule):
            return ()

    with pytest.raises(AssertionError, match="proportional to the loss"):
        check_rule(Rule(Layerwise(), Dense(), Bent()))


@pytest.mark.parametrize("name", named())
def test_only_what_may_not_settle_is_followed_for_a_short_time(name):
    rule = named()[name]
    wild = name == "drtp" or isinstance(rule.parameterisation, Factored)
    assert module.horizon(rule) == (0.1 if wild else 1.0)


def test_a_wrong_order_is_noticed():
    rule = named()["fa"]
    object.__setattr__(rule, "claims", (Order(2),))
    with pytest.raises(AssertionError, match="observed order 1"):
        law_order(Problem(rule, (3, 4, 3), seed=1))


def test_a_wrong_rank_is_noticed():
    rule = named()["ldfa(2, fixed)"]
    assert ErrorRank(2) in rule.claims

    @dataclass(frozen=True)
    class Boasting(RandomFactors):
        def shapes(self, n_h, n_e):
            return ((n_h, n_e), (n_e, n_e))

        def rank_between(self, n_h, n_e):
            return min(n_h, n_e)

    with pytest.raises(AssertionError, match="rank above 1"):
        law_error_rank(Problem(Rule(Layerwise(), Boasting(1)), (4, 5, 4), seed=1))


def test_laws_are_those_that_speak_of_the_rule():
    names = lambda rule: {law.__name__.removeprefix("law_") for law in laws(rule)}  # noqa: E731
    every = {law.__name__.removeprefix("law_") for law in LAWS}
    assert names(linfa.normalised(linfa.ldfa(2))) == {
        "homogeneous", "batch", "chain", "equivariant", "torch", "descends", "scale", "transposed"
    }  # fmt: skip
    assert names(linfa.kolen_pollack()) >= {"proportional"}
    every -= {"scale", "proportional"}
    assert names(linfa.ldfa(2)) == every - {"scaling"}
    assert names(linfa.fa()) == every - {"error_rank"}
    assert names(Rule(Layerwise(), Dense(), geometry=NewtonSchulz())) == every - {
        "error_rank", "symbolic", "conserved", "drift", "scaling"
    }  # fmt: skip
    fixed_heads = Rule(Local(), Dense())
    assert names(fixed_heads) == every - {"error_rank", "homogeneous", "conserved", "drift", "transposed"}
    reconciled = Rule(Local(lam=0.1), Dense())  # the discord is of a higher degree in the weights than the loss
    assert names(reconciled) == names(fixed_heads) - {"scaling"}
    assert names(Rule(Local(2, 0.1), Dense())) == names(reconciled) | {"conserved", "drift"}
    fixed = {"conserved", "drift", "transposed", "scaling"}
    assert names(linfa.sign_symmetry("brSF")) == every - {"error_rank", "order", "descends"} - fixed
    assert names(linfa.ldfa(2, clamp=1.0)) == every - {"error_rank", "homogeneous", "symbolic"} - fixed


@pytest.mark.parametrize("plasticity", ["oja", "hebb", "fixed"])
def test_a_clamped_rule_obeys_the_laws_that_are_left(plasticity):
    check_rule(linfa.ldfa(2, plasticity, clamp=0.05), depths=(2, 3))


@final
@dataclass(frozen=True)
class Sloppy(Plasticity):
    """Kolen-Pollack with one mistake."""

    mistake: str
    reads: ClassVar[tuple[str, ...]] = ("G",)
    factors: ClassVar[tuple[int, ...]] = (1,)

    def velocity(self, stored, moments):
        G = moments.G
        if self.mistake == "members see each other":
            G = G - G.mean() if isinstance(G, np.ndarray) else G
        if self.mistake == "torch differs" and not is_symbolic(G) and not isinstance(G, np.ndarray):
            G = 1.001 * G
        if self.mistake == "torch differs by little" and not isinstance(G, np.ndarray):
            G = (1 + 2e-9) * G
        if self.mistake == "sympy differs" and is_symbolic(G):
            G = 2 * G
        if self.mistake == "entry by entry":
            G = abs(G)
        return (-T(G),)

    def learns(self, stored):
        return (True,)

    def claims(self, rule):
        return ()


@pytest.mark.parametrize(
    ("law", "mistake"),
    [
        ("law_batch", "members see each other"),
        ("law_torch", "torch differs"),
        ("law_symbolic", "sympy differs"),
        ("law_equivariant", "entry by entry"),
    ],
)
def test_every_mistake_is_noticed_by_its_law(law, mistake):
    if law == "law_torch":
        pytest.importorskip("torch")
    problem = lambda how: Problem(Rule(Layerwise(), Dense(), Sloppy(how)), (3, 4, 5, 2), seed=1)  # noqa: E731
    getattr(module, law)(problem("none"))
    with pytest.raises(AssertionError, match="relative error"):
        getattr(module, law)(problem(mistake))


def test_a_geometry_has_the_tolerance_of_its_condition():
    """That of the spread of singular values: little where it is little, and much where a gradient nearly loses rank."""
    pytest.importorskip("torch")
    for geometry in (Euclidean(), Polar(), Polar(keep_norm=True), NewtonSchulz()):
        wrong = Rule(Layerwise(), Dense(), Sloppy("torch differs by little"), geometry=geometry)
        with pytest.raises(AssertionError, match="torch against numpy"):
            module.law_torch(Problem(wrong, (3, 4, 5, 2), seed=1))
    module.law_torch(Problem(linfa.muon(linfa.bp()), (5,) * 7, seed=2371, modes=1, noise=0.3))  # 2e-9 is right here


@pytest.mark.parametrize("geometry", [Polar(), Polar(keep_norm=True), NewtonSchulz()], ids=repr)
def test_a_condition_bounds_what_becomes_of_roundings(geometry):
    rng = np.random.default_rng(0)
    for _ in range(200):
        U, V = (np.linalg.qr(rng.standard_normal((n, 3)))[0] for n in (4, 5))
        G = U * np.array([1.0, *rng.uniform(1e-5, 1.0, 2)]) @ V.T
        E = 1e-11 * rng.standard_normal(G.shape) @ V @ V.T  # a perturbation of the rank that there is
        (D,), (moved,) = geometry.directions((G,)), geometry.directions((G + E,))
        size = np.linalg.norm(E, 2) * geometry.condition((G,))
        assert np.linalg.norm(moved - D, 2) <= 3 * size + 1e-13 * geometry.condition((G,))


def test_a_wrong_degree_is_noticed():
    rule = linfa.fa()
    object.__setattr__(rule, "claims", (Homogeneous(2),))
    with pytest.raises(AssertionError, match="homogeneity"):
        module.law_homogeneous(Problem(rule, (3, 4, 2), seed=1))


def test_a_wrong_step_is_noticed(monkeypatch):
    simulator = sys.modules["linfa.simulate"]  # as an attribute of the package this name is the function
    right = simulator.advance
    monkeypatch.setattr(simulator, "advance", lambda state, v, lr: right(state, v, 1.01 * lr))
    with pytest.raises(AssertionError, match="one step"):
        module.law_descends(Problem(linfa.fa(), (3, 4, 2), seed=1))


@pytest.mark.parametrize("name", named())
def test_in_a_generic_state_everything_that_learns_moves(name):
    """Laws on the velocity would be empty where it vanishes, as at a start from the SVD of the weights."""
    rule = named()[name]
    problem = Problem(rule, (4, 5, 4, 4), seed=1, noise=0.2)
    v = linfa.dynamics.velocity(rule, problem.generic, problem.task.batch)
    for stored in v.feedback:
        for moves, dB in zip(rule.plasticity.learns(len(stored)), stored, strict=True):
            assert (np.abs(dB).max() > 1e-3) == moves


@given(st.data(), testing.depths())
def test_strategies_give_what_they_say(data, depth):
    rule = data.draw(testing.rules(depth))
    assert 1 <= depth <= 6
    assert rule.route.edges(depth) or depth == 1
    rank = getattr(rule.feedback, "rank", 1)
    sizes = data.draw(testing.widths(depth, smallest=rank))
    task = data.draw(testing.tasks(sizes[0], sizes[-1]))
    network = data.draw(testing.networks(sizes, batch=(2,)))
    assert (network.widths, network.batch) == (sizes, (2,))
    assert (task.n_in, task.n_out) == (sizes[0], sizes[-1])
    assert len(start(rule, network, 0).weights) == depth


def test_random_tasks_are_of_every_kind():
    make = lambda **kw: testing.random_task(5, 4, seed=1, **kw)  # noqa: E731
    assert make(white=True).whiteness_violation < 1e-12 < 0.1 < make().whiteness_violation
    assert np.linalg.matrix_rank(make(modes=1).optimum) == 1
    assert np.linalg.matrix_rank(make().optimum) == 4
    noise = make(noise=0.3)
    np.testing.assert_allclose(noise.Syy - noise.optimum @ noise.Syx.T, 0.09 * np.eye(4), atol=1e-12)
    assert np.abs(make(samples=30).mean_x).min() > 0.1
    assert not make().mean_x.any()
