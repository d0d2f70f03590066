"""Direct rules: one backward from many roots, every cut a root whose gradient is e B^T."""

import copy

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .activity import normalise  # isort: skip
from .feedback import feedback_matrix, stored  # isort: skip
from .net import apply, plain_net  # isort: skip
from .plasticity import plasticity_gradients  # isort: skip


def multi_root_gradients(net, x, loss, feedback, source, source_is_input, seen=None):
    """Weight gradients of a direct rule by one backward from many roots.

    Args:
        net: a plain net, whose linear maps are called once each.
        feedback: path of a cut layer -> B (n_h, n_e).
        source: path of the layer at which the error is read, at its input or its output.
        seen: a dictionary that receives the activity of each cut, by path, and the "error" as rows.
    """
    live, read, handles = {}, {}, []

    def cut(path):
        def hook(module, inputs):
            live[path] = inputs[0]
            return (inputs[0].detach(),) * len(inputs)  # of attention all are one

        return hook

    def watch(module, inputs, output):
        read["output"] = output
        output.retain_grad()

    def watch_input(module, inputs):
        read["output"] = inputs[0]
        inputs[0].retain_grad()

    for path in feedback:
        handles.append(net.get_submodule(path).register_forward_pre_hook(cut(path)))
    target = net.get_submodule(source)
    handles.append(
        target.register_forward_pre_hook(watch_input) if source_is_input else target.register_forward_hook(watch)
    )
    value = loss(apply(net, x))
    for handle in handles:
        handle.remove()
    (error,) = torch.autograd.grad(value, read["output"], retain_graph=True)
    rows = as_rows(error, target)
    if seen is not None:
        seen.update({path: h.detach() for path, h in live.items()}, error=rows)
    roots, grads = [value], [torch.ones_like(value)]
    for path, B in feedback.items():
        roots.append(live[path])
        grads.append(torch.einsum("ne,he->nh", rows, B).reshape(live[path].shape))
    torch.autograd.backward(roots, grads)
    return {name: p.grad for name, p in net.named_parameters()}


def as_rows(signal, source):
    """A signal at a layer as rows: of a linear one every position is a sample, of a convolution every image."""
    return signal.flatten(0, -2) if isinstance(source, nn.Linear) else signal.flatten(1)


def arrival(net, x, paths, source, source_is_input):
    """The function (path -> displacement of that layer's input) -> signal at the source, of a plain net on a batch."""

    def run(displaced):
        read = []
        handles = [
            net.get_submodule(path).register_forward_pre_hook(
                lambda m, inputs, path=path: (inputs[0] + displaced[path],) * len(inputs)
            )
            for path in paths
        ]
        target = net.get_submodule(source)
        if source_is_input:
            handles.append(target.register_forward_pre_hook(lambda m, inputs: read.append(inputs[0])))
        else:
            handles.append(target.register_forward_hook(lambda m, inputs, output: read.append(output)))
        with sdpa_kernel(SDPBackend.MATH):  # which has a forward mode
            apply(net, x)
        for handle in handles:
            handle.remove()
        return read[0]

    return run


def drawn(net, x, paths, draws):
    """Path -> directions at the input of that layer, drawn as a training forward reaches it."""
    twin, found, own = copy.deepcopy(net).to(draws.dtype), {}, lambda t: t.to(draws.dtype)
    for path in paths:
        twin.get_submodule(path).register_forward_pre_hook(
            lambda m, inputs, path=path: found.update({path: draws.like(inputs[0])})
        )
    with torch.no_grad(), draws.context():
        apply(twin, tuple(map(own, x)) if isinstance(x, tuple) else own(x))
    return found


def shown(net, x, v, source, source_is_input):
    """Path -> the forward map (n_e, n_h) that directions at the cuts show: the mean over samples of d v^T."""
    zero = {path: torch.zeros_like(direction) for path, direction in v.items()}
    _, d = torch.func.jvp(arrival(net, x, v, source, source_is_input), (zero,), (v,))
    d = as_rows(d.detach(), net.get_submodule(source))
    return {path: torch.einsum("ne,nh->eh", d, w.reshape(len(d), -1)) / len(d) for path, w in v.items()}


def direct_gradients(make, rule, state, x, losses, order, draws):
    """Every gradient of the loss of a direct rule, and of its feedback; arguments as those of `gradients`."""
    net, top = plain_net(make, state), rule.route.exact_top
    normalise(net, order[:-1], rule.activity)
    source = order[-top] if top else order[-1]
    cuts = (order[: order.index(source)] if top else order)[1:]  # the first layer reads the data
    places = {path: f"{source}.feedback.{path.replace('.', '_')}" for path in cuts}
    held = {path: stored(state, at) for path, at in places.items()}
    J = {}
    if type(rule.plasticity).__name__ == "Mirror":
        J = shown(net, x, drawn(net, x, cuts, draws), source, top > 0)
    seen: dict = {}
    feedback = {path: feedback_matrix(matrices) for path, matrices in held.items()}
    found = multi_root_gradients(net, x, lambda out: losses(out).mean(), feedback, source, top > 0, seen)
    found = {name: g for name, g in found.items() if g is not None}
    for path, matrices in held.items():
        e = seen["error"]
        G = torch.einsum("ne,nh->eh", e, seen[path].reshape(len(e), -1))
        moves = plasticity_gradients(rule.plasticity, matrices, G, e, J.get(path))
        found |= {f"{places[path]}.{name}": move for name, move in moves.items()}
    return found
