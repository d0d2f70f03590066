"""A deep linear network: its weights at the start."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from linfa.algebra import T
from linfa.streams import stream


def _orthonormal(rng, batch, rows, columns):
    """Matrices (*batch, rows, columns) with orthonormal columns, or rows where there are fewer of them."""
    tall = rng.standard_normal((*batch, max(rows, columns), min(rows, columns)))
    Q, R = np.linalg.qr(tall)
    Q = Q * np.sign(np.diagonal(R, axis1=-2, axis2=-1))[..., None, :]
    return Q if rows >= columns else T(Q)


def _widths(widths):
    if len(widths) < 2 or any(int(n) != n or n < 1 for n in widths):
        raise ValueError(f"widths are at least two whole numbers (input, hidden ..., output); got {tuple(widths)}")
    return tuple(map(int, widths))


@dataclass(frozen=True, eq=False)
class Network:
    """The weights W_1 .. W_L of y = W_L ... W_1 x.

    Args:
        weights: L matrices, W_l of shape (..., n_l, n_(l-1)); equal leading axes make an ensemble, and numpy arrays and
            torch tensors both do.

    Raises:
        ValueError: if neighbouring shapes do not match or an entry is not finite.

    >>> Network.small((3, 5, 2), scale=0.1, seed=0)
    Network(3-5-2)
    >>> Network((np.ones((5, 3)), np.ones((2, 4))))
    Traceback (most recent call last):
        ...
    ValueError: W_2 takes 4 inputs but W_1 gives 5 outputs: shapes (2, 4) and (5, 3)
    """

    weights: tuple[Any, ...]

    def __post_init__(self):
        object.__setattr__(self, "weights", tuple(self.weights))
        if not self.weights:
            raise ValueError("a network has at least one weight")
        for number, w in enumerate(self.weights, 1):
            if w.ndim < 2:
                raise ValueError(f"W_{number} is a matrix (..., n_out, n_in); got shape {tuple(w.shape)}")
            if not bool((w == w).all() & (abs(w) < float("inf")).all()):
                raise ValueError(f"W_{number} has entries that are not finite")
        for number, (below, above) in enumerate(zip(self.weights, self.weights[1:], strict=False), 1):
            if above.shape[-1] != below.shape[-2]:
                raise ValueError(
                    f"W_{number + 1} takes {above.shape[-1]} inputs but W_{number} gives {below.shape[-2]} outputs: "
                    f"shapes {tuple(above.shape)} and {tuple(below.shape)}"
                )
            if above.shape[:-2] != below.shape[:-2]:
                raise ValueError(
                    f"all weights of an ensemble have the same leading axes; got {tuple(below.shape[:-2])} for "
                    f"W_{number} and {tuple(above.shape[:-2])} for W_{number + 1}"
                )

    @classmethod
    def small(cls, widths: Sequence[int], scale: float = 1e-2, seed: int = 0, batch: tuple = ()):
        """Independent normal entries, W_l of standard deviation scale / sqrt(n_(l-1)).

        Args:
            widths: n_0, n_1 .. n_L.
            scale: gain; 1 keeps the size of a signal.  Many (...) make an ensemble.
            seed: of the generator.  An array of seeds makes an ensemble of what each gives alone.
            batch: leading axes of an ensemble from one generator, behind those of the seeds.

        >>> Network.small((2, 4, 2), scale=np.array([0.1, 1.0]), seed=[5, 5])
        Network(2-4-2, ensemble 2)
        """
        rng, n, batch = stream(seed), _widths(widths), (*np.shape(seed), *batch)
        gain = np.asarray(scale)[..., None, None]
        return cls(tuple(gain / np.sqrt(a) * rng.standard_normal((*batch, b, a)) for a, b in itertools.pairwise(n)))

    @classmethod
    def zero(cls, widths: Sequence[int], batch: tuple = ()):
        """All weights zero, where feedback alignment (but not backprop) starts to learn."""
        n = _widths(widths)
        return cls(tuple(np.zeros((*batch, b, a)) for a, b in itertools.pairwise(n)))

    @classmethod
    def balanced(cls, widths: Sequence[int], scale: float = 0.1, seed: int = 0, batch: tuple = ()):
        """W_l = scale R_l R_(l-1)^T with random orthonormal frames R_l: W_(l+1)^T W_(l+1) = W_l W_l^T.

        The rank is the smallest width.
        """
        rng, n, batch = stream(seed), _widths(widths), (*np.shape(seed), *batch)
        frames = [_orthonormal(rng, batch, a, min(n)) for a in n]
        return cls(_chain(frames, np.full(min(n), scale)))

    @classmethod
    def aligned(cls, task, hidden: Sequence[int], strengths, seed: int = 0):
        """The balanced start along the singular vectors of a task, Sigma = U S V^T: W_L .. W_1 = U diag(u) V^T.

        Args:
            task: a `Task`; an ensemble of tasks makes one of networks.
            hidden: widths of the hidden layers.
            strengths: u >= 0 of each mode, one number or one for each of min(n_in, n_out) modes.
            seed: of the frames in the hidden layers.

        Raises:
            ValueError: if a hidden layer is narrower than the number of modes.
        """
        U, s, Vt = np.linalg.svd(task.Syx, full_matrices=False)
        *ensemble, modes = s.shape
        if min(hidden, default=modes) < modes:
            raise ValueError(f"hidden widths {tuple(hidden)} are too narrow for the {modes} modes of the task")
        rng = stream(seed)
        frames = [T(Vt), *(_orthonormal(rng, ensemble, k, modes) for k in hidden), U]
        root = np.broadcast_to(np.asarray(strengths, float), s.shape) ** (1 / (len(frames) - 1))
        return cls(_chain(frames, root))

    @property
    def depth(self) -> int:
        """L, the number of weights."""
        return len(self.weights)

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0, n_1 .. n_L."""
        return (self.weights[0].shape[-1], *(w.shape[-2] for w in self.weights))

    @property
    def batch(self) -> tuple[int, ...]:
        """Leading axes of the ensemble."""
        return tuple(self.weights[0].shape[:-2])

    def __repr__(self):
        ensemble = f", ensemble {'x'.join(map(str, self.batch))}" if self.batch else ""
        return f"Network({'-'.join(map(str, self.widths))}{ensemble})"


def _chain(frames, diagonal):
    return tuple((b * diagonal[..., None, :]) @ T(a) for a, b in itertools.pairwise(frames))
