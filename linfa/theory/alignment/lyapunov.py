"""What falls under feedback alignment: the error that the feedback sees, not always the loss."""

import numpy as np

from linfa.algebra import T, is_symbolic
from linfa.network import Network
from linfa.rules import fa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.alignment.problem import FixedFeedbackProblem, gauss
from linfa.theory.base import AssumptionError, relative_error
from linfa.theory.result import Result

__all__ = ["falls_for_ever", "rising_loss", "seen_error", "seen_error_rate"]


def seen_error(B, E, Sxx=None):
    """1/2 |B E Sxx^(-1/2)|^2, half the squared error that the feedback sees, in whitened coordinates (...).

    Args:
        B: feedback (k, n_out).
        E: Syx - W_2 W_1 Sxx (..., n_out, n_in).
        Sxx: second moment of the inputs, invertible; None for the identity.

    Raises:
        AssumptionError: for a second moment that is not invertible.

    >>> float(seen_error(np.array([[2.0, 0.0]]), np.array([[1.0], [5.0]])))
    2.0
    """
    seen = B @ E
    if Sxx is None:
        return 0.5 * (seen**2).sum((-1, -2))
    values = np.linalg.eigvalsh(Sxx)
    if values[0] <= 1e-12 * values[-1]:
        raise AssumptionError(f"Sxx is not invertible: its lowest eigenvalue is {values[0]:.2g}")
    return 0.5 * (seen * np.linalg.solve(Sxx, T(seen)).swapaxes(-1, -2)).sum((-1, -2))


def seen_error_rate(W1, W2, B, E):
    """d/dt of `seen_error`: -tr[(B E)^T (W_1 W_1^T - C) B E] / 2 - |B E W_1^T|^2 with the conserved C.

    C = W_1 W_1^T - B W_2 - W_2^T B^T, so that the error seen never rises where C has no positive eigenvalue
    (`falls_for_ever`).  The formula holds for any inputs as it stands.

    Args:
        W1, W2: (..., k, n_in) and (..., n_out, k).
        B: feedback (k, n_out).
        E: Syx - W_2 W_1 Sxx (..., n_out, n_in).  All are arrays, or SymPy matrices, for which a trace is returned.

    Source: derived here (`derivations.fa_lyapunov`).

    >>> one = np.ones((1, 1))
    >>> float(seen_error_rate(one, 2 * one, 3 * one, one))
    -63.0
    """
    seen = B @ E
    mixed = B @ W2
    through = seen @ T(W1)
    fall = T(seen) @ (mixed + T(mixed)) @ seen
    if is_symbolic(E):
        return -(fall.trace() / 2 + (T(through) @ through).trace())
    return -(np.trace(fall, axis1=-2, axis2=-1) / 2 + (through**2).sum((-1, -2)))


def falls_for_ever(W1, W2, B) -> bool:
    """Whether a start has C = W_1 W_1^T - B W_2 - W_2^T B^T <= 0, so that `seen_error` never rises.

    So from zero weights, and from W_1 = 0 where B W_2 + W_2^T B^T has no negative eigenvalue.

    Args:
        W1, W2, B: at time 0.

    Source: derived here.

    >>> falls_for_ever(np.zeros((2, 2)), np.eye(2), np.eye(2)), falls_for_ever(np.eye(2), np.zeros((2, 2)), np.eye(2))
    (True, False)
    """
    square, mixed = W1 @ W1.T, B @ W2
    size = np.abs(square).max() + np.abs(mixed).max()
    return bool(np.linalg.eigvalsh(square - mixed - mixed.T)[-1] <= 1e-12 * size)


def rising_loss(beta: float) -> tuple[Task, Network, np.ndarray]:
    """Task, network and feedback for which the loss rises at first, at rate beta - 1/beta, while `seen_error` falls.

    Two modes at a right angle to each other in B W_2: B = diag(1, beta), B W_2 = [[0, 1], [-1, 0]], W_1 = 0, and one
    input with target (1, -1).  From zero weights the loss never rises (`ZeroInitFA.loss`).

    Args:
        beta: more than 1.

    Raises:
        ValueError: for a beta up to 1.

    Source: derived here.

    >>> task, network, B = rising_loss(2.0)
    >>> run = simulate(fa(), task, network, [0.0, 0.001], feedback=((B,),))
    >>> round(float(np.diff(run.loss)[0] / 0.001), 1)
    1.5
    """
    if not beta > 1:
        raise ValueError(f"beta is more than 1; got {beta}")
    task = Task.teacher(np.array([[1.0], [-1.0]]))
    network = Network((np.zeros((2, 1)), np.array([[0.0, 1.0], [-1 / beta, 0.0]])))
    return task, network, np.diag([1.0, beta])


def _identity(seed):
    problem = FixedFeedbackProblem.draw(seed, white=False)
    times, weights = gauss(1.5)
    run = problem.run(times)
    E, Sxx = problem.residuals(run), problem.task.Sxx
    values, rates = seen_error(problem.B, E, Sxx), seen_error_rate(*run.weights, problem.B, E)
    return relative_error(values[-1] - values[0], weights @ rates) if rates.any() else 0.0


def _monotone(seed):
    """Largest rise of the error seen, relative to its start, from W_1 = 0 and B W_2 + W_2^T B^T >= 0."""
    problem = FixedFeedbackProblem.draw(seed, white=False)
    B, m = problem.B, problem.task.n_out
    skew = problem.rng.standard_normal((m, m))
    W2 = (skew - skew.T + examples.moment(problem.rng, m, 0.0, 0.5)) @ B.T
    problem = problem._replace(network=Network((0 * problem.network.weights[0], W2)))
    values = seen_error(B, problem.residuals(problem.run(np.linspace(0, 6, 61))), problem.task.Sxx)
    return max(float(np.diff(values).max()), 0.0) / values[0] if falls_for_ever(*problem.network.weights, B) else np.inf


def _from_zero(seed):
    problem = FixedFeedbackProblem.draw(seed, scale=0.0)
    run = problem.run(np.linspace(0, 6, 61))
    E = problem.residuals(run)
    uphill = -((problem.B @ E) * (T(run.weights[1]) @ E)).sum((-1, -2)).min()
    return max(float(np.diff(run.loss).max()), float(uphill), 0.0) / run.loss[0]


def _rises(seed):
    beta = float(examples.generator(seed).uniform(1.2, 5.0))
    task, network, B = rising_loss(beta)
    run = simulate(fa(), task, network, np.linspace(0, 0.2 / beta, 11), feedback=((B,),), rtol=1e-11, atol=1e-13)
    seen = seen_error(B, task.Syx - run.map @ task.Sxx)
    return float(not (np.diff(run.loss)[0] > 0 and (np.diff(seen) < 0).all()))


RESULTS = (
    Result("B7", "FA: d/dt 1/2|B E Sxx^(-1/2)|^2 = -tr[(B E)^T (W_1 W_1^T - C) B E]/2 - |B E W_1^T|^2, C conserved",
           "derived here", 1e-8, _identity),
    Result("B7b", "from W_1 = 0, B W_2 + W_2^T B^T >= 0 the error that the feedback sees never rises, for any inputs",
           "derived here", 1e-9, _monotone),
    Result("B7c", "FA from zero weights on white inputs: the loss never rises and <B E, W_2^T E> >= 0",
           "derived here", 1e-9, _from_zero),
    Result("B7e", "with W_2(0) != 0 the loss can rise while the error that the feedback sees falls",
           "derived here", 0.0, _rises),
)  # fmt: skip
