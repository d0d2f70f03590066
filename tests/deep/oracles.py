"""Independent oracles for promoted gradients.  They share no code with `deep.ops` or `linfa.rules`.

Layerwise rules: the surrogate W x.detach() + (B' x - (B' x).detach()), whose value is the layer's and whose derivative
with respect to x goes through B' alone.  Direct rules: a multi-root backward, every cut a root with the gradient e B^T.
Feedback that learns: each plasticity's formula on explicit rows of errors and activities (patches of a convolution).
"""

import torch
import torch.nn.functional as F
from torch import nn

CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


def kernel(layer, B):
    """A feedback matrix (n_h, n_e) (or one for each group) as a weight of the layer's shape."""
    if isinstance(layer, nn.Linear):
        return B.transpose(-1, -2)
    if layer.transposed:
        return B.reshape(layer.weight.shape)
    if layer.groups == 1:
        return B.T.reshape(layer.weight.shape)
    return torch.cat([b.T.reshape(-1, *layer.weight.shape[1:]) for b in B])


def feedback_matrix(layer):
    """B (n_h, n_e) of a promoted layer, put together by hand from what it stores."""
    stored, W = layer.feedback, layer.weight.detach()
    if isinstance(layer, CONVOLUTIONS):
        W = W.flatten(1) if layer.groups == 1 else W.reshape(layer.groups, W.shape[0] // layer.groups, -1)
        W = W.transpose(-1, -2) if layer.transposed else W
    if "B" in stored:
        return stored["B"].detach()
    if "M" in stored:
        return stored["M"].detach() * torch.sign(W).transpose(-1, -2)
    if "Q" in stored:
        return torch.einsum("...hr,...re->...he", stored["Q"].detach(), stored["P"].detach())
    return W.transpose(-1, -2)


def plain_convolution(layer):
    """A convolution of the same settings, with numbers of its own."""
    (kind,) = (kind for kind in CONVOLUTIONS if isinstance(layer, kind))
    more = {"output_padding": layer.output_padding} if layer.transposed else {}
    return kind(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, dilation=layer.dilation,
        groups=layer.groups, bias=layer.bias is not None, padding_mode=layer.padding_mode, **more,
    ).to(layer.weight)  # fmt: skip


def convolution_columns(layer, x, error):
    """What a convolution sees as samples: activities (g, n_h, samples) and errors (g, n_e, samples), group by group.

    Patches come from a convolution whose kernel is the identity, and those of an error from its derivative.  Activities
    are differentiable with respect to x.
    """
    k, groups = layer.kernel_size, layer.groups
    one = plain_convolution(layer)
    small, large = (error, x) if not layer.transposed else (x, error)  # positions, and what patches are taken of
    flat = small.unflatten(1, (groups, -1)).flatten(3).permute(1, 2, 0, 3).flatten(2)
    patches = []
    for part in large.chunk(groups, 1):
        c = part.shape[1]
        size = c * torch.Size(k).numel()
        one.in_channels, one.out_channels, one.groups, one.bias = c, size, 1, None
        one.weight = nn.Parameter(torch.eye(size).reshape(size, c, *k).to(x))
        if layer.transposed:  # y = fold(Z): the derivative of <error, y> with respect to Z
            Z = torch.zeros(len(x), size, *x.shape[2:], dtype=x.dtype, requires_grad=True)
            one.in_channels, one.out_channels = size, c
            (seen,) = torch.autograd.grad((one(Z) * part).sum(), Z)
        else:
            seen = one(part)
        patches.append(seen.flatten(2).permute(1, 0, 2).flatten(1))
    patches = torch.stack(patches)
    return (flat, patches) if layer.transposed else (patches, flat)


class Surrogate(nn.Module):
    """A plain layer whose derivative with respect to its input goes through another weight."""

    def __init__(self, layer):
        super().__init__()
        self.weight, self.bias = nn.Parameter(layer.weight.detach().clone()), None
        if layer.bias is not None:
            self.bias = nn.Parameter(layer.bias.detach().clone())
        self.other = kernel(layer, feedback_matrix(layer))
        self.conv = None if isinstance(layer, nn.Linear) else plain_convolution(layer)
        self.clamp = layer.rule.feedback.clamp

    def map(self, x, weight, bias):
        if self.conv is None:
            return F.linear(x, weight, bias)
        return torch.func.functional_call(self.conv, {"weight": weight, "bias": bias}, (x,))

    def forward(self, x):
        live = x
        if self.clamp is not None and x.requires_grad:
            live = x.view_as(x)
            live.register_hook(lambda error: error.clip(-self.clamp, self.clamp))
        carried = self.map(live, self.other.to(x), None)
        return self.map(x.detach(), self.weight, self.bias) + (carried - carried.detach())


def surrogate_net(make, promoted, paths):
    """A fresh net (from ``make``) with the promoted net's numbers, its layers replaced by surrogates."""
    net = make()
    added = (".feedback.", "spread", ".normalisation.")
    plain = {k: v for k, v in promoted.state_dict().items() if not any(name in k for name in added)}
    net.load_state_dict(plain)
    for path in paths:
        parent, _, name = path.rpartition(".")
        setattr(net.get_submodule(parent), name, Surrogate(promoted.get_submodule(path)))
    return net


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
            return (inputs[0].detach(),)

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
    value = loss(net(x))
    for handle in handles:
        handle.remove()
    (error,) = torch.autograd.grad(value, read["output"], retain_graph=True)
    lead = error.dim() - 1 if isinstance(target, nn.Linear) else 1
    rows = error.reshape(error.shape[:lead].numel(), -1)
    if seen is not None:
        seen.update({path: h.detach() for path, h in live.items()}, error=rows)
    roots, grads = [value], [torch.ones_like(value)]
    for path, B in feedback.items():
        roots.append(live[path])
        grads.append(torch.einsum("ne,he->nh", rows, B).reshape(live[path].shape))
    torch.autograd.backward(roots, grads)
    return {name: p.grad for name, p in net.named_parameters()}


def local_gradients(modules, heads, x, y, losses, lam):
    """Fill the gradients of modules that learn locally, from the losses of single samples; returns those of the heads.

    Args:
        modules: callables in a row.
        heads: C (outputs, features) of each but the last.
        x, y: a batch.
        losses: (logits, y) -> loss of each sample (N,).
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
        each = losses(logits, y)
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


def arrival(net, x, paths, source, source_is_input):
    """The function (path -> displacement of that layer's input) -> signal at the source, of a plain net on a batch."""

    def run(displaced):
        read = []
        handles = [
            net.get_submodule(path).register_forward_pre_hook(lambda m, inputs, path=path: inputs[0] + displaced[path])
            for path in paths
        ]
        target = net.get_submodule(source)
        if source_is_input:
            handles.append(target.register_forward_pre_hook(lambda m, inputs: read.append(inputs[0])))
        else:
            handles.append(target.register_forward_hook(lambda m, inputs, output: read.append(output)))
        net(x)
        for handle in handles:
            handle.remove()
        return read[0]

    return run


def normalised(kind, y):
    """A layer's output, its units standardised or whitened over all samples and positions, by plain autograd."""
    axis = 1 if y.dim() == 4 else -1
    a = y.movedim(axis, 0)
    shape = a.shape
    a = a.flatten(1) - a.flatten(1).mean(1, keepdim=True)
    if kind == "standardised":
        h = a / a.square().mean(1, keepdim=True).sqrt()
    else:
        values, basis = torch.linalg.eigh(a @ a.T / a.shape[1])
        h = basis @ torch.diag(values**-0.5) @ basis.T @ a
    return h.reshape(shape).movedim(0, axis)


def plasticity_gradients(kind, stored, W, x, e):
    """Minus the velocity of each stored matrix, by name; without those that stay.

    Args:
        kind: the plasticity, by the name of its class.
        stored: name -> matrix of one edge.
        W: (n_e, n_h), or None on an edge over several layers.
        x: (N, n_h) rows of activities.
        e: (N, n_e) rows of dLoss/dy of a mean loss.
    """
    G = torch.einsum("ne,nh->eh", e, x)
    if kind == "KolenPollack" and "B" in stored:
        return {"B": G.T}
    if kind == "Mirror" and "B" in stored:
        return {"B": stored["B"] - W.T}
    if kind == "Fixed":
        return {}
    if kind == "Delta":
        C = torch.cov(len(e) * e.T, correction=0).reshape(e.shape[1], -1)  # of the errors of single samples
        if "B" in stored:
            return {"B": G.T + stored["B"] @ C}
        return {"Q": G.T @ stored["P"].T + stored["Q"] @ stored["P"] @ C @ stored["P"].T}
    Q, P = stored["Q"], stored["P"]
    gap = None if W is None else W.T - Q @ P
    if kind == "KolenPollack":
        return {"Q": G.T @ P.T}
    if kind == "Hebb":
        return {"Q": G.T @ P.T, "P": Q.T @ G.T}
    if kind == "Normative":
        return {"Q": -gap @ P.T, "P": -Q.T @ gap}
    if kind == "Oja":
        C = torch.cov(e.T, correction=0).reshape(e.shape[1], -1)
        C = C / C.diagonal().max()
        return {"Q": G.T @ P.T, "P": P @ C @ P.T @ P - P @ C}
    raise NotImplementedError(f"no formula for {kind}")


def rows(layer, x, e):
    """A layer's input and the error at its output as rows, one pair for each group."""
    if isinstance(layer, nn.Linear):
        return [(x.reshape(-1, x.shape[-1]), e.reshape(-1, e.shape[-1]))]
    return [(a.detach().T, b.T) for a, b in zip(*convolution_columns(layer, x, e), strict=True)]


def layerwise_gradients(make, promoted, x, loss, rule):
    """Every gradient of a layerwise rule, by the parameter's name; ``promoted`` is only read."""
    paths = [path for path, m in promoted.named_modules() if getattr(m, "rule", None) is not None]
    net, seen = surrogate_net(make, promoted, paths), {}
    for path in paths:

        def watch(module, inputs, output, path=path):
            seen[path] = [inputs[0].detach()]
            output.register_hook(seen[path].append)

        net.get_submodule(path).register_forward_hook(watch)
    loss(net(x)).backward()
    grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    for path in paths:
        layer = promoted.get_submodule(path)
        W = layer.weight.detach()
        grads[f"{path}.weight"] = grads[f"{path}.weight"] + rule.decay * W
        stored = {name: B.detach() for name, B in layer.feedback.items()}
        if not stored:
            continue
        grouped = getattr(layer, "groups", 1) > 1
        moves: dict = {}
        for group, (h, e) in enumerate(rows(layer, *seen[path])):
            mine = {name: B[group] if grouped else B for name, B in stored.items()}
            own = W.chunk(getattr(layer, "groups", 1))[group].flatten(1)
            for name, g in plasticity_gradients(type(rule.plasticity).__name__, mine, own, h, e).items():
                moves.setdefault(name, []).append(g + rule.decay * mine[name])
        for name, parts in moves.items():
            grads[f"{path}.feedback.{name}"] = torch.stack(parts) if grouped else parts[0]
    return grads


def direct_gradients(make, promoted, x, loss, rule):
    """Every gradient of a direct rule, by the parameter's name; ``promoted`` is only read."""
    paths = [path for path, m in promoted.named_modules() if getattr(m, "rule", None) is not None]
    (source,) = [path for path in paths if promoted.get_submodule(path).edges]
    head = promoted.get_submodule(source)
    stored = {
        path: {n: B.detach() for n, B in head.feedback[key].items()} for path, key in head.edges.items()
    }  # fmt: skip
    feedback = {path: s["B"] if "B" in s else s["Q"] @ s["P"] for path, s in stored.items()}
    plain = make()
    plain.load_state_dict({k: v for k, v in promoted.state_dict().items() if ".feedback." not in k})
    seen: dict = {}
    grads = multi_root_gradients(plain, x, loss, feedback, source, rule.route.exact_top > 0, seen)
    for path in paths:
        grads[f"{path}.weight"] = grads[f"{path}.weight"] + rule.decay * promoted.get_submodule(path).weight.detach()
    for path, key in head.edges.items():
        e = seen["error"]
        h = seen[path].reshape(len(e), -1)
        for name, g in plasticity_gradients(type(rule.plasticity).__name__, stored[path], None, h, e).items():
            grads[f"{source}.feedback.{key}.{name}"] = g + rule.decay * stored[path][name]
    return grads
