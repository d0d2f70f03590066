"""What a small random start changes: little for feedback alignment, the time it takes for backprop."""

import numpy as np

from linfa.network import Network
from linfa.rules import bp, fa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.modes.problem import AlignedProblem, observed_order
from linfa.theory.result import Result

__all__ = ["bp_delay"]


def bp_delay(s, u0, shrink):
    """Time log(1/shrink)/(2s) by which backprop is later on a mode when its strength at the start is shrink u_0.

    Delay = [log(s/(shrink u_0) - 1) - log(s/u_0 - 1)] / (2s), which is that up to O(u_0): it grows without limit as the
    start shrinks, as zero is a saddle.  Feedback alignment from a start of size eps is within O(eps) of that from zero.

    Args:
        s: singular value of the task.
        u0: strength at time 0, between 0 and s.
        shrink: factor on it, between 0 and 1.  All three are numbers or arrays that broadcast.

    Raises:
        ValueError: if u_0 is not between 0 and s, or shrink not between 0 and 1.

    Source: Saxe, McClelland & Ganguli (2013); known result re-derived.

    >>> float((bp_delay(1.0, 1e-9, 0.1) / np.log(10)).round(6))
    0.5
    """
    if not (np.greater(u0, 0).all() and np.less(u0, s).all()):
        raise ValueError(f"u_0 is between 0 and s; got u_0 = {u0}, s = {s}")
    if not (np.greater(shrink, 0).all() and np.less_equal(shrink, 1).all()):
        raise ValueError(f"shrink is between 0 and 1; got {shrink}")
    return (np.log(s / (shrink * u0) - 1) - np.log(s / u0 - 1)) / (2 * s)


def _robust(seed):
    problem = AlignedProblem.draw(seed)
    rng, times = examples.generator(seed), np.linspace(0, 8, 17)
    widths = problem.zero.widths
    B = rng.standard_normal((widths[1], widths[2])) / np.sqrt(widths[2])  # any feedback, aligned or not
    begins = [rng.standard_normal(w.shape) / np.sqrt(w.shape[1]) for w in problem.zero.weights]
    sizes = np.array([0.0, 2e-3, 1e-3])
    network = Network(tuple(sizes[:, None, None] * w for w in begins))
    stored = ((np.broadcast_to(B, (3, *B.shape)),),)
    maps = simulate(fa(), problem.task, network, times, feedback=stored, rtol=1e-11, atol=1e-13).map
    apart = np.abs(maps[:, 1:] - maps[:, :1]).max((0, 2, 3))
    return abs(observed_order(sizes[1:], apart) - 1)


def _delay(seed):
    rng = examples.generator(seed)
    s, u0, shrink = rng.uniform(0.5, 2.0), rng.uniform(0.01, 0.2), rng.uniform(0.01, 0.5)
    task, time = Task.from_spectrum([s], n_in=2, n_out=3, seed=seed), rng.uniform(1, 3) / s
    first, late = (
        simulate(bp(), task, Network.aligned(task, [2], [u, 0.0]), [0.0, end], rtol=1e-11, atol=1e-13).map[-1]
        for u, end in ((u0, time), (shrink * u0, time + bp_delay(s, u0, shrink)))
    )
    return float(np.abs(first - late).max() / np.abs(first).max())


RESULTS = (
    Result("C15", "FA from weights of size eps is O(eps) away from FA from zero, at all times", "derived here", 0.1,
           _robust),
    Result("C15b", "BP from a balanced start times a factor f < 1 is the same, later by log(1/f)/(2s) up to O(u_0)",
           "Saxe, McClelland & Ganguli (2013); known result re-derived", 1e-8, _delay),
)  # fmt: skip
