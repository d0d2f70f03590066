"""Backprop of factored weights along the singular vectors of a task: every layer is a chain of three."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, final

import numpy as np
from scipy.optimize import brentq

from linfa.network import Network
from linfa.rules import Factored, Full, bp, factored
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.base import AssumptionError, Setup, Theory, relative_error
from linfa.theory.result import Result, of_flow

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
"""Of Gauss's quadrature."""

__all__ = ["FactoredMode", "factored_mode", "factored_mode_polynomial"]


def factored_mode_polynomial(s, c, layers=1) -> np.ndarray:
    """Coefficients of p in x' = p(x) = x^(L-1) (x^2 + c)^L [s - x^L (x^2 + c)^L], the highest power first.

    A mode of strength w = prod u_l x_l v_l whose layers are alike, u_l = v_l = sqrt(x^2 + c) and x_l = x: every layer
    is a chain of three weights, and c = u^2 - x^2 is conserved.  With c = 0 it is backprop through 3 L layers.

    Args:
        s: singular value of the task; c: u^2 - x^2; layers: L.

    Source: derived here.

    >>> factored_mode_polynomial(2.0, 0.0).tolist()  # x' = x^2 (2 - x^3)
    [-1.0, 0.0, 0.0, 2.0, 0.0, 0.0]
    """
    x, square = np.poly1d([1.0, 0.0]), np.poly1d([1.0, 0.0, c])
    return (-(x ** (layers - 1)) * square**layers * (x**layers * square**layers - s)).coeffs


def factored_mode(t, s: float, x: float, c: float, layers: int = 1) -> np.ndarray:
    """Strength w(t) of a mode, on the clock of `factored_mode_polynomial`.

    Args:
        t: times (...), at least 0.
        s: singular value of the task, at least 0.
        x: value at time 0, at least 0.
        c: u^2 - x^2, at least -x^2; 1 - x^2 for orthonormal U and V.
        layers: L.

    The clock t = int dx / p is integrated in z = -log of the distance from the end, where it is smooth, and inverted by
    Newton's method; for L = 1 it is `linfa.theory.clock.poly_time` in closed form.

    Source: derived here.

    >>> late = factored_mode(np.array([0.0, 50.0]), s=2.0, x=0.5, c=0.75)
    >>> late.round(9).tolist()
    [0.5, 2.0]
    """
    end, t = _end(s, c, layers), np.asarray(t, float)
    polynomial = factored_mode_polynomial(s, c, layers)
    if np.polyval(polynomial, x) == 0 or end == x:
        return np.full(t.shape, _strength(x, c, layers))
    rest, _ = np.polydiv(polynomial, [1.0, -end])  # x' = (x - end) rest(x), so that dt = -dz / rest

    def place(z):
        return end + (x - end) * np.exp(-z)

    def between(a, b):
        points = a[..., None] + (b - a)[..., None] * (1 + NODES) / 2
        return -(WEIGHTS / np.polyval(rest, place(points))).sum(-1) * (b - a) / 2

    edges = np.linspace(0, 40, 161)
    reached = np.concatenate([[0.0], np.cumsum(between(edges[:-1], edges[1:]))])
    panel = np.searchsorted(reached, t, side="right") - 1
    inside = np.minimum(panel, len(edges) - 2)
    begin, z = edges[inside], edges[inside]
    for _ in range(12):
        z = z - (t - reached[inside] - between(begin, z)) * np.polyval(rest, place(z))
    return np.where(panel > inside, _strength(end, c, layers), _strength(place(z), c, layers))


def _strength(x, c, layers):
    return (x * (x * x + c)) ** layers


def _end(s, c, layers):
    """The x >= 0 at which x (x^2 + c) = s^(1/L), the largest."""
    target = s ** (1 / layers)
    low = np.sqrt(max(0.0, -c))
    high = low + 1.0
    while high * (high * high + c) < target:
        high *= 2
    return brentq(lambda x: x * (x * x + c) - target, low, high, xtol=1e-15, rtol=1e-15)


