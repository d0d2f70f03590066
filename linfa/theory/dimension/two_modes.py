"""One feedback vector for two modes: what it leaves of the loss."""

import numpy as np

from linfa.network import Network
from linfa.rules import ldfa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.result import Result
from linfa.theory.scalar import cos, sin

__all__ = ["two_mode_loss"]


def two_mode_loss(s1, s2, angle):
    """Final loss of feedback alignment of rank 1 on two modes, P = (cos angle, sin angle) in their output frame.

    L = s_1^2 s_2^2 / (2 (s_1^2 cos^2 + s_2^2 sin^2)), from s_2^2/2 at angle 0, the best, to s_1^2/2 at pi/2.  It is
    `final_loss` in this case.

    Args:
        s1, s2: singular values of the task, at least 0; an angle at which the feedback sees neither leaves no formula.
        angle: between the feedback vector and the first left singular vector.  All three are numbers, arrays that
            broadcast, or SymPy expressions.

    Source: derived here (`derivations.final_loss_two_modes`).

    >>> float(two_mode_loss(2.0, 1.0, 0.0))
    0.5
    """
    return s1**2 * s2**2 / (2 * (s1**2 * cos(angle) ** 2 + s2**2 * sin(angle) ** 2))


def _measure(seed):
    rng = examples.generator(seed)
    s1, s2 = rng.uniform(0.5, 2.0, 2)
    angle = rng.uniform(0, np.pi)
    U, V = examples.frame(rng, 3, 2), examples.frame(rng, 4, 2)
    k = int(rng.integers(1, 5))
    feedback = (examples.frame(rng, k, 1), (U @ [np.cos(angle), np.sin(angle)])[None])
    network = Network((np.zeros((k, 4)), 0.1 * rng.standard_normal((3, k))))
    task = Task.teacher((U * [s1, s2]) @ V.T)
    run = simulate(ldfa(1, "fixed"), task, network, [0.0, 60.0], feedback=(feedback,), rtol=1e-11, atol=1e-13)
    return abs(float(run.loss[-1]) / two_mode_loss(s1, s2, angle) - 1)


RESULTS = (
    Result("D3", "feedback of rank 1 at an angle phi to two modes ends at the loss s_1^2 s_2^2 / (2 (s_1^2 cos^2 phi + "
           "s_2^2 sin^2 phi))", "derived here", 1e-8, _measure),
)  # fmt: skip
