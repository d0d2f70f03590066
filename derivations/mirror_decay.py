"""A mirror on frozen weights forgets its start: B - gain / leak J^T decays as e^(-leak t), as (1 - a)^t in descent."""

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.rules import Dense, Direct, Mirror, Rule
from linfa.simulate import advance
from linfa.theory.directional.leaky import leaky_descent, leaky_flow
from linfa.theory.directional.mirror_decay import MirrorDecay, mirror_targets
from linfa.theory.directional.problem import frozen

GAIN, LEAK = sp.symbols("gamma kappa", positive=True)


def derivation(depth: int = 3, rule=None) -> Derivation:
    """Prove it at a given depth.

    Args:
        depth: number of weights, at least 2.
        rule: a rule with `Mirror` plasticity; by default a broadcast of full feedback with any gain and leak.

    >>> derivation().steps[1].formula
    Eq(Ddot, -kappa*(-gamma*W_2^T*W_3^T/kappa + B_1))
    """
    equations = linfa.derive(frozen(rule or Rule(Direct(), Dense(), Mirror(GAIN, LEAK)), depth), depth)
    MirrorDecay.check_rule(equations.rule)
    learn = equations.rule.plasticity
    gain, leak = map(sp.nsimplify, (learn.gain, learn.leak))

    def gap(rule, state):
        goals = mirror_targets(rule, state)
        return tuple(stored[0] - gain / leak * goal for stored, goal in zip(state.feedback, goals, strict=True))

    distances = [words.of(D) for D in gap(equations.rule, equations.state)]
    steps = [given("the equations of the rule: the weights rest, and with them J", equations)]
    for D, change in zip(distances, equations.change(gap), strict=True):
        text = "the distance D of the feedback from gamma / kappa J^T obeys D' = -kappa D"
        steps.append(equal(text, change, -leak * D, "Ddot"))
    t, start, goal, eta = sp.Symbol("t"), sp.Symbol("B_0"), sp.Symbol("J^T"), sp.Symbol("eta", positive=True)
    closed = leaky_flow(t, leak, start, gain * goal)
    away = closed - gain / leak * goal
    text = "linfa.theory.directional.leaky.leaky_flow with drive gamma J^T solves this"
    steps.append(equal(text, sp.diff(away, t), -leak * away, "Ddot"))
    steps.append(equal("and starts at B_0", closed.subs(t, 0), start, "B(0)"))
    slow = sp.limit(leaky_flow(t, LEAK, start, gain * goal), LEAK, 0)
    steps.append(equal("without a leak it grows along J^T", leaky_flow(t, 0, start, gain * goal), slow, "B"))
    after = gap(equations.rule, advance(equations.state, equations.velocity, eta))
    for D, moved in zip(distances, after, strict=True):
        text = "a step of descent multiplies D by 1 - a with a = eta kappa, exactly"
        steps.append(equal(text, words.of(moved), (1 - eta * leak) * D, "D(t+eta)"))
    a, drive, x = sp.Rational(2, 7), sp.Rational(3, 5), sp.Rational(-4, 3)
    path = leaky_descent(4, a, np.array(x, dtype=object), np.array(drive, dtype=object))
    held = [(1 - a) ** n * (x - drive / a) + drive / a for n in range(5)]
    text = "linfa.theory.directional.leaky.leaky_descent is these steps, in exact rational numbers"
    steps.append(Step(text, "x_t = (1 - a)^t (x_0 - drive / a) + drive / a", list(path) == held))
    return Derivation(
        f"a mirror on frozen weights, depth {depth}",
        (f"rule: {equations.rule!r}", "any weights, data and start"),
        tuple(steps),
        "derived here",
    )
