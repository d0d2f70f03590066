"""Feedback that started from the weights, started anew from what they have become."""

import torch
from torch import nn

from deep import layers, maps
from deep.unsupported import Unsupported
from linfa.rules import Full, Rule


def refresh(model: nn.Module) -> None:
    """Replace feedback that started from the SVD of its weight by the SVD of the weight as it is now.

    An option of the normative rule in the authors' released code (Hanut & Kadmon, arXiv 2502.20580), which takes it
    every half epoch.  Parameters stay the same objects, and what an optimiser remembers of them stays, too.

    Args:
        model: promoted with a layerwise rule whose feedback starts from the weight, such as ``linfa.ldfa(r, "hebb")``.

    Raises:
        Unsupported: if no feedback of the model starts from a weight, or its weights are factored.

    >>> import deep, linfa
    >>> net = deep.promote(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), linfa.ldfa(rank=3, plasticity="normative"))
    >>> _ = nn.init.eye_(net[1].weight)
    >>> refresh(net)
    >>> B = net[1].feedback["Q"] @ net[1].feedback["P"]
    >>> torch.allclose(B, torch.eye(8, 3), atol=1e-6)
    True
    """
    found = [module for module in model.modules() if isinstance(module, layers.Promoted) and _starts(module)]
    if not found:
        raise Unsupported(
            f"{type(model).__name__} has no feedback that starts from a weight: there is nothing to refresh"
        )
    for module in found:
        if getattr(module, "U", None) is not None:
            raise Unsupported(f"refreshing follows full weights, not those of {module}")
    for module in found:
        rule = module.own_rule
        for name, weight in maps.matrices(module).items():
            stored = module.feedback[name] if name else module.feedback
            forward = weight.double().cpu().numpy()
            for key, matrix in zip(rule.feedback.names, rule.feedback.start(None, forward, 1.0), strict=True):
                if key in stored:
                    with torch.no_grad():
                        stored[key].copy_(torch.as_tensor(matrix))


def check_refresh(rule: Rule) -> None:
    """Raise Unsupported for a rule without feedback that starts from full weights."""
    if not _starts_from_weights(rule):
        raise Unsupported(f"the feedback of {rule.name} does not start from a weight: there is nothing to refresh")
    if not isinstance(rule.parameterisation, Full):
        raise Unsupported(f"refreshing follows full weights, not those of {rule.name}")


def _starts_from_weights(rule):
    return rule.route.single_layer and not rule.feedback.starts_at_random


def _starts(module):
    return _starts_from_weights(module.own_rule) and len(module.feedback) > 0
