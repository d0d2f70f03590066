"""Executable proofs: from the rule object to the closed form, every step checked by algebra.

Each file holds one result.  It starts at the equations that `linfa.derive` reads off the rule, and ends at the function
in `linfa.theory` that the simulations are compared with; nothing is typed twice.

proof.py  a derivation and its steps          words.py  matrix products as words, and their reduction

>>> print(named()["fa_invariant"]().title)
the invariant of feedback alignment, depth 2
"""

import importlib
import pkgutil
from collections.abc import Callable

__all__ = ["named"]


def named() -> dict[str, Callable]:
    """Every derivation by name, a function that proves it and returns a `derivations.proof.Derivation`."""
    files = (importlib.import_module(f"derivations.{found.name}") for found in pkgutil.iter_modules(__path__)
             if found.name != "__main__")  # fmt: skip
    return {
        file.__name__.removeprefix("derivations."): file.derivation for file in files if hasattr(file, "derivation")
    }
