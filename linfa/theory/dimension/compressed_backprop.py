"""LDFA that learns Q alone is backprop on a smaller task: the r combinations of outputs that P sees."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.algebra import T
from linfa.dynamics import State
from linfa.network import Network
from linfa.rules import KolenPollack, LowRank, bp, ldfa
from linfa.simulate import descend
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.backprop.riccati import Riccati, lambda_balanced_network
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
    This holds for any start, data and decay, exactly in descent too.  From a lambda-balanced start the closed form is
    that of `Riccati` on the compressed task.  What P does not see follows as a regression on W_1,
    (P_o W_2)' = (P_o Syx - P_o W_2 W_1 Sxx) W_1^T.

    Assumptions: two layers, two factors, Kolen-Pollack without decay, Q = W_2^T P^T, white inputs,
    Q Q^T - W_1 W_1^T = lambda I.

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
    def backprop(self) -> Riccati:
        """The theory of backprop on the compressed task, at the start (W_1, P W_2)."""
        Q, P = self.start.feedback[0]
        return Riccati(bp(), compressed_task(self.task, P), State((self.start.weights[0], Q.T), ((),)))

    def predict(self, times):
        """W_1^T W_1 (t, n_in, n_in), P W_2 W_1 (t, r, n_in) and Q^T Q (t, r, r) at the times (t,)."""
        return self.backprop.predict(times)

    def observed(self, trajectory):
        W1, (Q, P) = trajectory.weights[0], trajectory.feedback[0]
        return T(W1) @ W1, P @ trajectory.map, T(Q) @ Q

    @classmethod
    def residuals(cls, equations):
        """The equations of one mode at q = p w_2 minus those of backprop with p w_2 and p s, which `Riccati` solves."""
        import sympy as sp

        from linfa.symbolic import derive

        modes = equations.modes()
        w1, w2, q, p = modes
        s = equations.strength
        below, above = (v.subs({w2: p * w2, s: p * s}, simultaneous=True) for v in derive(bp(), 2).modes().values())
        tied = {x: v.subs(q, p * w2) for x, v in modes.items()}
        return tuple(map(sp.expand, (tied[w1] - below, p * tied[w2] - above, tied[q] - above, tied[p])))

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        n, k, m = (int(rng.integers(low, low + 4)) for low in (1, rank, rank))
        task = examples.white_task(rng, n, m, 0.5, 1.5)
        ((_, P),) = examples.feedback(rule, rng, (n, k, m))
        allowed = [0, *([1] if k <= rank else []), *([-1] if k <= n else [])]
        imbalance = rng.choice(allowed) * rng.uniform(0.2, 1.0)
        W1, seen = lambda_balanced_network((n, k, rank), imbalance, 0.4, seed).weights
        rest = 0.3 * rng.standard_normal((m, k))
        W2 = rest + np.linalg.pinv(P) @ (seen - P @ rest)
        return Setup(task, Network((W1, W2)), np.linspace(0, 4, 17), ((seen.T, P),))


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
