"""The angles between feedback alignment, backprop and the pseudo-inverse, from zero weights, in closed form."""

import numpy as np

from linfa.algebra import T
from linfa.observe import cosine
from linfa.rules import fa
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.alignment.zero_init_fa import ZeroInitFA, amplitude, gain, timescale
from linfa.theory.base import AssumptionError, relative_error
from linfa.theory.result import Result
from linfa.theory.special import phi3_inverse

__all__ = ["backprop_cosine", "backprop_product", "pseudoinverse_cosine"]


def _learned(theory, times):
    """x_i (t, r)."""
    return phi3_inverse(np.asarray(times, dtype=float)[:, None] / timescale(theory.modes.s))


def backprop_product(theory: ZeroInitFA, times) -> np.ndarray:
    """<B E, W_2^T E> = 1/2 sum_i a_i^2 (1 - x_i^3)^2 |Sigma v_i|^2, never negative, for any feedback.

    The loss falls by it through W_1, and by |E W_1^T|^2 through W_2: no update ever points uphill.

    Args:
        theory: what feedback alignment does from zero weights, whose notation this is.
        times: (t,).

    Source: derived here.

    >>> from linfa.theory.alignment.problem import FixedFeedbackProblem
    >>> problem = FixedFeedbackProblem.draw(1, scale=0.0)
    >>> theory = ZeroInitFA(fa(), problem.task, problem.run([0.0]).at(0))
    >>> bool((backprop_product(theory, np.linspace(0, 9, 10)) >= 0).all())
    True
    """
    a = amplitude(theory.modes.s, _learned(theory, times))
    return 0.5 * (a**2 * theory.unlearned(times) ** 2) @ (theory.modes.SV**2).sum(0)


def backprop_cosine(theory: ZeroInitFA, times) -> np.ndarray:
    """Cosine of the angle between B E and W_2^T E, what feedback alignment and backprop deliver (t,); 0 at time 0.

    `backprop_product` over the norms: |B E|^2 = sum s_i^2 (1 - x_i^3)^2, and W_2^T E = U g (Sigma V)^T E.

    Args:
        theory, times: as there.

    Source: derived here.

    >>> from linfa.theory import FixedFeedbackProblem
    >>> problem = FixedFeedbackProblem.draw(1, scale=0.0)
    >>> run = problem.run([0.0, 1.0])
    >>> theory = ZeroInitFA(fa(), problem.task, run.at(0))
    >>> np.allclose(backprop_cosine(theory, run.times), run.update_alignment[:, 0])
    True
    """
    _, s, Vt, SV = theory.modes
    left, g = theory.unlearned(times), gain(s, _learned(theory, times))
    unseen = theory.task.Syx - SV @ Vt
    inside = g[:, :, None] * (SV.T @ SV) * left[:, None, :]
    exact = (inside**2).sum((-1, -2)) + g**2 @ ((SV.T @ unseen) ** 2).sum(-1)
    size = np.sqrt(left**2 @ s**2 * exact)
    return np.divide(backprop_product(theory, times), size, out=np.zeros_like(size), where=size > 0)


def pseudoinverse_cosine(theory: ZeroInitFA, times) -> np.ndarray:
    """Cosine of the angle between B E and W_2^+ E (t,), for feedback that loses no mode of the task.

    sum u_i a_i^-2 / sqrt(sum u_i sum u_i a_i^-4) with u_i = s_i^2 (1 - x_i^3)^2: one where all a_i are equal, and else
    less.  At time 0 it is the limit from above, where a_i ~ s_i; not a number where 1 - x_i^3 underflows for all i.

    Args:
        theory, times: as there.

    Raises:
        AssumptionError: if rank B Sigma is less than rank Sigma.

    Source: that feedback alignment is closer to the pseudo-inverse is Lillicrap et al. (2016), known; the formula is
    derived here.

    >>> from linfa.theory import FixedFeedbackProblem
    >>> problem = FixedFeedbackProblem.draw(1, scale=0.0, full=True)
    >>> run = problem.run([0.0, 1.0])
    >>> E, W2 = problem.residuals(run)[1], run.weights[1][1]
    >>> closed = pseudoinverse_cosine(ZeroInitFA(fa(), problem.task, run.at(0)), run.times)
    >>> np.allclose(closed[1], cosine(problem.B @ E, np.linalg.pinv(W2) @ E))
    True
    """
    s, times, rank = theory.modes.s, np.asarray(times, dtype=float), np.linalg.matrix_rank(theory.task.Syx)
    if len(s) < max(rank, 1):
        raise AssumptionError(f"not every mode of the task is seen: B Sigma has rank {len(s)}, Sigma {rank}")
    left = theory.unlearned(times)
    with np.errstate(invalid="ignore"):
        u = (s * left / left.max(-1, keepdims=True)) ** 2
    a = np.where(times[:, None] > 0, amplitude(s, _learned(theory, times)), s)
    p = (a.max(-1, keepdims=True) / a) ** 2
    return (u * p).sum(-1) / np.sqrt(u.sum(-1) * (u * p**2).sum(-1))


def _both(seed):
    problem = FixedFeedbackProblem.draw(seed, scale=0.0)
    run = problem.run(np.linspace(0, 3, 13))
    theory, E = ZeroInitFA(fa(), problem.task, run.at(0)), problem.residuals(run)
    product = ((problem.B @ E) * (T(run.weights[1]) @ E)).sum((-1, -2))
    closed = [theory.alignment(run.times), backprop_cosine(theory, run.times), backprop_product(theory, run.times)]
    measured = run.feedback_alignment[:, 0], run.update_alignment[:, 0], product
    return max(relative_error(c[1:], m[1:]) for c, m in zip(closed, measured, strict=True))


def _inverse(seed):
    problem = FixedFeedbackProblem.draw(seed, scale=0.0, full=True)
    run = problem.run(np.linspace(0, 3, 7))
    E = problem.residuals(run)[1:]
    closed = pseudoinverse_cosine(ZeroInitFA(fa(), problem.task, run.at(0)), run.times[1:])
    return relative_error(closed, cosine(problem.B @ E, np.linalg.pinv(run.weights[1][1:]) @ E))


RESULTS = (
    Result("X3", "FA from zero: the angles of W_2^T to B and of B E to W_2^T E in closed form, with <B E, W_2^T E> = "
           "1/2 sum a_i^2 (1 - x_i^3)^2 |Sigma v_i|^2 >= 0", "derived here", 1e-8, _both),
    Result("X3b", "FA from zero: cos(B E, W_2^+ E) = sum u a^-2 / sqrt(sum u sum u a^-4), u = s^2 (1 - x^3)^2, if "
           "rank B Sigma = rank Sigma",
           "closer to the pseudo-inverse Lillicrap et al. (2016), known; formula derived here", 1e-8, _inverse),
)  # fmt: skip
