"""Deep feedback alignment from zero weights, where the feedback of all layers sees the task in common modes."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.dynamics import State
from linfa.network import Network
from linfa.rules import Direct, RandomFactors, Rule, dfa, fa, ldfa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.base import AssumptionError, Setup, Theory
from linfa.theory.depth.common_modes import common_modes, dfa_factor, dfa_timescale, effective_feedback
from linfa.theory.depth.power_clock import power_clock, power_clock_inverse
from linfa.theory.result import Result, of_descent, of_flow

__all__ = ["ZeroInitDFA"]


@final
@dataclass(frozen=True, eq=False)
class ZeroInitDFA(Theory):
    """Feedback alignment of a network of any depth L from zero weights, by a broadcast or layer by layer.

    B_l takes the output error to cut l (`effective_feedback`).  If all Sigma^T B_l^T B_l Sigma have the eigenvectors V,
    with eigenvalues h_l,i, then with p = 2^L - 1 and Phi_p of `power_clock`

        W_L .. W_1 = Sigma V diag(x_i^p) V^T,   x_i = Phi_p^-1(t/T_i),   T_i = prod_l (2^l / h_l,i)^(2^(L-1-l) / p)

        W_1 = B_1 Sigma V diag(alpha_i) V^T,   W_l = B_l Sigma V diag(phi_(l-1),i alpha_i^(2^(l-1)) / 2^(l-1)) (B_(l-1)
        Sigma V)^T,   alpha_i = T_i x_i,   B_L = I, phi of `dfa_factor`

    Shared rows B_l = Q_l P with Q_l^T Q_l = I are such a case for any P, and so are B_l along the output modes of the
    task.  Late relaxation is exponential at rate p/T_i; in the limit of many layers learning is a step at T_i.  Two
    layers have one such matrix and are `ZeroInitFA`.  Descent keeps the form with alpha <- alpha + lr (1 - f_L) and
    mu_l <- mu_l + lr (1 - f_L) f_(l-1), where f_l = mu_l h_(l-1) f_(l-1) and f_1 = alpha.

    Assumptions: zero weights, feedback that does not learn and reaches every hidden cut, no decay, Sxx = I, commuting
    Sigma^T B_l^T B_l Sigma.

    Source: derived here (`derivations.dfa_depth`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule, task = linfa.dfa(), linfa.Task.from_spectrum([1.0, 0.5], n_in=3, n_out=2, seed=0)
    >>> shared = (np.eye(4, 2),), (-np.eye(5, 2),)
    >>> run = linfa.simulate(rule, task, linfa.Network.zero((3, 4, 5, 2)), 10.0, feedback=shared, rtol=1e-11)
    >>> ZeroInitDFA(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "DFA at depth L from zero weights: W_L .. W_1 = Sigma V diag(x_i^p) V^T, p = 2^L - 1"
    source: ClassVar[str] = "derived here"
    exact_in_discrete_time: ClassVar[bool] = True

    @classmethod
    def check_rule(cls, rule):
        assumptions.fixed_feedback(rule)

    def check_start(self):
        if len(self.start.weights) < 2:
            raise AssumptionError("depth is 1: there is no hidden layer")
        assumptions.white(self.task)
        for number, W in enumerate(self.start.weights, 1):
            assumptions.zero(f"W_{number}(0)", W)
        for (i, G), (j, H) in itertools.combinations(enumerate(self._grams, 1), 2):
            apart = np.abs(G @ H - H @ G).max()
            if apart > assumptions.TOLERANCE:
                raise AssumptionError(f"layers {i} and {j} see different modes: their Sigma^T B^T B Sigma, in units of "
                                      f"their norms, do not commute, by {apart:.2g}")  # fmt: skip

    @cached_property
    def feedback(self) -> tuple:
        """B_1 .. B_(L-1), B_l (n_l, n_out)."""
        return effective_feedback(self.rule, self.start.feedback, len(self.start.weights))

    @cached_property
    def _grams(self):
        """Sigma^T B_l^T B_l Sigma in units of |B_l|^2 |Sigma|^2."""
        Sigma = self.task.Syx
        sizes = (np.linalg.norm(B) * np.linalg.norm(Sigma) or 1.0 for B in self.feedback)
        return [(B @ Sigma / size).T @ (B @ Sigma / size) for B, size in zip(self.feedback, sizes, strict=True)]

    @cached_property
    def modes(self) -> tuple[np.ndarray, np.ndarray]:
        """V (n_in, n_in), and the eigenvalues h (L - 1, n_in) of every layer, rounding errors set to zero.

        V diagonalises a generic combination of the matrices, so that what is degenerate in one is resolved by another.
        """
        V = np.linalg.eigh(sum(0.6180339887**i * G for i, G in enumerate(self._grams)))[1]
        shares = np.array([np.einsum("ni,nk,ki->i", V, G, V) for G in self._grams])
        h = [((B @ self.task.Syx @ V) ** 2).sum(0) for B in self.feedback]
        return V, np.where(shares > 1e-13, h, 0.0)

    @property
    def _power(self):
        return 2 ** len(self.start.weights) - 1

    def _clock(self, times):
        """x^p and alpha, each (t, n_in)."""
        times, T = np.asarray(times, dtype=float)[:, None], dfa_timescale(self.modes[1])
        x, _ = power_clock_inverse(times / T, self._power)
        never = np.isinf(T)
        return x**self._power, np.where(never, times, np.where(never, 1.0, T) * x)

    def predict(self, times):
        """W_L .. W_1 at the times (t,): (t, n_out, n_in)."""
        V, _ = self.modes
        return (self.task.Syx @ V * self._clock(times)[0][:, None, :]) @ V.T

    def weights(self, times) -> tuple[np.ndarray, ...]:
        """W_1 .. W_L, each (t, n_l, n_(l-1))."""
        V, h = self.modes
        alpha = self._clock(times)[1]
        seen = [B @ self.task.Syx @ V for B in self.feedback] + [self.task.Syx @ V]
        out = [(seen[0] * alpha[:, None, :]) @ V.T]
        for below in range(1, len(seen)):
            mu = dfa_factor(h[: below - 1]) * alpha ** (2**below) / 2**below
            out.append((seen[below] * mu[:, None, :]) @ seen[below - 1].T)
        return tuple(out)

    def discrete(self, lr, steps):
        """W_L .. W_1 after 0 .. steps steps of descent: (steps + 1, n_out, n_in)."""
        V, h = self.modes
        one = np.ones((1, len(V)))
        scale, layers = np.concatenate([one, h]), np.zeros((len(h) + 1, len(V)))  # alpha and mu_2 .. mu_L
        learned = np.zeros((steps + 1, len(V)))
        for i in range(steps):
            f = np.cumprod(scale * layers, axis=0)
            layers = layers + lr * (1 - f[-1]) * np.concatenate([one, f[:-1]])
            learned[i + 1] = (scale * layers).prod(0)
        return (self.task.Syx @ V * learned[:, None, :]) @ V.T

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    def residuals(cls, equations):
        """Time derivatives minus the right-hand sides of one mode, with x in place of time."""
        import sympy as sp

        x = sp.Symbol("x", positive=True)
        modes, L = equations.modes(), equations.depth
        weights, stored = list(modes)[:L], list(modes)[L:]
        s = equations.strength
        count, out = len(equations.rule.feedback.names), []
        for sign in (1, -1):
            values = [
                sign * sp.Symbol("beta_1", positive=True),
                *sp.symbols(f"beta_2:{len(stored) + 1}", positive=True),
            ]
            pairs = [[sp.Matrix([[b]]) for b in values[i : i + count]] for i in range(0, len(values), count)]
            b = [B[0] for B in effective_feedback(equations.rule, pairs, L)] + [sp.Integer(1)]
            squares = [(s * factor) ** 2 for factor in b[:-1]]
            alpha = dfa_timescale(squares) * x
            solution = dict(zip(stored, values, strict=True)) | {weights[0]: b[0] * s * alpha}
            for below in range(1, L):
                mu = dfa_factor(squares[: below - 1]) * alpha ** (2**below) / 2**below
                solution[weights[below]] = b[below] * s**2 * mu * b[below - 1]
            speed = sp.simplify(1 / sp.diff(power_clock(x, 2**L - 1), x)) / dfa_timescale(squares)
            out += [sp.simplify(sp.diff(solution[w], x) * speed - modes[w].subs(solution)) for w in weights]
        return tuple(out)

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng = examples.generator(seed)
        return _setup(rule, rng, int(rng.integers(2, 5)), aligned=bool(rng.random() < 0.5))


def _setup(rule, rng, depth, aligned):
    task, network, feedback = common_modes(rule, rng, depth, aligned)
    fastest = dfa_timescale(ZeroInitDFA(rule, task, State(network.weights, feedback)).modes[1]).min()
    return Setup(task, network, np.linspace(0, 3 * fastest if np.isfinite(fastest) else 9, 17), feedback)


def _error(rule, setup):
    run = simulate(rule, setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11, atol=1e-13)
    return ZeroInitDFA(rule, setup.task, run.at(0)).error(run)


def _chain(seed):
    """One unit in every layer, feedback of either sign."""
    rng = examples.generator(seed)
    depth = int(rng.integers(2, 6))
    task = Task.teacher(rng.uniform(0.8, 1.5, (1, 1)))
    b = rng.uniform(0.8, 1.5, depth - 1) * rng.choice([-1, 1], depth - 1)
    feedback = tuple((np.full((1, 1), v),) for v in b)
    return _error(dfa(), Setup(task, Network.zero((1,) * (depth + 1)), np.linspace(0, 3, 13), feedback))


def _aligned(seed):
    return max(_error(rule, _setup(rule, examples.generator(seed), 3, aligned=True)) for rule in (dfa(), fa()))


BROADCAST = Rule(Direct(), RandomFactors(2))

RESULTS = (
    of_flow("X7", ZeroInitDFA, dfa(), BROADCAST, ldfa(2, "fixed")),
    of_descent("X7d", ZeroInitDFA, dfa(), BROADCAST, ldfa(2, "fixed")),
    Result("E8", "DFA in a chain from zero: w = s x^p and t = T Phi_p(x), any signs", "derived here", 1e-8, _chain),
    Result("E8m", "deep FA along the task's output modes learns each as a chain does", "derived here", 1e-8, _aligned),
)
