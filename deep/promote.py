"""Promotion: the same model with another backward.

The model is changed in place and returned: same forward, same parameter objects under the same names.  Feedback lives
beside the weights, as parameters of the layers.  A rule of factored weights replaces the weights: see `deep.factored`.
"""

import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize

from deep import attention, chain, factored, forward_mode, layers, local, maps
from deep.activity import Normalisation
from deep.unsupported import Unsupported
from linfa.rules import Direct, Euclidean, Factored, Full, KolenPollack, Layerwise, Local, Plain, Rule

EXACT = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding, nn.EmbeddingBag, nn.PReLU,
)  # fmt: skip
"""Layers with parameters that keep their exact derivative in every rule."""

LAYERWISE = layers.LAYERWISE | attention.LAYERWISE
DIRECT = layers.DIRECT | attention.DIRECT

PLAIN = layers.PLAIN | attention.PLAIN | factored.PLAIN
"""The class that each promoted class goes back to."""

ADDED = (
    "feedback", "rule", "spread", "decays", "cuts", "path", "first", "is_cut", "edges", "source_is_input",
    "U", "s", "V", "teacher", "normalisation", "unscaled",
)  # fmt: skip
"""The attributes that promotion adds to a layer."""


class Call(NamedTuple):
    """What was seen of a layer in a forward pass.

    Args:
        shape: of its input, the first of several.
        needs_error: whether any input does.
        each: the same for each of its maps.
        inputs: how many different ones there are.
    """

    shape: tuple[int, ...]
    needs_error: bool
    each: dict[str, bool]
    inputs: int


def promote(
    model: nn.Module,
    rule: Rule,
    sample=None,
    exact: Sequence = (),
    seed: int = 0,
    stages: Sequence[str] | None = None,
    shared: bool = False,
    ranks: Mapping[str, int] | None = None,
) -> nn.Module:
    """Give every linear map of a model the backward of a rule.

    Local rules divide the model into modules, runs of stages: a stage is a weight matrix or kernel with what follows
    it, a residual block, a block of a transformer.  Every module but the last receives a linear head on its output: on
    the features (N, n), on the mean of tokens (N, T, n), or on the mean over positions of (N, n, ...).  The heads are
    parameters of the model ("feedback_1_B" for module 1), and `deep.loss` is the loss.

    A weight may be used by several layers: each use is an edge with feedback of its own, and the weight's gradient is
    their sum.  A weight may be computed from others (`torch.nn.utils.parametrize`): the rule's gradient flows on from
    it exactly.

    Args:
        model: any module whose linear maps are `nn.Linear`, convolutions of any dimension, transposed ones too, and
            `nn.MultiheadAttention`, whose queries, keys and values are three maps; changed in place.
        rule: a `linfa.Rule`.
        sample: an input of the model (a tuple for several), of any batch size, on the model's device.  Direct, local
            and normalised rules need it, to learn the order of the layers and the sizes of their inputs; with it,
            layers whose input needs no error get no feedback.
        exact: paths ("blocks.0.fc1") or module types to leave on backpropagation, with all that is below them.
        seed: of the feedback; each layer draws from a stream of its own.
        stages: for local rules, paths of the submodules that end a stage, in their order, if not those that are found
            in the autograd graph of the sample; the last stage ends at the output and need not be named.
        shared: for a direct rule, whether all positions at the input of a convolution share their feedback: a matrix
            for channels in place of one for units, which saves memory (ours).  Plasticity sees the mean over positions
            of an activity and of a Jacobian.
        ranks: pattern of paths -> rank of the feedback to what matches it, where it is not the rule's; of several
            patterns that match, the first.  ``{"*.qkv": 96}`` is three times the rank for three maps in one matrix.

    Returns:
        The model itself.  ``loss.backward()`` now fills the gradients of the rule, and those of learning feedback.
        Under a rule of factored weights layers have the parameters U, s and V in place of ``weight``: load weights
        before, and build the optimiser after promoting.
        The directions of a rule whose geometry is not Euclidean are taken in the optimiser: `deep.optimizer`.
        A rule of normalised activities changes the forward pass, too: every promoted layer but the one that runs last
        normalises its output, beside whatever normalises in the model already.

    Raises:
        Unsupported: naming the module and the way out, for a layer that is neither supported nor exact, a shared or
            computed weight that the rule cannot follow, a model that is promoted already, stages that are no chain, or
            a rule that does not fit.
        ValueError: for a missing sample, an unknown path in ``exact`` or ``stages``, an argument that the rule has no
            use for, a rank above a width, or a pattern in ``ranks`` that sets the rank of nothing.

    >>> import linfa
    >>> net = promote(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), linfa.ldfa(rank=2))
    >>> sorted(net.state_dict())
    ['0.bias', '0.feedback.P', '0.feedback.Q', '0.weight', '2.bias', '2.feedback.P', '2.feedback.Q', '2.weight']
    """
    check_rule(rule)
    for path, module in model.named_modules():
        if isinstance(module, local.LocalModel):
            name = module.local.rule.name
            raise Unsupported(f"{path or 'the model'} is promoted already ({name}): demote the model first")
    if shared and not isinstance(rule.route, Direct):
        raise ValueError(f"shared=True is for feedback that is broadcast, and that of {rule.name} is not")
    if isinstance(rule.route, Local):
        if ranks:
            raise ValueError(f"ranks has no use: the feedback of {rule.name} is the heads of modules")
        return _local(model, rule, sample, exact, seed, stages)
    if stages is not None:
        raise ValueError(f"stages divide a model for rules with local losses, and {rule.name} has one loss for all")
    targets = _targets(model, exact)
    users = _users(model, targets)
    _check_layers(rule, targets, users)
    rules = _rules(rule, targets, ranks or {})
    calls = None if sample is None else _trace(model, targets, sample)
    forward = False
    if isinstance(rule.route, Direct):
        if calls is None:
            raise ValueError(f"{rule.name} is a direct rule: pass sample=<an input of the model> to size its feedback")
        plan = _direct(rules, rule, targets, calls, seed, shared)
        forward = "J" in rule.plasticity.reads and _follows(model, plan, sample)
    else:
        plan = _layerwise(rules, targets, calls, seed)
    if isinstance(rule.parameterisation, Factored):
        plan = factored.factorised(rule, plan, targets, calls)
    if rule.activity != Plain():
        plan = _normalised(rule, targets, calls, plan)
    for module, kind, attributes in plan:  # nothing is changed before everything is known to fit
        maps.become(module, kind)
        if len(users[module]) > 1 and users[module][0] is not module:
            module.decays = False  # the first of them decays what they share
        for name, value in attributes.items():
            if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
                module.register_buffer(name, value)
            else:
                setattr(module, name, value)
    if forward:
        model.__class__ = forward_mode.along(type(model))
    return model