@final
@dataclass(frozen=True, eq=False)
class FactoredMode(Theory):
    """Backprop of weights U_l diag(s_l) V_l^T from the SVD of a balanced start along the singular vectors of a task.

    W_L .. W_1 (t) = U diag(w_i(t)) V^T with Sigma = Syx = U diag(sigma_i) V^T and w_i(t) from `factored_mode`.

    Assumptions: any depth; backprop without decay, penalties or retraction; Sxx = I; U_l and V_l orthonormal; the
    components of neighbouring layers meet, V_(l+1)^T U_l a permutation up to signs, and have equal values; U_L and V_1
    are singular vectors of the task, with strengths that are not negative.

    Source: derived here.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> task, rule = linfa.Task.from_spectrum([2.0, 1.0], seed=0), linfa.factored(linfa.bp(), rank=2)
    >>> network = linfa.Network.aligned(task, hidden=[3], strengths=[0.2, 0.1])
    >>> run = linfa.simulate(rule, task, network, time=4.0, rtol=1e-11)
    >>> FactoredMode(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = (
        "L factored layers learn a mode by backprop as x' = x^(L-1) (x^2 + c)^L (s - x^L (x^2 + c)^L), c = 1 - x(0)^2"
    )
    source: ClassVar[str] = "derived here"

    @classmethod
    def check_rule(cls, rule):
        part = rule.parameterisation
        if type(part) is not Factored or part.penalties or part.retraction:
            raise AssumptionError(f"weights are not free factors: {part}")
        assumptions.backprop(replace(rule, parameterisation=Full()))

    def check_start(self):
        assumptions.white(self.task)
        weights = self.start.weights
        if len({W.rank for W in weights}) > 1:
            raise AssumptionError(f"layers have different ranks: {[W.rank for W in weights]}")
        for number, W in enumerate(weights, 1):
            for name, F in (("U", W.U), ("V", W.V)):
                _zero(f"{name}_{number}^T {name}_{number} - I", F.T @ F - np.eye(W.rank))
        for number, (below, above, order) in enumerate(zip(weights, weights[1:], self._orders, strict=False), 1):
            meet = np.abs(above.V.T @ below.U)[order]
            _zero(f"the angle between components of layers {number} and {number + 1}", meet - np.eye(below.rank))
            _zero(f"the difference of s_{number + 1} and s_{number}", above.s[order] - below.s)
        U, sigma, x, V = self.modes
        _zero("the part of the task across the components", U.T @ self.task.Syx - sigma[:, None] * V.T)
        _zero("the part of the task across the components", self.task.Syx @ V - U * sigma)
        if (sigma < -assumptions.TOLERANCE).any() or (x < 0).any():
            raise AssumptionError(f"strengths along the components are not all positive: {sigma}")

    @property
    def _orders(self):
        """For each layer but the last, which component above each of its components meets."""
        return [np.abs(a.V.T @ b.U).argmax(0) for b, a in zip(self.start.weights, self.start.weights[1:], strict=False)]

    @cached_property
    def modes(self) -> tuple[np.ndarray, ...]:
        """U (n_out, r), singular values of the task along the components (r,), s at time 0 (r,), V (n_in, r)."""
        first, place = self.start.weights[0], np.arange(self.start.weights[0].rank)
        signs = np.ones(len(place))
        for below, above, order in zip(self.start.weights, self.start.weights[1:], self._orders, strict=False):
            signs = signs * np.sign(np.einsum("nj,nj->j", above.V[:, order], below.U)[place])
            place = order[place]
        U = self.start.weights[-1].U[:, place] * signs
        return U, np.einsum("oi,on,ni->i", U, self.task.Syx, first.V), first.s[:, 0], first.V

    def predict(self, times):
        """W_L .. W_1 at the times (t,): (t, n_out, n_in)."""
        U, sigma, x, V = self.modes
        depth = len(self.start.weights)
        w = [factored_mode(times, max(s, 0.0), v, 1 - v * v, depth) for s, v in zip(sigma, x, strict=True)]
        return (U * np.stack(w, -1)[:, None, :]) @ V.T

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    def residuals(cls, equations):
        """u', s' and v' minus the right-hand sides at u = v = sqrt(x^2 + c), s = x, with x' from the polynomial."""
        import sympy as sp

        x, c = sp.symbols("x c", positive=True)
        modes, L = equations.modes(), equations.depth
        s = next(iter(sp.Tuple(*modes.values()).free_symbols - set(modes)))
        speed = sp.Poly(factored_mode_polynomial(s, c, L), x).as_expr()
        values = {m: x if m.name.startswith("s") else sp.sqrt(x**2 + c) for m in modes}
        slopes = (sp.diff(values[m], x) * speed for m in modes)
        return tuple(sp.simplify(sp.nsimplify(d - v.subs(values))) for d, v in zip(slopes, modes.values(), strict=True))

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, r = examples.generator(seed), rule.parameterisation.rank
        n, m, depth = (int(k) for k in rng.integers((r, r, 1), (r + 3, r + 3, 4)))
        task = Task.teacher((examples.frame(rng, m, r) * rng.uniform(0.5, 1.5, r)) @ examples.frame(rng, r, n))
        hidden = [int(k) for k in rng.integers(r, r + 3, depth - 1)]
        strengths = np.zeros(min(n, m))
        strengths[:r] = rng.permutation(np.linspace(0.1, 0.5, r) + rng.uniform(-0.03, 0.03, r) / r)
        network = Network.aligned(task, [max(h, min(n, m)) for h in hidden], strengths, seed=seed)
        return Setup(task, network, np.linspace(0, 1.2, 13), ((),) * (depth - 1))


def _zero(name, matrix):
    largest = np.abs(matrix).max(initial=0)
    if largest > assumptions.TOLERANCE:
        raise AssumptionError(f"{name} is not zero: {largest:.2g}")


def _three_layers(seed):
    """One factored layer along the singular vectors of its task, against backprop through V^T, diag(s) and U."""
    rng = examples.generator(seed)
    r = int(rng.integers(1, 4))
    n, m = (int(k) for k in rng.integers(r, r + 3, 2))
    task = Task.teacher((examples.frame(rng, m, r) * rng.uniform(0.5, 1.5, r)) @ examples.frame(rng, r, n))
    U, _, Vt = np.linalg.svd(task.Syx, full_matrices=False)
    values, times = np.sort(rng.uniform(0.1, 0.6, r))[::-1], np.linspace(0, 3, 13)
    start = Network(((U[:, :r] * values) @ Vt[:r],))
    chain = Network((Vt[:r], np.diag(values), U[:, :r]))
    one = simulate(factored(bp(), r), task, start, times, rtol=1e-11, atol=1e-13)
    three = simulate(bp(), task, chain, times, rtol=1e-11, atol=1e-13)
    return relative_error(three.map, one.map)


RESULTS = (
    of_flow("S8", FactoredMode, factored(bp(), 1), factored(bp(), 3)),
    Result("S8b", "along the singular vectors of its task a factored layer learns as layers V^T, diag(s) and U do",
           "derived here", 1e-8, _three_layers),
)  # fmt: skip
