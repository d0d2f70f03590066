"""Streams of random numbers: one for a network, or one for every member of an ensemble."""

import functools

import numpy as np


class Streams:
    """Random numbers for an ensemble, in which every member draws what its own seed gives it alone.

    Has the methods of `numpy.random.Generator` that linfa uses.

    Args:
        seeds: whole numbers of at least 0 (...), the axes of the ensemble.
        path: further ones, the same for all members.

    Raises:
        ValueError: for seeds that are not such numbers, or a draw for an ensemble of other axes.

    >>> together = Streams([3, 5]).standard_normal((2, 4))
    >>> bool((together[1] == np.random.default_rng(5).standard_normal(4)).all())
    True
    """

    def __init__(self, seeds, *path: int):
        seeds = np.asarray(seeds)
        if not seeds.size or not np.issubdtype(seeds.dtype, np.integer) or (seeds < 0).any():
            raise ValueError(f"seeds are whole numbers, at least 0; got {seeds.tolist()}")
        self.shape, self.paths = seeds.shape, [(seed, *path) for seed in seeds.ravel().tolist()]

    @functools.cached_property
    def members(self) -> list[np.random.Generator]:
        """One generator for each member, made when the first number is drawn: a generator takes as long as a step."""
        return list(map(np.random.default_rng, self.paths))

    def standard_normal(self, size) -> np.ndarray:
        """Standard normal numbers of a shape that begins with the axes of the ensemble."""
        axes = len(self.shape)
        if tuple(size[:axes]) != self.shape:
            raise ValueError(f"{self.shape} seeds do not fit an ensemble of shape {tuple(size)}")
        return self._each(lambda rng: rng.standard_normal(size[axes:]))

    def choice(self, number: int, size: int, replace: bool = True) -> np.ndarray:
        """For every member, ``size`` of the numbers below ``number`` (..., size)."""
        return self._each(lambda rng: rng.choice(number, size, replace))

    def _each(self, draw):
        drawn = np.stack([draw(rng) for rng in self.members])
        return drawn.reshape(*self.shape, *drawn.shape[1:])


def stream(seed, *path: int):
    """The generator of a seed; for an array of seeds, `Streams` of them.

    Args:
        seed: a whole number, or one for each member of an ensemble.
        path: further whole numbers, by which the streams of one seed differ.
    """
    if np.ndim(seed):
        return Streams(seed, *path)
    return np.random.default_rng((seed, *path) if path else seed)
