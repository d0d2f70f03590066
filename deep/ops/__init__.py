"""The autograd functions: an exact forward, and the backward that a rule describes.

Errors arrive as torch delivers them, dLoss/dy with samples in rows.  ``stored`` are the matrices of an edge, as in
`linfa.rules.feedback`; their gradients are minus the velocities of the rule's plasticity, so any optimiser moves them.
Forward-mode derivatives use the true weight.
"""

from deep.ops.broadcast import FanOut, as_rows, mean_product
from deep.ops.convolution import ConvEdge, ConvMap, matricise
from deep.ops.function import PLAIN_COPY, alias, apply, autocast, detach
from deep.ops.linear import LinearEdge, LinearMap
from deep.ops.objective import Objective, decayed
from deep.ops.plasticity import feedback_gradients, shown

__all__ = [
    "PLAIN_COPY", "ConvEdge", "ConvMap", "FanOut", "LinearEdge", "LinearMap", "Objective", "alias", "apply", "as_rows",
    "autocast", "decayed", "detach", "feedback_gradients", "matricise", "mean_product", "shown",
]  # fmt: skip
