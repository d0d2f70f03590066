"""The conserved quantities of the catalogue: measured along the flow of the rules that keep them, and counted."""

import numpy as np

from linfa.discovery import discover
from linfa.rules import (
    Conserved,
    Hebb,
    Layerwise,
    Normative,
    RandomFactors,
    Rule,
    bp,
    drtp,
    fa,
    kolen_pollack,
    ldfa,
    pepita,
)
from linfa.symbolic import derive
from linfa.task import Task
from linfa.theory import examples, invariants
from linfa.theory.result import Result
from linfa.verify import simulated

__all__ = ["invariant_count"]


def invariant_count(name: str, n: int, k: int, m: int, r: int) -> int:
    """Number of independent conserved polynomials of degree 1 and 2 of a two-layer network n -> k -> m.

    With T(q) = q (q + 1) / 2 and l linear invariants (derived here; the method of counting follows Marcotte et al. 2023
    for gradient flows):

        bp T(k);   fa with feedback of rank r: l = (k - r) n, l + T(l) + T(k) - T(k - r);
        kolen-pollack: l = k m, and with Q alone l = k r: l + T(l) + T(k);   hebb T(k) + T(r);   normative T(r);
        pepita 0;   drtp on one task: l = k n - 1, l + T(l)

    Args:
        name: of the rule, as above, "kolen-pollack-q" for the learning of Q alone.
        n, k, m: widths.
        r: rank of the feedback.

    Raises:
        ValueError: for an unknown name.

    >>> invariant_count("fa", 2, 3, 2, 2)
    10
    """

    def T(q):
        return q * (q + 1) // 2

    linear = {"fa": (k - r) * n, "kolen-pollack": k * m, "kolen-pollack-q": k * r, "drtp": k * n - 1}.get(name, 0)
    others = {"bp": T(k), "fa": T(k) - T(k - r), "kolen-pollack": T(k), "kolen-pollack-q": T(k), "hebb": T(k) + T(r),
              "normative": T(r), "pepita": 0, "drtp": 0}  # fmt: skip
    if name not in others:
        raise ValueError(f"no count is known for {name!r}: choose one of {', '.join(others)}")
    return linear + T(linear) + others[name]


def _miscounts(seed):
    """How many rules have another number of conserved polynomials than the formula says, at random sizes."""
    n, k, m = (int(i) for i in examples.generator(seed).integers(2, 4, 3))
    r, full = min(k, m) - 1, min(k, m)
    task = Task.teacher(np.random.default_rng((seed, 22)).choice([-2, -1, 1, 2, 3], (m, n)))
    cases = [
        ("bp", bp(), full, None), ("fa", fa(), full, None), ("fa", ldfa(r, "fixed"), r, None),
        ("kolen-pollack", kolen_pollack(), full, None), ("kolen-pollack-q", ldfa(r, "kolen-pollack"), r, None),
        ("hebb", Rule(Layerwise(), RandomFactors(r), Hebb()), r, None),
        ("normative", Rule(Layerwise(), RandomFactors(r), Normative()), r, None),
        ("pepita", pepita(), full, None), ("drtp", drtp(), full, task),
    ]  # fmt: skip
    return float(sum(
        len(discover(rule, (n, k, m), task=only, seed=seed)) != invariant_count(name, n, k, m, rank)
        for name, rule, rank, only in cases
    ))  # fmt: skip


def _unproved(seed):
    rules = (fa(), kolen_pollack(), ldfa(2, "hebb"), bp())
    return float(sum(not derive(rule, 2 + seed % 3).prove(claim) for rule in rules for claim in rule.conserved()))


def _kept(key, statement, source, quantity, rate, *rules) -> Result:
    claim = Conserved(quantity, rate)
    return Result(
        key,
        statement,
        source,
        1e-8,
        lambda seed: max(c.error for r in rules for c in simulated(claim, r, seed, (2, 3))),
    )


RESULTS = (
    _kept("A3", "backprop conserves W_(l+1)^T W_(l+1) - W_l W_l^T", "Fukumizu (1998); known result re-derived",
          invariants.balance, 2, bp(), bp(decay=0.1)),
    _kept("D7", "with dQ = -G^T P^T, W_1 W_1^T - Q Q^T is conserved for any motion of P", "derived here",
          invariants.activity_balance, 2, kolen_pollack(0.0), ldfa(2, "oja"), ldfa(2, "hebb")),
    Result("B9", "the conserved polynomials of degree 1 and 2 are as many as invariant_count says", "derived here", 0.0,
           _miscounts),
    Result("E14", "the invariants of bp, FA, Kolen-Pollack and Hebb are proved by algebra", "derived here", 0.0,
           _unproved),
)  # fmt: skip
