"""The abstract theory: a prediction for a rule, a task and a start, and how far a simulation is from it."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

__all__ = ["AssumptionError", "Setup", "Theory"]


class AssumptionError(ValueError):
    """An assumption of a theory is violated; the text names it and says by how much."""


@dataclass(frozen=True, eq=False)
class Setup:
    """A problem to put a theory to the test on: what `linfa.simulate` needs besides the rule.

    Args:
        task: a `Task`.
        network: a `Network` at time 0.
        times: increasing times (t,).
        feedback: for each edge the matrices to store; None to draw them.
    """

    task: Any
    network: Any
    times: np.ndarray
    feedback: tuple | None = None


def relative_error(closed, simulated) -> float:
    """max |closed - simulated| / max |closed|; of tuples of arrays, the largest; absolute where closed is all zeros.

    >>> relative_error(np.array([0.0, 2.0]), np.array([0.1, 2.0]))
    0.05
    """
    if isinstance(closed, tuple):
        return max(map(relative_error, closed, simulated), default=0.0)
    if np.shape(closed) != np.shape(simulated):
        raise ValueError(f"the closed form has shape {np.shape(closed)}, the simulation {np.shape(simulated)}")
    difference = float(np.abs(closed - simulated).max(initial=0))
    return difference / (float(np.abs(closed).max(initial=0)) or 1.0)


@dataclass(frozen=True, eq=False)
class Theory(abc.ABC):
    """A closed form for the learning of a rule on a task from a start.

    Args:
        rule: a `Rule`.
        task: a `Task`.
        start: the `State` at time 0, numpy matrices without leading axes.

    Raises:
        AssumptionError: outside the assumptions of the theory.
        ValueError: if the start does not fit the task or the rule.
    """

    rule: Any
    task: Any
    start: Any

    statement: ClassVar[str]
    """The result in one line."""
    source: ClassVar[str]
    """Where it is from: read, known and re-derived, or derived here."""
    exact_in_discrete_time: ClassVar[bool] = False
    """Whether `discrete` gives gradient descent itself, at any learning rate, and not only its flow."""

    def __post_init__(self):
        self.check_rule(self.rule)
        weights = self.start.matrices
        shapes = ", ".join(str(np.shape(w)) for w in weights)
        if any(np.ndim(w) != 2 for w in weights):
            raise AssumptionError(f"the start is not a single network: its weights have shapes {shapes}")
        if self.task.ensemble:
            raise AssumptionError(f"the task is not a single one: it is an ensemble of {self.task.ensemble}")
        if (np.shape(weights[-1])[0], np.shape(weights[0])[1]) != (self.task.n_out, self.task.n_in):
            raise ValueError(f"the task maps {self.task.n_in} inputs to {self.task.n_out} outputs; weights: {shapes}")
        if len(self.start.feedback) != len(self.rule.route.edges(len(weights))):
            raise ValueError(f"{self.rule.name} does not store feedback for {len(self.start.feedback)} edges at depth "
                             f"{len(weights)}")  # fmt: skip
        self.check_start()

    @classmethod
    @abc.abstractmethod
    def check_rule(cls, rule) -> None:
        """Raise AssumptionError for a rule that the theory does not speak of."""

    @abc.abstractmethod
    def check_start(self) -> None:
        """Raise AssumptionError for a task or a start outside the assumptions."""

    @classmethod
    @abc.abstractmethod
    def example(cls, rule, seed: int = 0) -> Setup:
        """A random problem inside the assumptions.

        Raises:
            AssumptionError: for a rule that the theory does not speak of.
        """

    @abc.abstractmethod
    def predict(self, times):
        """The predicted quantity at all times (t,), an array (t, ...), or a tuple of them with one for each edge."""

    @abc.abstractmethod
    def observed(self, trajectory):
        """The predicted quantity as the trajectory has it, in the shape of `predict`."""

    def error(self, trajectory) -> float:
        """Largest relative error of the closed form against a simulated flow from the same start."""
        return relative_error(self.predict(trajectory.times), self.observed(trajectory))

    @classmethod
    def residuals(cls, equations) -> tuple:
        """What is left of the mode equations of ``linfa.derive(rule, 2)`` under the closed form: zeros; () for none."""
        return ()

    def discrete(self, lr: float, steps: int) -> Any:
        """The predicted quantity after 0 .. steps steps of descent; None unless exact in discrete time."""
        return None

    def discrete_error(self, trajectory, lr: float | None = None) -> float | None:
        """Largest relative error of `discrete` against `linfa.descend`; None unless exact in discrete time.

        Args:
            trajectory: made by `linfa.descend`.
            lr: its learning rate; None if every step is recorded.
        """
        if lr is None:
            lr = float(trajectory.times[1])
        recorded = np.rint(trajectory.times / lr).astype(int)
        closed = self.discrete(lr, recorded[-1])
        if closed is None:
            return None
        closed = tuple(c[recorded] for c in closed) if isinstance(closed, tuple) else closed[recorded]
        return relative_error(closed, self.observed(trajectory))
