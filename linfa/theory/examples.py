"""Random problems that keep away from slow modes, so that a short simulation decides; used by `Theory.example`."""

import numpy as np

from linfa.rules import (
    Dense,
    Direct,
    LayerRates,
    Layerwise,
    LowRank,
    Mirror,
    Normative,
    Oja,
    RandomFactors,
    Rule,
    bp,
    dfa,
    kolen_pollack,
    ldfa,
    muon,
    named,
)
from linfa.task import Task


def rules() -> dict[str, Rule]:
    """The rules of the catalogue, and others that some theory speaks of, by name.

    >>> "frozen readout" in rules()
    True
    """
    return named() | {
        "kolen-pollack without decay": kolen_pollack(0.0),
        "normative from random factors": Rule(Layerwise(), RandomFactors(2), Normative()),
        "fixed factors, broadcast": Rule(Direct(), RandomFactors(3)),
        "layer rates": Rule(Layerwise(), RandomFactors(2), geometry=LayerRates((0.5, 2.0))),
        "frozen readout": Rule(Layerwise(), RandomFactors(2), geometry=LayerRates((1.0, 0.0))),
        "frozen weights, Oja": Rule(Layerwise(), RandomFactors(2), Oja(), geometry=LayerRates((0.0, 0.0))),
        "frozen weights, normative": Rule(Layerwise(), RandomFactors(2), Normative(), geometry=LayerRates((0.0, 0.0))),
        "frozen weights, mirror": Rule(Direct(), Dense(), Mirror(0.5, 2.0), geometry=LayerRates((0.0, 0.0))),
        "frozen weights, mirror of factors": Rule(
            Layerwise(), RandomFactors(2), Mirror(1.0, 0.5), geometry=LayerRates((0.0, 0.0))
        ),
        "frozen hidden layer": Rule(Layerwise(), RandomFactors(2), Oja(), geometry=LayerRates((0.0, 1.0))),
        "bp + muon": muon(bp()),
        "dfa + muon": muon(dfa()),
        "ldfa(2, fixed) + muon": muon(ldfa(2, "fixed")),
    }


def generator(seed: int) -> np.random.Generator:
    """The stream of an example."""
    return np.random.default_rng((seed, 20))


def rank_of(rule) -> int:
    """Rank of the rule's feedback: the smallest width it needs; 1 for full feedback."""
    return rule.feedback.rank if isinstance(rule.feedback, LowRank) else 1


def frame(rng, rows: int, columns: int) -> np.ndarray:
    """A matrix (rows, columns) with orthonormal columns, or rows where there are fewer of them."""
    tall = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))[0]
    return tall if rows >= columns else tall.T


def matrix(rng, rows: int, columns: int, low: float, high: float) -> np.ndarray:
    """A matrix (rows, columns) of full rank with singular values between low and high.

    >>> s = np.linalg.svd(matrix(generator(0), 4, 3, 0.5, 2.0), compute_uv=False)
    >>> bool(s.min() >= 0.5 and s.max() <= 2.0)
    True
    """
    size = min(rows, columns)
    return (frame(rng, rows, size) * rng.uniform(low, high, size)) @ frame(rng, size, columns)


def moment(rng, n: int, low: float, high: float) -> np.ndarray:
    """A second moment (n, n) with eigenvalues between low and high."""
    basis = frame(rng, n, n)
    return (basis * rng.uniform(low, high, n)) @ basis.T


def feedback(rule, rng, widths) -> tuple:
    """For each edge well-conditioned matrices of the shapes that the rule stores, singular values in [0.8, 1.25]."""
    edges = rule.route.edges(len(widths) - 1)
    shapes = [rule.feedback.shapes(widths[edge.activity], widths[edge.source]) for edge in edges]
    return tuple(tuple(matrix(rng, rows, columns, 0.8, 1.25) for rows, columns in stored) for stored in shapes)


def white_task(rng, n: int, m: int, low: float, high: float) -> Task:
    """White inputs, singular values between low and high: all different, all equal, or some zero; at times noise."""
    modes = int(rng.integers(1, min(n, m) + 1)) if rng.random() < 0.4 else min(n, m)
    s = rng.uniform(low, high, modes)
    if rng.random() < 0.3:
        s[:] = s[0]
    weight = (frame(rng, m, modes) * s) @ frame(rng, modes, n)
    return Task.teacher(weight, noise=0.3 * (rng.random() < 0.5))
