"""What a model is made of, as far as promotion has to know: its linear maps, their users, and one pass through them."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize

from deep import maps
from deep.apart import Apart
from deep.kinds import EXACT, LAYERWISE, PLAIN
from deep.unsupported import Unsupported


class Call(NamedTuple):
    """What was seen of a layer in a forward pass.

    Args:
        shape: of its input, the first of several.
        needs_error: whether any input does.
        each: the same for each of its maps.
        inputs: how many different ones there are.
        runs: how often the layer was called.
    """

    shape: tuple[int, ...]
    needs_error: bool
    each: dict[str, bool]
    inputs: int
    runs: int = 1


def targets_of(model, exact) -> dict[str, nn.Module]:
    """Module path -> layer to promote, after every other module has been found harmless."""
    paths = [e for e in exact if isinstance(e, str)]
    known = dict(model.named_modules())
    unknown = [p for p in paths if p not in known and p not in dict(model.named_parameters())]
    if unknown:
        raise ValueError(f"exact names no module or parameter of the model: {', '.join(unknown)}")
    roots = roots_of(model, exact)

    targets = {}
    for path, module in known.items():
        called, kind = path or type(module).__name__, maps.plain_type(module)
        if kind in PLAIN:
            raise Unsupported(f"{called} is promoted already ({module.rule.name}): demote the model first")
        if is_below(path, roots):
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
        elif type(module).__module__.startswith("torch.ao.nn.") and ".quantized." in type(module).__module__:
            raise Unsupported(f"{called} is quantised and lets no error pass: quantise after training, or {out}")
        elif own and not isinstance(module, EXACT):
            loose = tuple(f"{path}.{name}".lstrip(".") for name in own)
            if not all(name in paths for name in loose):
                kind = type(module)
                raise Unsupported(
                    f"{called} is a {kind.__module__}.{kind.__name__} with parameters of its own ({', '.join(own)}), "
                    f"which would silently stay on backpropagation: say so with exact={loose!r}, or for all of its "
                    f"kind with exact=({kind.__name__},); a linear map can be replaced by nn.Linear or nn.Conv2d"
                )
    inner = [p for p in paths if p not in known and p.rpartition(".")[0] in targets]
    if inner:
        layers = tuple(p.rpartition(".")[0] for p in inner)
        raise ValueError(f"exact names {', '.join(inner)} of layers that take the rule: name those, exact={layers!r}")
    if not targets:
        raise Unsupported(f"{type(model).__name__} has no nn.Linear, convolution or attention left to promote")
    return targets


def roots_of(model, exact) -> list[str]:
    """The paths of what is to stay exact, with all that is below."""
    types = tuple(e for e in exact if isinstance(e, type))
    paths = [e for e in exact if isinstance(e, str)]
    return paths + [path for path, module in model.named_modules() if isinstance(module, types)]


def is_below(path, roots) -> bool:
    """Whether a path is one of some or inside of what one leads to."""
    return any(path == p or p == "" or path.startswith(p + ".") for p in roots)


def embeddings_of(model, exact) -> dict[str, nn.Module]:
    """Path -> embedding that is not named as exact; what they look up is exact, and a product with them is not."""
    roots = roots_of(model, exact)
    found = {p: m for p, m in model.named_modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    return {path: module for path, module in found.items() if not is_below(path, roots)}


def check_numbers(model) -> None:
    """Raise Unsupported for parameters that have no numbers yet, which feedback would be drawn beside."""
    for name, p in model.named_parameters():
        if nn.parameter.is_lazy(p):
            raise Unsupported(f"{name} has no shape yet: run the model once on an input, and promote it then")
        if p.is_meta:
            raise Unsupported(
                f"{name} is on the meta device, without numbers, and so would be its feedback: give the model numbers "
                "with model.to_empty(device=...) and load_state_dict, and promote it then"
            )


def users_of(model, targets) -> dict[nn.Module, list[nn.Module]]:
    """Layer to promote -> the modules that use its weight, those to promote first."""
    uses = {}
    for module in [*targets.values(), *model.modules()]:
        for parameter in maps.parameters(module):
            uses.setdefault(id(parameter), {})[module] = None
    return {module: list({user: None for p in maps.parameters(module) for user in uses[id(p)]})
            for module in targets.values()}  # fmt: skip


def trace(model, targets, sample, exact=()) -> dict[str, Call]:
    """Path -> the layer's first call, in the order of the calls of one forward pass."""
    apart = Apart(model, targets | embeddings_of(model, exact))
    calls, handles = {}, []

    def seen(path, call):
        calls[path] = calls[path]._replace(runs=calls[path].runs + 1) if path in calls else call

    def watch(path):
        def record(module, args, kwargs):
            inputs = maps.inputs(module, args, kwargs)
            needs = {name: x.requires_grad for name, x in inputs.items()}
            x = next(iter(inputs.values()))
            distinct = len({id(x) for x in inputs.values()})
            seen(path, Call(tuple(x.shape), any(needs.values()), needs, distinct))
            inner = f"{path}.out_proj".lstrip(".")
            if isinstance(module, nn.MultiheadAttention) and inner in targets:  # called by promoted attention only
                live = any(needs.values()) or any(W.requires_grad for W in maps.parameters(module))
                seen(inner, Call((*x.shape[:-1], module.embed_dim), live, {"": live}, 1))

        return record

    try:
        handles = [m.register_forward_pre_hook(watch(path), with_kwargs=True) for path, m in targets.items()]
        with torch.enable_grad(), maps.evaluated(model), apart:
            model(*sample) if isinstance(sample, tuple) else model(sample)
    finally:
        for handle in handles:
            handle.remove()
    idle = [path for path in targets if path not in calls]
    if idle:
        raise Unsupported(f"{', '.join(idle)} did not run on the sample, though a function may use their weights, past "
                          f"any rule: call them as modules, or say so with exact={tuple(idle)!r}")  # fmt: skip
    apart.check()
    return calls
