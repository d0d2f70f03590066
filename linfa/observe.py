"""What is read off a state: pure functions of (rule, state, task), for states with any leading axes."""

import dataclasses

import numpy as np

from linfa.algebra import T, product
from linfa.dynamics import forward, signals, velocity
from linfa.rules.activity import Plain
from linfa.tree import leaves


def total_map(state) -> np.ndarray:
    """The product of the weights W_L .. W_1 (..., n_out, n_in), which is the map of a plain network."""
    return product(tuple(reversed(state.matrices)))


def layer_maps(rule, state, task) -> tuple:
    """The maps from h_(l-1) to h_l, (..., n_l, n_(l-1)): W_l, or K_l W_l where K_l normalises the activity."""
    if type(rule.activity) is Plain:
        return state.matrices
    matrices, _, kept = forward(rule, state, rule.activity.prepared(task.batch))
    return (*(rule.activity.matrix(matrices[cut - 1], kept[cut]) for cut in sorted(kept)), matrices[-1])


def network_map(rule, state, task) -> np.ndarray:
    """The network's map W_L K_(L-1) W_(L-1) .. K_1 W_1 (..., n_out, n_in), from x or, normalised, from x - E[x]."""
    return product(tuple(reversed(layer_maps(rule, state, task))))


def loss(rule, state, task) -> np.ndarray:
    """1/2 E|y - y_hat|^2 (...), label noise included."""
    return batch_loss(rule, state, task.batch)


def batch_loss(rule, state, batch):
    """The same over the columns of a batch, numpy or torch as the state."""
    if type(rule.activity) is Plain:
        return 0.5 * ((total_map(state) @ batch.X - batch.Y) ** 2).sum((-1, -2))
    return 0.5 * (signals(rule, state, batch).errors[len(state.weights)] ** 2).sum((-1, -2))


def mode_strengths(rule, state, task) -> np.ndarray:
    """u_i^T W v_i along the singular vectors of the least-squares map (..., min(n_out, n_in))."""
    U, _, Vt = np.linalg.svd(task.optimum, full_matrices=False)
    return np.einsum("...oi,...on,...in->...i", U, network_map(rule, state, task), Vt)


def singular_values(rule, state, task) -> np.ndarray:
    """Singular values of the network's map, descending (..., min(n_out, n_in))."""
    return np.linalg.svd(network_map(rule, state, task), compute_uv=False)


def cosine(a, b) -> np.ndarray:
    """Cosine of the angle between two matrices (...); 0 where one of them vanishes."""
    size = np.sqrt((a * a).sum((-1, -2)) * (b * b).sum((-1, -2)))
    return np.divide((a * b).sum((-1, -2)), size, out=np.zeros_like(size), where=size > 0)


def feedback_alignment(rule, state, task) -> np.ndarray:
    """Cosine between each edge's feedback B and the transpose of the forward map it spans (..., edges)."""
    out, matrices, maps = [], state.matrices, layer_maps(rule, state, task)
    for edge, stored in zip(rule.route.edges(len(matrices)), state.feedback, strict=True):
        *below, top = range(edge.activity, edge.source)
        above = matrices[top]
        B = product(rule.feedback.factors(stored, above if edge.single_layer else None))
        out.append(cosine(B, T(product((above, *(maps[layer] for layer in reversed(below)))))))
    return np.stack(out, -1) if out else np.zeros((*matrices[0].shape[:-2], 0))


def update_alignment(rule, state, task) -> np.ndarray:
    """Cosine between each weight's gradient under the rule and under backprop (..., L); decay left out."""
    from linfa.rules import bp

    exact = dataclasses.replace(bp(), activity=rule.activity)
    mine, exact = gradients(rule, state, task), gradients(exact, type(state)(state.matrices, _none(state)), task)
    return np.stack([cosine(a, b) for a, b in zip(mine, exact, strict=True)], -1)


def _none(state):
    return ((),) * (len(state.weights) - 1)


def gradients(rule, state, task) -> tuple:
    """The rule's G_l = E[delta_l h_(l-1)^T] of each layer, with what its route adds, (..., n_l, n_(l-1))."""
    return signals(rule, state, task.batch).gradients()


def errors(rule, state, task) -> tuple:
    """The delivered error of each layer as a matrix whose columns span the population, (..., n_l, N)."""
    seen = signals(rule, state, task.batch)
    return tuple(seen.errors[cut] for cut in range(1, len(state.weights) + 1))


def effective_rank(singular: np.ndarray) -> np.ndarray:
    """exp(H(s / sum s)), Roy & Vetterli 2007 (...); 0 for a matrix of zeros.

    >>> float(effective_rank(np.array([1.0, 1.0, 0.0])).round(12))
    2.0
    """
    total = singular.sum(-1, keepdims=True)
    p = np.divide(singular, total, out=np.zeros_like(singular), where=total > 0)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return np.where(total[..., 0] > 0, np.exp(-(p * logs).sum(-1)), 0.0)


def participation_ratio(singular: np.ndarray) -> np.ndarray:
    """(sum s^2)^2 / sum s^4, the participation ratio of the variances (...); 0 for a matrix of zeros."""
    squares = singular**2
    return _ratio(squares.sum(-1) ** 2, (squares**2).sum(-1))


def stable_rank(singular: np.ndarray) -> np.ndarray:
    """sum s^2 / max s^2 (...); 0 for a matrix of zeros."""
    squares = singular**2
    return _ratio(squares.sum(-1), squares.max(-1))


def _ratio(a, b):
    return np.divide(a, b, out=np.zeros_like(b), where=b > 0)


def conserved(rule, state, task) -> dict[str, tuple]:
    """The values of the rule's claimed conserved quantities, by name."""
    return {claim.quantity.__name__: claim.quantity(rule, state) for claim in rule.conserved()}


def speed(rule, state, task) -> np.ndarray:
    """Norm of the velocity of the whole state (...): zero at a fixed point."""
    parts = leaves(velocity(rule, state, task.batch))
    return np.sqrt(sum((part**2).sum((-1, -2)) for part in parts))