def check_rule(rule: Rule) -> None:
    """Raise Unsupported for a rule that promotion does not cover."""
    plain = rule.geometry == Euclidean() and rule.activity == Plain()
    if type(rule.parameterisation) is Factored and not (plain and type(rule.route) in (Layerwise, Direct)):
        raise Unsupported(
            "promotion covers factored weights on layerwise and direct routes, with Euclidean steps and plain "
            f"activities, not {rule!r}"
        )
    if type(rule.parameterisation) not in (Full, Factored):
        raise Unsupported(f"promotion covers full and factored weights so far, not {rule.parameterisation!r}")
    if type(rule.route) not in (Layerwise, Direct, Local):
        raise Unsupported(f"promotion covers layerwise, direct and local routes so far, not {rule.route!r}")
    if isinstance(rule.route, Local) and rule.feedback.clamp is not None:
        raise Unsupported(f"a local head descends its loss, and {rule.feedback!r} clamps its gradient: use clamp=None")
    if isinstance(rule.route, Local) and not rule.feedback.starts_at_random:
        raise Unsupported(f"{rule.feedback} starts from a forward weight, and a local head has none")
    if rule.activity != Plain() and isinstance(rule.route, Local):
        raise Unsupported(
            f"promotion finds local modules in the model as it is, without {rule.activity!r}: put nn.BatchNorm after "
            "the hidden layers and promote the rule without it"
        )
    if rule.activity != Plain() and getattr(rule.route, "exact_top", 0):
        raise Unsupported(
            f"promotion reads the error of {rule.route!r} at the input of an exact layer, where it has not been taken "
            f"back through {rule.activity!r} as in the core: use exact_top=0, or layers nn.BatchNorm of the model"
        )
    if "J" in rule.plasticity.reads and not rule.route.single_layer and rule.plasticity.directions != 1:
        raise Unsupported(
            f"{rule.name} cannot be promoted with {rule.plasticity!r}: edges of {rule.route!r} span several layers, "
            "whose map a promoted net shows to random directions alone, one for each sample of the batch: use "
            "directions=1, as in linfa.directional_dfa(directions=1)"
        )


