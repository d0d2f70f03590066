"""Promotion: the same model with another backward.

The model is changed in place and returned: same forward, same parameter objects under the same names.  Feedback lives
beside the weights, as parameters of the layers.  A rule of factored weights replaces the weights: see `deep.factored`.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize

from deep import chain, factored, forward_mode, layers, local, ops
from deep.activity import Normalisation
from deep.unsupported import Unsupported
from linfa.rules import Direct, Euclidean, Factored, Full, Layerwise, Local, Plain, Rule

EXACT = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding, nn.EmbeddingBag, nn.PReLU,
)  # fmt: skip
"""Layers with parameters that keep their exact derivative in every rule."""

LAYERWISE = {nn.Linear: layers.EdgeLinear, nn.Conv2d: layers.EdgeConv2d}
DIRECT = {nn.Linear: layers.CutLinear, nn.Conv2d: layers.CutConv2d}

PLAIN = layers.PLAIN | factored.PLAIN
"""The class that each promoted class goes back to."""

ADDED = (
    "feedback", "rule", "spread", "cuts", "path", "first", "is_cut", "edges", "source_is_input",
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
) -> nn.Module:
    """Give every linear map of a model the backward of a rule.

    Local rules divide the model into modules, runs of stages: a stage is a weight matrix or kernel with what follows
    it, a residual block, a block of a transformer.  Every module but the last receives a linear head on its output: on
    the features (N, n), on the mean of tokens (N, T, n), or on the mean over positions of (N, n, ...).  The heads are
    parameters of the model ("feedback_1_B" for module 1), and `deep.loss` is the loss.

    Args:
        model: any module whose linear maps are `nn.Linear` and `nn.Conv2d`; changed in place.
        rule: a `linfa.Rule`.
        sample: an input of the model (a tuple for several), of any batch size, on the model's device.  Direct, local
            and normalised rules need it, to learn the order of the layers and the sizes of their inputs; with it,
            layers whose input needs no error get no feedback.
        exact: paths ("blocks.0.fc1", which covers what is below it) or module types to leave on backpropagation.
        seed: of the feedback; each layer draws from a stream of its own.
        stages: for local rules, paths of the submodules that end a stage, in their order, if not those that are found
            in the autograd graph of the sample; the last stage ends at the output and need not be named.
        shared: for a direct rule, whether all positions at the input of a convolution share their feedback: a matrix
            for channels in place of one for units, which saves memory (ours).  Plasticity sees the mean over positions
            of an activity and of a Jacobian.

    Returns:
        The model itself.  ``loss.backward()`` now fills the gradients of the rule, and those of learning feedback.
        Under a rule of factored weights layers have the parameters U, s and V in place of ``weight``: load weights
        before, and build the optimiser after promoting.
        The directions of a rule whose geometry is not Euclidean are taken in the optimiser: `deep.optimizer`.
        A rule of normalised activities changes the forward pass, too: every promoted layer but the one that runs last
        normalises its output, beside whatever normalises in the model already.

    Raises:
        Unsupported: naming the module and the way out, for a layer that is neither supported nor exact, weights shared
            between layers, parametrized weights, a model that is promoted already, stages that are no chain, or a rule
            that does not fit.
        ValueError: for a missing sample, an unknown path in ``exact`` or ``stages``, an argument that the rule has no
            use for, or a rank above a width.

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
        return _local(model, rule, sample, exact, seed, stages)
    if stages is not None:
        raise ValueError(f"stages divide a model for rules with local losses, and {rule.name} has one loss for all")
    targets = _targets(model, exact)
    calls = None if sample is None else _trace(model, targets, sample)
    forward = False
    if isinstance(rule.route, Direct):
        if calls is None:
            raise ValueError(f"{rule.name} is a direct rule: pass sample=<an input of the model> to size its feedback")
        plan = _direct(rule, targets, calls, seed, shared)
        forward = "J" in rule.plasticity.reads and _follows(model, plan, sample)
    else:
        plan = _layerwise(rule, targets, calls, seed)
    if isinstance(rule.parameterisation, Factored):
        plan = factored.factorised(rule, plan, targets, calls)
    if rule.activity != Plain():
        plan = _normalised(rule, targets, calls, plan)
    for module, kind, attributes in plan:  # nothing is changed before everything is known to fit
        module.__class__ = kind
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
    if isinstance(rule.route, Local) and rule.feedback.bound is not None:
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
        if type(module) in PLAIN:
            if isinstance(module, factored.FactoredLayer):
                module.weight = nn.Parameter(module.composed(), requires_grad=module.U.requires_grad)
            module.__class__ = PLAIN[type(module)]
            for name in ADDED:
                if any(name in held for held in (vars(module), module._modules, module._buffers, module._parameters)):
                    delattr(module, name)
    return model


