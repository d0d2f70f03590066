"""A step of descent by backprop moves the balance of two layers by the difference of two squares, exactly."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given
from linfa.algebra import T
from linfa.simulate import advance
from linfa.theory import invariants
from linfa.theory.backprop.balance_drift import balance_drift


def derivation(depth: int = 2) -> Derivation:
    """One step of the derived equations at a given depth, expanded: the first order in the learning rate cancels.

    Args:
        depth: number of weights, at least 2.

    >>> derivation(depth=3).steps[-1].formula.lhs
    D_2(t+eta) - D_2(t)
    """
    equations, eta = linfa.derive(linfa.bp(), depth), sp.Symbol("eta", positive=True)
    state, moves = equations.state, equations.velocity
    before = invariants.balance(equations.rule, state)
    after = invariants.balance(equations.rule, advance(state, moves, eta))
    closed = balance_drift(state.weights, -equations.residual, eta)
    steps = [given("the equations of the rule", equations)]
    for cut, (old, new, drift) in enumerate(zip(before, after, closed, strict=True), 1):
        change = sp.expand(words.of(new) - words.of(old))
        below, above = moves.weights[cut - 1 : cut + 1]
        steps += [
            equal(f"D_{cut}, the balance around cut {cut}: the part of first order in eta, what the flow does",
                  change.coeff(eta, 1), 0, f"D_{cut}'"),
            equal("the part of second order: a square of the velocity above minus one of that below",
                  change.coeff(eta, 2), words.of(T(above) * above) - words.of(below * T(below)), f"D_{cut}''"),
            equal("linfa.theory.backprop.balance_drift.balance_drift is the change",
                  change, words.of(drift), f"D_{cut}(t+eta) - D_{cut}(t)"),
        ]  # fmt: skip
    return Derivation(
        f"how descent by backprop moves the balance of its layers, depth {depth}",
        ("any loss, data, batches and start: E = -G is any matrix",),
        tuple(steps),
        "two layers known (Arora et al. 2018); any depth derived here",
    )
