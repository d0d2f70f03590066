"""Every gradient of a rule on a batch, from the numbers of a promoted model alone."""

import torch

from linfa.rules import Direct, Euclidean, Factored, Layerwise, Local

from .direct import direct_gradients  # isort: skip
from .draws import Draws  # isort: skip
from .factored import composed, pulled, tangent  # isort: skip
from .layerwise import layerwise_gradients  # isort: skip
from .local import greedy_gradients  # isort: skip
from .net import called, plain_net  # isort: skip

WEIGHTS = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "U", "s", "V")


@torch.random.fork_rng(devices=())
def gradients(make, rule, state, x, losses, draws: Draws | None = None, stages=None) -> dict[str, torch.Tensor]:
    """Every gradient by the parameter's name, of weights, biases, normalisations, and of feedback that learns.

    Args:
        make: () -> a plain net of the model's structure, with every linear map called once, the first on the data.
        rule: the rule.
        state: name -> tensor, of the promoted model.
        x: its input, a tuple for several.
        losses: output -> loss of each sample, of whose mean the gradients are.
        draws: where the random numbers of the pass came from.
        stages: for local rules, net -> its stages, callables in a row.
    """
    net, draws = make(), draws or Draws()
    full = composed(net, state)
    if isinstance(rule.route, Local):
        found = greedy_gradients(make, rule, full, x, losses, stages)
    else:
        order = called(plain_net(make, full), x)
        route = {Layerwise: layerwise_gradients, Direct: direct_gradients}[type(rule.route)]
        found = route(make, rule, full, x, losses, order, draws)
        if isinstance(rule.parameterisation, Factored):
            found = pulled(net, rule, state, found, order)
    for name, g in found.items():
        inside = "feedback" in name
        if inside or (name.split(".")[-1] in WEIGHTS and g.dim() > 1 and rule.geometry == Euclidean()):
            found[name] = g + rule.decay * state[name].detach()
    if isinstance(rule.parameterisation, Factored) and rule.parameterisation.retraction:
        found = tangent(state, found)
    return found