def _targets(model, exact) -> dict[str, nn.Module]:
    """Module path -> layer to promote, after every other module has been found harmless."""
    paths = [e for e in exact if isinstance(e, str)]
    types = tuple(e for e in exact if isinstance(e, type))
    known = dict(model.named_modules())
    unknown = [p for p in paths if p not in known and p not in dict(model.named_parameters())]
    if unknown:
        raise ValueError(f"exact names no module or parameter of the model: {', '.join(unknown)}")

    def spared(path, module):
        return isinstance(module, types) or any(path == p or path.startswith(p + ".") for p in paths)

    targets, owners = {}, {}
    for path, module in known.items():
        called = path or type(module).__name__
        if type(module) in PLAIN:
            raise Unsupported(f"{called} is promoted already ({module.rule.name}): demote the model first")
        if spared(path, module):
            continue
        out = f"leave it on backpropagation with exact=({path!r},)"
        if parametrize.is_parametrized(module):
            raise Unsupported(f"{called} has parametrized weights, which promotion does not follow: {out}")
        own = dict(module.named_parameters(recurse=False))
        if type(module) in LAYERWISE:
            if module.weight.is_complex() or not module.weight.is_floating_point():
                raise Unsupported(f"{called} has weights of dtype {module.weight.dtype}, which no rule covers: {out}")
            if isinstance(module.weight, nn.parameter.UninitializedParameter):
                raise Unsupported(f"{called} is a lazy layer: run the model once before promoting it")
            if id(module.weight) in owners:
                other = owners[id(module.weight)]
                raise Unsupported(f"{called} shares its weight with {other}: a rule needs one edge for a weight; {out}")
            owners[id(module.weight)] = called
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
        raise Unsupported(f"{type(model).__name__} has no nn.Linear or nn.Conv2d left to promote")
    return targets


