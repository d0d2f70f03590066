"""Normalised activities: what no teaching signal can move, since the network does not feel it."""

import itertools

import numpy as np

from linfa import observe
from linfa.dynamics import State, signals, start, velocity
from linfa.network import Network
from linfa.rules import bp, dfa, fa, ldfa, normalised
from linfa.simulate import advance, descend, simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.result import Result

__all__ = ["normalised_step", "symmetric_part"]


def normalised_step(squares, gradients, lr: float):
    """|w - lr g|^2 = |w|^2 + lr^2 |g|^2 of weights w whose gradient g is orthogonal to them.

    So it is for each row of a hidden W_l whose units are standardised, and for all of W_l where they are whitened: the
    network does not change when such w grow, dLoss/dlog|w| = <w, g> = 0.  Under any teaching signal, since the exact
    derivative of the normalisation makes E[delta a] = 0 unit by unit, or summed over units.  Norms are conserved by the
    flow and never fall in descent, and steps turn w by lr |g| / |w|, ever less.

    Args:
        squares: |w|^2, (...).
        gradients: |g|, (...).
        lr: learning rate.

    Raises:
        ValueError: for a negative square or learning rate.

    Source: van Laarhoven (2017) for backprop with batch normalisation, known result re-derived; other rules and
    whitening derived here.

    >>> float(normalised_step(4.0, 3.0, lr=0.1))
    4.09
    """
    if np.min(squares) < 0 or lr < 0:
        raise ValueError(f"squares and lr are at least 0; got {np.min(squares):.3g} and {lr:.3g}")
    return squares + lr**2 * np.square(gradients)


def symmetric_part(error, activity) -> np.ndarray:
    """E[delta h^T] + E[h delta^T], (n, n), which whitening makes zero where delta has been taken back through it.

    Taken back to a, the input of the whitening, an error has no part along any symmetric change of the whitened h =
    C^(-1/2) a: E[delta^T S h] = 0 for each S = S^T.  For h' = C'^(-1/2) a' at a' = a + eps S h is h, so that the loss
    does not change.  For C without zero eigenvalues; else between directions that vary.  Standardised units have the
    diagonal of it: E[delta_i h_i] = 0.

    Args:
        error: delta (n, N), columns whose sums are expectations.
        activity: h (n, N).

    Raises:
        ValueError: for different shapes.

    Source: derived here.

    >>> symmetric_part(np.array([[0.0, 1.0], [-1.0, 0.0]]), np.eye(2)).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    if np.shape(error) != np.shape(activity):
        raise ValueError(f"error and activity have one shape; got {np.shape(error)} and {np.shape(activity)}")
    moment = error @ activity.T
    return moment + moment.T


RULES = bp(), fa(), dfa(), ldfa(2)


def _problem(rule, seed, white=False):
    """Task and state of a network whose hidden layers are no wider than what reaches them."""
    rng = examples.generator(seed)
    depth = int(rng.integers(2, 5))
    task = Task.teacher(
        examples.matrix(rng, 3, 5, 0.5, 2.0), None if white else examples.moment(rng, 5, 0.5, 2.0), noise=0.2
    )
    sizes = (5, *sorted(rng.integers(3, 6, depth - 1).tolist(), reverse=True), 3)
    network = Network(tuple(examples.matrix(rng, b, a, 0.6, 1.5) for a, b in itertools.pairwise(sizes)))
    return task, start(rule, network, seed), network


def _scale(seed):
    """Loss under a change of scale of rows and of matrices; the gradient along them; and a step of descent."""
    rng, worst = examples.generator(seed), 0.0
    for kind, axes in (("standardised", -1), ("whitened", (-2, -1))):
        for rule in (normalised(rule, kind) for rule in RULES):
            task, state, _ = _problem(rule, seed)
            *hidden, top = state.weights
            if kind == "standardised":
                scaled = [rng.uniform(0.3, 3, (len(W), 1)) * W for W in hidden]
            else:
                scaled = [rng.uniform(0.3, 3) * W for W in hidden]
            once, again = (observe.loss(rule, State((*some, top), state.feedback), task) for some in (hidden, scaled))
            worst = max(worst, abs(again / once - 1))
            v = velocity(rule, state, task.batch)
            moved = advance(state, v, 0.3)
            for W, G, new in zip(hidden, v.weights, moved.weights, strict=False):
                size = np.linalg.norm(W) * np.linalg.norm(G)
                worst = max(worst, float(np.abs((W * G).sum(axes)).max()) / max(size, 1.0))
                closed = normalised_step((W**2).sum(axes), np.sqrt((G**2).sum(axes)), 0.3)
                worst = max(worst, relative_error(closed, (new**2).sum(axes)))
    return worst


def _rows(seed):
    """The flow's norms of rows, and those of descent, which never fall."""
    worst = 0.0
    for rule in map(normalised, (bp(), fa())):
        task, state, network = _problem(rule, seed)
        run = simulate(rule, task, network, [0.0, 0.2], feedback=state.feedback, rtol=1e-10, atol=1e-12)
        steps = descend(rule, task, network, 0.02, 20, feedback=state.feedback)
        for flow, discrete in zip(run.weights[:-1], steps.weights[:-1], strict=True):
            squares = (flow**2).sum(-1)
            worst = max(worst, relative_error(squares[:1], squares[1:]))
            worst = max(worst, -float(np.diff((discrete**2).sum(-1), axis=0).min(initial=0)))
    return worst


def _antisymmetric(seed):
    """The symmetric part after whitening, the diagonal after standardising, for every rule."""
    worst = 0.0
    for rule in RULES:
        for kind in ("standardised", "whitened"):
            task, state, _ = _problem(normalised(rule, kind), seed)
            seen = signals(normalised(rule, kind), state, task.batch)
            for cut in range(1, len(state.weights)):
                h, error = seen.activities[cut], seen.errors[cut]
                left = symmetric_part(error, h)
                left = np.diagonal(left) if kind == "standardised" else left
                worst = max(worst, float(np.abs(left).max()) / max(1.0, np.linalg.norm(error)))
                if kind == "whitened":
                    worst = max(worst, float(np.abs(h @ h.T - np.eye(len(h))).max()))
    return worst


def _spectra(seed):
    """Singular values of every hidden weight along the flow, whitened, from white inputs."""
    worst = 0.0
    for rule in (normalised(rule, "whitened") for rule in (bp(), fa())):
        task, state, network = _problem(rule, seed, white=True)
        run = simulate(rule, task, network, [0.0, 0.2], feedback=state.feedback, rtol=1e-10, atol=1e-12)
        for W in run.weights[:-1]:
            s = np.linalg.svd(W, compute_uv=False)
            worst = max(worst, relative_error(s[:1], s[1:]))
    return worst


RESULTS = (
    Result("M5", "standardised units: the loss knows no scale of rows, a row's gradient under any rule is orthogonal "
           "to it; whitened: the same of the whole weight; a step adds lr^2 |g|^2 to the square",
           "van Laarhoven (2017) for BP and batch norm, known; other rules and whitening derived here", 1e-10, _scale),
    Result("M5b", "the flow of BP and FA keeps the norms of rows of standardised units, and descent never lowers them",
           "van Laarhoven (2017) for BP, known; FA derived here", 1e-8, _rows),
    Result("M6", "whitened units have covariance I, and an error taken back has E[delta h^T] antisymmetric; "
           "standardised ones have its diagonal zero", "derived here", 1e-11, _antisymmetric),
    Result("M6b", "with white inputs the flow of BP and FA keeps all singular values of weights to whitened layers",
           "derived here", 1e-8, _spectra),
)  # fmt: skip
