"""The world a linear network learns in: the second moments of inputs and targets."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from linfa.algebra import T, beside, reciprocal
from linfa.streams import stream


class Batch(NamedTuple):
    """Columns whose sums are expectations: E[x x^T] = X X^T and E[y x^T] = Y X^T.

    The same type holds a mini-batch (columns divided by the root of their number) and a whole population (n + m columns
    that reproduce its moments exactly), so per-batch rules and population theory are one code.

    Args:
        X: (n_in, N); leading axes make an ensemble of tasks, member by member the world of an ensemble of networks.
        Y: (n_out, N).
        one: (N, 1), what a constant 1 looks like: E[s] = S one for a signal S; None for a population of zero mean.
    """

    X: Any
    Y: Any
    one: Any = None

    def with_unit_constant(self) -> "Batch":
        """The same moments with E[1] = one^T one = 1, so that S - S one one^T has no mean.

        The columns of a population say of a constant only what is linear in x and y; a column of zeros for the rest.

        >>> batch = Task.from_data([[1.0], [3.0]], [[0.0], [1.0]]).batch
        >>> float((batch.with_unit_constant().one ** 2).sum().round(12))
        1.0
        """
        if self.one is None:
            return self
        left = 1 - (self.one**2).sum((-2, -1))[..., None, None]
        if (left < 1e-12).all():
            return self
        X, Y = (beside(part, 0 * part[..., :1]) for part in (self.X, self.Y))
        return Batch(X, Y, T(beside(T(self.one), left.clip(0) ** 0.5)))


def _shaped(name, value, ensemble, *shape):
    """The value as an array of that shape, for each member of an ensemble the same if it has no leading axes."""
    value = np.asarray(value, dtype=float)
    axes, own = value.shape[: -len(shape)], value.shape[-len(shape) :]
    if own != shape:
        raise ValueError(f"{name} is {shape}; got shape {value.shape}")
    if axes not in ((), ensemble):
        raise ValueError(f"{name} has the leading axes of Syx, {ensemble}, or none; got shape {value.shape}")
    return value if axes == ensemble else np.broadcast_to(value, (*ensemble, *shape))


def _symmetric(name, S, ensemble, n):
    S = _shaped(name, S, ensemble, n, n)
    if not np.isfinite(S).all():
        raise ValueError(f"{name} has entries that are not finite")
    asymmetry = np.abs(S - T(S)).max(initial=0)
    if asymmetry > 1e-10 * max(1.0, np.abs(S).max(initial=0)):
        raise ValueError(f"{name} is not symmetric: entries differ by up to {asymmetry:.3g}")
    S = (S + T(S)) / 2
    values = np.linalg.eigvalsh(S)
    if (values[..., 0] < -1e-10 * np.maximum(1.0, values[..., -1])).any():
        raise ValueError(f"{name} is not a second moment: it has the negative eigenvalue {values.min():.3g}")
    return S


def _root(S):
    """Symmetric square root and its pseudo-inverse."""
    values, basis = np.linalg.eigh(S)
    keep = values > 1e-12 * np.maximum(values[..., -1:], 1e-300)
    root = np.where(keep, np.sqrt(np.where(keep, values, 1)), 0)[..., None, :]
    return (basis * root) @ T(basis), (basis * reciprocal(root)) @ T(basis)


@dataclass(frozen=True, eq=False)
class Task:
    """Regression of y on x, known by its second moments.

    Leading axes of Syx make an ensemble of tasks, one for each member of an ensemble of networks.

    Args:
        Sxx: E[x x^T], (n_in, n_in).
        Syx: E[y x^T], (n_out, n_in).
        Syy: E[y y^T], (n_out, n_out); by default that of noiseless targets, Syx Sxx^+ Syx^T.
        mean_x, mean_y: means, (n_in,) and (n_out,); zero by default.
        inputs, targets: the samples behind the moments, (N, n_in) and (N, n_out), if there are any; not of an ensemble.

    Raises:
        ValueError: on shapes that do not match, entries that are not finite, a moment that is not symmetric or not
            positive semi-definite, or targets that vary less than their dependence on the inputs says.

    >>> task = Task.from_spectrum([3.0, 1.0], n_in=4, n_out=3, seed=0)
    >>> task
    Task(4 -> 3, white, singular values 3, 1)
    >>> np.allclose(task.batch.Y @ task.batch.X.T, task.Syx)
    True
    """

    Sxx: np.ndarray
    Syx: np.ndarray
    Syy: np.ndarray | None = None
    mean_x: np.ndarray | None = None
    mean_y: np.ndarray | None = None
    inputs: np.ndarray | None = None
    targets: np.ndarray | None = None

    def __post_init__(self):
        Syx = np.asarray(self.Syx, dtype=float)
        if Syx.ndim < 2 or not Syx.size:
            raise ValueError(f"Syx is a matrix (..., n_out, n_in); got shape {Syx.shape}")
        if not np.isfinite(Syx).all():
            raise ValueError("Syx has entries that are not finite")
        ensemble, (m, n) = Syx.shape[:-2], Syx.shape[-2:]
        Sxx = _symmetric("Sxx", self.Sxx, ensemble, n)
        inverse = _root(Sxx)[1]
        whitened = Syx @ inverse
        explained = whitened @ T(whitened)
        outside = np.abs(Syx - whitened @ _root(Sxx)[0]).max()
        if outside > 1e-8 * max(1.0, np.abs(Syx).max()):
            raise ValueError(f"Syx reaches directions in which Sxx has no variance (by {outside:.3g})")
        Syy = explained if self.Syy is None else _symmetric("Syy", self.Syy, ensemble, m)
        lowest = np.linalg.eigvalsh(Syy - explained).min()
        if lowest < -1e-8 * max(1.0, np.abs(Syy).max()):
            raise ValueError(
                f"Syy is too small for Syx and Sxx: Syy - Syx Sxx^-1 Syx^T has the negative eigenvalue {lowest:.3g}"
            )
        for name, value in (("Sxx", Sxx), ("Syx", Syx), ("Syy", Syy)):
            object.__setattr__(self, name, value)
        for name, size in (("mean_x", n), ("mean_y", m)):
            mean = np.zeros(size) if getattr(self, name) is None else getattr(self, name)
            object.__setattr__(self, name, _shaped(name, mean, ensemble, size))
        if ensemble and self.inputs is not None:
            raise ValueError("samples belong to a single task, and Syx has the leading axes of an ensemble")

    @classmethod
    def from_spectrum(cls, singular_values, n_in=None, n_out=None, Sxx=None, noise: float = 0.0, seed: int = 0):
        """A task whose map has given singular values and random singular vectors.

        Args:
            singular_values: of the map from inputs to targets, at most min(n_in, n_out) of them, each >= 0.
            n_in, n_out: dimensions; by default the number of singular values.
            Sxx: second moment of the inputs; white by default.
            noise: standard deviation of independent label noise.
            seed: of the singular vectors.  An array of seeds makes an ensemble of what each gives alone.

        >>> Task.from_spectrum([2.0, 1.0], n_in=3, seed=[4, 5])
        Task(3 -> 2, white, ensemble 2)
        """
        s = np.atleast_1d(np.asarray(singular_values, dtype=float))
        n, m = n_in or len(s), n_out or len(s)
        if s.ndim != 1 or not s.size or not np.isfinite(s).all() or (s < 0).any():
            raise ValueError(f"singular values are one or more numbers, finite and not negative; got {s.tolist()}")
        if len(s) > min(n, m):
            raise ValueError(f"{len(s)} singular values do not fit a map from {n} inputs to {m} outputs")
        rng = stream(seed)
        U, V = (np.linalg.qr(rng.standard_normal((*np.shape(seed), size, len(s))))[0] for size in (m, n))
        return cls.teacher((U * s) @ T(V), Sxx=Sxx, noise=noise)

    @classmethod
    def teacher(cls, weight, Sxx=None, noise: float = 0.0):
        """Targets y = weight x + noise.

        Args:
            weight: the teacher's map (..., n_out, n_in); leading axes make an ensemble.
            Sxx: second moment of the inputs; white by default.
            noise: standard deviation of independent label noise.
        """
        weight = np.atleast_2d(np.asarray(weight, dtype=float))
        m, n = weight.shape[-2:]
        Sxx = np.eye(n) if Sxx is None else _symmetric("Sxx", Sxx, weight.shape[:-2], n)
        if noise < 0:
            raise ValueError(f"noise is a standard deviation, at least 0; got {noise}")
        Syx = weight @ Sxx
        return cls(Sxx, Syx, Syx @ T(weight) + noise**2 * np.eye(m))

    @classmethod
    def from_data(cls, inputs, targets, center: bool = False):
        """The empirical moments of samples, which are kept for mini-batches.

        Args:
            inputs: (N, n_in), one sample a row.
            targets: (N, n_out), or N class numbers, which become one-hot rows.
            center: subtract the means first.
        """
        inputs, targets = np.asarray(inputs, dtype=float), np.asarray(targets)
        if targets.ndim == 1:
            classes, index = np.unique(targets, return_inverse=True)
            targets = np.eye(len(classes))[index]
        targets = targets.astype(float)
        if inputs.ndim != 2 or len(inputs) != len(targets) or not len(inputs):
            raise ValueError(
                f"inputs are (N, n_in) and targets (N, n_out) with the same N > 0; got {inputs.shape}, {targets.shape}"
            )
        if not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
            raise ValueError("the data have entries that are not finite")
        if center:
            inputs, targets = inputs - inputs.mean(0), targets - targets.mean(0)
        N = len(inputs)
        return cls(
            inputs.T @ inputs / N,
            targets.T @ inputs / N,
            targets.T @ targets / N,
            inputs.mean(0),
            targets.mean(0),
            inputs,
            targets,
        )

    @property
    def n_in(self) -> int:
        """Input dimension."""
        return self.Syx.shape[-1]

    @property
    def n_out(self) -> int:
        """Target dimension."""
        return self.Syx.shape[-2]

    @property
    def ensemble(self) -> tuple[int, ...]:
        """Leading axes of an ensemble of tasks."""
        return self.Syx.shape[:-2]

    @property
    def whiteness_violation(self) -> float:
        """Largest entry of Sxx - I."""
        return float(np.abs(self.Sxx - np.eye(self.n_in)).max())

    @functools.cached_property
    def optimum(self) -> np.ndarray:
        """The least-squares map Syx Sxx^+ (..., n_out, n_in)."""
        inverse = _root(self.Sxx)[1]
        return self.Syx @ inverse @ inverse

    def least_loss(self, rank: int | None = None) -> np.ndarray:
        """The loss of the best linear map, of any rank or of at most the given one (...).

        1/2 tr(Syy) - 1/2 sum_(j<=r) s_j^2 with the singular values s_j of Syx Sxx^(-1/2): reduced-rank regression
        (Izenman 1975), for white inputs the theorem of Eckart & Young.

        >>> float(Task.from_spectrum([3.0, 2.0, 1.0]).least_loss(rank=1).round(12))
        2.5
        """
        s = np.linalg.svd(self.Syx @ _root(self.Sxx)[1], compute_uv=False)
        total, learned = np.trace(self.Syy, axis1=-2, axis2=-1), (s[..., :rank] ** 2).sum(-1)
        return 0.5 * np.where(total - learned > 1e-12 * total, total - learned, 0.0)

    @functools.cached_property
    def batch(self) -> Batch:
        """The whole population as n_in + n_out columns with exactly its moments."""
        root, inverse = _root(self.Sxx)
        whitened = self.Syx @ inverse
        noise, _ = _root(_clipped(self.Syy - whitened @ T(whitened)))
        X, Y = root, whitened
        if noise.any():
            X, Y = beside(root, np.zeros_like(T(whitened))), beside(whitened, noise)
        if not (self.mean_x.any() or self.mean_y.any()):
            return Batch(X, Y)
        columns, mean = np.concatenate([X, Y], axis=-2), np.concatenate([self.mean_x, self.mean_y], axis=-1)
        return Batch(X, Y, np.linalg.pinv(columns, rcond=1e-10) @ mean[..., None])

    def sample(self, size: int, rng: np.random.Generator) -> Batch:
        """A mini-batch: rows of the data drawn without replacement, or draws of a normal population without data.

        Args:
            size: number of samples N.
            rng: the generator; `linfa.streams.Streams` draw for each member of an ensemble from a stream of its own.
        """
        if self.inputs is not None:
            if size > len(self.inputs):
                raise ValueError(f"a batch of {size} does not fit the {len(self.inputs)} samples of the task")
            rows = rng.choice(len(self.inputs), size, replace=False)
            x, y = T(self.inputs[rows]), T(self.targets[rows])
        else:
            X, Y, one = self.batch
            z = rng.standard_normal((*getattr(rng, "shape", self.ensemble), X.shape[-1], size))
            if one is not None:
                # The root of the covariance I - one one^T of the columns' coefficients, then their mean.
                length = T(one) @ one
                z = z - one @ (T(one) @ z) * (1 - np.sqrt(np.clip(1 - length, 0, 1))) / length + one
            x, y = X @ z, Y @ z
        root = np.sqrt(size)
        return Batch(x / root, y / root, np.full((size, 1), 1 / root))

    def __repr__(self):
        kind = "white" if self.whiteness_violation < 1e-8 else "not white"
        if self.ensemble:
            return f"Task({self.n_in} -> {self.n_out}, {kind}, ensemble {'x'.join(map(str, self.ensemble))})"
        s = np.linalg.svd(self.optimum, compute_uv=False)
        s = s[s > 1e-10 * max(s[0], 1e-300)]
        values = ", ".join(f"{v:.4g}" for v in s[:6]) + ", ..." * (len(s) > 6)
        return f"Task({self.n_in} -> {self.n_out}, {kind}, singular values {values})"


def _clipped(S):
    """The nearest positive semi-definite matrix, with rounding errors set to zero."""
    values, basis = np.linalg.eigh((S + T(S)) / 2)
    scale = np.maximum(np.abs(values).max(-1, keepdims=True), 1.0)
    return (basis * np.where(values > 1e-12 * scale, values, 0)[..., None, :]) @ T(basis)
