"""The vector field of a learning rule: one function that numpy, torch and sympy run.

A forward pass through y = W_L .. W_1 x, with hidden activities normalised where the rule says so, its teaching signals,
and from them the velocity of every weight and every feedback matrix.  All matrices may carry leading batch axes.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from linfa.algebra import T, product
from linfa.rules.edge import Moments
from linfa.rules.route import Carrier
from linfa.streams import stream
from linfa.task import Batch
from linfa.tree import tree_map


class State(NamedTuple):
    """Everything that moves, or its velocity.

    Args:
        weights: W_1 .. W_L, W_l of shape (..., n_l, n_(l-1)), or what the parameterisation stores in their place.
        feedback: for each edge, by increasing cut, the tuple of matrices that it stores.
    """

    weights: tuple
    feedback: tuple = ()

    @property
    def matrices(self) -> tuple:
        """W_1 .. W_L themselves, whatever is stored."""
        return tuple(W.matrix if isinstance(W, tuple) else W for W in self.weights)


class Signals(NamedTuple):
    """What a forward and a backward pass produce.

    Args:
        activities: h_0 .. h_L, (..., n_l, N).
        errors: by cut l = 1 .. L, the teaching signal delta_l (..., n_l, N) of W_l h_(l-1); on cut L it is dLoss/dy.
        carried: by the cut of each edge, the signal that went into it (..., n_e, N).
        weight_terms: by layer, what the route adds to the gradient of its weight (..., n_l, n_(l-1)).
        head_terms: by the cut of each edge, what it adds to E[carried activity^T] (..., n_e, n_h).
    """

    activities: tuple
    errors: dict[int, Any]
    carried: dict[int, Any]
    weight_terms: dict[int, Any]
    head_terms: dict[int, Any]

    def gradients(self) -> tuple:
        """G_l = E[delta_l h_(l-1)^T] of each layer, and what the route adds to it, (..., n_l, n_(l-1))."""
        return tuple(
            _plus(error @ T(self.activities[cut - 1]), self.weight_terms.get(cut))
            for cut, error in sorted(self.errors.items())
        )


def _plus(matrix, term):
    return matrix if term is None else matrix + term


def start(rule, network, seed: int = 0) -> State:
    """The state at the start: what stands for the network's weights, and feedback drawn for each edge from its stream.

    The spread of random feedback is 1/sqrt(n_h), that of a forward weight of unit gain with n_h inputs.

    Args:
        rule: a `Rule`.
        network: a `Network`; its leading axes are kept, each member of an ensemble with feedback of its own.
        seed: of the feedback.  An array of seeds, one for each member, gives each what it gives alone.

    Raises:
        ValueError: if the rule does not fit, such as a rank above every width.
    """
    edges, widths = rule.route.edges(network.depth), network.widths
    rule.feedback.check([(widths[edge.activity], widths[edge.source]) for edge in edges])
    weights = stored_weights(rule, network)
    arrays = [to_numpy(w) for w in State(weights).matrices]
    feedback = []
    for edge in edges:
        forward = product(tuple(reversed(arrays[edge.activity : edge.source])))
        stored = rule.feedback.start(stream(seed, edge.activity), forward, forward.shape[-1] ** -0.5)
        feedback.append(tuple(like(network.weights[0], matrix) for matrix in stored))
    return State(weights, tuple(feedback))


def stored_weights(rule, network) -> tuple:
    """What the rule stores for the weights of a network.

    Raises:
        ValueError: if its parameterisation fits no layer.
    """
    rule.parameterisation.check([w.shape[-2:] for w in network.weights])
    return tuple(map(rule.parameterisation.start, network.weights))


def to_numpy(array) -> np.ndarray:
    """A numpy array, or a torch tensor on any device, as a numpy array."""
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()


def like(other, array):
    """A numpy array in the library, dtype and device of another array."""
    return array if isinstance(other, np.ndarray) else other.new_tensor(array)


def redraw(rule, state: State, rng: np.random.Generator) -> State:
    """The same state with the feedback of a rule that draws it anew at every step."""
    feedback = []
    for edge, stored in zip(rule.route.edges(len(state.weights)), state.feedback, strict=True):
        forward = to_numpy(state.matrices[edge.activity])
        drawn = rule.feedback.start(rng, forward, forward.shape[-1] ** -0.5)
        feedback.append(tuple(like(old, new) for old, new in zip(stored, drawn, strict=True)))
    return State(state.weights, tuple(feedback))


def forward(rule, state: State, batch: Batch) -> tuple[tuple, list, dict[int, Any]]:
    """The weights W_1 .. W_L, the activities h_0 .. h_L, and by hidden cut what is kept of the normalisation there."""
    matrices = state.matrices
    activities, kept = [batch.X], {}
    for cut, W in enumerate(matrices, 1):
        h = W @ activities[-1]
        if cut < len(matrices):
            h, kept[cut] = rule.activity.forward(h, batch.one)
        activities.append(h)
    return matrices, activities, kept


def signals(rule, state: State, batch: Batch) -> Signals:
    """Activities and teaching signals of the quadratic loss 1/2 E|y_hat - y|^2 of the network's output y_hat."""
    batch = rule.activity.prepared(batch)
    matrices, activities, kept = forward(rule, state, batch)
    through = {cut: functools.partial(rule.activity.backward, kept=seen) for cut, seen in kept.items()}
    carriers = [_carrier(rule.feedback, edge, stored, matrices, through) for edge, stored in _pairs(rule, state)]
    errors, carried = rule.route.teach(carriers, matrices, activities, batch.Y, through)
    terms = rule.route.penalty(carriers, matrices, activities, errors, carried)
    return Signals(tuple(activities), errors, carried, *terms)


