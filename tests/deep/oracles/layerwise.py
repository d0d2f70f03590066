"""Layerwise rules: surrogates, whose value is a layer's and whose derivative goes through another weight."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .activity import normalise  # isort: skip
from .attention import Attention  # isort: skip
from .columns import plain_convolution, rows  # isort: skip
from .draws import Draws  # isort: skip
from .feedback import feedback_matrix, kernel, matricised, stored  # isort: skip
from .net import LINEAR, apply, plain_net, put  # isort: skip
from .plasticity import plasticity_gradients  # isort: skip


def surrogate(x, weight, bias, other, linear: Any = F.linear, clamp=None):
    """W x.detach() + b + (W' x - (W' x).detach()): the value is that of W, the derivative by x that of another weight.

    Args:
        x, weight, bias: of the map.
        other: W', in the shape of the weight.
        linear: (x, weight, bias) -> y.
        clamp: largest entry of the error that arrives at x; None for no limit.
    """
    live = x
    if clamp is not None and x.requires_grad:
        live = x.view_as(x)
        live.register_hook(lambda error: error.clip(-clamp, clamp))
    carried = linear(live, other.to(x), None)
    return linear(x.detach(), weight, bias) + (carried - carried.detach())


@dataclass(frozen=True)
class Edge:
    """The feedback beside one linear map.

    Args:
        at: its place in a state dict.
        layer: a plain layer of the map's settings.
        W: the map (n_e, n_h), or one for each group.
        stored: name -> matrix.
        clamp: of the error that it delivers.
        spread: of magnitudes that are drawn in every pass.
        draws: of these; None where they stay.
        seen: a list that receives the edge with its activity and error, as that arrives; or None.
    """

    at: str
    layer: nn.Module
    W: torch.Tensor
    stored: dict
    clamp: float | None
    spread: torch.Tensor | None
    draws: Draws | None
    seen: list | None

    def through(self, x, weight, bias, linear: Any = F.linear):
        """The map, whose error goes down through the feedback."""
        y = surrogate(x, weight, bias, kernel(self.layer, self.matrix()), linear, self.clamp)
        if self.seen is not None:
            y.register_hook(lambda e: self.seen.append((self, x.detach(), e)))
        return y

    def matrix(self):
        """B (n_h, n_e), or one for each group."""
        if self.draws is None or not self.stored:
            return feedback_matrix(self.stored, self.W)
        M = (self.spread * self.draws.parameters(self.stored["M"].shape)).abs()
        return feedback_matrix({"M": M}, self.W)


class Surrogate(nn.Module):
    """A plain layer whose error goes down an edge."""

    def __init__(self, layer, edge):
        super().__init__()
        self.weight, self.bias, self.edge, self.linear = layer.weight, layer.bias, edge, F.linear
        if not isinstance(layer, nn.Linear):
            conv = plain_convolution(layer)
            self.linear = lambda x, W, b: torch.func.functional_call(conv, {"weight": W, "bias": b}, (x,))

    def forward(self, x):
        return self.edge.through(x, self.weight, self.bias, self.linear)


class SurrogateAttention(Attention):
    """Attention with an edge each beside the maps to queries, keys and values."""

    def __init__(self, module, edges):
        super().__init__(module)
        self.edges = edges

    def project(self, name, x, weight, bias):
        return self.edges[name].through(x, weight, bias)


def surrogate_net(make, state, paths=None, clamp=None, draws=None, seen=None):
    """A plain net with the numbers of a promoted one, and surrogates for its linear maps.

    Args:
        make: () -> a plain net.
        state: the promoted model's.
        paths: of the layers to replace; None for all.
        clamp, draws, seen: of every `Edge`.
    """
    net = plain_net(make, state)
    every = [path for path, module in net.named_modules() if isinstance(module, LINEAR)]
    for path in every if paths is None else paths:
        layer, spread = net.get_submodule(path), state.get(f"{path}.spread")

        def edge(at, plain, W, spread):
            return Edge(at, plain, W.detach(), stored(state, at), clamp, spread, draws, seen)

        if isinstance(layer, Attention):
            spreads = (None,) * 3 if spread is None else spread
            maps = zip("qkv", layer.weights(), spreads, strict=True)
            edges = {name: edge(f"{path}.feedback.{name}", nn.Linear(1, 1), W, s) for name, W, s in maps}
            put(net, path, SurrogateAttention(layer, edges))
        else:
            put(net, path, Surrogate(layer, edge(f"{path}.feedback", layer, matricised(layer, layer.weight), spread)))
    return net


def layerwise_gradients(make, rule, state, x, losses, order, draws):
    """Every gradient of the loss of a layerwise rule, and of its feedback; arguments as those of `gradients`."""
    seen: list = []
    net = surrogate_net(make, state, order, rule.feedback.clamp, draws if rule.feedback.redrawn else None, seen)
    normalise(net, order[:-1], rule.activity)
    losses(apply(net, x)).mean().backward()
    found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    for edge, h, e in seen if type(rule.plasticity).__name__ != "Fixed" else ():
        if edge.stored:
            found |= {f"{edge.at}.{name}": g for name, g in _edge_gradients(rule.plasticity, edge, h, e, draws).items()}
    return found


def _edge_gradients(plasticity, edge, h, e, draws):
    """Of what one edge stores; directions are drawn as errors arrive, from the last layer down."""
    J = W = edge.W
    if plasticity.directions is not None:
        xi = draws.operands((*W.shape[:-2], W.shape[-1], plasticity.directions))
        J = W @ xi @ xi.mT / plasticity.directions
    parts = []
    for group, (h_, e_) in enumerate(rows(edge.layer, h, e)):
        held, own = edge.stored, J
        if J.dim() == 3:
            held, own = {name: B[group] for name, B in held.items()}, J[group]
        parts.append(plasticity_gradients(plasticity, held, torch.einsum("ne,nh->eh", e_, h_), e_, own))
    return {name: torch.stack([p[name] for p in parts]) if J.dim() == 3 else parts[0][name] for name in parts[0]}
