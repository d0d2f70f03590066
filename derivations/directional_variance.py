"""The moments of sampled forward maps: E[d v^T] = J and Var[d_k v_i] = S_kk + J_ki^2; averaging leaves a / (2 - a)."""

import itertools

import numpy as np
import sympy as sp

from derivations.proof import Derivation, Step, equal, given
from linfa.algebra import T
from linfa.dynamics import State, velocity
from linfa.rules import Dense, Direct, Mirror, Rule
from linfa.task import Batch
from linfa.theory.directional.averaging import averaging_variance
from linfa.theory.directional.problem import arriving_moments, forward_maps
from linfa.theory.directional.sampled import directional_variance, signal_variance


class _Directions:
    """In place of a generator: symbols for the independent normal numbers that it would draw."""

    def __init__(self):
        self.drawn: list[sp.Symbol] = []

    def standard_normal(self, shape):
        out = _symbols(f"v{len(self.drawn)}", *shape)
        self.drawn += out.ravel().tolist()
        return out


def _symbols(name, *shape):
    out = np.empty(shape, dtype=object)
    for place in np.ndindex(*shape):
        out[place] = sp.Symbol(name + "_" + "".join(str(i + 1) for i in place), real=True)
    return out


def _mean(polynomial, drawn):
    """E of a polynomial in independent standard normal symbols: E v^n is (n - 1)!! for even n, else 0."""
    terms = sp.Poly(polynomial, *drawn).terms()
    return sum(c * sp.prod([sp.factorial2(n - 1) for n in powers]) for powers, c in terms
               if not any(n % 2 for n in powers))  # fmt: skip


def _same(text, left, right, name):
    """The step that two arrays of expressions agree entry by entry."""
    left, right = np.broadcast_arrays(np.asarray(left, dtype=object), np.asarray(right, dtype=object))
    return Step(text, name, all(sp.expand(a - b) == 0 for a, b in zip(left.flat, right.flat, strict=True)))


def _sampled(rule, weights):
    """The sample M of each edge as the vector field of the rule makes it, in the symbols of a pass."""
    widths = (weights[0].shape[1], *(len(W) for W in weights))
    zeros = tuple((np.zeros((widths[e.activity], widths[e.source]), dtype=int),)
                  for e in rule.route.edges(len(weights)))  # fmt: skip
    pass_ = _Directions()
    batch = Batch(np.eye(widths[0], dtype=int), np.zeros((widths[-1], widths[0]), dtype=int))
    moves = velocity(rule, State(weights, zeros), batch, pass_).feedback
    return [T(stored[0]) for stored in moves], pass_.drawn


def derivation(route=None) -> Derivation:
    """Two hidden cuts of two units: the vector field of the rule on symbols in place of weights and normal numbers.

    Args:
        route: that of the edges; a broadcast by default.

    >>> derivation().steps[1].formula
    'E[M_l] = J_l'
    """
    rule = Rule(route or Direct(), Dense(), Mirror(1, 0, directions=1))
    weights = tuple(_symbols(f"w{number}", 2, 2) for number in (1, 2, 3))
    maps, moments = forward_maps(rule, weights), arriving_moments(rule, weights)
    seen, drawn = _sampled(rule, weights)
    steps = [given("one direction v_l ~ N(0, I) at every cut; d is what arrives where the edges of a pass end",
                   "M_l = d v_l^T")]  # fmt: skip
    expect = np.frompyfunc(lambda x: _mean(x, drawn), 1, 1)
    text = "without bias: directions at other cuts are independent of v_l and of mean 0"
    steps.append(_same(text, [expect(seen_l) for seen_l in seen], list(maps), "E[M_l] = J_l"))
    for cut, (J, S, estimate) in enumerate(zip(maps, moments, seen, strict=True), 1):
        text = f"Wick's theorem for two entries, cut {cut}"
        pairs = itertools.combinations_with_replacement(list(np.ndindex(2, 2)), 2)
        left, right = zip(*((expect(estimate[p] * estimate[q]) - J[p] * J[q],
                             S[p[0], q[0]] * int(p[1] == q[1]) + J[p[0], q[1]] * J[q[0], p[1]])
                            for p, q in pairs), strict=True)  # fmt: skip
        steps.append(_same(text, left, right, "Cov[d_k v_i, d_l v_j] = S_kl delta_ij + J_kj J_li"))
        variance = expect(estimate**2) - J**2
        text = f"linfa.theory.directional.sampled.directional_variance is its diagonal, cut {cut}"
        steps.append(_same(text, variance, directional_variance(J, S), "Var[d_k v_i] = S_kk + J_ki^2"))
        e = _symbols("e", 2, 1)
        text = f"linfa.theory.directional.sampled.signal_variance for a delivered error, cut {cut}"
        signal = expect((T(estimate) @ e) ** 2) - (T(J) @ e) ** 2
        steps.append(_same(text, signal, signal_variance(J, S, e), "Var[(M^T e)_i] = e^T S e + (J^T e)_i^2"))
    twice, drawn = _sampled(Rule(rule.route, Dense(), Mirror(1, 0, directions=2)), weights)
    spread = _mean(sp.expand(twice[0][0, 1] ** 2), drawn) - maps[0][0, 1] ** 2
    half = directional_variance(maps[0], moments[0])[0, 1] / 2
    steps.append(_same("the mean over two directions has half of it", spread, half, "Var[M_N] = Var[M] / N"))
    a, t = sp.Symbol("a", positive=True), sp.Symbol("t", positive=True)
    steps.append(given("B <- (1 - a) B + a M^T with M independent of B: the variance V of B in units of that of M",
                       "V(t+1) = (1 - a)^2 V(t) + a^2"))  # fmt: skip
    after = (1 - a) ** 2 * averaging_variance(a, t) + a**2
    steps.append(equal("linfa.theory.directional.averaging.averaging_variance solves this",
                       averaging_variance(a, t + 1), after, "V(t+1)"))  # fmt: skip
    steps.append(equal("from a start that is given", averaging_variance(a, 0), 0, "V(0)"))
    settled = averaging_variance(a)
    steps.append(equal("and stays at a / (2 - a)", settled, (1 - a) ** 2 * settled + a**2, "V"))
    steps.append(equal("which is 1 for the forward gradient, a = 1", settled.subs(a, 1), 1, "V"))
    return Derivation(
        "the moments of sampled forward maps",
        (f"route: {rule.route!r}", "depth 3, two units in every layer, any weights"),
        tuple(steps),
        "derived here",
    )
