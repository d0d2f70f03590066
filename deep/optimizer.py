"""Optimisers that take the step of a rule's geometry: its directions, in place of the gradients of the weights."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from deep import layers, local, maps, ops
from deep.factored import FactoredLayer
from linfa.rules import Euclidean, Geometry, Rule


class Directed(Optimizer):
    """W <- W - lr (direction of G + decay W), and another optimiser for whatever is not a promoted weight.

    G is the gradient, or with momentum m what `torch.optim.Muon` orthogonalises: the mean M <- m M + (1 - m) gradient,
    looked ahead, m M + (1 - m) gradient.  A kernel is the matrix (C_out, C_in k k), or g of them with groups.

    The first of ``param_groups`` is that of the directed weights, the others are those of ``others``; schedulers, state
    and ``state_dict`` cover all of them.  The directions are found on every process from the full gradients: DDP works,
    sharded parameters do not.

    Args:
        weights: of the promoted layers, in the order W_1 .. W_L.
        groups: how many matrices each is, 1 for what is neither a grouped convolution nor attention.
        geometry: of the rule.
        lr: of the weights.
        momentum: m in [0, 1).
        decay: of the rule.
        precision: dtype in which directions are found; None for that of the gradients.
        others: optimiser of the other parameters, or None.

    Raises:
        ValueError: for a momentum outside [0, 1) or a negative learning rate.
    """

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        groups: Sequence[int],
        geometry: Geometry,
        lr: float,
        momentum: float = 0.0,
        decay: float = 0.0,
        precision: torch.dtype | None = None,
        others: Optimizer | None = None,
    ):
        if not 0 <= momentum < 1 or not lr >= 0:
            raise ValueError(f"momentum is in [0, 1) and lr at least 0; got {momentum} and {lr}")
        self.groups, self.geometry, self.precision, self.others = tuple(groups), geometry, precision, others
        own = {"params": list(weights), "lr": lr, "momentum": momentum, "decay": decay}
        super().__init__([own, *(others.param_groups if others else ())], {})
        self._share()

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        own = self.param_groups[0]
        ahead = tuple(
            ops.matricise(self._ahead(W, own["momentum"]), groups).to(self.precision)
            for W, groups in zip(own["params"], self.groups, strict=True)
        )
        lr = float(own["lr"])
        for W, D in zip(own["params"], self.geometry.directions(ahead), strict=True):
            if W.grad is not None:
                W.mul_(1 - lr * own["decay"]).sub_(D.reshape(W.shape).to(W), alpha=lr)
        if self.others is not None:
            self.others.step()
        return loss

    def _ahead(self, W, momentum):
        """What the direction is taken of; zeros for a weight without a gradient, which stays where it is."""
        if W.grad is None or not momentum:
            return torch.zeros_like(W) if W.grad is None else W.grad
        if "mean" not in self.state[W]:
            self.state[W]["mean"] = torch.zeros_like(W.grad)
        mean = self.state[W]["mean"].lerp_(W.grad, 1 - momentum)
        return W.grad.lerp(mean, momentum)

    def add_param_group(self, param_group):
        if "others" in vars(self) and len(self.param_groups) == 1 + len(
            self.others.param_groups if self.others else ()
        ):
            raise NotImplementedError("parameters cannot be added to this optimiser: make another with deep.optimizer")
        super().add_param_group(param_group)

    def __getstate__(self):
        return {
            **super().__getstate__(),
            **{name: vars(self)[name] for name in ("groups", "geometry", "precision", "others")},
        }

    def __setstate__(self, state):
        super().__setstate__(state)
        self._share()

    def _share(self):
        """Groups and state are the same objects here and in ``others``, after they were replaced here."""
        if self.others is not None:
            self.others.param_groups, self.others.state = self.param_groups[1:], self.state


def taught(model: nn.Module) -> tuple[dict[str, nn.Module], set[Rule]]:
    """The layers whose weights a rule moves, by path, and the rules of a promoted model."""
    found, rules = {}, set()
    for path, module in model.named_modules():
        if isinstance(module, local.LocalModel):
            found |= {f"{path}.{inner}".lstrip("."): m for inner, m in local.linear_maps(module).items()}
            rules.add(module.local.rule)
        elif isinstance(module, layers.Promoted):
            found[path] = module
            rules.add(module.own_rule)
    return found, rules


def optimizer(
    model: nn.Module,
    lr: float,
    momentum: float = 0.95,
    others: Callable[[list], Optimizer] = torch.optim.Adam,
    euclidean: Sequence[str] = (),
    precision: torch.dtype | None = None,
) -> Directed:
    """One optimiser for a promoted model: the weights by the geometry of its rule, everything else by another one.

    With ``linfa.muon(rule)`` every promoted weight descends the polar factor of its gradient's mean, and with
    `linfa.rules.NewtonSchulz` what `torch.optim.Muon` makes of it, up to rounding (that works in bfloat16:
    ``precision=torch.bfloat16`` does, too) and its factor sqrt(max(1, n_out / n_in)) of the learning rate.  The rule's
    decay is that of the rule, beside the direction and not in it.

    Args:
        model: a promoted model.
        lr: learning rate of the promoted weights.
        momentum: m in [0, 1) of their gradients' mean; 0 gives the descent of the core, `linfa.descend`.
        others: list of parameters -> optimiser, for biases, normalisations, embeddings, layers that are not promoted
            and feedback that learns, such as ``functools.partial(torch.optim.SGD, lr=0.1)``.
        euclidean: paths of promoted layers whose weights go to ``others``, too, such as the head: Muon is for hidden
            matrices.
        precision: dtype in which directions are found; None for that of the gradients.

    Raises:
        ValueError: for a model that is not promoted, or with rules that differ in geometry or decay, for a path that
            is no promoted layer, or one whose decay would be lost.

    >>> import deep, linfa
    >>> net = deep.promote(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), linfa.muon(linfa.fa()))
    >>> steps = optimizer(net, lr=0.02)
    >>> [len(group["params"]) for group in steps.param_groups]
    [2, 2]
    """
    promoted, rules = taught(model)
    kinds = {(rule.geometry, rule.decay - layers.gradient_decay(rule)) for rule in rules}
    if len(kinds) != 1:
        raise ValueError(f"an optimiser has one geometry and one decay, and the model's layers have {kinds or 'none'}: "
                         "promote the model first, with one rule")  # fmt: skip
    ((geometry, decay),) = kinds
    unknown = [path for path in euclidean if path not in promoted]
    if unknown:
        raise ValueError(f"euclidean names no promoted layer of the model: {', '.join(unknown)}")
    if decay and euclidean:
        raise ValueError(f"the decay {decay} of the rule is taken beside the directions, so that weights left out of "
                         "them, euclidean=..., would not decay: use a rule without decay")  # fmt: skip
    directed = {
        p: count
        for path, layer in promoted.items()
        if path not in euclidean
        for p, count in _matrices(layer)
        if p.requires_grad
    }
    left = [p for p in model.parameters() if p.requires_grad and p not in directed]
    rest = others(left) if left else None
    return Directed(tuple(directed), tuple(directed.values()), geometry, lr, momentum, decay, precision, rest)


def _matrices(layer):
    """Weights with the number of matrices in each; in place of a weight its factors, which take the Euclidean step."""
    return [(p, 1) for p in layer.stored()] if isinstance(layer, FactoredLayer) else maps.kernels(layer).values()


def check_optimizer(rule, chosen: Optimizer) -> None:
    """Raise ValueError for an optimiser that would descend gradients where the rule has directions of its own."""
    if rule.geometry != Euclidean() and not (isinstance(chosen, Directed) and chosen.geometry == rule.geometry):
        raise ValueError(
            f"{rule.name} descends the directions of {rule.geometry}, which {type(chosen).__name__} does not take: use "
            "deep.optimizer(model, lr)"
        )
