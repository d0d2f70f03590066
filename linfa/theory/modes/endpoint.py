"""Where aligned feedback alignment ends: weights, rates of the last approach, and the shift by finite steps."""

import numpy as np

from linfa.dynamics import State, velocity
from linfa.network import Network
from linfa.rules import bp, fa
from linfa.simulate import simulate
from linfa.theory.alignment.zero_init_fa import amplitude, gain
from linfa.theory.base import relative_error
from linfa.theory.modes.problem import AlignedProblem, observed_order
from linfa.theory.result import Result

__all__ = ["fa_endpoint", "fa_relaxation_rates", "finite_step_shift"]


def _positive(s, h):
    s, h = np.asarray(s, dtype=float), np.asarray(h, dtype=float)
    if not ((s > 0).all() and (h > 0).all()):
        raise ValueError(f"every mode is seen and has a target, s > 0 and h > 0; got s = {s}, h = {h}")
    return s, h


def fa_endpoint(s, h) -> tuple[np.ndarray, np.ndarray]:
    """Singular values of W_1 and W_2 that feedback alignment from zero ends with, mode by mode.

    W_1: (2 sqrt(h) s)^(1/3), so that W_1^T W_1 has h^(1/3) (2s)^(2/3); W_2: (2s)^(2/3) h^(-1/6) / 2; their product is
    s.  Backprop from a small balanced start has sqrt(s) in both: the representation W_1^T W_1 of feedback alignment is
    flatter, s^(2/3) in place of s.

    Args:
        s: singular values of the task.
        h: eigenvalues of B^T B on its modes; both positive, of one shape.

    Raises:
        ValueError: if one of them is not positive.

    Source: derived here.

    >>> w1, w2 = fa_endpoint(4.0, 1.0)
    >>> float(w1), float(w2)
    (2.0, 2.0)
    """
    s, h = _positive(s, h)
    seen = np.sqrt(h) * s
    return amplitude(seen, 1.0), s * gain(seen, 1.0)


def fa_relaxation_rates(s, h, n_out: int | None = None, n_in: int | None = None) -> np.ndarray:
    """Rates (n_out, n_in) at which the entries of U^T E V vanish in the end: r_i/2 + r_j with r = h^(1/3) (2s)^(2/3).

    U and V are continued by directions without a mode, where r = 0: errors there relax through the other side alone,
    and an error from nothing to nothing stays.  With the sign changed, those that do not vanish are the non-zero
    eigenvalues of the linearised flow, each once.

    Args:
        s, h: (q,), as in `fa_endpoint`.
        n_out, n_in: widths of output and input; by default q.

    Raises:
        ValueError: if one is not positive, or there are more modes than a width.

    Source: derived here.

    >>> fa_relaxation_rates([4.0], [1.0], n_out=2).tolist()
    [[6.0], [4.0]]
    """
    r = fa_endpoint(*np.atleast_1d(s, h))[0] ** 2
    m, n = n_out or r.size, n_in or r.size
    if r.size > min(m, n):
        raise ValueError(f"{r.size} modes do not fit {n} inputs and {m} outputs")
    return np.pad(r, (0, m - r.size))[:, None] / 2 + np.pad(r, (0, n - r.size))


def finite_step_shift(s, h) -> tuple[np.ndarray, np.ndarray]:
    """What finite steps add to the end, in units of the learning rate eta and up to O(eta^2).

    W_1 ends at (2 sqrt(h) s)^(1/3) + eta sqrt(h) s / 4, and the invariant W_1 W_1^T - B W_2 - W_2^T B^T, zero for the
    flow, at eta 3/4 sqrt(h) s (2 sqrt(h) s)^(1/3): the exact drift eta^2 B E E^T B^T of a step, summed along the flow.

    Args:
        s, h: as in `fa_endpoint`.

    Returns:
        The shifts of the modes of W_1 and of the invariant.

    Source: derived here.

    >>> [float(shift) for shift in finite_step_shift(4.0, 1.0)]
    [1.0, 6.0]
    """
    s, h = _positive(s, h)
    seen = np.sqrt(h) * s
    return seen / 4, 0.75 * seen * amplitude(seen, 1.0)


