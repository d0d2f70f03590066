"""LDFA that learns Q alone is backprop on a smaller task: the r combinations of outputs that P sees."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.dynamics import State
from linfa.network import Network
from linfa.rules import KolenPollack, LowRank, bp, ldfa
from linfa.simulate import descend
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.backprop.saxe import SaxeMode, bp_mode
from linfa.theory.base import AssumptionError, Setup, Theory, relative_error
from linfa.theory.result import Result, of_flow

__all__ = ["CompressedBackprop", "compressed_task"]


def compressed_task(task, P) -> Task:
    """The task of the r targets P y, with the same inputs.

    Args:
        task: a `Task`.
        P: (r, n_out).

    >>> import linfa
    >>> compressed_task(linfa.Task.teacher(np.diag([2.0, 1.0])), np.eye(1, 2))
    Task(2 -> 1, white, singular values 2)
    """
    targets = None if task.targets is None else task.targets @ P.T
    return Task(task.Sxx, P @ task.Syx, P @ task.Syy @ P.T, task.mean_x, P @ task.mean_y, task.inputs, targets)


@final
@dataclass(frozen=True, eq=False)
class CompressedBackprop(Theory):
    """Two factors, P fixed and Q by Kolen-Pollack from Q = W_2^T P^T: (W_1, P W_2) is backprop on the targets P y.

    Q stays W_2^T P^T, so W_1' = Q P E = (P W_2)^T P E and (P W_2)' = P E W_1^T, where P E = P Syx - (P W_2) W_1 Sxx.
    This holds for any start, data and decay, exactly in descent too.  From a balanced aligned start the closed form is
    that of `SaxeMode` on the compressed task: P W_2 W_1 = U diag(u_i(t)) V^T with P Sigma = U diag(s_i) V^T.  What P
    does not see follows as a regression on W_1, (P_o W_2)' = (P_o Syx - P_o W_2 W_1 Sxx) W_1^T.

    Assumptions: two layers, two factors, Kolen-Pollack without decay, Q = W_2^T P^T; the start (W_1, P W_2) and the
    task of the targets P y as in `SaxeMode`.

    Source: derived here (`derivations.compressed_backprop`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> rule = ldfa(2, "kolen-pollack")
    >>> setup = CompressedBackprop.example(rule, seed=0)
    >>> from linfa import simulate
    >>> run = simulate(rule, setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11)
    >>> CompressedBackprop(rule, setup.task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "LDFA with P fixed and Q = W_2^T P^T by Kolen-Pollack is backprop on the targets P y"
    source: ClassVar[str] = "derived here"

    @classmethod
    def check_rule(cls, rule):
        assumptions.plain(rule)
        assumptions.no_decay(rule)
        if type(rule.plasticity) is not KolenPollack or not isinstance(rule.feedback, LowRank):
            raise AssumptionError(f"not two factors of which Q learns alone: {rule.feedback}, {rule.plasticity}")
        if not rule.route.edges(2):
            raise AssumptionError(f"no feedback edge in a two-layer network: {rule.route}")

    def check_start(self):
        assumptions.depth(self.start, 2)
        Q, P = self.start.feedback[0]
        apart = np.abs(Q - (P @ self.start.weights[1]).T).max(initial=0)
        if apart > assumptions.TOLERANCE:
            raise AssumptionError(f"Q(0) is off W_2^T P^T by {apart:.2g}")
        self.backprop  # noqa: B018  checks the rest

    @cached_property
    def backprop(self) -> SaxeMode:
        """The theory of backprop on the compressed task, at the start (W_1, P W_2)."""
        Q, P = self.start.feedback[0]
        return SaxeMode(bp(), compressed_task(self.task, P), State((self.start.weights[0], Q.T), ((),)))

    def predict(self, times):
        """P W_2 W_1 at the times (t,): (t, r, n_in)."""
        return self.backprop.predict(times)

    def observed(self, trajectory):
        return trajectory.feedback[0][1] @ trajectory.map

    @classmethod
    def residuals(cls, equations):
        """Time derivatives minus the right-hand sides at w_1 = q = p w_2 = sqrt(u(t)), singular value p s."""
        import sympy as sp

        t, u0, p0 = sp.symbols("t u_0 p_0", positive=True)
        modes = equations.modes()
        w1, w2, q, p = modes
        s = next(iter(sp.Tuple(*modes.values()).free_symbols - set(modes)))
        root = sp.sqrt(bp_mode(t, p0 * s, u0))
        closed = {w1: root, w2: root / p0, q: root, p: p0}
        return tuple(sp.simplify(sp.diff(closed[x], t) - v.subs(closed)) for x, v in modes.items())

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        n, k, m = (int(rng.integers(low, low + 4)) for low in (1, rank, rank))
        task = examples.white_task(rng, n, m, 0.5, 1.5)
        ((_, P),) = examples.feedback(rule, rng, (n, k, m))
        narrow = Network.aligned(compressed_task(task, P), [k], rng.uniform(0.05, 0.3, min(n, len(P))), seed=seed)
        W1, seen = narrow.weights
        W2 = _seen_as(seen, P, 0.3 * rng.standard_normal((m, k)))
        return Setup(task, Network((W1, W2)), np.linspace(0, 5, 21), ((seen.T, P),))


def _seen_as(seen, P, rest):
    """The W_2 next to a given one, rest, with P W_2 = seen."""
    return rest + np.linalg.pinv(P) @ (seen - P @ rest)


def _equivalence(seed):
    """Relative distance of (W_1, P W_2, Q^T) from backprop on the targets P y, from any start and in mini-batches."""
    rng, decay = examples.generator(seed), 0.2 * (seed % 2)
    n, k, m = (int(rng.integers(2, 6)) for _ in range(3))
    task = Task.from_data(rng.standard_normal((30, n)) + 0.3, rng.standard_normal((30, m)))
    P = examples.matrix(rng, min(2, k, m), m, 0.8, 1.25)
    W1, W2 = Network.small((n, k, m), scale=0.7, seed=seed).weights
    wide = descend(ldfa(2, "kolen-pollack", decay=decay), task, Network((W1, W2)), 0.05, 80, 10, seed,
                   feedback=(((P @ W2).T, P),))  # fmt: skip
    small = descend(bp(decay), compressed_task(task, P), Network((W1, P @ W2)), 0.05, 80, 10, seed)
    Q = np.swapaxes(wide.feedback[0][0], -1, -2)
    first, second = small.weights
    return relative_error((first, second, second), (wide.weights[0], P @ wide.weights[1], Q))


RESULTS = (
    of_flow("D9", CompressedBackprop, ldfa(1, "kolen-pollack"), ldfa(3, "kolen-pollack")),
    Result("D9d", f"{CompressedBackprop.statement}, from any start, exactly in any batches and with decay",
           "derived here", 1e-11, _equivalence),
)  # fmt: skip
