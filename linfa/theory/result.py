"""An entry of the catalogue: a statement, where it is from, and how far a simulation is from it."""

from collections.abc import Callable
from dataclasses import dataclass

from linfa.simulate import descend, simulate


@dataclass(frozen=True)
class Result:
    """One result and its test against networks that are simulated weight by weight.

    Args:
        key: a short name, a letter for the group and a number, such as "X1d"; d is for discrete time.
        statement: the result in one line.
        source: read, known and re-derived, or derived here.
        tolerance: the largest error that passes: 1e-8 relative for the flow, 1e-11 in discrete time, and for a limit
            the constant of its finite-size law, which the statement gives.
        measure: seed -> the largest error on random problems inside the assumptions.
    """

    key: str
    statement: str
    source: str
    tolerance: float
    measure: Callable[[int], float]


__all__ = ["Result"]


def flow_error(kind, rule, seed: int) -> float:
    """Error of a theory on its own example against the simulated flow.

    >>> import linfa
    >>> from linfa.theory import SaxeMode
    >>> flow_error(SaxeMode, linfa.bp(), seed=0) < 1e-8
    True
    """
    setup = kind.example(rule, seed)
    run = simulate(
        rule, setup.task, setup.network, setup.times, seed=seed, feedback=setup.feedback, rtol=1e-11, atol=1e-13
    )
    return kind(rule, setup.task, run.at(0)).error(run)


def descent_error(kind, rule, seed: int, lr: float = 0.02, steps: int = 200) -> float:
    """Error of a theory that is exact in discrete time, on its own example against descent."""
    setup = kind.example(rule, seed)
    run = descend(rule, setup.task, setup.network, lr, steps, seed=seed, feedback=setup.feedback)
    return kind(rule, setup.task, run.at(0)).discrete_error(run)


def of_flow(key: str, kind, *rules) -> Result:
    """A theory's statement, measured by the flow of each of some rules."""
    return Result(key, kind.statement, kind.source, 1e-8, lambda seed: max(flow_error(kind, r, seed) for r in rules))


def of_descent(key: str, kind, *rules) -> Result:
    """The same in discrete time."""
    statement = f"{kind.statement}, exactly in discrete time"
    return Result(key, statement, kind.source, 1e-11, lambda seed: max(descent_error(kind, r, seed) for r in rules))
