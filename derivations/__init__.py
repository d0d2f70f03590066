"""Executable proofs: from the rule object to the closed form, every step checked by algebra.

Each file holds one result.  It starts at the equations that `linfa.derive` reads off the rule, and ends at the function
in `linfa.theory` that the simulations are compared with; nothing is typed twice.

proof.py  a derivation and its steps          words.py  matrix products as words, and their reduction

>>> print(named()["fa_invariant"]().title)
the invariant of feedback alignment, depth 2
"""

import importlib
import pkgutil
import re
from collections.abc import Callable

from linfa import theory

__all__ = ["evidence", "named"]


def named() -> dict[str, Callable]:
    """Every derivation by name, a function that proves it and returns a `derivations.proof.Derivation`."""
    files = (importlib.import_module(f"derivations.{found.name}") for found in pkgutil.iter_modules(__path__)
             if found.name != "__main__")  # fmt: skip
    return {
        file.__name__.removeprefix("derivations."): file.derivation for file in files if hasattr(file, "derivation")
    }


def evidence(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What measures a derivation: the theories that its file imports, and the results of the files that those are from.

    Returns:
        Names of classes in `linfa.theory`, and keys of the catalogue.

    >>> evidence("saxe_mode")
    (('SaxeMode',), ('A1',))
    """
    imported = [value for value in vars(importlib.import_module(f"derivations.{name}")).values()
                if re.match(r"linfa\.theory\.\w+\.", getattr(value, "__module__", None) or "")]  # fmt: skip
    known = theory.named().values()
    theories = tuple(value.__name__ for value in imported if value in known)
    files = dict.fromkeys(value.__module__ for value in imported)
    keys = (r.key for file in files for r in getattr(importlib.import_module(file), "RESULTS", ()))
    return theories, tuple(dict.fromkeys(keys))