def demote(model: nn.Module) -> nn.Module:
    """Give a promoted model back to backpropagation: the same module classes as before, without feedback.

    What else a rule brought goes, too: the layers of a normalised one do not normalise any more.

    >>> import linfa
    >>> net = demote(promote(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), linfa.fa()))
    >>> type(net[0]) is nn.Linear, sorted(net.state_dict())
    (True, ['0.bias', '0.weight', '2.bias', '2.weight'])
    """
    for module in list(model.modules()):
        if isinstance(module, local.LocalModel):
            local.restore(module)
        if isinstance(module, forward_mode.ForwardMode):
            module.__class__ = module.plain
        kind = maps.plain_type(module)
        if kind in PLAIN:
            if isinstance(module, factored.FactoredLayer):
                module.weight = nn.Parameter(module.composed(), requires_grad=module.U.requires_grad)
            maps.become(module, PLAIN[kind])
            for name in ADDED:
                if any(name in held for held in (vars(module), module._modules, module._buffers, module._parameters)):
                    delattr(module, name)
    return model


def original(module: nn.Module) -> type:
    """The class of a module without promotion and without what `torch.nn.utils.parametrize` put on top.

    >>> import linfa
    >>> original(promote(nn.Linear(4, 4), linfa.fa())) is nn.Linear
    True
    """
    kind = maps.plain_type(module)
    return PLAIN.get(kind, kind)


def _targets(model, exact) -> dict[str, nn.Module]:
    """Module path -> layer to promote, after every other module has been found harmless."""
    paths = [e for e in exact if isinstance(e, str)]
    types = tuple(e for e in exact if isinstance(e, type))
    known = dict(model.named_modules())
    unknown = [p for p in paths if p not in known and p not in dict(model.named_parameters())]
    if unknown:
        raise ValueError(f"exact names no module or parameter of the model: {', '.join(unknown)}")
    roots = paths + [path for path, module in known.items() if isinstance(module, types)]

    def spared(path):
        return any(path == p or p == "" or path.startswith(p + ".") for p in roots)

    targets = {}
    for path, module in known.items():
        called, kind = path or type(module).__name__, maps.plain_type(module)
        if kind in PLAIN:
            raise Unsupported(f"{called} is promoted already ({module.rule.name}): demote the model first")
        if spared(path):
            continue
        out = f"leave it on backpropagation with exact=({path!r},)"
        if parametrize.is_parametrized(module) and (kind in LAYERWISE or isinstance(module, EXACT)):
            roots.append(f"{path}.parametrizations".lstrip("."))  # how a weight is made keeps its exact derivative
        own = dict(module.named_parameters(recurse=False))
        if kind in LAYERWISE:
            for W in maps.matrices(module).values():
                if not W.is_floating_point():
                    raise Unsupported(f"{called} has weights of dtype {W.dtype}, which no rule covers: {out}")
            targets[path] = module
        elif own and not isinstance(module, EXACT):
            loose = tuple(f"{path}.{name}".lstrip(".") for name in own)
            if not all(name in paths for name in loose):
                kind = type(module)
                raise Unsupported(
                    f"{called} is a {kind.__module__}.{kind.__name__} with parameters of its own ({', '.join(own)}), "
                    f"which would silently stay on backpropagation: say so with exact={loose!r}, or for all of its "
                    f"kind with exact=({kind.__name__},); a linear map can be replaced by nn.Linear or nn.Conv2d"
                )
    if not targets:
        raise Unsupported(f"{type(model).__name__} has no nn.Linear, convolution or attention left to promote")
    return targets


def _users(model, targets) -> dict[nn.Module, list[nn.Module]]:
    """Layer to promote -> the modules that use its weight, those to promote first."""
    uses = {}
    for module in [*targets.values(), *model.modules()]:
        for parameter in maps.parameters(module):
            uses.setdefault(id(parameter), {})[module] = None
    return {module: list({user: None for p in maps.parameters(module) for user in uses[id(p)]})
            for module in targets.values()}  # fmt: skip