def _carrier(feedback, edge, stored, matrices, through):
    W = matrices[edge.activity] if edge.single_layer else None
    down = through.get(edge.activity, lambda signal: signal)  # the input is not normalised

    def back(signal):
        for factor in feedback.factors(stored, W):
            signal = T(factor) @ signal
        return signal

    return Carrier(edge, lambda signal: down(feedback.carry(stored, W, signal)), back)


def _pairs(rule, state):
    return zip(_edges(rule.route, len(state.weights)), state.feedback, strict=True)


@functools.cache
def _edges(route, depth):
    return route.edges(depth)


def velocity(rule, state: State, batch: Batch, rng: np.random.Generator | None = None) -> State:
    """The velocity of the state: d/dt W_l = -direction(E[delta_l h_(l-1)^T]) - decay W_l, and the plasticity's own.

    Where something else is stored than W_l, it descends the gradient by the chain rule, and penalties of its own.

    Args:
        rule, state, batch: what moves, and on which data.
        rng: source of the random directions of a plasticity that samples them; None for their expectation.

    >>> import linfa
    >>> task, network = linfa.Task.from_spectrum([2.0, 1.0]), linfa.Network.zero((2, 3, 2))
    >>> rule = linfa.fa()
    >>> v = velocity(rule, start(rule, network, seed=1), task.batch)
    >>> [w.shape for w in v.weights], float(abs(v.weights[1]).max())
    ([(3, 2), (2, 3)], 0.0)
    """
    down, feedback = moves(rule, state, batch, rng)
    feedback = tree_map(lambda B, dB: 0 * B if dB is None else dB, state.feedback, feedback)
    return State(tree_map(lambda D: -D, down), feedback)


def moves(rule, state: State, batch: Batch, rng: np.random.Generator | None = None) -> State:
    """What moves a state, without work that a step can do without.

    Args:
        rule, state, batch, rng: as for `velocity`.

    Returns:
        Of the weights the directions that they descend, minus their velocity; of the feedback the velocity, None for a
        matrix that stays as it is.
    """
    batch = rule.activity.prepared(batch)
    seen, decay, part = signals(rule, state, batch), rule.decay, rule.parameterisation
    frames = {edge.activity: stored[0] for edge, stored in _pairs(rule, state) if stored}
    pulled = tuple(
        part.objective(W, part.pull(W, G), frames.get(cut))
        for cut, (W, G) in enumerate(zip(state.weights, seen.gradients(), strict=True), 1)
    )
    directions = rule.geometry.directions(pulled)
    if decay:
        directions = tree_map(lambda D, W: D + decay * W, directions, state.weights)
    weights = tuple(map(part.tangent, state.weights, directions))
    maps = _forward_maps(rule, state, rng) if "J" in rule.plasticity.reads else {}
    feedback = []
    for edge, stored in _pairs(rule, state):
        moments = _moments(rule.plasticity.reads, seen, edge.activity, maps, batch)
        learned = rule.plasticity.velocity(stored, moments)
        feedback.append(
            tuple(dB if dB is None or not decay else dB - decay * B for B, dB in zip(stored, learned, strict=True))
        )
    return State(weights, tuple(feedback))


def _forward_maps(rule, state, rng) -> dict:
    """By the cut of each edge its forward map, or the estimate (1/N) sum d v^T from N random directions v at every cut.

    d is what arrives at the edge's upper end from all edges that end there.
    """
    matrices = state.matrices
    edges = rule.route.edges(len(matrices))
    exact = {edge.activity: product(tuple(reversed(matrices[edge.activity : edge.source]))) for edge in edges}
    number = rule.plasticity.directions
    if rng is None or number is None:
        return exact
    v = {cut: like(J, rng.standard_normal((*J.shape[:-2], J.shape[-1], number))) for cut, J in exact.items()}
    arrived: dict = {}
    for edge in edges:
        arrived[edge.source] = arrived.get(edge.source, 0) + exact[edge.activity] @ v[edge.activity]
    return {edge.activity: arrived[edge.source] @ T(v[edge.activity]) / number for edge in edges}


def _moments(reads, seen, cut, maps, batch):
    G, C, carried = None, None, seen.carried[cut]
    if "G" in reads:
        G = _plus(carried @ T(seen.activities[cut]), seen.head_terms.get(cut))
    if "C" in reads:
        C = carried @ T(carried)
        if batch.one is not None:
            mean = carried @ batch.one
            C = C - mean @ T(mean)
    return Moments(G, C, maps.get(cut))
