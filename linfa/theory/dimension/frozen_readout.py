"""Feedback alignment below a frozen readout: linear, and the feedback decides what is learned and if it converges."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.algebra import is_symbolic, product
from linfa.dynamics import State
from linfa.network import Network
from linfa.rules import Dense, Fixed, LayerRates, Layerwise, RandomFactors, Rule
from linfa.simulate import descend
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.base import AssumptionError, Setup, Theory
from linfa.theory.result import Result, descent_error, of_flow

__all__ = ["FrozenReadout", "frozen_readout_error", "frozen_readout_limit", "frozen_readout_max_lr"]


def frozen_readout_error(W2, B, E0, times, Sxx=None):
    """E(t) = e^(-W_2 B t) E(0), and for Sxx = sum_j xi_j v_j v_j^T the sum of e^(-xi_j W_2 B t) E(0) v_j v_j^T.

    For B = Q P of rank r and white inputs it is E(0) - W_2 Q (P W_2 Q)^-1 (I - e^(-P W_2 Q t)) P E(0).

    Args:
        W2: readout (n_out, k).
        B: feedback (k, n_out).
        E0: Syx - W_2 W_1 Sxx at time 0 (n_out, n_in); or all three SymPy matrices, with white inputs.
        times: (t,); a symbol next to SymPy matrices.
        Sxx: second moment (n_in, n_in); None for the identity.

    Returns:
        (t, n_out, n_in).

    Source: derived here (`derivations.frozen_readout`).

    >>> readout, B = np.array([[2.0], [0.0]]), np.array([[0.5, 0.0]])
    >>> frozen_readout_error(readout, B, np.ones((2, 1)), [0.0, np.log(2.0)])[1].tolist()
    [[0.5], [1.0]]
    """
    if is_symbolic(E0):
        return (-(W2 @ B) * times).exp() @ E0
    if Sxx is None:
        return expm(-np.multiply.outer(times, W2 @ B)) @ E0
    variances, basis = np.linalg.eigh(Sxx)
    moved = expm(-np.multiply.outer(np.multiply.outer(times, variances), W2 @ B))
    return np.einsum("tjab,bj,nj->tan", moved, E0 @ basis, basis)


def expm(stack) -> np.ndarray:
    """Matrix exponentials of a stack (..., n, n)."""
    from scipy.linalg import expm as of_one

    return of_one(stack)


def _factors(W2, B):
    """Q (k, r) and P (r, n_out) with Q P = B, and the eigenvalues of P W_2 Q, all of which the error decays with."""
    U, s, P = np.linalg.svd(B, full_matrices=False)
    r = int((s > 1e-12 * s[0]).sum())
    Q, P = U[:, :r] * s[:r], P[:r]
    rates = np.linalg.eigvals(P @ W2 @ Q)
    if r and not rates.real.min() > 0:
        raise AssumptionError(f"the error does not decay: W_2 B has an eigenvalue of real part {rates.real.min():.2g}")
    return Q, P, rates


def frozen_readout_limit(W2, B, E0) -> np.ndarray:
    """E(t -> infinity) = E(0) - W_2 Q (P W_2 Q)^-1 P E(0) with B = Q P, for inputs of any positive second moment.

    An oblique projection along the columns of W_2 Q on the directions that P does not see: P E = 0 in the end, and what
    is not seen may have grown, even beyond the whole error at the start.

    Args:
        W2: readout (n_out, k).
        B: feedback (k, n_out).
        E0: error (n_out, n_in).

    Raises:
        AssumptionError: unless all eigenvalues of P W_2 Q have positive real parts, the condition to converge.

    Source: derived here (`derivations.frozen_readout`).

    >>> frozen_readout_limit(np.array([[1.0], [5.0]]), np.array([[1.0, 0.0]]), np.array([[1.0], [0.0]])).tolist()
    [[0.0], [-5.0]]
    """
    Q, P, _ = _factors(W2, B)
    return E0 - W2 @ Q @ np.linalg.solve(P @ W2 @ Q, P @ E0)


def frozen_readout_max_lr(W2, B, Sxx=None) -> float:
    """min_i 2 Re(mu_i) / (|mu_i|^2 xi_max), the learning rate up to which descent converges with a frozen readout.

    Args:
        W2: readout (n_out, k).
        B: feedback (k, n_out), Q P; mu are the eigenvalues of P W_2 Q.
        Sxx: second moment (n_in, n_in), xi_max its largest eigenvalue; None for the identity.

    Raises:
        AssumptionError: if the flow does not converge.

    Source: derived here (`derivations.frozen_readout`).

    >>> frozen_readout_max_lr(np.diag([4.0, 1.0]), np.eye(2))
    0.5
    """
    _, _, rates = _factors(W2, B)
    largest = 1.0 if Sxx is None else np.linalg.eigvalsh(Sxx)[-1]
    return float((2 * rates.real / np.abs(rates) ** 2).min(initial=np.inf) / largest)


def error_matrix(task, state) -> np.ndarray:
    """Syx - W_2 W_1 Sxx (..., n_out, n_in) of a two-layer network."""
    return task.Syx - state.weights[1] @ state.weights[0] @ task.Sxx


def problem(rule, seed) -> Setup:
    """A random start and task of any second moment."""
    rng, rank = examples.generator(seed), examples.rank_of(rule)
    n, k, m = (int(rng.integers(low, low + 4)) for low in (1, rank, rank))
    Sxx = None if rng.random() < 0.3 else examples.moment(rng, n, 0.5, 1.5)
    task = Task.teacher(examples.matrix(rng, m, n, 0.3, 1.5), Sxx, noise=0.2)
    network = Network((examples.matrix(rng, k, n, 0.1, 1.0), examples.matrix(rng, m, k, 0.3, 1.0)))
    return Setup(task, network, np.linspace(0, 3, 13), examples.feedback(rule, rng, (n, k, m)))


@final
@dataclass(frozen=True, eq=False)
class FrozenReadout(Theory):
    """Feedback alignment of W_1 alone: E(t) = e^(-W_2 B t) E(0), see `frozen_readout_error`.

    With B = Q P of full rank it converges if all eigenvalues of P W_2 Q have positive real parts, and then to
    `frozen_readout_limit`; descent, where it is E <- E - lr W_2 B E Sxx, does so up to `frozen_readout_max_lr`.

    Assumptions: two layers, W_2 frozen (`LayerRates` with a zero), feedback that does not learn, no decay.  Any start,
    any second moment; backprop too, whose feedback stays as it is when W_2 does.

    Source: derived here.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule = linfa.rules.Rule(linfa.rules.Layerwise(), linfa.rules.Dense(), geometry=LayerRates((1.0, 0.0)))
    >>> task, network = linfa.Task.from_spectrum([2.0, 1.0]), linfa.Network.small((2, 8, 2), scale=1.0)
    >>> run = linfa.simulate(rule, task, network, time=5.0, rtol=1e-11)
    >>> FrozenReadout(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = (
        "FA with a frozen readout is linear: E(t) = e^(-W_2 B t) E(0), mode by mode of the inputs"
    )
    source: ClassVar[str] = "derived here"
    exact_in_discrete_time: ClassVar[bool] = True

    @classmethod
    def check_rule(cls, rule):
        assumptions.layer_rates(rule, True, False)
        assumptions.no_decay(rule)
        if type(rule.plasticity) is not Fixed:
            raise AssumptionError(f"feedback learns: {rule.plasticity}")
        if not rule.route.edges(2):
            raise AssumptionError(f"no feedback edge in a two-layer network: {rule.route}")

    def check_start(self):
        assumptions.depth(self.start, 2)

    @cached_property
    def feedback(self) -> np.ndarray:
        """B (k, n_out), times the learning rate of W_1."""
        rate, _ = self.rule.geometry.rates
        return rate * product(self.rule.feedback.factors(self.start.feedback[0], self.start.weights[1]))

    @property
    def limit(self) -> np.ndarray:
        """The error in the end (n_out, n_in).

        Raises:
            AssumptionError: if the flow does not converge.
        """
        return frozen_readout_limit(self.start.weights[1], self.feedback, error_matrix(self.task, self.start))

    @property
    def max_lr(self) -> float:
        """The learning rate up to which descent converges."""
        return frozen_readout_max_lr(self.start.weights[1], self.feedback, self.task.Sxx)

    def predict(self, times):
        """E = Syx - W_2 W_1 Sxx at the times (t,): (t, n_out, n_in)."""
        E0, W2 = error_matrix(self.task, self.start), self.start.weights[1]
        return frozen_readout_error(W2, self.feedback, E0, np.asarray(times, float), self.task.Sxx)

    def discrete(self, lr, steps):
        """E after 0 .. steps steps of descent: (steps + 1, n_out, n_in)."""
        E, M = [error_matrix(self.task, self.start)], lr * self.start.weights[1] @ self.feedback
        for _ in range(steps):
            E.append(E[-1] - M @ E[-1] @ self.task.Sxx)
        return np.array(E)

    def observed(self, trajectory):
        return error_matrix(trajectory.task, trajectory.states)

    @classmethod
    def residuals(cls, equations):
        """w_1' and w_2' minus the right-hand sides of one mode, with s - w_1 w_2 from the closed form."""
        import sympy as sp

        t, e0 = sp.symbols("t e_0", real=True)
        modes = equations.modes()
        w1, w2, *stored = modes
        s = equations.strength
        above = sp.Matrix([[w2]])
        B = product(equations.rule.feedback.factors([sp.Matrix([[b]]) for b in stored], above))
        rate = sp.nsimplify(equations.rule.geometry.rates[0])
        e = frozen_readout_error(above, rate * B, sp.Matrix([[e0]]), t)[0]
        closed = (s - e) / w2
        gap = sp.diff(closed, t) - modes[w1].subs(w1, closed)
        return tuple(sp.nsimplify(sp.simplify(sp.nsimplify(g))) for g in (gap, modes[w2]))

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        return problem(rule, seed)


RULES = tuple(Rule(Layerwise(), kind, geometry=LayerRates((1.0, 0.0))) for kind in (Dense(), RandomFactors(2)))


def _around_the_limit(seed):
    """1.0 unless descent converges 5 % below the largest learning rate, and leaves the limit 5 % above."""
    rng = examples.generator(seed)
    turn = np.exp(1j * rng.uniform(0.2, 1.0))
    rates = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    Q, P = examples.matrix(rng, 4, 2, 0.8, 1.25), examples.matrix(rng, 2, 3, 0.8, 1.25)
    up, down = np.linalg.pinv(P), np.linalg.pinv(Q)
    rest = 0.5 * rng.standard_normal((3, 4))
    W2 = up @ rates @ down + rest - up @ P @ rest @ Q @ down  # P W_2 Q = rates
    task, network = Task.teacher(examples.matrix(rng, 3, 3, 0.5, 1.5)), Network((np.zeros((4, 3)), W2))
    theory = FrozenReadout(RULES[1], task, State(network.weights, ((Q, P),)))
    left = []
    for factor in (0.95, 1.05):
        run = descend(RULES[1], task, network, factor * theory.max_lr, 400, feedback=((Q, P),), record=400)
        left.append(np.abs(theory.observed(run)[-1] - theory.limit).max())
    return float(not left[0] < 1e-3 < 10 < left[1])


def _descent(seed):
    return max(_around_the_limit(seed), *(descent_error(FrozenReadout, rule, seed) for rule in RULES))


RESULTS = (
    of_flow("D4", FrozenReadout, *RULES),
    Result("D4d", "in descent it is E <- E - lr W_2 B E Sxx, which converges up to lr = min_i 2 Re(mu_i) / |mu_i|^2",
           "derived here", 1e-11, _descent),
)  # fmt: skip