def _check_layers(rule, targets, users):
    """Raise Unsupported for a weight that the rule cannot follow, or a layer that it does not cover."""
    for path, module in targets.items():
        called, kind = path or type(module).__name__, maps.plain_type(module)
        shared, computed = len(users[module]) > 1, maps.is_computed(module)
        state = "shares its weight with another layer" if shared else "has a weight that is computed from parameters"
        why = None
        if isinstance(rule.plasticity, KolenPollack) and rule.route.single_layer and (shared or computed):
            why = f"{state}, and {rule.name} follows by the gradient of one edge, which is not all that moves it"
        elif rule.parameterisation != Full() and (shared or computed):
            why = f"{state}, and {rule.name} learns factors in place of the weight of one layer"
        elif rule.parameterisation != Full() and kind not in (nn.Linear, nn.Conv2d):
            why = f"is a {kind.__name__}, and {rule.name} learns factors of nn.Linear and nn.Conv2d alone so far"
        elif rule.geometry != Euclidean() and computed:
            why = f"{state}, and {rule.name} takes directions in the space of weights, where no optimiser steps"
        elif rule.activity != Plain() and isinstance(module, nn.MultiheadAttention):
            why = f"has three maps inside, whose outputs {rule.activity!r} cannot reach"
        if why:
            raise Unsupported(f"{called} {why}: leave it on backpropagation with exact=({path!r},)")


def _rules(rule, targets, ranks) -> dict[str, Rule]:
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


def _trace(model, targets, sample) -> dict[str, Call]:
    """Path -> the layer's first call, in the order of the calls of one forward pass."""
    calls, handles = {}, []

    def watch(path):
        def record(module, args, kwargs):
            inputs = maps.inputs(module, args, kwargs)
            needs = {name: x.requires_grad for name, x in inputs.items()}
            x = next(iter(inputs.values()))
            distinct = len({id(x) for x in inputs.values()})
            calls.setdefault(path, Call(tuple(x.shape), any(needs.values()), needs, distinct))
            inner = f"{path}.out_proj".lstrip(".")
            if isinstance(module, nn.MultiheadAttention) and inner in targets:  # called by promoted attention only
                live = any(needs.values()) or any(W.requires_grad for W in maps.parameters(module))
                calls.setdefault(inner, Call((*x.shape[:-1], module.embed_dim), live, {"": live}, 1))

        return record

    try:
        handles = [m.register_forward_pre_hook(watch(path), with_kwargs=True) for path, m in targets.items()]
        with torch.enable_grad(), maps.evaluated(model):
            model(*sample) if isinstance(sample, tuple) else model(sample)
    finally:
        for handle in handles:
            handle.remove()
    idle = [path for path in targets if path not in calls]
    if idle:
        raise Unsupported(f"{', '.join(idle)} did not run on the sample: name them in exact=(...)")
    return calls


def _follows(model, plan, sample) -> bool:
    """Whether there are cuts; True only after forward mode has followed the model from all of them."""
    cuts = {attributes["path"]: module for module, _, attributes in plan if attributes["is_cut"]}
    last = None

    def watch(path):
        def perturb(module, inputs):
            nonlocal last
            last = path
            x, _ = forward_ad.unpack_dual(inputs[0])
            return forward_ad.make_dual(x, torch.zeros_like(x)), *inputs[1:]

        return perturb

    handles = [module.register_forward_pre_hook(watch(path)) for path, module in cuts.items()]
    try:
        with torch.no_grad(), warnings.catch_warnings(), forward_mode.level():
            warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)  # torch's own, as this loads
            model(*sample) if isinstance(sample, tuple) else model(sample)
    except RuntimeError as reason:
        raise Unsupported(
            f"forward mode does not follow the model from the input of {last} on ({str(reason).splitlines()[0]}): use "
            "operations that it knows"
        ) from reason
    finally:
        for handle in handles:
            handle.remove()
    return bool(cuts)


def _rng(seed, number):
    return np.random.default_rng((seed, number))


def _parameters(rule, arrays, weight) -> nn.ParameterDict:
    """What an edge stores, as parameters in the dtype and on the device of the weight."""
    learns = rule.plasticity.learns(len(arrays))
    return nn.ParameterDict(
        {
            name: nn.Parameter(torch.as_tensor(array).to(weight).contiguous(), requires_grad=moves)
            for name, array, moves in zip(rule.feedback.names, arrays, learns, strict=True)
        }
    )


