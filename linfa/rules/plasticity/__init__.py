"""Plasticity: how the carrier of the error learns.

base.py  the abstract Plasticity    fixed.py    kolen_pollack.py    oja.py    hebb.py    normative.py
mirror.py     delta.py
"""

from linfa.rules.plasticity.base import Plasticity
from linfa.rules.plasticity.delta import Delta
from linfa.rules.plasticity.fixed import Fixed
from linfa.rules.plasticity.hebb import Hebb
from linfa.rules.plasticity.kolen_pollack import KolenPollack
from linfa.rules.plasticity.mirror import Mirror
from linfa.rules.plasticity.normative import Normative
from linfa.rules.plasticity.oja import Oja

__all__ = ["Delta", "Fixed", "Hebb", "KolenPollack", "Mirror", "Normative", "Oja", "Plasticity"]
