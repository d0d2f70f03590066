"""The gradient of the discord of two modules, and that the rule descends it."""

import itertools

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.algebra import T, product
from linfa.symbolic import EPSILON
from linfa.theory.local.energy import discord_energy, discord_gradient
from linfa.theory.local.problem import module_ends


def derivation(cases: tuple = ((3, None), (4, 2))) -> Derivation:
    """Prove it for columns of any number, then for the rule at given depths.

    Args:
        cases: pairs of a number of weights and a number of modules, None for one layer a module.

    >>> derivation(cases=((2, None),)).title
    'the gradient of reconciliation'
    """
    m, n, N = sp.symbols("m n N", integer=True, positive=True)
    M, C, H = (sp.MatrixSymbol(name, m, n) for name in "MCH")
    X, Y, G = (sp.MatrixSymbol(name, rows, N) for name, rows in (("X", n), ("Y", m), ("G", n)))
    e = M * X - Y
    q = T(M) * e - G
    slope = words.of(e * T(q) + M * q * T(X))
    ahead = {words.of(M): words.of(M + EPSILON * H), words.of(M.T): words.of(T(M + EPSILON * H))}
    energy = words.trace((words.of(q) * words.of(T(q))).xreplace(ahead)) / 2
    first = sp.diff(energy, EPSILON).subs(EPSILON, 0)
    Sxx, Syx, Syy = (sp.MatrixSymbol(*of) for of in (("S_xx", n, n), ("S_yx", m, n), ("S_yy", m, m)))
    heads = {words.of(G): words.of(T(C) * (C * X - Y)), words.of(G.T): words.of(T(C * X - Y) * C)}
    x, y, xt, yt = (words.of(S) for S in (X, Y, X.T, Y.T))
    table = {x * xt: words.of(Sxx), y * xt: words.of(Syx), x * yt: words.of(Syx.T), y * yt: words.of(Syy)}
    closed = words.of(discord_gradient(M, C, Sxx, Syx, Syy))
    steps = [
        given("R = tr(q q^T)/2 for columns X, Y and what the module below wants, G, which is kept fixed", str(q)),
        equal("to first order in a change H of M, it changes by the trace of H^T with e q^T + M q X^T", first,
              words.trace(words.of(T(H)) * slope), "dR"),
        equal("with G = C^T (C X - Y) and moments: linfa.theory.local.energy.discord_gradient",
              words.reduced(slope, heads, table), closed, "dR/dM"),
        _entry_by_entry(),
    ]  # fmt: skip
    for depth, modules in cases:
        steps.extend(_of_the_rule(depth, modules))
    return Derivation(
        "the gradient of reconciliation",
        ("squared error of linear heads; the input of a module and the gradient of the one below are kept fixed",),
        tuple(steps),
        "derived here",
    )


def _entry_by_entry():
    """discord_gradient is the derivative of discord_energy, with every entry a symbol, at size 2."""
    M, C, Sxx, Syx, Syy = (np.array(sp.symbols(f"{name}:2:2")).reshape(2, 2) for name in ("m", "c", "x", "z", "y"))
    Sxx, Syy = Sxx + Sxx.T, Syy + Syy.T
    energy = discord_energy(M, C, Sxx, Syx, Syy)
    rest = [sp.expand(sp.diff(energy, entry) - slope)
            for entry, slope in zip(M.flat, discord_gradient(M, C, Sxx, Syx, Syy).flat, strict=True)]  # fmt: skip
    return Step("which is the derivative of linfa.theory.local.energy.discord_energy, entry by entry at size 2",
                "d discord_energy / d M_ij = discord_gradient_ij", not any(rest))  # fmt: skip


def _of_the_rule(depth, modules):
    """-2 lam times the gradient is what the rule has more than without reconciliation, in every module."""
    lam = sp.Symbol("mu", positive=True)
    rule = linfa.sgr(modules, lam)
    full, plain = (linfa.derive(r, depth) for r in (rule, linfa.sgr(modules, 0.0)))
    state, (Sxx, Syx, Syy, _) = full.state, full.moments.values()
    E = {words.letter("E"): words.of(full.residual_definition)}
    yield given(f"depth {depth}, {modules or depth} modules, lam = mu", full)
    more = {x: v - w for (x, v), (_, w) in zip(full.pairs, plain.pairs, strict=True)}
    heads = [(f"B_{edge.activity}^T", T(B), T(more[B]))
             for edge, (B,) in zip(rule.route.edges(depth), state.feedback, strict=True)]  # fmt: skip
    layers = [(W.name, W, more[W]) for W in state.weights]
    for number, (a, b) in enumerate(itertools.pairwise(module_ends(rule, depth)[1:])):
        names, factors, added = zip(*heads[number + 1 : number + 2], *reversed(layers[a:b]), strict=True)
        P = product(tuple(reversed(state.weights[:a])))
        slope = discord_gradient(product(factors), heads[number][1], P * Sxx * T(P), Syx * T(P), Syy)
        for place, (name, move) in enumerate(zip(names, added, strict=True)):
            around = product((*map(T, reversed(factors[:place])), slope, *map(T, reversed(factors[place + 1 :]))))
            text = f"reconciliation moves {name} down its gradient"
            yield equal(text, words.of(move).xreplace(E), -2 * lam * words.of(around), f"d{name}/dt - local")
