"""Feedback: what carries the teaching signal along an edge.

base.py  the abstract Feedback     transpose.py  W^T     dense.py  a matrix of its own
sign.py  signs of W with magnitudes of their own         low_rank.py  two factors Q P
"""

from linfa.rules.feedback.base import Feedback
from linfa.rules.feedback.dense import Dense
from linfa.rules.feedback.low_rank import LowRank, RandomFactors, SVDFactors, SVDStructured
from linfa.rules.feedback.sign import FixedSign, RedrawnSign, Sign, UnitSign
from linfa.rules.feedback.transpose import Transpose

__all__ = [
    "Dense", "Feedback", "FixedSign", "LowRank", "RandomFactors", "RedrawnSign", "SVDFactors", "SVDStructured", "Sign",
    "Transpose", "UnitSign",
]  # fmt: skip
