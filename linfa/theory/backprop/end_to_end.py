"""Backprop in a balanced deep network without its layers: the product of the weights moves by itself."""

import numpy as np

from linfa.algebra import T
from linfa.dynamics import velocity
from linfa.network import Network
from linfa.rules import bp
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.result import Result

__all__ = ["end_to_end", "end_to_end_flow", "singular_value_speed"]


def end_to_end(W, E, N: int):
    """Velocity of W = W_N .. W_1 under backprop, if W_(l+1)^T W_(l+1) = W_l W_l^T.

        W' = sum_(j = 1)^N (W W^T)^((j-1)/N) E (W^T W)^((N-j)/N)

    With W = U diag(sigma) V^T and x = sigma^(2/N) the entry u_i^T E v_k is multiplied by sum_j x_i^(j-1) x_k^(N-j):
    depth speeds up what the network already does well, and leaves alone what it does not do at all.

    Args:
        W: (..., n_out, n_in).
        E: minus the gradient of any loss by W, Syx - W Sxx for the mean square error; (..., n_out, n_in).
        N: number of weights, at least 1.

    Raises:
        ValueError: for an N that is not a whole number of at least 1, and for shapes that differ.

    Source: Arora, Cohen & Hazan (2018); known result re-derived (`derivations.end_to_end_flow`).

    >>> end_to_end(np.diag([4.0, 1.0, 0.0]), np.ones((3, 3)), N=2)
    array([[8., 5., 4.],
           [5., 2., 1.],
           [4., 1., 0.]])
    """
    U, sigma, Vt = _decomposed(W, E, N)
    powers = np.arange(N)
    x = sigma[..., None] ** (2 / N * powers)  # (..., min(n_out, n_in), N)
    left, right = (_padded(x, size) for size in np.shape(W)[-2:])
    return U @ ((left @ T(right[..., ::-1])) * (T(U) @ E @ T(Vt))) @ Vt


def singular_value_speed(W, E, N: int):
    """sigma_i' = N sigma_i^(2 - 2/N) u_i^T E v_i, in the order of falling sigma_i (..., min(n_out, n_in)).

    Args, Raises: as `end_to_end`; the singular values are all different.

    Source: Arora, Cohen, Hu & Luo (2019); known result re-derived (`derivations.end_to_end_flow`).

    >>> singular_value_speed(np.diag([4.0, 1.0]), np.ones((2, 2)), N=2)
    array([8., 2.])
    """
    U, sigma, Vt = _decomposed(W, E, N)
    return N * sigma ** (2 - 2 / N) * np.diagonal(T(U) @ E @ T(Vt), axis1=-2, axis2=-1)


def end_to_end_flow(task, W, N: int, times, rtol: float = 1e-11, atol: float = 1e-13) -> np.ndarray:
    """The map of a balanced network at times (t,), (t, n_out, n_in), by a Runge-Kutta method for `end_to_end`.

    Args:
        task: a `Task`, white or not.
        W: W_N .. W_1 at time 0 (n_out, n_in), of full rank: elsewhere the roots in the velocity are not smooth, and
            rounding errors grow to their power 2/N.
        N: number of weights, at least 1.
        times: increasing, from 0 or later.
        rtol, atol: tolerances of the integrator.

    Raises:
        ValueError: for a map of another task, or not of full rank.

    Source: Arora, Cohen & Hazan (2018); known result re-derived.

    >>> import linfa
    >>> task, other = (linfa.Task.from_spectrum([2.0, 1.0], seed=seed) for seed in (0, 1))
    >>> run = linfa.simulate(linfa.bp(), task, linfa.Network.aligned(other, [2, 3], 0.2), [0.0, 1.0, 2.0], rtol=1e-11)
    >>> np.allclose(end_to_end_flow(task, run.map[0], 3, run.times), run.map, rtol=1e-8)
    True
    """
    from scipy.integrate import solve_ivp

    W = np.asarray(W, float)
    _decomposed(W, task.Syx, N)
    sigma = np.linalg.svd(W, compute_uv=False)
    if sigma[-1] <= 1e-9 * sigma[0]:
        raise ValueError(f"the map at time 0 is not of full rank: its singular values go down to {sigma[-1]:.2g}")

    def field(_, y):
        at = y.reshape(W.shape)
        return end_to_end(at, task.Syx - at @ task.Sxx, N).ravel()

    times = np.asarray(times, float)
    solution = solve_ivp(field, (0.0, times[-1]), W.ravel(), "DOP853", times, rtol=rtol, atol=atol)
    return solution.y.T.reshape(-1, *W.shape)


def _decomposed(W, E, N):
    if not N >= 1 or N % 1:
        raise ValueError(f"N is a whole number, at least 1: got {N}")
    if np.shape(W)[-2:] != np.shape(E)[-2:]:
        raise ValueError(f"W and E have one shape: got {np.shape(W)} and {np.shape(E)}")
    return np.linalg.svd(W)


def _padded(x, size):
    """Powers x^0 .. x^(N-1) with those of zeros, 1, 0 .. 0, below, up to a number of rows."""
    out = np.zeros((*x.shape[:-2], size, x.shape[-1]))
    out[..., 0] = 1
    out[..., : x.shape[-2], :] = x
    return out


def _flow(seed):
    """Random tasks, white or not, from balanced starts along other singular vectors; and the speeds on the way."""
    rng = examples.generator(seed)
    n, m, N = (int(i) for i in rng.integers(1, 5, 3))
    moment = examples.moment(rng, n, 0.5, 1.3) if rng.random() < 0.5 else None
    task = Task.teacher(examples.matrix(rng, m, n, 0.5, 1.5), moment, noise=0.3 * (rng.random() < 0.5))
    other, modes = Task.teacher(examples.matrix(rng, m, n, 1.0, 2.0)), min(n, m)
    hidden = [modes + int(rng.integers(0, 3)) for _ in range(N - 1)]
    strengths = 0.3 + 0.4 * np.arange(modes) + rng.uniform(0, 0.1, modes)
    run = simulate(
        bp(), task, Network.aligned(other, hidden, strengths, seed), np.linspace(0, 2, 9), rtol=1e-11, atol=1e-13
    )
    flow = relative_error(end_to_end_flow(task, run.map[0], N, run.times), run.map)
    U, _, Vt = np.linalg.svd(run.map[0], full_matrices=False)
    moved = _map_velocity(run.at(0), task)
    speed = singular_value_speed(run.map[0], task.Syx - run.map[0] @ task.Sxx, N)
    return max(flow, relative_error(speed, np.einsum("oi,on,in->i", U, moved, Vt)))


def _map_velocity(state, task):
    """d/dt W_N .. W_1 by the product rule on the layers."""
    v = velocity(bp(), state, task.batch).weights
    out = []
    for at in range(len(v)):
        layers = [*state.weights[:at], v[at], *state.weights[at + 1 :]]
        total = layers[0]
        for layer in layers[1:]:
            total = layer @ total
        out.append(total)
    return sum(out)


RESULTS = (
    Result("A7", "backprop from a balanced start of depth N moves W = W_N .. W_1 by W' = sum_j (W W^T)^((j-1)/N) E "
           "(W^T W)^((N-j)/N), its singular values by N sigma^(2 - 2/N) u^T E v",
           "Arora, Cohen & Hazan (2018), Arora et al. (2019); known result re-derived", 1e-8, _flow),
)  # fmt: skip
