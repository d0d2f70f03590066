"""Where feedback alignment ends with weight decay: aligned from every start, and without a threshold for learning."""

from typing import NamedTuple

import numpy as np

from linfa.algebra import T
from linfa.network import Network
from linfa.rules import Dense, Layerwise, RandomFactors, Rule, bp
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples, invariants
from linfa.theory.alignment.problem import FixedFeedbackProblem, gauss
from linfa.theory.base import relative_error
from linfa.theory.clock import cubic_root
from linfa.theory.result import Result

__all__ = ["DecayEnd", "bp_decay_end", "fa_decay_end", "fa_decay_residual"]


def _positive(decay):
    if not decay > 0:
        raise ValueError(f"decay is a positive rate; got {decay}")


def fa_decay_residual(s, decay, h=1.0) -> np.ndarray:
    """The e with h e^3 + lambda^3 e = lambda^3 s, what weight decay leaves of a mode under feedback alignment.

    All of a mode with s > 0 is learned in part, e < s: there is no threshold, where backprop has one at s = lambda
    (`bp_decay_end`).  Small decay leaves e = lambda (s/h)^(1/3) (1 + O(lambda)).

    Args:
        s: singular values of B Sigma with h = 1, and then e is one of B E; or of Sigma with feedback aligned to it, of
            strength h, the eigenvalue of B^T B, and then e is one of E.
        decay: lambda > 0.
        h: positive.

    Raises:
        ValueError: for a decay or h that is not positive.

    Source: derived here (`derivations.fa_decay`).

    >>> float(fa_decay_residual(2.0, decay=1.0))
    1.0
    """
    _positive(decay)
    return cubic_root(s, 1.0, 2 * np.asarray(h, dtype=float) / decay**3)


class DecayEnd(NamedTuple):
    """The rest point of feedback alignment with decay lambda.

    Args:
        W1: B E / lambda (k, n_in).
        W2: E W_1^T / lambda (n_out, k), so that tr(B W_2) = |B E|^2 / lambda^2 > 0.
        E: Sigma - W_2 W_1 (n_out, n_in).
    """

    W1: np.ndarray
    W2: np.ndarray
    E: np.ndarray


def fa_decay_end(Sigma, B, decay: float) -> DecayEnd:
    """The one rest point of feedback alignment with decay lambda of both weights, on white inputs.

    X = B E solves X + X X^T X / lambda^3 = B Sigma, which has one solution: with B Sigma = U diag(s_i) V^T it is
    U diag(e_i) V^T, e_i^3 + lambda^3 e_i = lambda^3 s_i.  Then E = Sigma V diag(e_i/s_i) V^T + Sigma (I - V V^T): of
    mode i the part a^2 / (lambda + a^2), a = e_i / lambda, is learned.  That every start leads there is observed, not
    proved.

    Args:
        Sigma: task (n_out, n_in).
        B: feedback (k, n_out), of any rank.
        decay: lambda > 0.

    Raises:
        ValueError: for a decay that is not positive or feedback that does not fit.

    Source: derived here (`derivations.fa_decay`); that alignment needs regularisation is Song, Xu & Lafferty (2021),
    known.

    >>> end = fa_decay_end(np.diag([2.0, 0.0]), np.eye(2), decay=1.0)
    >>> (end.W2 @ end.W1).round(12).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    _positive(decay)
    if np.shape(B)[1] != np.shape(Sigma)[0]:
        raise ValueError(f"B takes {np.shape(B)[1]} errors and Sigma has {np.shape(Sigma)[0]} rows")
    U, s, Vt = np.linalg.svd(B @ Sigma, full_matrices=False)
    e, SV = fa_decay_residual(s, decay), Sigma @ Vt.T
    left = decay**3 / (decay**3 + e**2)  # e/s, also where s = 0
    W1, W2 = (U * e / decay) @ Vt, (SV * left * e / decay**2) @ U.T
    return DecayEnd(W1, W2, (SV * left) @ Vt + Sigma - SV @ Vt)


def bp_decay_end(Sigma, decay: float) -> np.ndarray:
    """U max(S - lambda, 0) V^T (n_out, n_in), the map of two-layer backprop with decay lambda, hidden layer not narrow.

    Args:
        Sigma: task U S V^T (n_out, n_in), of white inputs.
        decay: lambda > 0.

    Raises:
        ValueError: for a decay that is not positive.

    Source: decay of both factors is a nuclear norm of their product, known.

    >>> bp_decay_end(np.diag([3.0, 0.5]), decay=1.0).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    _positive(decay)
    U, s, Vt = np.linalg.svd(Sigma, full_matrices=False)
    return (U * np.maximum(s - decay, 0.0)) @ Vt


