"""Parameterisation: what a weight is made of, and what its objective adds to the loss.

base.py  the abstract Parameterisation     full.py       the weight itself
factored.py  U diag(s) V^T of rank r       penalties.py  orthogonality, alignment, cosine, sparsity of the factors
"""

from linfa.rules.parameterisation.base import Parameterisation
from linfa.rules.parameterisation.factored import SVD, Factored
from linfa.rules.parameterisation.full import Full
from linfa.rules.parameterisation.penalties import Alignment, Cosine, Orthogonality, Penalty, Sparsity

__all__ = ["SVD", "Alignment", "Cosine", "Factored", "Full", "Orthogonality", "Parameterisation", "Penalty", "Sparsity"]
