"""The angle between the second weight and the feedback, for one output and for aligned modes."""

import numpy as np

from linfa.network import Network
from linfa.observe import participation_ratio
from linfa.rules import fa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.clock import cubic_amplitude
from linfa.theory.modes.problem import AlignedProblem
from linfa.theory.result import Result

__all__ = ["aligned_cosine", "alignment_tangent"]


def alignment_tangent(a, along, across, size):
    """tan of the angle between w_2 and b for one output, |w_perp| / (w_par + |b| a^2 / 2), w_2 = w_2(0) + b a^2 / 2.

    From W_1(0) = 0, with a(t) from a' = s - c a - h a^3/2, c = w_2(0) b, h = |b|^2 (`cubic_amplitude`).  The angle
    always falls, since learning adds to w_2 along b alone.

    Args:
        a: integrated error, of any shape.
        along, across: lengths w_par (of either sign) and |w_perp| of w_2(0) along and across b.
        size: |b|.  All are numbers, arrays that broadcast, or SymPy expressions.

    Source: derived here (`derivations.fa_alignment_angle`).

    >>> alignment_tangent(2.0, along=0.0, across=1.0, size=0.5)
    1.0
    """
    return across / (along + size * a**2 / 2)


def aligned_cosine(a, h) -> np.ndarray:
    """Cosine of the angle between W_2^T and B from zero weights, sum h a^2 / sqrt(sum h a^4 sum h), where modes align.

    For h = 1 in every mode its square is the participation ratio (sum a^2)^2 / sum a^4 over the number of modes:
    alignment is perfect when all modes are equally strong.

    Args:
        a: integrated errors (..., modes), not all zero: (2s/h)^(1/3) x from x(t) = Phi_3^-1(t/T), see `fa_mode`.
        h: eigenvalues of B^T B (modes,), with those of modes that the task does not have, where a = 0.

    Raises:
        ValueError: for an a or an h of zeros, or negative h.

    Source: derived here.

    >>> float((aligned_cosine([1.0, 0.0], [1.0, 1.0]) ** 2).round(12))
    0.5
    """
    a, h = np.asarray(a, dtype=float), np.asarray(h, dtype=float)
    if not (h >= 0).all() or not ((h * a**2).sum(-1) > 0).all():
        raise ValueError(
            "h is at least 0, and some mode that the feedback sees has moved: a and h are not zero together"
        )
    return (h * a**2).sum(-1) / np.sqrt((h * a**4).sum(-1) * h.sum(-1))


def _one_output(seed):
    rng = examples.generator(seed)
    n, k = int(rng.integers(1, 5)), int(rng.integers(2, 6))
    b, w0 = rng.uniform(0.7, 1.5) * examples.frame(rng, k, 1), 0.5 * rng.standard_normal((1, k))
    w0 *= np.sign((w0 @ b).item())
    task = Task.teacher(rng.uniform(0.5, 2.0) * examples.frame(rng, 1, n))
    network, times = Network((np.zeros((k, n)), w0)), np.linspace(0, 6, 13)
    run = simulate(fa(), task, network, times, feedback=((b,),), rtol=1e-11, atol=1e-13)
    size, c = np.linalg.norm(b), (w0 @ b).item()
    a = cubic_amplitude(times, np.linalg.norm(task.Syx), c, size**2)
    closed = alignment_tangent(a, c / size, np.linalg.norm(w0 - c * b.T / size**2), size)
    w2 = run.weights[1][:, 0]
    along = w2 @ b[:, 0] / size
    measured = np.linalg.norm(w2 - along[:, None] * b[:, 0] / size, axis=1) / along
    return max(
        relative_error(closed, measured), relative_error(np.cos(np.arctan(closed)), run.feedback_alignment[:, 0])
    )


def _modes(seed):
    problem = AlignedProblem.draw(seed)
    run = problem.simulate(np.linspace(0.5, 8, 16))
    a = np.linalg.norm(run.weights[0] @ problem.Vt.T, axis=1) / np.sqrt(problem.h)
    general = relative_error(aligned_cosine(a, problem.h), run.feedback_alignment[:, 0])
    B = problem.R @ problem.U.T
    flat = simulate(fa(), problem.task, problem.zero, run.times, feedback=((B,),), rtol=1e-11, atol=1e-13)
    a = np.linalg.svd(flat.weights[0], compute_uv=False)[:, : problem.s.size]
    ratio = participation_ratio(a) / problem.s.size
    return max(general, relative_error(ratio, flat.feedback_alignment[:, 0] ** 2))


RESULTS = (
    Result("C4", "one output: tan of the angle of w_2 and b is |w_perp| / (w_par + |b| a^2/2), a' = s - c a - h a^3/2",
           "derived here", 1e-8, _one_output),
    Result("C5", "aligned FA from zero: cos(W_2^T, B) is sum h a^2 / sqrt(sum h a^4 sum h); for h = 1 its square is "
           "the participation ratio of a over the number of modes", "derived here", 1e-8, _modes),
)  # fmt: skip