def _run(seed, times, white=True):
    """A problem, its decay, and its flow from a random start."""
    problem = FixedFeedbackProblem.draw(seed, scale=0.8, white=white)
    decay = float(problem.rng.uniform(0.5, 1.2))
    rule = Rule(Layerwise(), Dense(), decay=decay)
    run = simulate(rule, problem.task, problem.network, times, feedback=((problem.B,),), rtol=1e-11, atol=1e-13)
    return problem, decay, run


def _end(seed):
    problem, decay, run = _run(seed, [0.0, 100.0])
    W1, W2, E = fa_decay_end(problem.task.Syx, problem.B, decay)
    measured = run.weights[0][-1], run.weights[1][-1], problem.residuals(run)[-1]
    return relative_error((W1, W2, E), measured)


def _equation(seed):
    """E + E E^T H E / lambda^3 = Sigma and 2 W_1 W_1^T = B W_2 + W_2^T B^T in the end; C' on the way, any inputs."""
    problem, decay, run = _run(seed, [0.0, 100.0])
    E, B = problem.residuals(run)[-1], problem.B
    W1, W2 = (W[-1] for W in run.weights)
    mixed = B @ W2
    rest = relative_error(problem.task.Syx, E + E @ E.T @ B.T @ B @ E / decay**3)
    rest = max(rest, relative_error(2 * W1 @ W1.T, mixed + mixed.T))
    times, weights = gauss(1.5)
    problem, decay, run = _run(seed, times, white=False)
    (C,) = invariants.feedback_alignment(run.rule, run.states)
    moves = -decay * np.tensordot(weights, C + run.weights[0] @ T(run.weights[0]), 1)
    return max(rest, relative_error(moves, C[-1] - C[0]))


def _alignment(seed):
    problem, decay, run = _run(seed, [0.0, 100.0])
    W2, E = run.weights[1][-1], problem.residuals(run)[-1]
    product = np.trace(problem.B @ W2)
    return max(relative_error(np.square(problem.B @ E).sum() / decay**2, product), float(product <= 0))


def _aligned(seed):
    rng = examples.generator(seed)
    q, decay = int(rng.integers(1, 4)), float(rng.uniform(0.5, 1.2))
    n, k, m = (q + int(rng.integers(0, 3)) for _ in range(3))
    (s, h), U, Vt = rng.uniform(0.5, 2.0, (2, q)), examples.frame(rng, m, q), examples.frame(rng, q, n)
    factors = examples.frame(rng, k, q) * np.sqrt(h), U.T
    network = Network.small((n, k, m), 0.8, seed)
    run = simulate(Rule(Layerwise(), RandomFactors(q), decay=decay), Task.teacher((U * s) @ Vt), network, [0.0, 100.0],
                   feedback=(factors,), rtol=1e-11, atol=1e-13)  # fmt: skip
    return relative_error((U * (s - fa_decay_residual(s, decay, h))) @ Vt, run.map[-1])


def _threshold(seed):
    rng = examples.generator(seed)
    n, m = (int(i) for i in rng.integers(1, 5, 2))
    q, decay = min(n, m), 0.8
    s = decay + rng.choice([-1, 1], q) * rng.uniform(0.25, 0.8, q)
    task = Task.teacher((examples.frame(rng, m, q) * s) @ examples.frame(rng, q, n))
    network = Network.small((n, q + int(rng.integers(0, 3)), m), 0.8, seed)
    run = simulate(bp(decay), task, network, [0.0, 120.0], rtol=1e-11, atol=1e-13)
    return float(np.abs(bp_decay_end(task.Syx, decay) - run.map[-1]).max())


RESULTS = (
    Result("X6", "FA with decay lambda ends at W_1 = B E/lambda, W_2 = E W_1^T/lambda, B E = U diag(e) V^T, e^3 + "
           "lambda^3 e = lambda^3 s for B Sigma = U diag(s) V^T", "derived here", 1e-8, _end),
    Result("E1", "there E + E E^T H E/lambda^3 = Sigma, 2 W_1 W_1^T = B W_2 + W_2^T B^T; on the way C' = -lambda (C + "
           "W_1 W_1^T)", "derived here", 1e-8, _equation),
    Result("E2", "feedback aligned with the task, of strength h: h e^3 + lambda^3 e = lambda^3 s, without a threshold",
           "derived here", 1e-8, _aligned),
    Result("E2b", "BP with decay lambda ends at U max(S - lambda, 0) V^T", "nuclear norm, known result re-derived",
           1e-8, _threshold),
    Result("E3", "decay aligns FA from every start: <W_2^T, B> = |B E|^2/lambda^2 > 0 in the end",
           "effect Song, Xu & Lafferty (2021), known; formula derived here", 1e-8, _alignment),
)  # fmt: skip
