"""Local losses: autograd, module by module, on detached inputs."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .feedback import feedback_matrix  # isort: skip
from .net import plain_net  # isort: skip
from .plasticity import plasticity_gradients  # isort: skip


def local_gradients(modules, heads, x, losses, lam):
    """Fill the gradients of modules that learn locally, from the losses of single samples; returns those of the heads.

    Args:
        modules: callables in a row.
        heads: C (outputs, features) of each but the last.
        x: a batch.
        losses: logits -> loss of each sample (N,).
        lam: weight of the reconciliation.

    Returns:
        The gradients of the heads, and g_1 .. g_K and h_1 .. h_K for single samples, where h_1 is None.
    """
    below, made, g, h = None, [], [], []
    for number, module in enumerate(modules):
        x = x.detach().requires_grad_(number > 0)
        out = module(x)
        logits, C = out, None
        if number < len(heads):
            C = heads[number].detach().clone().requires_grad_()
            features = out
            while features.dim() > 2:  # tokens are in front of the features, positions behind
                features = features.mean(1) if out.dim() == 3 else features.mean(-1)
            logits = torch.einsum("ef,nf->ne", C, features)
        each = losses(logits)
        objective = each.mean()
        h.append(torch.autograd.grad(each.sum(), x, create_graph=True)[0] if number else None)
        if number:
            objective = objective + lam * ((h[-1] - below) ** 2).flatten(1).sum(1).mean()
        (below,) = torch.autograd.grad(each.sum(), out, retain_graph=True)
        g.append(below)
        objective.backward()
        if C is not None:
            made.append(C.grad)
        x = out
    return made, g, [None if each is None else each.detach() for each in h]


def modules_of(stages, number):
    """Stages in a row as that many modules, divided as evenly as they go, at the cuts ceil(k L / K)."""
    number = min(number or len(stages), len(stages))
    ends = [-(-k * len(stages) // number) for k in range(number + 1)]
    return [nn.Sequential(*stages[a:b]) for a, b in pairwise(ends)]


def greedy_gradients(make, rule, state, x, losses, stages):
    """Every gradient of the losses of a local rule, and of its heads; arguments as those of `gradients`."""
    net = plain_net(make, state)
    modules = modules_of(stages(net), rule.route.modules)
    names = ("B",) if "feedback_1_B" in state else ("Q", "P")
    held = [{name: state[f"feedback_{k}_{name}"].detach() for name in names} for k in range(1, len(modules))]
    heads = [feedback_matrix(matrices).T for matrices in held]
    with sdpa_kernel(SDPBackend.MATH):  # which has a second derivative
        slopes, _, _ = local_gradients(modules, heads, x, losses, rule.route.lam)
    found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    for k, (matrices, G) in enumerate(zip(held, slopes, strict=True), 1):
        moves = plasticity_gradients(rule.plasticity, matrices, G)
        found |= {f"feedback_{k}_{name}": move for name, move in moves.items()}
    return found
