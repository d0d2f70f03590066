"""What a learning rule is.

A rule answers three questions about every linear map: where the teaching signal comes from (`route`), what carries it
(`feedback`) and how the carrier learns (`plasticity`).  What a weight is made of (`parameterisation`), which direction
a gradient stands for (`geometry`) and how hidden activities are normalised (`activity`) are three further parts.

rule.py       the Rule, put together from its parts      catalogue.py  bp(), fa(), dfa(), ldfa() ... by name
claims.py     what a rule says of itself                 edge.py       where feedback runs, and what may be read there
space.py      an example of every part, and what they compose to
"""

from linfa.rules.activity import Activity, Plain, Standardised, Whitened
from linfa.rules.catalogue import (
    bp,
    dfa,
    directional_dfa,
    dkp,
    drtp,
    fa,
    factored,
    kolen_pollack,
    ldfa,
    local,
    muon,
    named,
    normalised,
    pepita,
    sgr,
    sign_symmetry,
    svd_local,
    weight_mirror,
)
from linfa.rules.claims import Claim, ClosedForm, Conserved, ErrorRank, Homogeneous, Order
from linfa.rules.edge import Edge, Moments
from linfa.rules.feedback import (
    Dense,
    Feedback,
    FixedSign,
    LowRank,
    RandomFactors,
    RedrawnSign,
    Sign,
    SVDFactors,
    SVDStructured,
    Transpose,
    UnitSign,
)
from linfa.rules.geometry import Euclidean, Geometry, LayerRates, NewtonSchulz, Polar
from linfa.rules.parameterisation import (
    SVD,
    Alignment,
    Cosine,
    Factored,
    Full,
    Orthogonality,
    Parameterisation,
    Penalty,
    Sparsity,
)
from linfa.rules.plasticity import Delta, Fixed, Hebb, KolenPollack, Mirror, Normative, Oja, Plasticity
from linfa.rules.route import Carrier, Direct, Layerwise, Local, Modulated, Route, Target
from linfa.rules.rule import CompositionError, Rule

__all__ = [
    "SVD", "Activity", "Alignment", "Carrier", "Claim", "ClosedForm", "CompositionError", "Conserved", "Cosine",
    "Delta", "Dense", "Direct", "Edge", "ErrorRank", "Euclidean", "Factored", "Feedback", "Fixed", "FixedSign",
    "Full", "Geometry", "Hebb", "Homogeneous", "KolenPollack", "LayerRates", "Layerwise", "Local", "LowRank",
    "Mirror", "Modulated", "Moments", "NewtonSchulz", "Normative", "Oja", "Order", "Orthogonality",
    "Parameterisation", "Penalty", "Plain", "Plasticity", "Polar", "RandomFactors", "RedrawnSign", "Route", "Rule",
    "SVDFactors", "SVDStructured", "Sign", "Sparsity", "Standardised", "Target", "Transpose", "UnitSign",
    "Whitened", "bp", "dfa", "directional_dfa", "dkp", "drtp", "fa", "factored", "kolen_pollack", "ldfa", "local",
    "muon", "named", "normalised", "pepita", "sgr", "sign_symmetry", "svd_local", "weight_mirror",
]  # fmt: skip
