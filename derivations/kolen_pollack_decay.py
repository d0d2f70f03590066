"""Kolen-Pollack feedback meets the transposed weight as e^(-lambda t), and as (1 - eta lambda)^t in descent."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given
from linfa.simulate import advance
from linfa.theory import invariants
from linfa.theory.learned.kolen_pollack import kp_gap


def derivation(depth: int = 2, rule=None) -> Derivation:
    """Prove it at a given depth.

    Args:
        depth: number of weights, at least 2.
        rule: a rule with Kolen-Pollack plasticity, layerwise; `linfa.kolen_pollack` by default.  With two factors the
            distance is that of Q_l from (P_l W_(l+1))^T.

    >>> derivation(rule=linfa.ldfa(2, "kolen-pollack", decay=0.1)).steps[1].formula
    Eq(Ddot, -lambda*(Q_1 - W_2^T*P_1^T))
    """
    equations = linfa.derive(rule or linfa.kolen_pollack(), depth)
    decay = sp.sympify(equations.rule.decay)
    distances = [words.of(D) for D in invariants.kolen_pollack(equations.rule, equations.state)]
    steps = [given("the equations of the rule", equations)]
    for D, change in zip(distances, equations.change(invariants.kolen_pollack), strict=True):
        steps.append(
            equal("the distance D of the feedback from the weight obeys D' = -lambda D", change, -decay * D, "Ddot")
        )
    t, gap, eta = sp.Symbol("t"), sp.Symbol("D_0"), sp.Symbol("eta", positive=True)
    closed = kp_gap(t, decay, gap)
    steps.append(
        equal("linfa.theory.learned.kolen_pollack.kp_gap solves this", sp.diff(closed, t), -decay * closed, "Ddot")
    )
    steps.append(equal("and starts at D(0)", closed.subs(t, 0), gap, "D(0)"))
    after = invariants.kolen_pollack(equations.rule, advance(equations.state, equations.velocity, eta))
    for D, moved in zip(distances, after, strict=True):
        text = "a step of descent multiplies D by 1 - eta lambda, exactly"
        steps.append(equal(text, words.of(moved), (1 - eta * decay) * D, "D(t+eta)"))
    return Derivation(
        f"Kolen-Pollack feedback meets the weights, depth {depth}",
        (f"rule: {equations.rule!r}", "any loss, data and start: E is any matrix"),
        tuple(steps),
        "Kolen & Pollack (1994), Akrout et al. (2019); known result re-derived",
    )
