"""The leaky average: what forgets at one rate and takes in at another."""

import numpy as np

from linfa.theory.scalar import exp, expm1

__all__ = ["leaky_descent", "leaky_flow"]


def leaky_flow(t, leak, start, drive):
    """The solution of x' = drive - leak x: e^(-leak t) x_0 + (1 - e^(-leak t)) / leak drive.

    Args:
        t: times.
        leak: rate of forgetting; at 0, x_0 + t drive.
        start: x_0.
        drive: what comes in.  All four are numbers, arrays that broadcast, or SymPy expressions, leak a single one.

    Source: derived here (`derivations.mirror_decay`); elementary.

    >>> float(leaky_flow(np.log(2.0), leak=1.0, start=3.0, drive=1.0)), float(leaky_flow(2.0, 0.0, 3.0, 1.0))
    (2.0, 5.0)
    """
    taken = t if leak == 0 else -expm1(-leak * t) / leak
    return exp(-leak * t) * start + taken * drive


def leaky_descent(steps: int, a, start, drive) -> np.ndarray:
    """x <- (1 - a) x + drive, after 0 .. steps steps: (1 - a)^t x_0 + [1 + (1 - a) + .. + (1 - a)^(t-1)] drive.

    Args:
        steps: number of steps.
        a: share that a step forgets; any number.
        start: x_0, an array.
        drive: what a step adds, of the shape of x_0.

    Returns:
        (steps + 1, ...).

    Source: derived here (`derivations.mirror_decay`); elementary.

    >>> leaky_descent(3, 0.5, np.array(0.0), np.array(1.0)).tolist()
    [0.0, 1.0, 1.5, 1.75]
    """
    left = (1 - a) ** np.arange(steps + 1)
    taken = np.concatenate([[0.0], np.cumsum(left[:-1])])
    return np.multiply.outer(left, start) + np.multiply.outer(taken, drive)