def _spectra(seed):
    problem = AlignedProblem.draw(seed)
    end = problem.simulate([0.0, 30.0])
    small = Network((0.03 * problem.R @ problem.Vt, 0.03 * problem.U @ problem.R.T))
    backprop = simulate(bp(), problem.task, small, [0.0, 40.0], rtol=1e-11, atol=1e-14)
    q, worst = problem.s.size, 0.0
    for W, closed in zip(end.weights, fa_endpoint(problem.s, problem.h), strict=True):
        found = np.linalg.svd(W[-1], compute_uv=False)[:q]
        worst = max(worst, relative_error(np.sort(closed)[::-1], found))
    spectrum = np.linalg.svd(backprop.weights[0][-1], compute_uv=False)[:q] ** 2
    return max(worst, relative_error(np.sort(problem.s)[::-1], spectrum))


def _jacobian(task, state):
    """The Jacobian of the velocity of the weights, by complex steps."""
    sizes = [w.size for w in state.weights]

    def field(z):
        weights = tuple(p.reshape(w.shape) for p, w in zip(np.split(z, sizes[:1]), state.weights, strict=True))
        return np.concatenate([v.ravel() for v in velocity(fa(), State(weights, state.feedback), task.batch).weights])

    z = np.concatenate([w.ravel() for w in state.weights])
    return np.stack([field(z + 1e-30j * unit).imag / 1e-30 for unit in np.eye(z.size)], 1)


def _rates(seed):
    problem = AlignedProblem.draw(seed, extra=1)
    end = problem.simulate([0.0, 40.0]).at(-1)
    closed = fa_relaxation_rates(problem.s, problem.h, problem.task.n_out, problem.task.n_in)
    wanted = np.sort(closed[closed > 0])[::-1]
    values = np.linalg.eigvals(_jacobian(problem.task, end))
    found = -values[np.argsort(values.real)][: wanted.size]
    rest = np.abs(np.sort(values.real)[wanted.size :]).max(initial=0)
    return max(relative_error(wanted, found.real), np.abs(found.imag).max(), rest)


def _shift(seed):
    problem, rates, left = AlignedProblem.draw(seed, modes=2), (0.02, 0.01), []
    seen = np.sqrt(problem.h) * problem.s
    for lr in rates:
        state = problem.descend(lr, round(24 / lr), record=round(24 / lr)).at(-1)
        W1, W2 = state.weights
        mixed = problem.B @ W2
        a = np.einsum("kq,kn,qn->q", problem.R, W1, problem.Vt)
        c = np.einsum("kq,kl,lq->q", problem.R, W1 @ W1.T - mixed - mixed.T, problem.R)
        shift = finite_step_shift(problem.s, problem.h)
        left.append(np.stack([a - amplitude(seen, 1.0) - lr * shift[0], c - lr * shift[1]]))
    orders = [observed_order(rates, np.abs(pair)) for pair in np.stack(left).reshape(2, -1).T]
    return max(abs(order - 2) for order in orders)


RESULTS = (
    Result("C6", "aligned FA from zero ends with h^(1/3) (2s)^(2/3) in W_1^T W_1 and (2s)^(2/3) h^(-1/6) / 2 in W_2, "
           "where BP has s and sqrt(s)", "derived here", 1e-8, _spectra),
    Result("C9", "aligned FA from zero comes to rest at the rates r_i/2 + r_j, r = h^(1/3) (2s)^(2/3)",
           "derived here", 1e-8, _rates),
    Result("C11", "steps of size eta move the end of W_1 by eta sqrt(h) s / 4, of W_1 W_1^T - B W_2 - W_2^T B^T by "
           "eta 3/4 sqrt(h) s (2 sqrt(h) s)^(1/3), up to O(eta^2)", "derived here", 0.1, _shift),
)  # fmt: skip
