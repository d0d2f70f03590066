"""The velocity of a factored weight: its gradients, its alignment with backprop, its rates, what it conserves."""

import numpy as np

from linfa import observe
from linfa.dynamics import State, signals, velocity
from linfa.network import Network
from linfa.rules import (
    SVD,
    Conserved,
    Direct,
    Factored,
    Orthogonality,
    Rule,
    SVDStructured,
    bp,
    fa,
    factored,
    kolen_pollack,
    ldfa,
    svd_local,
)
from linfa.simulate import descend, simulate
from linfa.task import Batch, Task
from linfa.theory import examples, invariants
from linfa.theory.base import relative_error
from linfa.theory.result import Result
from linfa.tree import leaves, tree_map

__all__ = ["factored_alignment", "factored_rates", "factored_speed"]


def factored_speed(W, v) -> np.ndarray:
    """dW/dt = dU S V^T + U dS V^T + U S dV^T of W = U S V^T, S = diag(s).

    Args:
        W: an `SVD` of U (..., m, r), s (..., r, 1) and V (..., n, r).
        v: its velocity, an `SVD`.

    Source: the product rule.

    >>> one = SVD(np.ones((1, 1)), np.full((1, 1), 2.0), np.ones((1, 1)))
    >>> float(factored_speed(one, one)[0, 0])
    6.0
    """
    return SVD(v.U, W.s, W.V).matrix + SVD(W.U, v.s, W.V).matrix + SVD(W.U, W.s, v.V).matrix


def factored_alignment(W, exact, delivered, h) -> float:
    """<g h^T, -dW/dt> for one sample: how fast the factors of a layer lower the loss.

    With the error g of backprop, the delivered error d and S = diag(s), for d = g the squared norm of the gradient,

        <g, d> |S V^T h|^2 + sum_j (U^T g)_j (U^T d)_j (V^T h)_j^2 + <S U^T g, S U^T d> |h|^2

    Full weights have <g, d> |h|^2.  U and V need not be orthonormal.

    Args:
        W: an `SVD` of U (m, r), s (r, 1) and V (n, r).
        exact: g (m,); delivered: d (m,); h: activity below (n,).

    Source: derived here.

    >>> one = SVD(np.ones((1, 1)), np.full((1, 1), 2.0), np.ones((1, 1)))
    >>> float(factored_alignment(one, np.array([3.0]), np.array([1.0]), np.array([1.0])))  # 3 (4 + 1 + 4)
    27.0
    """
    s = W.s[:, 0]
    seen, up, down = W.V.T @ h, W.U.T @ exact, W.U.T @ delivered
    return exact @ delivered * ((s * seen) ** 2).sum() + (up * down * seen**2).sum() + (s * up) @ (s * down) * h @ h


def factored_rates(s, m: int, n: int) -> np.ndarray:
    """Rates at which entries of a gradient move W = U diag(s) V^T, for U and V with orthonormal columns.

    In frames that begin with U and V an entry g_ij of the gradient gives W'_ij = -k_ij g_ij: k_ij = s_i^2 + s_j^2 for
    two components, and one more for i = j; s_j^2 where i, and s_i^2 where j is outside; 0 where both are.  Full weights
    have 1: factors are slow where they are small, and what both frames miss waits for U or V to turn.

    Args:
        s: values (r,).
        m, n: outputs and inputs of the layer.

    Raises:
        ValueError: for more values than inputs or outputs.

    Source: derived here.

    >>> factored_rates(np.array([2.0]), 2, 2).tolist()
    [[9.0, 4.0], [4.0, 0.0]]
    """
    s = np.asarray(s, float)
    if s.ndim != 1 or len(s) > min(m, n):
        raise ValueError(f"s is (r,) with r at most {min(m, n)}; got shape {s.shape}")
    left, right = np.zeros(m), np.zeros(n)
    left[: len(s)] = right[: len(s)] = s**2
    rates = left[:, None] + right
    rates[np.arange(len(s)), np.arange(len(s))] += 1
    return rates


def _noisy(rng, state):
    return tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), state)


def _start(rng, rule, depth, seed):
    from linfa.dynamics import start

    widths = tuple(int(k) for k in rng.integers(rule.rank, rule.rank + 4, depth + 1))
    return widths, _noisy(rng, start(rule, Network.small(widths, 0.8, seed), seed))


def _gradients(seed):
    """Slopes of loss and penalties along random directions by a complex step, against the velocity under backprop."""
    rng, worst = examples.generator(seed), 0.0
    for depth in (1, 2, 3):
        rank = int(rng.integers(1, 4))
        rule = Rule(bp().route, bp().feedback, parameterisation=Factored(rank, (Orthogonality(0.7),)))
        widths, state = _start(rng, rule, depth, seed)
        task = Task.teacher(rng.standard_normal((widths[-1], widths[0])), noise=0.3)
        v = velocity(rule, state, task.batch)
        direction = tree_map(lambda x: rng.standard_normal(x.shape), state)
        moved = tree_map(lambda x, d: x + 1e-30j * d, state, direction)
        (penalty,) = rule.parameterisation.penalties
        objective = observe.loss(rule, moved, task) + sum(map(penalty.value, moved.weights))
        slope = -sum((a * b).sum() for a, b in zip(leaves(v), leaves(direction), strict=True))
        worst = max(worst, relative_error(np.array(objective.imag / 1e-30), np.array(slope)))
    return worst


