"""Conserved quantities of learning rules, as functions of (rule, state).

Each returns a tuple of matrices, one for every place in the network where it applies; leading axes of the state are
kept.  Indices: W_l is the weight below cut l, W_(l+1) the one above, B_l the feedback that delivers the error to cut l.
"""

import itertools

import numpy as np

from linfa.algebra import T, diagonal, hadamard, product


def balance(rule, state) -> tuple:
    """W_(l+1)^T W_(l+1) - W_l W_l^T, the balance of neighbouring layers under backprop.

    Conserved by the gradient flow of any loss on any data (Fukumizu 1998; Saxe et al. 2013; Arora et al. 2018; known).
    """
    weights = state.weights
    return tuple(T(above) @ above - below @ T(below) for below, above in itertools.pairwise(weights))


def module_balance(rule, state) -> tuple:
    """W_(l+1)^T W_(l+1) - W_l W_l^T, the balance of neighbouring layers between which no edge delivers an error.

    Conserved where errors are backpropagated exactly from the upper one to the lower: inside the modules of local
    learning, whatever their heads do, and also when all descend a further loss of the module's map (derived here).
    """
    ends = {edge.activity for edge in rule.route.edges(len(state.weights))}
    return tuple(D for cut, D in enumerate(balance(rule, state), 1) if cut not in ends)


def feedback_alignment(rule, state) -> tuple:
    """W_l W_l^T - B_l W_(l+1) - W_(l+1)^T B_l^T for a fixed B_l that spans one layer.

    Conserved by feedback alignment for any loss, data and start.  The zero-start case is Lillicrap et al. (2016), the
    per-neuron law Robertson & Koyejo (2023); the full matrix is derived here.
    """
    out = []
    for edge, stored in zip(rule.route.edges(len(state.weights)), state.feedback, strict=True):
        if edge.single_layer:
            below, above = state.weights[edge.activity - 1], state.weights[edge.activity]
            out.append(mismatch(below, above, product(rule.feedback.factors(stored, above))))
    return tuple(out)


def direct_feedback_alignment(rule, state) -> tuple:
    """W_l W_l^T - C_l W_(l+1) - W_(l+1)^T C_l^T with C_l = B_l B_(l+1)^+ for fixed B_l that carry the output error.

    B_L = I.  Conserved by direct feedback alignment for any loss, data and start where the rows of B_l are in the span
    of those of B_(l+1): for generic feedback, where no layer above cut 1 is narrower than the output (derived here).

    Raises:
        ValueError: for feedback that does not carry the output error, and rows that are not in that span.
    """
    depth = len(state.weights)
    if any(edge.source != depth for edge in rule.route.edges(depth)):
        raise ValueError(f"not every edge carries the output error: {rule.route}")
    stored = [product(rule.feedback.factors(matrices, None)) for matrices in state.feedback]
    bridges = [B @ np.linalg.pinv(above) for B, above in itertools.pairwise(stored)] + stored[-1:]
    for cut, (C, (B, above)) in enumerate(zip(bridges, itertools.pairwise(stored), strict=False), 1):
        outside = np.abs(C @ above - B).max()
        if outside > 1e-9 * np.abs(B).max():
            raise ValueError(f"the rows of B_{cut} are not in the span of those of B_{cut + 1}: off by {outside:.2g}")
    return tuple(map(mismatch, state.weights, state.weights[1:], bridges))


def mismatch(below, above, bridge):
    """W_l W_l^T - C W_(l+1) - W_(l+1)^T C^T, where C takes what moves W_(l+1) to what moves W_l.

    Args:
        below: W_l (..., k, n).
        above: W_(l+1) (..., m, k).
        bridge: C (..., k, m).
    """
    mixed = bridge @ above
    return below @ T(below) - mixed - T(mixed)


def kolen_pollack(rule, state) -> tuple:
    """B_l - W_(l+1)^T, or Q_l - W_(l+1)^T P_l^T with two factors and P fixed.

    Decays exactly as exp(-lambda t) (Kolen & Pollack 1994; Akrout et al. 2019; known), and in discrete time as
    (1 - eta lambda)^t.  The two-factor form is derived here.
    """
    out = []
    for edge, stored in zip(rule.route.edges(len(state.weights)), state.feedback, strict=True):
        seen = product((*stored[1:], state.weights[edge.activity]))
        out.append(stored[0] - T(seen))
    return tuple(out)


def activity_balance(rule, state) -> tuple:
    """W_l W_l^T - Q_l Q_l^T, Q_l the stored factor nearest the activity, when Q_l receives -E[h_l z^T].

    Conserved for any motion of the other factors, any loss and data; decays as exp(-2 lambda t) (derived here).
    """
    out = []
    for edge, stored in zip(rule.route.edges(len(state.weights)), state.feedback, strict=True):
        below = state.weights[edge.activity - 1]
        out.append(below @ T(below) - stored[0] @ T(stored[0]))
    return tuple(out)


def factor_balance(rule, state) -> tuple:
    """Q_l^T Q_l - P_l P_l^T, the balance of the two feedback factors.

    Conserved by the Hebbian and the normative plasticity for any motion of the weights; decays as exp(-2 lambda t)
    (derived here).
    """
    return tuple(T(Q) @ Q - P @ T(P) for Q, P in state.feedback)


def component_balance(rule, state) -> tuple:
    """|u_j|^2 - s_j^2 and |v_j|^2 - s_j^2 of the components s_j u_j v_j^T of a factored weight, as columns.

    Conserved for any motion of the errors, so by every rule, for any loss and data; with decay as exp(-2 lambda t)
    (derived here; a component is a chain of three weights, of which this is the balance).
    """
    out = []
    for U, s, V in state.weights:
        out += [diagonal(T(frame) @ frame) - hadamard(s, s) for frame in (U, V)]
    return tuple(out)


def frame_balance(rule, state) -> tuple:
    """V_(l+1) V_(l+1)^T - U_l U_l^T, the balance of neighbouring layers with weights U diag(s) V^T under backprop.

    Conserved by the gradient flow of any loss on any data (derived here; the balance of the outer factors).
    """
    return tuple(above.V @ T(above.V) - below.U @ T(below.U) for below, above in itertools.pairwise(state.weights))