def _layerwise(rules, targets, calls, seed):
    plan, sizes = [], {}
    for number, (path, module) in enumerate(targets.items()):
        rule, rng, feedback, spreads = rules[path], _rng(seed, number), {}, []
        for name, weight in maps.matrices(module).items():
            feedback[name] = nn.ParameterDict()
            spreads.append(0.0)
            if calls is not None and not calls[path].each[name]:  # its input needs no error, so it has no edge
                continue
            forward = weight.double().cpu().numpy()
            spreads[-1] = float(np.sqrt(np.mean(forward**2))) or forward.shape[-1] ** -0.5
            sizes.setdefault(rule, []).append((forward.shape[-1], forward.shape[-2]))
            feedback[name] = _parameters(rule, rule.feedback.start(rng, forward, spreads[-1]), weight)
        attributes = {"rule": rule, "feedback": feedback[""] if "" in feedback else nn.ModuleDict(feedback)}
        if rule.feedback.redrawn:  # the only feedback that needs it again, so it belongs to the state
            attributes["spread"] = weight.new_tensor(spreads if len(spreads) > 1 else spreads[0])
        plan.append((module, LAYERWISE[maps.plain_type(module)], attributes))
    _check_sizes(sizes)
    return plan


def _check_sizes(sizes):
    for rule, mine in sizes.items():
        rule.feedback.check(mine)


def _direct(rules, rule, targets, calls, seed, shared):
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
    edges, feedback, cuts, sizes = {}, nn.ModuleDict(), {}, {}
    for number, path in enumerate(order):
        shape, needs_error, _, distinct = calls[path]
        if path not in reach or not needs_error:
            continue
        if distinct > 1:
            raise Unsupported(
                f"{path} attends from one input to another, and on the direct route a layer has one cut: leave it on "
                f"backpropagation with exact=({path!r},) or choose a layerwise rule"
            )
        if shape[:lead] != calls[source].shape[:lead]:
            raise Unsupported(
                f"the input of {path} has shape {shape}, and the error at {source} comes for samples "
                f"{calls[source].shape[:lead]}: leave it on backpropagation with exact=({path!r},)"
            )
        channels = shared and isinstance(targets[path], nn.modules.conv._ConvNd)
        n_h = shape[1] if channels else int(np.prod(shape[lead:]))
        # A direct edge spans several layers and activations: it has a shape, and no single map to start from.
        if not rule.feedback.starts_at_random:
            raise Unsupported(f"{rule.feedback} starts from a forward weight, and a direct edge has none")
        forward = np.broadcast_to(0.0, (n_e, n_h))
        sizes.setdefault(rules[path], []).append((n_h, n_e))
        arrays = rules[path].feedback.start(_rng(seed, number), forward, n_h**-0.5)
        edges[path] = path.replace(".", "_")
        feedback[edges[path]] = _parameters(rules[path], arrays, like)
    _check_sizes(sizes)
    plan = []
    for path in order:
        attributes = {
            "rule": rules[path], "path": path, "first": path == order[0], "cuts": cuts, "is_cut": path in edges,
            "edges": edges if path == source else {}, "source_is_input": top > 0,
        }  # fmt: skip
        if path == source:
            attributes["feedback"] = feedback
        plan.append((targets[path], DIRECT[maps.plain_type(targets[path])], attributes))
    return plan


def _local(model, rule, sample, exact, seed, stages):
    if sample is None:
        raise ValueError(f"{rule.name} has local losses: pass sample=<an input of the model> to divide it into modules")
    if exact:
        raise ValueError(f"exact has no use: {rule.name} backpropagates inside of modules")
    known = dict(model.named_modules())
    for path, module in known.items():
        if maps.plain_type(module) in PLAIN:
            raise Unsupported(f"{path} is promoted already ({module.rule.name}): demote the model first")
    unknown = [path for path in stages or () if path not in known]
    if unknown:
        raise ValueError(f"stages names no module of the model: {', '.join(unknown)}")
    stages = chain.ends(model, sample) if stages is None else tuple(stages)
    cuts = [edge.activity for edge in rule.route.edges(len(stages) + 1)]
    *parts, last = chain.divide(model, stages, cuts, sample)
    split, n_e, feedback, sizes = local.Split(rule, (*parts, last)), last.shape[-1], {}, []
    for number, part in enumerate(parts, 1):
        n_h = part.shape[1 if len(part.shape) > 3 else -1]
        sizes.append((n_h, n_e))
        arrays = rule.feedback.start(_rng(seed, number), np.broadcast_to(0.0, (n_e, n_h)), n_h**-0.5)
        like = model.get_parameter(part.names[0]) if part.names else next(model.parameters())
        stored = _parameters(rule, arrays, like.detach())
        feedback |= {head: stored[name] for head, name in zip(split.heads(number), rule.feedback.names, strict=True)}
    rule.feedback.check(sizes)
    model.__class__ = local.localised(type(model))
    model.local = split
    for name, parameter in feedback.items():
        model.register_parameter(name, parameter)
    return model


def _normalised(rule, targets, calls, plan):
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
