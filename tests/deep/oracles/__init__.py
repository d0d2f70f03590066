"""Independent oracles of promoted gradients.  They share no code with `deep` or with the parts of `linfa.rules`.

A rule is read for the names and the numbers of its parts, a promoted model for the numbers in its ``state_dict``; nets
are plain, and every formula is written once more, another way.

gradients.py   every gradient of a rule on a batch: the one function that the others make up
layerwise.py   surrogates W x.detach() + (B^T x - (B^T x).detach())       direct.py     one backward from many roots
local.py       autograd, module by module                                 attention.py  four maps and a softmax
plasticity.py  each formula on explicit matrices                          columns.py    what a convolution sees
factored.py    weights composed from factors, penalties as scalars        feedback.py   B from what is stored
activity.py    standardised and whitened units                            geometry.py   polar factors
net.py         plain nets with the numbers of a promoted one              draws.py      the same random numbers again
"""

from .activity import normalised  # isort: skip
from .columns import CONVOLUTIONS, convolution_columns  # isort: skip
from .direct import arrival, multi_root_gradients  # isort: skip
from .draws import Draws  # isort: skip
from .factored import compose  # isort: skip
from .feedback import feedback_matrix  # isort: skip
from .geometry import polar  # isort: skip
from .gradients import gradients  # isort: skip
from .layerwise import surrogate, surrogate_net  # isort: skip
from .local import local_gradients  # isort: skip

__all__ = [
    "CONVOLUTIONS", "Draws", "arrival", "compose", "convolution_columns", "feedback_matrix", "gradients",
    "local_gradients", "multi_root_gradients", "normalised", "polar", "surrogate", "surrogate_net",
]  # fmt: skip
