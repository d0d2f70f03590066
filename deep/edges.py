"""The edges that teach a model: which layer becomes what, with which feedback, before anything is changed.

A plan is a list of (module, the class it becomes, the attributes it receives).
"""

from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import nn

from deep import layers, maps
from deep.activity import Normalisation
from deep.kinds import DIRECT, LAYERWISE
from deep.unsupported import Unsupported
from linfa.rules import Full, Rule


def rules_of(rule, targets, ranks) -> dict[str, Rule]:
    """Path -> the rule at the rank of that layer."""
    if ranks and not hasattr(rule.feedback, "rank"):
        raise ValueError(f"ranks sets the rank of feedback, and {rule.feedback!r} has none")
    if ranks and rule.parameterisation != Full():
        raise Unsupported(f"{rule.parameterisation!r} has one rank for all layers: promote without ranks=")
    rules, idle = {}, set(ranks)
    for path in targets:
        pattern = next((p for p in ranks if fnmatchcase(path, p)), None)
        rules[path] = rule if pattern is None else rule.at_rank(ranks[pattern])
        idle.discard(pattern)
    if idle:
        named = ", ".join(map(repr, sorted(idle)))
        raise ValueError(f"ranks: {named} sets the rank of no layer; the layers are {', '.join(targets)}")
    return rules


def stream(seed, number):
    """The random numbers of a layer's feedback."""
    return np.random.default_rng((seed, number))


def stored(rule, arrays, weight) -> nn.ParameterDict:
    """What an edge stores, as parameters in the dtype and on the device of the weight."""
    learns = rule.plasticity.learns(len(arrays))
    return nn.ParameterDict(
        {
            name: nn.Parameter(torch.as_tensor(array).to(weight).contiguous(), requires_grad=moves)
            for name, array, moves in zip(rule.feedback.names, arrays, learns, strict=True)
        }
    )


def layerwise(rules, targets, calls, seed):
    """The plan of a layerwise rule: an edge for every map whose input needs an error."""
    plan, sizes = [], {}
    for number, (path, module) in enumerate(targets.items()):
        rule, rng, feedback, spreads = rules[path], stream(seed, number), {}, []
        for name, weight in maps.matrices(module).items():
            feedback[name] = nn.ParameterDict()
            spreads.append(0.0)
            if calls is not None and not calls[path].each[name]:  # its input needs no error, so it has no edge
                continue
            forward = weight.double().cpu().numpy()
            spreads[-1] = float(np.sqrt(np.mean(forward**2))) or forward.shape[-1] ** -0.5
            sizes.setdefault(rule, []).append((forward.shape[-1], forward.shape[-2]))
            feedback[name] = stored(rule, rule.feedback.start(rng, forward, spreads[-1]), weight)
        attributes = {"rule": rule, "feedback": feedback[""] if "" in feedback else nn.ModuleDict(feedback)}
        if rule.feedback.redrawn:  # the only feedback that needs it again, so it belongs to the state
            attributes["spread"] = weight.new_tensor(spreads if len(spreads) > 1 else spreads[0])
        plan.append((module, LAYERWISE[maps.plain_type(module)], attributes))
    check_sizes(sizes)
    return plan


def check_sizes(sizes):
    """Raise ValueError for feedback that its rule cannot have; rule -> (n_h, n_e) of its edges."""
    for rule, mine in sizes.items():
        rule.feedback.check(mine)


def direct(rules, rule, targets, calls, seed, shared):
    """The plan of a direct rule: a cut at every input that needs an error, an edge to it from the source."""
    order = list(calls)
    top = rule.route.exact_top
    if top >= len(order):
        raise Unsupported(f"{rule.name} backpropagates {top} layers exactly, and the model has only {len(order)}")
    source = order[-1] if top == 0 else order[-top]
    reach = order if top == 0 else order[: order.index(source)]
    module = targets[source]
    lead = layers.leading(module, len(calls[source].shape))
    if top:
        n_e = int(np.prod(calls[source].shape[lead:]))
    elif isinstance(module, nn.Linear):
        n_e = module.out_features
    else:
        kind = maps.plain_type(module).__name__
        raise Unsupported(f"the last layer, {source}, is a {kind}: broadcast from a Linear head")
    like = next(iter(maps.matrices(module).values()))
    edges, feedback, cuts, sizes, misfits = {}, nn.ModuleDict(), {}, {}, {}
    for number, path in enumerate(order):
        shape, needs_error, _, distinct, _ = calls[path]
        if path not in reach or not needs_error:
            continue
        if distinct > 1:
            misfits[path] = "attends from one input to another, and on the direct route a layer has one cut"
            continue
        if shape[:lead] != calls[source].shape[:lead]:
            samples = calls[source].shape[:lead]
            misfits[path] = f"has an input of shape {shape}, and the error at {source} comes for samples {samples}"
            continue
        channels = shared and isinstance(targets[path], nn.modules.conv._ConvNd)
        n_h = shape[1] if channels else int(np.prod(shape[lead:]))
        # A direct edge spans several layers and activations: it has a shape, and no single map to start from.
        if not rule.feedback.starts_at_random:
            raise Unsupported(f"{rule.feedback} starts from a forward weight, and a direct edge has none")
        forward = np.broadcast_to(0.0, (n_e, n_h))
        sizes.setdefault(rules[path], []).append((n_h, n_e))
        arrays = rules[path].feedback.start(stream(seed, number), forward, n_h**-0.5)
        edges[path] = _key(path, feedback)
        feedback[edges[path]] = stored(rules[path], arrays, like)
    if misfits:
        texts = "; ".join(f"{path} {why}" for path, why in misfits.items())
        raise Unsupported(f"{texts}: leave on backpropagation what that is, with exact={tuple(misfits)!r}, or choose a "
                          "layerwise rule")  # fmt: skip
    check_sizes(sizes)
    plan = []
    for path in order:
        attributes = {
            "rule": rules[path], "path": path, "first": path == order[0], "cuts": cuts, "is_cut": path in edges,
            "is_passed": path in reach and path not in edges, "edges": edges if path == source else {},
            "source_is_input": top > 0,
        }  # fmt: skip
        if path == source:
            attributes["feedback"] = feedback
        plan.append((targets[path], DIRECT[maps.plain_type(targets[path])], attributes))
    return plan


def _key(path, feedback):
    """A name in a module of feedback for the edge to a layer: its path where no other entry or attribute has that."""
    key = path.replace(".", "_")
    while not key or hasattr(feedback, key):
        key += "_"
    return key


def normalised(rule, targets, calls, plan):
    """The plan with a normalised output of every layer but the one that runs last."""
    if calls is None:
        raise ValueError(f"{rule.name} normalises every layer but the last: pass sample=<an input of the model> to see "
                         "which one that is")  # fmt: skip
    head, out = targets[list(calls)[-1]], []
    for module, kind, attributes in plan:
        if module is not head:
            axis = -1 - len(module.kernel_size) if isinstance(module, nn.modules.conv._ConvNd) else -1
            units = module.out_features if isinstance(module, nn.Linear) else module.out_channels
            like = next(iter(maps.matrices(module).values()))
            part = Normalisation(rule.activity, units, axis).to(like).train(module.training)
            kind, attributes = layers.NORMALISED[kind], {**attributes, "normalisation": part}
        out.append((module, kind, attributes))
    return out
