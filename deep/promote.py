"""Promotion: the same model with another backward.

The model is changed in place and returned: same forward, same parameter objects under the same names.  Feedback lives
beside the weights, as parameters of the layers.  A rule of factored weights replaces the weights: see `deep.factored`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from deep import chain, edges, factored, forward_mode, layers, local, maps
from deep.coverage import check_layers, check_rule, check_runs
from deep.kinds import PLAIN
from deep.survey import check_numbers, targets_of, trace, users_of
from deep.unsupported import Unsupported
from linfa.rules import Direct, Factored, Local, Plain, Rule

ADDED = (
    "feedback", "rule", "spread", "decays", "cuts", "path", "first", "is_cut", "is_passed", "edges", "source_is_input",
    "U", "s", "V", "teacher", "normalisation", "unscaled",
)  # fmt: skip
"""The attributes that promotion adds to a layer."""


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

    A direct rule broadcasts the error at the output of the layer that runs last on the sample.  What other outputs of
    the model teach goes no further than the next cut: of several heads leave all on backpropagation, with ``exact``,
    and what is below them is last.  A layer that runs several times in a pass receives what every run teaches; its
    decay and penalties would be added as often, which is refused where a sample shows it.

    Args:
        model: any module whose linear maps are `nn.Linear`, convolutions of any dimension, transposed ones too, and
            `nn.MultiheadAttention`, whose queries, keys and values are three maps; changed in place.
        rule: a `linfa.Rule`.
        sample: an input of the model (a tuple for several), of any batch size, on the model's device.  Direct, local
            and normalised rules need it, to learn the order of the layers and the sizes of their inputs; with it,
            layers whose input needs no error get no feedback, and those that never run are refused, as are weights
            that a function of torch takes past the layer, which without a sample stay on backpropagation.
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
            computed weight that the rule cannot follow, parameters without numbers, a model that is promoted already,
            stages that are no chain, a rule that does not fit, or with a sample a layer that it does not run.
        TypeError: for a rule that is none, or a sample by names.
        ValueError: for a missing sample, an unknown path in ``exact`` or ``stages``, an argument that the rule has no
            use for, a rank above a width, or a pattern in ``ranks`` that sets the rank of nothing.

    >>> import linfa
    >>> net = promote(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), linfa.ldfa(rank=2))
    >>> sorted(net.state_dict())
    ['0.bias', '0.feedback.P', '0.feedback.Q', '0.weight', '2.bias', '2.feedback.P', '2.feedback.Q', '2.weight']
    """
    check_rule(rule)
    for name, given in (("exact", exact), ("stages", stages)):
        if isinstance(given, (str, type)):
            raise ValueError(f"{name} is a sequence: {name}=({getattr(given, '__name__', repr(given))},)")
    if isinstance(sample, Mapping):
        kind, names = type(sample).__name__, ", ".join(map(str, sample))
        raise TypeError(f"sample is an input, or a tuple in the order of the model's arguments; got {kind} of {names}")
    check_numbers(model)
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
    targets = targets_of(model, exact)
    users = users_of(model, targets)
    check_layers(rule, targets, users)
    rules = edges.rules_of(rule, targets, ranks or {})
    calls = None if sample is None else trace(model, targets, sample, exact)
    check_runs(rule, calls or {})
    cuts = {}
    if isinstance(rule.route, Direct):
        if calls is None:
            raise ValueError(f"{rule.name} is a direct rule: pass sample=<an input of the model> to size its feedback")
        plan = edges.direct(rules, rule, targets, calls, seed, shared)
        if "J" in rule.plasticity.reads:
            cuts = {attributes["path"]: module for module, _, attributes in plan if attributes["is_cut"]}
            forward_mode.check_follows(model, cuts, sample)
    else:
        plan = edges.layerwise(rules, targets, calls, seed)
    if isinstance(rule.parameterisation, Factored):
        plan = factored.factorised(rule, plan, targets, calls)
    if rule.activity != Plain():
        plan = edges.normalised(rule, targets, calls, plan)
    for module, kind, attributes in plan:  # nothing is changed before everything is known to fit
        maps.become(module, kind)
        if len(users[module]) > 1 and users[module][0] is not module:
            module.decays = False  # the first of them decays what they share
        for name, value in attributes.items():
            if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
                module.register_buffer(name, value)
            else:
                setattr(module, name, value)
    for module in model.modules():
        parts = module.modules() if isinstance(module, nn.TransformerEncoderLayer) else ()
        if any(isinstance(part, (layers.Normalised, factored.FactoredLayer)) for part in parts):
            module.register_forward_pre_hook(layers.slowly)
    if cuts:
        model.__class__ = forward_mode.along(type(model))
    return model


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
        for key, hook in list(module._forward_pre_hooks.items()):
            if hook is layers.slowly:
                del module._forward_pre_hooks[key]
        kind = maps.plain_type(module)
        if kind in PLAIN:
            if isinstance(module, factored.FactoredLayer):
                module.weight = nn.Parameter(module.composed(), requires_grad=module.U.requires_grad)
            maps.become(module, PLAIN[kind])
            for name in ADDED:
                if any(name in held for held in (vars(module), module._modules, module._buffers, module._parameters)):
                    delattr(module, name)
    return model


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
        arrays = rule.feedback.start(edges.stream(seed, number), np.broadcast_to(0.0, (n_e, n_h)), n_h**-0.5)
        like = model.get_parameter(part.names[0]) if part.names else next(model.parameters())
        stored = edges.stored(rule, arrays, like.detach())
        feedback |= {head: stored[name] for head, name in zip(split.heads(number), rule.feedback.names, strict=True)}
    rule.feedback.check(sizes)
    model.__class__ = local.localised(type(model))
    model.local = split
    for name, parameter in feedback.items():
        model.register_parameter(name, parameter)
    return model
