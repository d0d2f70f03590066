"""Executable proofs: from the rule object to the closed form, every step checked by algebra.

Each file holds one result.  It starts at the equations that `linfa.derive` reads off the rule, and ends at the function
in `linfa.theory` that the simulations are compared with; nothing is typed twice.

proof.py  a derivation and its steps          words.py  matrix products as words, and their reduction

>>> print(named()["fa_invariant"]().title)
the invariant of feedback alignment, depth 2
"""

import importlib
from collections.abc import Callable

_NAMES = ("bp_balance", "fa_invariant", "final_map", "kolen_pollack_decay", "saxe_mode", "zero_init_fa")

__all__ = ["named"]


def named() -> dict[str, Callable]:
    """Every derivation by name, a function that proves it and returns a `derivations.proof.Derivation`."""
    return {name: importlib.import_module(f"derivations.{name}").derivation for name in _NAMES}
