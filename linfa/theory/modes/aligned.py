"""Feedback aligned with the task, B = R diag(sqrt h_i) U^T with Sigma = U diag(s_i) V^T: one curve for all modes."""

import numpy as np

from linfa.network import Network
from linfa.rules import bp
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.alignment.zero_init_fa import timescale
from linfa.theory.base import relative_error
from linfa.theory.modes.problem import AlignedProblem, observed_order
from linfa.theory.result import Result
from linfa.theory.special import phi3, phi3_inverse

__all__ = ["early_spectrum", "fa_half_time", "fa_mode", "learning_order"]


def _seen(s, h):
    """Singular values sqrt(h) s of B Sigma."""
    s, h = np.asarray(s, dtype=float), np.asarray(h, dtype=float)
    for name, values in (("a singular value", s), ("an eigenvalue of B^T B", h)):
        if not (values >= 0).all():
            raise ValueError(f"{name} is at least 0; got {values.min():.3g}")
    return np.sqrt(h) * s


def fa_mode(t, s, h) -> np.ndarray:
    """Strength w = s x^3 of one mode under feedback alignment from zero: x = Phi_3^-1(t/T), T = (2/(h s^2))^(1/3).

    `ZeroInitFA` where B^T B has the eigenvectors U: the modes of B Sigma are those of Sigma.

    Args:
        t: times, at least 0.
        s: singular value of the task, at least 0.
        h: eigenvalue of B^T B on the mode, at least 0.  All three are numbers or arrays that broadcast.

    Raises:
        ValueError: for a negative argument.

    Source: derived here (`derivations.fa_aligned_mode`).

    >>> float(fa_mode(phi3(0.5), s=1.0, h=2.0).round(12))
    0.125
    """
    seen = _seen(s, h)
    x = phi3_inverse(np.asarray(t, dtype=float) / timescale(np.where(seen > 0, seen, 1.0)))
    return np.where(seen > 0, np.asarray(s, dtype=float) * x**3, 0.0)


def fa_half_time(s, h) -> np.ndarray:
    """Time T Phi_3(2^(-1/3)) = 0.93771 (2/(h s^2))^(1/3) at which half of a mode is learned.

    Backprop from a balanced u_0 takes log(s/u_0 - 1)/(2s), without limit as u_0 -> 0.  Arguments as in `fa_mode`, but
    positive.  Source: derived here.

    >>> float(fa_mode(fa_half_time(3.0, 0.5), 3.0, 0.5).round(12))
    1.5
    """
    seen = _seen(s, h)
    if not (seen > 0).all():
        raise ValueError("a mode with s = 0 or h = 0 is never learned: no half time")
    return timescale(seen) * phi3(np.cbrt(0.5))


def learning_order(s, h) -> np.ndarray:
    """Indices of the modes in the order in which feedback alignment learns them: by h_i s_i^2, the largest first.

    The relative strengths w_i/s_i are one curve in the units T_i, so that they never cross.  Backprop goes by s_i.

    Args:
        s, h: (modes,), as in `fa_mode`.

    Source: derived here; Girotti et al. (2021) speak of implicit anti-regularisation, known, not compared.

    >>> learning_order([2.0, 1.0], [0.1, 1.0]).tolist()
    [1, 0]
    """
    return np.argsort(-_seen(s, h), kind="stable")


def early_spectrum(s, h) -> np.ndarray:
    """Singular values of W_2 W_1 at t -> 0 under feedback alignment from zero, in units of the largest: h_i s_i^3.

    Every mode starts at once, as t^3: w_i = h_i s_i^3 t^3 / 2.  Backprop from u_0 has e^(2 s_i t) instead, and by the
    time the first mode is learned the others are behind by powers of u_0.

    Args:
        s, h: (modes,), as in `fa_mode`.

    Raises:
        ValueError: if h_i s_i = 0 for all.

    Source: derived here.

    >>> early_spectrum([2.0, 1.0], [1.0, 1.0]).tolist()
    [1.0, 0.125]
    """
    strength = _seen(s, h) ** 2 * np.asarray(s, dtype=float)
    if not strength.any():
        raise ValueError("the feedback sees no mode of the task")
    return strength / strength.max()


def _mode(seed):
    problem = AlignedProblem.draw(seed)
    run = problem.simulate(np.linspace(0, 8, 17))
    return relative_error(problem.along(fa_mode(run.times[:, None], problem.s, problem.h)), run.map)


def _descent(seed):
    problem, rates, errors = AlignedProblem.draw(seed), (0.004, 0.002), []
    for lr in rates:
        run = problem.descend(lr, round(1.6 / lr), record=round(0.4 / lr))
        closed = problem.along(fa_mode(run.times[:, None], problem.s, problem.h))
        errors.append(relative_error(closed, run.map))
    return abs(observed_order(rates, errors) - 1)


def _order(seed):
    problem = AlignedProblem.draw(seed, modes=3)
    order, halves = learning_order(problem.s, problem.h), fa_half_time(problem.s, problem.h)
    run = problem.simulate(np.sort(np.append(halves, np.linspace(0, 6, 25))))
    learned = np.einsum("oq,toi,qi->tq", problem.U, run.map, problem.Vt) / problem.s
    crossing = max(float(np.diff(learned[:, order]).max()), 0.0)
    return max(crossing, float(np.abs(learned[np.searchsorted(run.times, halves), range(3)] - 0.5).max()))


def _early(seed):
    problem, times, errors = AlignedProblem.draw(seed, modes=3), (0.2, 0.1), []
    wanted = np.sort(early_spectrum(problem.s, problem.h))[::-1]
    for time in times:
        values = problem.simulate([0.0, time]).singular_values[-1, :3]
        errors.append(relative_error(wanted, values / values[0]))
    return abs(observed_order(times, errors) - 3)


def _greedy(seed):
    rng, starts, second = examples.generator(seed), (1e-5, 1e-6), []
    task = Task.from_spectrum(np.array([2.0, 1.2, 0.6]) * rng.uniform(0.9, 1.1, 3), seed=seed)
    s = np.linalg.svd(task.Syx, compute_uv=False)
    for u0 in starts:
        half = np.log(s[0] / u0 - 1) / (2 * s[0])
        run = simulate(bp(), task, Network.aligned(task, [3], u0), [0.0, half], rtol=1e-11, atol=1e-16)
        second.append(run.singular_values[-1, 1] / run.singular_values[-1, 0])
    return abs(observed_order(starts, second) - (1 - s[1] / s[0]))


RESULTS = (
    Result("C1", "FA aligned with the task learns mode i as s_i x^3, x = Phi_3^-1(t/T_i), T_i = (2/(h_i s_i^2))^(1/3)",
           "derived here", 1e-8, _mode),
    Result("C1g", "descent with learning rate eta is O(eta) away from that flow", "derived here", 0.1, _descent),
    Result("C7", "aligned FA learns modes by h_i s_i^2, half of one in 0.93771 T_i, and relative strengths never cross",
           "derived here; Girotti et al. (2021) known, not compared", 1e-8, _order),
    Result("C8", "W_2 W_1 at t -> 0 has singular values h_i s_i^3, up to O(t^3), under aligned FA from zero",
           "derived here", 0.1, _early),
    Result("C8b", "BP from u_0 has only mode 1 at its half time: sigma_2/sigma_1 = O(u_0^(1 - s_2/s_1))",
           "Saxe, McClelland & Ganguli (2013); known result re-derived", 0.1, _greedy),
)  # fmt: skip
