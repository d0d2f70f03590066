"""What feedback alignment conserves in two layers, and by how much descent moves it: always upwards."""

import numpy as np

from linfa.algebra import T
from linfa.dynamics import State, velocity
from linfa.rules import dfa, fa, ldfa
from linfa.simulate import advance, simulate
from linfa.theory import examples, invariants
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.base import relative_error
from linfa.theory.result import Result

__all__ = ["fa_drift", "fa_frozen_part"]


def fa_drift(B, gradients, lr):
    """lr^2 B (sum_t G_t G_t^T) B^T, by which descent moves C = W_1 W_1^T - B W_2 - W_2^T B^T, exactly.

    Positive semi-definite and a sum over steps: C only grows, in the order of symmetric matrices.  The flow, lr -> 0 at
    fixed lr steps, conserves C.

    Args:
        B: feedback (k, n_out).
        gradients: G_t = E[delta x^T], the gradient of any loss with respect to the map W_2 W_1, of the whole population
            or of a batch, (t, n_out, n_in), or a SymPy matrix for one step.
        lr: learning rate.

    Returns:
        C after the last step minus C before the first, (k, k).

    Raises:
        ValueError: if a gradient does not fit the feedback.

    Source: derived here (`derivations.fa_drift`); the conserved C from zero weights is Lillicrap et al. (2016), known.

    >>> fa_drift(np.eye(2), np.array([[[1.0], [0.0]], [[0.0], [2.0]]]), lr=0.1).round(12).tolist()
    [[0.01, 0.0], [0.0, 0.04]]
    """
    if B.shape[-1] != gradients.shape[-2]:
        raise ValueError(f"B takes {B.shape[-1]} errors and a gradient has {gradients.shape[-2]} rows")
    seen = B @ gradients
    steps = seen @ T(seen)
    return lr**2 * (steps.sum(0) if getattr(steps, "ndim", 2) == 3 else steps)


def fa_frozen_part(W1, B):
    """(I - B B^+) W_1, the part of W_1 (..., k, n_in) that feedback alignment never moves.

    W_1(t) = W_1(0) + B A(t) with A = int E dt, in flow and in descent: N^T W_1 stays for every N with N^T B = 0.

    Args:
        W1: first weight (..., k, n_in).
        B: feedback (k, n_out).

    Raises:
        ValueError: if the feedback does not fit the weight.

    Source: derived here.

    >>> fa_frozen_part(np.array([[1.0], [2.0]]), B=np.array([[3.0], [0.0]])).tolist()
    [[0.0], [2.0]]
    """
    if np.shape(B)[0] != np.shape(W1)[-2]:
        raise ValueError(f"B delivers to {np.shape(B)[0]} units and W_1 has {np.shape(W1)[-2]}")
    U, s, _ = np.linalg.svd(B, full_matrices=False)
    U = U[:, s > 1e-12 * s.max(initial=0)]
    return W1 - U @ (U.T @ W1)


def _invariant(seed):
    problem, worst = FixedFeedbackProblem.draw(seed, white=False), 0.0
    for rule in (fa(), dfa(), ldfa(1, "fixed")):
        feedback = examples.feedback(rule, problem.rng, problem.network.widths)
        run = simulate(rule, problem.task, problem.network, [0.0, 1.0, 4.0], feedback=feedback, rtol=1e-11, atol=1e-13)
        (C,) = invariants.feedback_alignment(rule, run.states)
        worst = max(worst, relative_error(np.broadcast_to(C[0], C.shape), C))
    return worst


def _drift(seed):
    problem, lr, gradients = FixedFeedbackProblem.draw(seed, white=False), 0.05, []
    states = [State(problem.network.weights, ((problem.B,),))]
    for _ in range(60):
        batch = problem.task.sample(4, problem.rng)
        W1, W2 = states[-1].weights
        gradients.append((W2 @ W1 @ batch.X - batch.Y) @ batch.X.T)
        states.append(advance(states[-1], velocity(fa(), states[-1], batch), lr))
    values = np.stack([invariants.feedback_alignment(fa(), state)[0] for state in states])
    closed = np.stack([values[0] + fa_drift(problem.B, np.array(gradients[:i]), lr) for i in range(1, 61)])
    falls = max(-np.linalg.eigvalsh(np.diff(values, axis=0)).min(), 0.0)
    return max(relative_error(closed, values[1:]), falls)


def _frozen(seed):
    problem, worst = FixedFeedbackProblem.draw(seed, white=False, rank=1), 0.0
    for run in (problem.run([0.0, 1.0, 4.0]), problem.descend(0.05, 60)):
        W1 = run.weights[0]
        worst = max(worst, np.abs(fa_frozen_part(W1 - W1[0], problem.B)).max() / np.abs(W1).max())
    return float(worst)


def _positive(seed):
    problem = FixedFeedbackProblem.draw(seed, scale=0.0, white=False)
    run = problem.run(np.linspace(0, 6, 13))
    seen = problem.B @ run.weights[1]
    falls = max(-np.linalg.eigvals(run.weights[1] @ problem.B).real.min(), 0.0)
    return max(relative_error(run.weights[0] @ T(run.weights[0]), seen + T(seen)), falls)


ROBERTSON = "zero start Lillicrap et al. (2016), per neuron Robertson & Koyejo (2023), known; full matrix derived here"
RESULTS = (
    Result("B2", "FA conserves W_1 W_1^T - B W_2 - W_2^T B^T for any inputs, start and fixed feedback", ROBERTSON, 1e-8,
           _invariant),
    Result("B2d", "descent on batches G_t moves it by lr^2 B (sum G_t G_t^T) B^T, exactly: it only grows",
           "derived here", 1e-11, _drift),
    Result("B3", "N^T W_1 stays for every N with N^T B = 0, in flow and in descent", "derived here", 1e-11, _frozen),
    Result("B8", "FA from zero weights has B W_2 + W_2^T B^T = W_1 W_1^T, and eigenvalues of W_2 B have no negative "
           "real part", "Lillicrap et al. (2016); known result re-derived", 1e-8, _positive),
)  # fmt: skip
