"""For tests of rules, ours and yours: Hypothesis strategies, and laws that every rule obeys.

    from hypothesis import given
    from linfa.testing import problems, check_rule

    def test_my_rule():
        check_rule(my_rule)                      # every law once, on fixed problems

    @given(problems(my_rule))
    def test_my_rule_thoroughly(problem):
        for law in laws(my_rule):
            law(problem)

Strategies draw sizes and a seed, and numpy builds the rest: fast, and a failure prints as a few small numbers.
"""

from dataclasses import replace

from hypothesis import strategies as st

from linfa.laws import LAWS, Problem, check_rule, laws, random_task
from linfa.network import Network
from linfa.rules import Rule, named, space
from linfa.task import Task

__all__ = [
    "LAWS", "Problem", "check_rule", "compositions", "depths", "laws", "networks", "problems", "random_task", "rules",
    "tasks", "widths",
]  # fmt: skip

SEEDS = st.integers(0, 2**16)
_KINDS = {
    "white": st.booleans(),
    "noise": st.sampled_from([0.0, 0.3]),
    "modes": st.none() | st.integers(1, 2),
    "samples": st.sampled_from([0, 0, 25]),
}


def depths(largest: int = 6) -> st.SearchStrategy[int]:
    """Numbers of weights, from 1."""
    return st.integers(1, largest)


@st.composite
def rules(draw, depth: int | None = None, largest: int = 3) -> Rule:
    """A rule of the catalogue.

    Args:
        depth: only rules that have feedback at this depth (at depth 1 none has, and all are drawn); by default any.
        largest: rank of low-dimensional feedback, which is drawn from 1 on.
    """
    known = list(named().values())
    known = [rule for rule in known if depth is None or rule.route.edges(depth)] or known
    rule = draw(st.sampled_from(known))
    if rule.rank > 1:
        rank = draw(st.integers(1, largest))
        rule = replace(rule.at_rank(rank), name=rule.name.replace("2", str(rank), 1))
    return rule


def compositions() -> st.SearchStrategy[Rule]:
    """A rule of any parts that go together, most of them in no paper; see `linfa.rules.space`."""
    cells = st.fixed_dictionaries({kind: st.sampled_from(parts) for kind, parts in space.PARTS.items()})
    return cells.map(lambda parts: space.compose(**parts).rule).filter(lambda rule: rule is not None)


@st.composite
def widths(draw, depth: int | None = None, smallest: int = 1, largest: int = 6) -> tuple[int, ...]:
    """Sizes n_0 .. n_L of a network.

    Args:
        depth: L; by default 1 to 6.
        smallest, largest: of the sizes.
    """
    depth = draw(depths()) if depth is None else depth
    return tuple(draw(st.lists(st.integers(smallest, largest), min_size=depth + 1, max_size=depth + 1)))


def tasks(n_in: int | None = None, n_out: int | None = None) -> st.SearchStrategy[Task]:
    """A task: white or not, noisy or not, of full or low rank, a population or data with means.

    Args:
        n_in, n_out: dimensions; by default 1 to 6.
    """
    sizes = {name: st.integers(1, 6) if n is None else st.just(n) for name, n in (("n_in", n_in), ("n_out", n_out))}
    return st.builds(random_task, **sizes, seed=SEEDS, **_KINDS)


def networks(widths: tuple[int, ...], batch: tuple = ()) -> st.SearchStrategy[Network]:
    """A network of normal weights, small to large.

    Args:
        widths: n_0 .. n_L.
        batch: leading axes of an ensemble.
    """
    gains = st.sampled_from([1e-2, 0.3, 1.0])
    return st.builds(Network.small, st.just(tuple(widths)), scale=gains, seed=SEEDS, batch=st.just(batch))


@st.composite
def problems(draw, rule: Rule | None = None, depth: int | None = None) -> Problem:
    """A rule on a task.

    Args:
        rule: a rule of your own; by default one of the catalogue.
        depth: number of weights; by default 1 to 6.
    """
    depth = draw(depths()) if depth is None else depth
    rule = draw(rules()) if rule is None else rule
    smallest = rule.rank
    sizes = draw(widths(depth, smallest, max(6, smallest + 2)))
    return Problem(rule, sizes, draw(SEEDS), **{name: draw(kind) for name, kind in _KINDS.items()})
