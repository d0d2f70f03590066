"""W_(l+1)^T W_(l+1) - W_l W_l^T does not change under backprop."""

import linfa
from derivations.proof import Derivation, equal, given
from linfa.algebra import T
from linfa.theory import invariants


def derivation(depth: int = 2) -> Derivation:
    """Prove it at a given depth, for every loss, data and start.

    Args:
        depth: number of weights, at least 2.

    >>> len(derivation(depth=3).steps)
    7
    """
    equations = linfa.derive(linfa.bp(), depth)
    steps = [given("the equations of the rule", equations)]
    for cut in range(1, depth):

        def lower(rule, state, cut=cut):
            return (state.weights[cut - 1] @ T(state.weights[cut - 1]),)

        def upper(rule, state, cut=cut):
            return (T(state.weights[cut]) @ state.weights[cut],)

        (left,), (right,) = equations.change(lower), equations.change(upper)
        steps.append(equal(f"W_{cut} W_{cut}^T moves", left, left, f"d(W_{cut} W_{cut}^T)/dt"))
        steps.append(equal("the layer above moves as much", right, left, f"d(W_{cut + 1}^T W_{cut + 1})/dt"))
    for left in equations.change(invariants.balance):
        steps.append(equal("linfa.theory.invariants.balance does not change", left, 0, "Cdot"))
    return Derivation(
        f"the balance of layers under backprop, depth {depth}",
        ("backprop", "any loss, data and start: E is any matrix"),
        tuple(steps),
        "Fukumizu (1998), Saxe et al. (2013), Arora et al. (2018); known result re-derived",
    )
