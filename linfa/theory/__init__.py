"""Closed forms of learning: what a rule does to a network, written down before it is run.

A theory is put on a rule, a task and a state at time 0, checks its assumptions there, and predicts.

base.py          the abstract Theory           invariants.py          conserved quantities
assumptions.py   what theories ask for         examples.py            random problems inside the assumptions
scalar.py        exp, log ... of anything      special.py             Phi_3 and its inverse
saxe.py          SaxeMode, backprop            zero_init_fa.py        ZeroInitFA, any fixed feedback from zero weights
final_map.py     FinalMap, where FA ends       kolen_pollack.py       KolenPollackDecay, feedback that meets the weights
eckart_young.py  EckartYoung, the best feedback of rank r

>>> by_name("SaxeMode").__name__
'SaxeMode'
"""

import importlib

_HOMES = {
    "AssumptionError": "base",
    "EckartYoung": "eckart_young",
    "FinalMap": "final_map",
    "KolenPollackDecay": "kolen_pollack",
    "SaxeMode": "saxe",
    "Setup": "base",
    "Theory": "base",
    "ZeroInitFA": "zero_init_fa",
}

__all__ = [
    "AssumptionError", "EckartYoung", "FinalMap", "KolenPollackDecay", "SaxeMode", "Setup", "Theory", "ZeroInitFA",
    "by_name", "named",
]  # fmt: skip


def __getattr__(name):
    # The rules import the invariants from this package; the theories, which know the rules, load when first asked for.
    if name in _HOMES:
        return getattr(importlib.import_module(f"linfa.theory.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'linfa.theory' has no attribute {name!r}")


def named() -> dict[str, type]:
    """Every theory by the name of its class.

    >>> sorted(named())
    ['EckartYoung', 'FinalMap', 'KolenPollackDecay', 'SaxeMode', 'ZeroInitFA']
    """
    return {name: __getattr__(name) for name in _HOMES if name not in ("AssumptionError", "Setup", "Theory")}


def by_name(name: str) -> type:
    """The theory class that a `ClosedForm` claim names.

    Raises:
        ValueError: for an unknown name, listing the known ones.

    >>> by_name("Saxe")
    Traceback (most recent call last):
        ...
    ValueError: no theory is called 'Saxe': choose one of EckartYoung, FinalMap, KolenPollackDecay, SaxeMode, ZeroInitFA
    """
    theories = named()
    if name not in theories:
        raise ValueError(f"no theory is called {name!r}: choose one of {', '.join(sorted(theories))}")
    return theories[name]