def _trace(model, targets, sample) -> dict[str, tuple]:
    """Path -> (shape of the input, whether it needs an error), in the order of the calls of one forward pass."""
    calls, modes, handles = {}, {m: m.training for m in model.modules()}, []

    def watch(path):
        def record(module, inputs):
            calls.setdefault(path, (tuple(inputs[0].shape), inputs[0].requires_grad))

        return record

    try:
        model.eval()
        handles = [module.register_forward_pre_hook(watch(path)) for path, module in targets.items()]
        with torch.enable_grad():
            model(*sample) if isinstance(sample, tuple) else model(sample)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
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
        with torch.no_grad(), warnings.catch_warnings(), forward_ad.dual_level():
            warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)  # torch's own, as this loads
            model(*sample) if isinstance(sample, tuple) else model(sample)
    except RuntimeError as reason:
        raise Unsupported(
            f"forward mode does not follow the model from the input of {last} on ({str(reason).splitlines()[0]}): use "
            "operations that it knows; for attention that is the math backend, torch.nn.attention.sdpa_kernel("
            "SDPBackend.MATH) around both promote and training"
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


def _layerwise(rule, targets, calls, seed):
    plan, sizes = [], []
    for number, (path, module) in enumerate(targets.items()):
        if calls is not None and not calls[path][1]:  # its input needs no error, so it has no edge
            attributes = {"rule": rule, "feedback": nn.ParameterDict()}
            plan.append((module, LAYERWISE[type(module)], attributes))
            continue
        weight = module.weight.detach()
        matrix = ops.matricise(weight, module.groups) if isinstance(module, nn.Conv2d) else weight
        forward = matrix.double().cpu().numpy()
        spread = float(np.sqrt(np.mean(forward**2))) or forward.shape[-1] ** -0.5
        sizes.append((forward.shape[-1], forward.shape[-2]))
        arrays = rule.feedback.start(_rng(seed, number), forward, spread)
        attributes = {"rule": rule, "feedback": _parameters(rule, arrays, weight)}
        if rule.feedback.redrawn:  # the only feedback that needs it again, so it belongs to the state
            attributes["spread"] = weight.new_tensor(spread)
        plan.append((module, LAYERWISE[type(module)], attributes))
    rule.feedback.check(sizes)
    return plan


def _direct(rule, targets, calls, seed, shared):
    order = list(calls)
    top = rule.route.exact_top
    if top >= len(order):
        raise Unsupported(f"{rule.name} backpropagates {top} layers exactly, and the model has only {len(order)}")
    source = order[-1] if top == 0 else order[-top]
    reach = order if top == 0 else order[: order.index(source)]
    module = targets[source]
    if top:
        n_e = calls[source][0][-1] if isinstance(module, nn.Linear) else int(np.prod(calls[source][0][1:]))
    elif isinstance(module, nn.Linear):
        n_e = module.out_features
    else:
        raise Unsupported(f"the last layer, {source}, is a convolution: broadcast from a Linear head")
    lead = len(calls[source][0]) - 1 if isinstance(module, nn.Linear) else 1
    edges, feedback, cuts, sizes = {}, nn.ModuleDict(), {}, []
    for number, path in enumerate(order):
        shape, needs_error = calls[path]
        if path not in reach or not needs_error:
            continue
        n_h = shape[1] if shared and isinstance(targets[path], nn.Conv2d) else int(np.prod(shape[lead:]))
        # A direct edge spans several layers and activations: it has a shape, and no single map to start from.
        if not rule.feedback.starts_at_random:
            raise Unsupported(f"{rule.feedback} starts from a forward weight, and a direct edge has none")
        forward = np.broadcast_to(0.0, (n_e, n_h))
        sizes.append((n_h, n_e))
        arrays = rule.feedback.start(_rng(seed, number), forward, n_h**-0.5)
        edges[path] = path.replace(".", "_")
        feedback[edges[path]] = _parameters(rule, arrays, module.weight.detach())
    rule.feedback.check(sizes)
    plan = []
    for path in order:
        attributes = {
            "rule": rule, "path": path, "first": path == order[0], "cuts": cuts, "is_cut": path in edges,
            "edges": edges if path == source else {}, "source_is_input": top > 0,
        }  # fmt: skip
        if path == source:
            attributes["feedback"] = feedback
        plan.append((targets[path], DIRECT[type(targets[path])], attributes))
    return plan


def _local(model, rule, sample, exact, seed, stages):
    if sample is None:
        raise ValueError(f"{rule.name} has local losses: pass sample=<an input of the model> to divide it into modules")
    if exact:
        raise ValueError(f"exact has no use: {rule.name} backpropagates inside of modules")
    known = dict(model.named_modules())
    for path, module in known.items():
        if type(module) in PLAIN:
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
            axis = -3 if isinstance(module, nn.Conv2d) else -1
            part = Normalisation(rule.activity, module.weight.shape[0], axis).to(module.weight).train(module.training)
            kind, attributes = layers.NORMALISED[kind], {**attributes, "normalisation": part}
        out.append((module, kind, attributes))
    return out
