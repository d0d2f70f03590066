"""Closed forms of learning: what a rule does to a network, written down before it is run.

A theory is put on a rule, a task and a state at time 0, checks its assumptions there, and predicts.  Every file below
has its formulas as functions of arrays, and the entries of the catalogue, `RESULTS`, that test them by simulation.

base.py          the abstract Theory           result.py              an entry of the catalogue
assumptions.py   what theories ask for         examples.py            random problems inside the assumptions
scalar.py        exp, log ... of anything      special.py             Phi_3 and its inverse
invariants.py    conserved quantities

backprop/        the reference                 alignment/             fixed feedback, of any kind
dimension/       low-dimensional feedback      learned/               feedback that learns or decays
depth/           more than two layers          wide/                  many units, many samples
modes/           one mode at a time            directional/           feedback that follows the forward map
local/           modules with losses of their own                      factored/   weights U diag(s) V^T

>>> by_name("SaxeMode").__name__
'SaxeMode'
>>> [result.statement for result in results() if result.key == "A3"]
['backprop conserves W_(l+1)^T W_(l+1) - W_l W_l^T']
"""

import functools
import importlib
import pkgutil
import re


def _modules(package: str):
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = f"{package}.{found.name}"
        if found.ispkg:
            yield from _modules(name)
        else:
            yield importlib.import_module(name)


@functools.cache
def _public() -> dict:
    """Every public name of every file; loaded when first asked for, since the rules import the invariants from here."""
    found = {}
    for module in _modules(__name__):
        for name in getattr(module, "__all__", ()):
            if found.setdefault(name, getattr(module, name)) is not getattr(module, name):
                raise ImportError(f"two files of linfa.theory define {name}")
    return found


def __getattr__(name):
    if name in {module.name for module in pkgutil.iter_modules(__path__)}:
        return importlib.import_module(f"{__name__}.{name}")
    if not name.startswith("_") and name in _public():
        return _public()[name]
    raise AttributeError(f"module 'linfa.theory' has no attribute {name!r}")


def __dir__():
    return sorted({*_public(), "about", "by_name", "named", "results"})


def named() -> dict[str, type]:
    """Every theory by the name of its class.

    >>> {"EckartYoung", "FinalMap", "KolenPollackDecay"} <= set(named())
    True
    """
    from linfa.theory.base import Theory

    kinds = (kind for kind in _public().values() if isinstance(kind, type) and issubclass(kind, Theory))
    return {kind.__name__: kind for kind in sorted(kinds, key=lambda kind: kind.__name__) if kind is not Theory}


def by_name(name: str) -> type:
    """The theory class that a `ClosedForm` claim names.

    Raises:
        ValueError: for an unknown name, listing the known ones.

    >>> by_name("Saxe")
    Traceback (most recent call last):
        ...
    ValueError: no theory is called 'Saxe': choose one of ...
    """
    theories = named()
    if name not in theories:
        raise ValueError(f"no theory is called {name!r}: choose one of {', '.join(theories)}")
    return theories[name]


def about(rule) -> tuple[str, ...]:
    """Names of the theories that speak of a rule.

    >>> import linfa
    >>> about(linfa.bp(decay=0.1)), "ZeroInitFA" in about(linfa.fa())
    ((), True)
    """
    from linfa.theory.base import AssumptionError

    names = []
    for name, kind in named().items():
        try:
            kind.check_rule(rule)
        except AssumptionError:
            continue
        names.append(name)
    return tuple(names)


def results() -> tuple:
    """Every `Result` of the catalogue, in the order of the keys."""
    found = [result for module in _modules(__name__) for result in getattr(module, "RESULTS", ())]
    return tuple(sorted(found, key=lambda r: (r.key[0], *map(int, re.findall(r"\d+", r.key)), r.key)))
