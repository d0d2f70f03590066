"""What feedback alignment from zero weights does not see of its feedback, and what a change of units does to it."""

from dataclasses import replace

import numpy as np

from linfa.network import Network
from linfa.rules import fa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.base import relative_error
from linfa.theory.result import Result

__all__ = ["fa_speed", "rotated_task"]


def fa_speed(task_scale, feedback_scale):
    """kappa^(2/3) gamma^(1/3): how much faster feedback alignment from zero learns a task kappa Sigma through gamma H.

    W(t; kappa Sigma, gamma H) = kappa W(kappa^(2/3) gamma^(1/3) t; Sigma, H) with H = B^T B; any inputs.

    Args:
        task_scale: kappa > 0, what the targets are multiplied by.
        feedback_scale: gamma > 0, what H is multiplied by, the square of what B is.  Both are numbers or arrays.

    Raises:
        ValueError: for a factor that is not positive.

    Source: derived here.

    >>> float(fa_speed(8.0, 27.0))
    12.0
    """
    for name, value in (("task_scale", task_scale), ("feedback_scale", feedback_scale)):
        if not np.all(np.asarray(value) > 0):
            raise ValueError(f"{name} is positive; got {value}")
    return np.cbrt(task_scale) ** 2 * np.cbrt(feedback_scale)


def rotated_task(task, R, S):
    """The task of targets R y and inputs S x, for orthogonal R (n_out, n_out) and S (n_in, n_in).

    Feedback alignment from zero through B R^T learns R W(t) S^T on it, where it learns W(t) through B on the task.

    Raises:
        ValueError: for a matrix that is not orthogonal.

    Source: derived here.

    >>> rotated_task(Task.teacher(np.array([[1.0, 2.0]])), -np.eye(1), np.array([[0.0, 1.0], [1.0, 0.0]])).Syx.tolist()
    [[-2.0, -1.0]]
    """
    for name, matrix, size in (("R", R, task.n_out), ("S", S, task.n_in)):
        off = np.abs(matrix @ matrix.T - np.eye(size)).max() if np.shape(matrix) == (size, size) else np.inf
        if off > 1e-10:
            raise ValueError(f"{name} is an orthogonal matrix of size {size}: off by {off:.2g}")
    return Task(S @ task.Sxx @ S.T, R @ task.Syx @ S.T, R @ task.Syy @ R.T, S @ task.mean_x, R @ task.mean_y)


def _run(task, B, times):
    network = Network.zero((task.n_in, len(B), task.n_out))
    return simulate(fa(), task, network, times, feedback=((B,),), rtol=1e-11, atol=1e-13)


def _rotation(seed):
    problem, times = FixedFeedbackProblem.draw(seed, scale=0.0, white=False), np.linspace(0, 6, 13)
    task, B, rng = problem.task, problem.B, problem.rng
    usual = problem.run(times).map
    wider = examples.frame(rng, len(B) + int(rng.integers(0, 4)), len(B))
    R, S = examples.frame(rng, task.n_out, task.n_out), examples.frame(rng, task.n_in, task.n_in)
    turned = _run(rotated_task(task, R, S), B @ R.T, times).map
    return max(relative_error(usual, _run(task, wider @ B, times).map), relative_error(R @ usual @ S.T, turned))


def _scaling(seed):
    problem, times = FixedFeedbackProblem.draw(seed, scale=0.0, white=False), np.linspace(0, 6, 13)
    kappa, gamma = problem.rng.uniform(0.4, 2.5, 2)
    scaled = replace(problem.task, Syx=kappa * problem.task.Syx, Syy=kappa**2 * problem.task.Syy)
    usual = problem.run(times).map
    fast = _run(scaled, np.sqrt(gamma) * problem.B, times / fa_speed(kappa, gamma)).map
    return relative_error(kappa * usual, fast)


RESULTS = (
    Result("B5", "from zero weights FA depends on B by B^T B alone, and turns with rotations of inputs and targets",
           "derived here", 1e-8, _rotation),
    Result("B6", "from zero weights W(t; kappa Sigma, gamma H) = kappa W(kappa^(2/3) gamma^(1/3) t; Sigma, H)",
           "derived here", 1e-8, _scaling),
)  # fmt: skip
