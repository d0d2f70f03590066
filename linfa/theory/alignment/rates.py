"""How fast errors relax under feedback alignment, and the learning rates at which descent stops doing so."""

import numpy as np

from linfa.dynamics import State, velocity
from linfa.network import Network
from linfa.rules import fa
from linfa.simulate import Diverged, descend
from linfa.task import Task
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.alignment.zero_init_fa import ZeroInitFA, amplitude
from linfa.theory.base import relative_error
from linfa.theory.result import Result

__all__ = ["fa_end_max_lr", "fa_end_rates", "fa_tangent"]


def fa_tangent(W1, W2, B, Sxx=None) -> np.ndarray:
    """The operator K with vec(E)' = -K vec(E), the tangent kernel of feedback alignment; not symmetric.

    E' = -(W_2 B E + E W_1^T W_1) Sxx at every state, with vec(E) = E.ravel().  Backprop has W_2 W_2^T for W_2 B.

    Args:
        W1, W2, B: (k, n_in), (n_out, k) and (k, n_out).
        Sxx: second moment of the inputs; None for the identity.

    Returns:
        (n_out n_in, n_out n_in).

    Raises:
        ValueError: for shapes that do not fit.

    Source: read in Bordelon & Pehlevan (2023), Eq. 4, in a general form; written out here.

    >>> fa_tangent(np.array([[1.0, 0.0]]), np.array([[2.0]]), np.array([[0.5]])).tolist()
    [[2.0, 0.0], [0.0, 1.0]]
    """
    (k, n), m = np.shape(W1), np.shape(W2)[0]
    if np.shape(W2) != (m, k) or np.shape(B) != (k, m):
        raise ValueError(f"W_2 is (n_out, {k}) and B its transpose's shape; got {np.shape(W2)} and {np.shape(B)}")
    Sxx = np.eye(n) if Sxx is None else Sxx
    return np.kron(W2 @ B, Sxx) + np.kron(np.eye(m), (W1.T @ W1 @ Sxx).T)


def fa_end_rates(Sigma, B) -> np.ndarray:
    """Rates at which errors relax about the end of feedback alignment from zero, in increasing order.

    The eigenvalues of `fa_tangent` there: every sum of one of {a_i^2/2, zeros} (n_out) and one of {a_j^2, zeros}
    (n_in), a_i = (2 s_i)^(1/3) with the singular values s_i of B Sigma.  A mode that is learned relaxes at
    3/2 (2 s_i)^(2/3); rates that vanish belong to errors that never do.

    Args:
        Sigma: task (n_out, n_in), of white inputs.
        B: feedback (k, n_out).

    Source: derived here.

    >>> fa_end_rates(np.diag([4.0, 0.0]), np.eye(2)).round(12).tolist()
    [0.0, 2.0, 4.0, 6.0]
    """
    m, n = np.shape(Sigma)
    s = np.linalg.svd(B @ Sigma, compute_uv=False)
    squares = amplitude(np.where(s > 1e-13 * s.max(initial=0), s, 0.0), 1.0) ** 2
    left, right = np.zeros(m), np.zeros(n)
    left[: len(squares)] = squares[:m] / 2
    right[: len(squares)] = squares[:n]
    return np.sort((left[:, None] + right).ravel())


def fa_end_max_lr(Sigma, B) -> float:
    """4 / (3 (2 |B Sigma|_2)^(2/3)), the learning rate above which descent leaves the end of the flow: 2 over its rate.

    Descent that starts at zero has to be slower, lr < 1.0256 / (2 |B Sigma|_2)^(2/3): it overshoots, which only ever
    raises the weights (`fa_drift`), and would come to rest where rates are higher, see `ZeroInitFA.max_lr`.  Backprop
    from a balanced start has 1/s_1, known.

    Args:
        Sigma, B: as in `fa_end_rates`.

    Raises:
        ValueError: if B Sigma = 0: nothing moves.

    Source: derived here.

    >>> round(fa_end_max_lr(np.eye(1), 4 * np.eye(1)), 12)
    0.333333333333
    """
    highest = fa_end_rates(Sigma, B)[-1]
    if not highest:
        raise ValueError("the feedback sees nothing of the task, B Sigma = 0: there is no end to leave")
    return float(2 / highest)


def _operator(problem, W1, W2):
    """vec(E)' of the simulated velocity for every unit error, by tasks that leave just that error."""
    task, columns = problem.task, []
    for unit in np.eye(task.Syx.size):
        off = Task(task.Sxx, W2 @ W1 @ task.Sxx + unit.reshape(task.Syx.shape))
        dW1, dW2 = velocity(fa(), State((W1, W2), ((problem.B,),)), off.batch).weights
        columns.append(((dW2 @ W1 + W2 @ dW1) @ task.Sxx).ravel())
    return np.stack(columns, 1)


def _tangent(seed):
    problem = FixedFeedbackProblem.draw(seed, white=False)
    W1, W2 = problem.network.weights
    return relative_error(fa_tangent(W1, W2, problem.B, problem.task.Sxx), _operator(problem, W1, W2))


def _end(problem):
    """The end of a simulated flow."""
    return [W[-1] for W in problem.run([0.0, 40.0]).weights]


def _rates(seed):
    problem = FixedFeedbackProblem.draw(seed, scale=0.0, full=True, rank=1 + seed % 4)
    found = np.linalg.eigvals(_operator(problem, *_end(problem)))
    closed = fa_end_rates(problem.task.Syx, problem.B)
    order = np.argsort(found.real)
    return relative_error(closed + 0j, found[order])


def _leaves(problem, network, lr, steps):
    """Whether what the feedback sees of the error grows."""
    try:
        run = descend(fa(), problem.task, network, lr, steps, feedback=((problem.B,),), record=steps)
    except Diverged:
        return True
    sizes = np.linalg.norm(problem.B @ problem.residuals(run), axis=(-2, -1))
    return bool(sizes[-1] > sizes[0])


def _limits(seed):
    problem = FixedFeedbackProblem.draw(seed, scale=0.0)
    limit = fa_end_max_lr(problem.task.Syx, problem.B)
    near = Network(tuple(W + 1e-6 * problem.rng.standard_normal(W.shape) for W in _end(problem)))
    slow = ZeroInitFA(fa(), problem.task, State(problem.network.weights, ((problem.B,),))).max_lr
    tries = [(near, 0.99 * limit, 900, False), (near, 1.01 * limit, 900, True)]
    tries += [(problem.network, 0.97 * slow, 900, False), (problem.network, 1.03 * slow, 900, True)]
    return float(any(_leaves(problem, *arguments) != leaves for *arguments, leaves in tries))


RESULTS = (
    Result("B1", "FA has E' = -(W_2 B E + E W_1^T W_1) Sxx at every state",
           "read in Bordelon & Pehlevan (2023), Eq. 4", 1e-11, _tangent),
    Result("X4", "about the end of FA from zero errors relax at the rates {a_i^2/2, 0} + {a_j^2, 0}, a_i = "
           "(2 s_i)^(1/3)", "derived here", 1e-8, _rates),
    Result("C10", "descent leaves the end of the flow above lr = 4/(3 (2|B Sigma|)^(2/3)), and from zero weights "
           "diverges above 1.0256/(2|B Sigma|)^(2/3) already", "derived here", 0.0, _limits),
)  # fmt: skip
