"""The conserved quantities of the catalogue, measured along the flow of the rules that keep them."""

from linfa.rules import Conserved, bp, kolen_pollack, ldfa
from linfa.theory import invariants
from linfa.theory.result import Result
from linfa.verify import simulated


def _kept(key, statement, source, quantity, rate, *rules) -> Result:
    claim = Conserved(quantity, rate)
    return Result(
        key, statement, source, 1e-8, lambda seed: max(c.error for r in rules for c in simulated(claim, r, seed))
    )


RESULTS = (
    _kept("A3", "backprop conserves W_(l+1)^T W_(l+1) - W_l W_l^T", "Fukumizu (1998); known result re-derived",
          invariants.balance, 2, bp(), bp(decay=0.1)),
    _kept("D7", "with dQ = -G^T P^T, W_1 W_1^T - Q Q^T is conserved for any motion of P", "derived here",
          invariants.activity_balance, 2, kolen_pollack(0.0), ldfa(2, "kolen-pollack", decay=0.0)),
)  # fmt: skip
