"""The result of a simulation: states along time, and every observable on demand."""

import functools
from dataclasses import dataclass

import numpy as np

from linfa import observe
from linfa.dynamics import State
from linfa.tree import leaves, tree_map


@dataclass(frozen=True, eq=False)
class Trajectory:
    """States of a network at a sequence of times; observables are computed when first asked for.

    Args:
        rule, task: what was simulated.
        times: (t,), in units of learning rate times steps.
        states: a `State` whose arrays have the times as first axis, then the axes of the ensemble.

    >>> import linfa
    >>> run = linfa.simulate(linfa.bp(), linfa.Task.from_spectrum([1.0]), linfa.Network.small((1, 1, 1), 0.5), 5.0)
    >>> run.loss.shape, run.mode_strengths.shape, run.update_alignment.shape
    ((201,), (201, 1), (201, 2))
    """

    rule: object
    task: object
    times: np.ndarray
    states: State

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """W_1 .. W_L, each (t, ..., n_l, n_(l-1)), or what stands for them; `states.matrices` are the W_l."""
        return self.states.weights

    @property
    def feedback(self) -> tuple:
        """What each edge stores, each matrix with times in front."""
        return self.states.feedback

    def at(self, index: int) -> State:
        """The state at one of the times."""
        return tree_map(lambda x: x[index], self.states)

    def _see(self, function):
        return function(self.rule, self.states, self.task)

    @functools.cached_property
    def map(self) -> np.ndarray:
        """The network's map, W_L .. W_1 in a plain network (t, ..., n_out, n_in)."""
        return self._see(observe.network_map)

    @functools.cached_property
    def loss(self) -> np.ndarray:
        """1/2 E|y - y_hat|^2 (t, ...)."""
        return self._see(observe.loss)

    @functools.cached_property
    def mode_strengths(self) -> np.ndarray:
        """Strength of each mode of the task (t, ..., modes)."""
        return self._see(observe.mode_strengths)

    @functools.cached_property
    def singular_values(self) -> np.ndarray:
        """Singular values of the map (t, ..., min(n_out, n_in))."""
        return self._see(observe.singular_values)

    @functools.cached_property
    def feedback_alignment(self) -> np.ndarray:
        """Cosine of each edge's feedback with the transposed forward map (t, ..., edges)."""
        return self._see(observe.feedback_alignment)

    @functools.cached_property
    def update_alignment(self) -> np.ndarray:
        """Cosine of each layer's gradient with backprop's (t, ..., L)."""
        return self._see(observe.update_alignment)

    def _ranks(self, kind, matrices):
        return np.stack([kind(np.linalg.svd(m, compute_uv=False)) for m in self._see(matrices)], -1)

    def error_rank(self, kind=observe.effective_rank) -> np.ndarray:
        """A rank of each layer's delivered error over the population (t, ..., L).

        Args:
            kind: `observe.effective_rank`, `observe.participation_ratio` or `observe.stable_rank`.
        """
        return self._ranks(kind, observe.errors)

    def update_rank(self, kind=observe.effective_rank) -> np.ndarray:
        """A rank of each layer's gradient (t, ..., L); ``kind`` as in `error_rank`."""
        return self._ranks(kind, observe.gradients)

    @functools.cached_property
    def conserved(self) -> dict[str, tuple]:
        """Values of the rule's claimed conserved quantities along time."""
        return self._see(observe.conserved)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Times, weights, feedback and the main observables by name, ready for ``numpy.savez``."""
        arrays = {"time": self.times, "loss": self.loss}
        for i, stored in enumerate(self.weights, 1):
            names = self.rule.parameterisation.names
            arrays |= {f"{n}{i}": matrix for n, matrix in zip(names, leaves(stored), strict=True)}
        edges = self.rule.route.edges(len(self.weights))
        for edge, stored in zip(edges, self.feedback, strict=True):
            arrays |= {f"{n}{edge.activity}": m for n, m in zip(self.rule.feedback.names, stored, strict=True)}
        for name in ("mode_strengths", "singular_values", "feedback_alignment", "update_alignment"):
            arrays[name] = getattr(self, name)
        return arrays

    def plot(self, axes=None):
        """Draw loss, mode strengths, alignment and error rank; returns the matplotlib figure."""
        from linfa.plot import trajectory

        return trajectory(self, axes)

    def __repr__(self):
        return f"Trajectory({self.rule.name}, {len(self.times)} times to {self.times[-1]:g})"