def _lemma(seed):
    """Both sides of the lemma for every layer of a network and one sample, under broadcast feedback."""
    rng, worst = examples.generator(seed), 0.0
    rule = Rule(Direct(), SVDStructured(2), parameterisation=Factored(2))
    widths, state = _start(rng, rule, 3, seed)
    batch = Batch(*(rng.standard_normal((k, 1)) for k in (widths[0], widths[-1])))
    seen = signals(rule, state, batch)
    exact = signals(bp(), State(state.matrices, ((),) * 2), batch).errors
    for cut, (W, v) in enumerate(zip(state.weights, velocity(rule, state, batch).weights, strict=True), 1):
        g, d, h = exact[cut][:, 0], seen.errors[cut][:, 0], seen.activities[cut - 1][:, 0]
        measured = (np.outer(g, h) * factored_speed(W, v)).sum()
        worst = max(worst, relative_error(np.array(-factored_alignment(W, g, d, h)), np.array(measured)))
    return worst


def _rates(seed):
    """The velocity of a map under a random gradient, in frames that begin with its own."""
    rng, worst = examples.generator(seed), 0.0
    for rank in (1, 2, 3):
        m, n = (int(k) for k in rng.integers(rank, rank + 4, 2))
        U, V = examples.frame(rng, m, m), examples.frame(rng, n, n)
        W = SVD(U[:, :rank], rng.uniform(0.3, 2, (rank, 1)), V[:, :rank])
        task = Task.teacher(rng.standard_normal((m, n)))
        rule, state = factored(bp(), rank), State((W,))
        g = U.T @ observe.gradients(rule, state, task)[0] @ V
        speed = U.T @ factored_speed(W, velocity(rule, state, task.batch).weights[0]) @ V
        worst = max(worst, relative_error(-factored_rates(W.s[:, 0], m, n) * g, speed))
    return worst


def _kept(quantity, *rules):
    claim = Conserved(quantity, 2)

    def measure(seed):
        from linfa.verify import problem

        worst = 0.0
        for rule in rules:
            task, network = problem(rule, 2, seed)
            run = simulate(rule, task, network, np.linspace(0, 0.15, 11), seed, rtol=1e-11, atol=1e-13)
            left = np.exp(-claim.rate * rule.decay * run.times)[:, None, None]
            for values in quantity(rule, run.states):
                worst = max(worst, float(np.abs(values - left * values[0]).max() / max(1, np.abs(values).max())))
        return worst

    return measure


def _orthonormal(seed):
    """How far U^T U and V^T V are from I after descent with a retraction, and along its flow."""
    rng, worst = examples.generator(seed), 0.0
    task = Task.teacher(examples.matrix(rng, 3, 4, 0.5, 1.5))
    network = Network.small((4, 5, 3), 0.7, seed)
    for retraction in ("polar", "qr"):
        rule = svd_local(3, alignment=0.0, orthogonality=0.0, retraction=retraction)
        runs = descend(rule, task, network, 0.05, 40, seed=seed), simulate(rule, task, network, 2.0, seed, rtol=1e-11)
        for run, scale in zip(runs, (1.0, 1e-3), strict=True):  # 1e-11 of descent, 1e-8 of the flow
            frames = [F for W in run.weights for F in (W.U, W.V)]
            gaps = (np.abs(np.swapaxes(F, -1, -2) @ F - np.eye(F.shape[-1])).max() for F in frames)
            worst = max(worst, scale * max(gaps))
    return worst


RESULTS = (
    Result("S1", "velocities of U, s and V under backprop are the exact gradient of the loss with its penalties",
           "chain rule, known; derived here (`derivations.svd_components`)", 1e-11, _gradients),
    Result("S2", "<g h^T, -dW/dt> = <g, d> |S V^T h|^2 + sum_j (U^T g)_j (U^T d)_j (V^T h)_j^2 + <S U^T g, S U^T d> "
           "|h|^2 for one sample with error g and delivered error d", "derived here", 1e-11, _lemma),
    Result("S3", "in the frames of an orthonormal U diag(s) V^T gradients move the map at rates s_i^2 + s_j^2, one "
           "more on the diagonal, and not at all outside both frames", "derived here", 1e-11, _rates),
    Result("S4", "|u_j|^2 - s_j^2 and |v_j|^2 - s_j^2 are conserved by factored weights under any rule", "derived here",
           1e-8, _kept(invariants.component_balance, factored(fa(), 2), factored(ldfa(2, "oja"), 2),
                       factored(kolen_pollack(), 2), factored(bp(), 2))),
    Result("S5", "backprop of factored weights conserves V_(l+1) V_(l+1)^T - U_l U_l^T", "derived here", 1e-8,
           _kept(invariants.frame_balance, factored(bp(), 2), factored(bp(decay=0.1), 3))),
    Result("S9", "with a retraction U and V stay orthonormal, in descent and along the flow of tangent velocities",
           "retractions are known; derived here for these rules", 1e-11, _orthonormal),
)  # fmt: skip
