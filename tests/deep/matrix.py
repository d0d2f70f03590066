"""The ecosystem matrix: a promoted model in every setting that torch offers, against the oracles.

A cell is a choice on every axis.  Its gradients, whatever computed them, are those of the oracle in float64, or it
raises an error of ours that says what to do.
"""

import contextlib
import itertools
import random
import warnings
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import deep
from deep.models.transformer import Block
from linfa.rules import (
    Delta,
    Dense,
    Direct,
    Layerwise,
    Local,
    Plain,
    RandomFactors,
    Rule,
    dfa,
    directional_dfa,
    ldfa,
    sgr,
    weight_mirror,
)

from .covered import promotable  # isort: skip
from .oracles import Draws  # isort: skip
from .oracles import gradients as oracle  # isort: skip

RULES = promotable() | {
    "dfa with decay": replace(dfa(), decay=0.1),
    "sgr with decay": sgr(2, decay=0.1),
    "clamped ldfa": ldfa(2, "fixed", clamp=0.003),
    "delta": Rule(Layerwise(), Dense(), Delta()),
    "broadcast delta of rank r": Rule(Direct(), RandomFactors(2), Delta(), decay=0.1),
    "sampled weight mirror": weight_mirror(directions=4),
    "sampled directional dfa": directional_dfa(directions=1),
}
AXES = {
    "rule": tuple(RULES),
    "layer": ("linear", "conv", "grouped", "block"),
    "dtype": ("float32", "bfloat16", "float64"),
    "mode": ("eager", "compiled"),
    "ranks": ("one", "ddp", "fsdp"),
    "recompute": (False, True),
    "step": ("plain", "accumulate", "scaler"),
}
MORE = ("attention", "conv1d", "conv3d")
"""Layers of a few cells by default, and of every cell in the profile "thorough"."""
TOLERANCE = {"float64": 1e-9, "float32": 2e-4, "bfloat16": 0.1}
"""Largest distance of a gradient from the oracle's, in units of its norm; bfloat16 is autocast, and there beyond twice
what rounding the weights and the input moves the oracle."""
ZERO = {"float64": 1e-9, "float32": 1e-2, "bfloat16": 1e-2}
"""Largest size of a gradient that is 0 by cancellation, in units of the largest: of a bias before a normalisation."""
SMALL = {"float64": 1e-3, "float32": 1e-3, "bfloat16": 4e-2}
"""Size, in units of the largest, below which it is the unit: with its tolerance, one rounding of bfloat16."""
FLOAT = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}
WORLD, SAMPLES = 2, 8


class Cell(NamedTuple):
    """A choice on every axis."""

    rule: str
    layer: str
    dtype: str
    mode: str
    ranks: str
    recompute: bool
    step: str


def product() -> list[Cell]:
    """Every cell."""
    axes = AXES | {"layer": AXES["layer"] + MORE}
    return [Cell(*values) for values in itertools.product(*axes.values())]


def few() -> list[Cell]:
    """Cells of the layers that the covering leaves out: on two ranks, layerwise and broadcast, two ways to step."""
    rules = {"ddp": ("ldfa(2, oja)", "dkp", "weight-mirror"), "fsdp": ("kolen-pollack", "dfa", "sampled weight mirror")}
    settings = {
        "ddp": ("float64", "eager", "ddp", False, "accumulate"), "fsdp": ("float32", "eager", "fsdp", True, "plain"),
    }  # fmt: skip
    return [Cell(rule, layer, *settings[ranks]) for ranks in rules for layer in MORE for rule in rules[ranks]]


def eager() -> list[Cell]:
    """Every rule on every layer in every precision, as anybody would run it first."""
    layers = AXES["layer"] + MORE
    places = itertools.product(AXES["rule"], layers, AXES["dtype"])
    return [Cell(*place, "eager", "one", False, "accumulate") for place in places]


def covering(seed: int = 0) -> list[Cell]:
    """Cells that hold every pair of choices on two axes, by greedy search among random candidates."""
    draw, axes = random.Random(seed), list(AXES.values())
    pairs = {((i, a), (j, b)) for i, j in itertools.combinations(range(len(axes)), 2) for a in axes[i] for b in axes[j]}

    def new(values):
        return set(itertools.combinations(enumerate(values), 2)) & pairs

    cells = []
    while pairs:
        wanted = dict(draw.choice(sorted(pairs, key=repr)))
        candidates = [tuple(wanted.get(i, draw.choice(axis)) for i, axis in enumerate(axes)) for _ in range(30)]
        best = max(candidates, key=lambda values: (len(new(values)), -_seconds(Cell(*values))))
        pairs -= new(best)
        cells.append(Cell(*best))
    return cells


def _seconds(cell):
    """About how long a cell takes."""
    return (0.1 + (cell.mode == "compiled")) * (1 if cell.ranks == "one" else WORLD)


class Body(nn.Module):
    """What is in the middle of a net, recomputed in the backward pass or not."""

    def __init__(self, inner, recompute):
        super().__init__()
        self.inner, self.recompute = inner, recompute

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False) if self.recompute else self.inner(x)


class Attending(nn.Module):
    """Self-attention as torch has it, beside its input."""

    def __init__(self, width, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x):
        return x + self.attention(x, x, x, need_weights=False)[0]


class Mean(nn.Module):
    """The mean over some axes."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.mean(self.axes)


def net(layer: str, recompute: bool = False) -> nn.Sequential:
    """A small smooth net of one kind of layer: stem, body, head."""
    torch.manual_seed(0)
    groups = 2 if layer == "grouped" else 1
    if layer == "linear":
        stem, inner = nn.Linear(6, 9), [nn.Tanh(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()]
        head = nn.Linear(8, 4)
    elif layer in ("block", "attention"):
        inner = [Block(8, 2, 12)] if layer == "block" else [Attending(8, 2), nn.Linear(8, 8), nn.Tanh()]
        stem, head = nn.Linear(6, 8), nn.Sequential(Mean(1), nn.Linear(8, 4))
    elif layer in ("conv1d", "conv3d"):
        kind, axes = (nn.Conv1d, (2,)) if layer == "conv1d" else (nn.Conv3d, (2, 3, 4))
        stem, head = kind(2, 6, 3, padding=1), nn.Sequential(Mean(*axes), nn.Linear(8, 4))
        inner = [nn.Tanh(), kind(6, 8, 3, 2, 1, groups=2), nn.Tanh(), kind(8, 8, 2, padding=1, bias=False), nn.Tanh()]
    else:
        stem, head = nn.Conv2d(2, 6, 3, padding=1), nn.Sequential(Mean(2, 3), nn.Linear(8, 4))
        inner = [
            nn.Tanh(), nn.Conv2d(6, 8, 3, 2, 1, groups=groups), nn.Tanh(),
            nn.Conv2d(8, 8, (3, 2), padding=1, groups=groups, bias=False), nn.Tanh(),
        ]  # fmt: skip
    return nn.Sequential(stem, Body(nn.Sequential(*inner), recompute), head)


def data(layer: str):
    """Inputs in float64, and labels."""
    g = torch.Generator().manual_seed(1)
    shapes = {"linear": (6,), "block": (5, 6), "attention": (5, 6), "conv1d": (2, 7), "conv3d": (2, 4, 3, 4)}
    shape = shapes.get(layer, (2, 6, 5))
    return torch.randn(SAMPLES, *shape, dtype=torch.float64, generator=g), torch.arange(SAMPLES) % 4


def promoted(cell: Cell, dtype=torch.float64, recompute: bool = False) -> nn.Module:
    """The net of a cell under its rule."""
    model = net(cell.layer, recompute).to(dtype)
    deep.promote(model, RULES[cell.rule], sample=data(cell.layer)[0][:2].to(dtype))
    torch.manual_seed(2)
    with torch.no_grad():
        for name, p in model.named_parameters():
            moves = "feedback" in name or name.split(".")[-1] in ("U", "s", "V")
            if moves and p.requires_grad:  # away from where it starts, which may be where it rests
                p += 0.1 * torch.randn(p.shape, dtype=torch.float64)
    return model


def stages(model: nn.Sequential) -> list[nn.Sequential]:
    """The stages of a net: what has weights, with what follows it and has none."""
    runs: list[list] = []
    for part in (model[0], *model[1].inner, *(model[2] if isinstance(model[2], nn.Sequential) else model[2:])):
        if any(p.dim() > 1 for p in part.parameters()):
            runs.append([])
        runs[-1].append(part)
    return [nn.Sequential(*run) for run in runs]


def expected(cell: Cell, state: dict, x, y, seed: int) -> dict:
    """The gradients of a batch in float64, from the numbers of a promoted model and the seed of its forward pass."""

    def losses(out):
        return F.cross_entropy(out, y, reduction="none")

    numbers = Draws(seed, FLOAT[cell.dtype], cell.dtype == "bfloat16")
    return oracle(lambda: net(cell.layer).double(), RULES[cell.rule], state, x, losses, numbers, stages)


def draws(rule):
    """Whether a pass shows random directions to the rule, which are others in another dtype."""
    return rule.plasticity.directions is not None


def gradients(model) -> dict:
    """Gradients by the parameter's name, whole and in float64."""
    found = {}
    for name, p in model.named_parameters():
        if p.grad is not None:
            found[clean(name)] = whole(p.grad)
    return found


def clean(name):
    """A parameter's name without what wrappers add to it."""
    return name.replace("_orig_mod.", "").removeprefix("module.")


def whole(tensor):
    """A tensor gathered from all ranks, in float64."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).double().clone()


def wrapped(cell: Cell, model, backend: str):
    """The model compiled and distributed as the cell wants it."""
    if cell.mode == "compiled":
        for name, part in list(model.named_children()) if cell.ranks == "fsdp" else []:
            setattr(model, name, torch.compile(part, backend=backend, fullgraph=True))
        if cell.ranks != "fsdp":  # whose hooks stay outside of what is compiled, part by part
            model = torch.compile(model, backend=backend, fullgraph=True)
    if cell.ranks == "ddp":
        return DistributedDataParallel(model)
    if cell.ranks == "fsdp":
        mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
        for part in model.children():
            fully_shard(part, mesh=mesh)
        return fully_shard(model, mesh=mesh)
    return model


def rounded(tensor):
    """A tensor as autocast sees it."""
    return tensor.bfloat16().double() if tensor.is_floating_point() else tensor


def run(cell: Cell, backend: str) -> tuple[dict, dict, dict]:
    """The gradients of one optimisation step of a cell, the oracle's, and these of numbers that autocast rounds first.

    The last tell how well the cell is conditioned; without autocast there are none.
    """
    torch._dynamo.reset()
    if RULES[cell.rule].feedback.redrawn or draws(RULES[cell.rule]):
        backend = "eager"  # the others draw the same numbers in another order
    dtype = FLOAT[cell.dtype]
    model = wrapped(cell, promoted(cell, dtype, cell.recompute), backend)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=cell.step == "scaler")
    x, y = data(cell.layer)
    rank, world = (dist.get_rank(), dist.get_world_size()) if cell.ranks != "one" else (0, 1)
    mine = torch.arange(SAMPLES).chunk(world)[rank]
    parts = mine.chunk(2) if cell.step == "accumulate" else (mine,)
    deep.set_loss_scale(model, scaler.get_scale() / len(parts))
    wanted, near = {}, {}
    for number, part in enumerate(parts):
        seed = 10 * rank + number
        torch.manual_seed(seed)
        last = number == len(parts) - 1
        waiting = model.no_sync() if cell.ranks == "ddp" and not last else contextlib.nullcontext()
        with waiting:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cell.dtype == "bfloat16"):
                loss = deep.loss(model, x[part].to(dtype), y[part])
            scaler.scale(loss / len(parts)).backward()
        state = {clean(name): whole(value) for name, value in model.state_dict().items()}
        for name, g in expected(cell, state, x[part], y[part], seed).items():
            wanted[name] = wanted.get(name, 0) + g / len(parts)
        if cell.dtype == "bfloat16":
            state = {name: rounded(value) for name, value in state.items()}
            for name, g in expected(cell, state, rounded(x[part]), y[part], seed).items():
                near[name] = near.get(name, 0) + g / len(parts)
    if cell.step == "scaler":
        scaler.unscale_(optimizer)
    if world > 1:
        for g in (*wanted.values(), *near.values()):
            dist.all_reduce(g)
            g /= world
    return gradients(model), wanted, near


def outcome(cell: Cell, backend: str) -> str:
    """What becomes of a cell: "equal", "refused: ..." with an error of ours, or what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, on what is compiled or sharded
            got, wanted, near = run(cell, backend)
    except deep.Unsupported as error:
        return f"refused: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    largest = max(g.norm() for g in wanted.values())
    alone = wanted.keys() ^ got.keys()
    wrong = [name for name in alone if name not in wanted or wanted[name].norm() > 1e-6 * largest]
    if wrong:
        return f"a gradient is missing or too many: {', '.join(sorted(wrong))}"
    gaps = {}
    for name in wanted.keys() & got.keys():
        size = float(wanted[name].norm() / largest)
        unit = largest * (ZERO[cell.dtype] / TOLERANCE[cell.dtype] if size < 1e-9 else max(size, SMALL[cell.dtype]))
        gaps[name] = float((got[name] - wanted[name]).norm() / unit)
        if name in near:  # twice, for activities are rounded, too
            gaps[name] -= 2 * float((near[name] - wanted[name]).norm() / unit)
    off = [f"{name} is off by {gap:.1e}" for name, gap in sorted(gaps.items()) if not gap <= TOLERANCE[cell.dtype]]
    return ", ".join(off) or "equal"


def refusals(cell: Cell) -> list[str]:
    """What a cell may say that is known not to run; nothing for most."""
    rule, texts = RULES[cell.rule], []
    route = rule.route
    if cell.mode == "compiled" and cell.recompute:
        if isinstance(route, Direct):
            texts.append("Mutating a variable from outside the scope")  # no compiled checkpoint hands a cut on
        if rule.activity != Plain():
            texts.append("modified by an inplace operation")  # the running statistics, which torch may not write twice
    if cell.mode == "compiled" and cell.ranks == "fsdp" and any(p.reads_frame for p in rule.parameterisation.penalties):
        texts.append("mixed torch.Tensor and DTensor")  # the frame belongs to a layer of another part
    if draws(rule) and isinstance(route, Direct):
        if cell.mode == "compiled":
            texts.append("Unsupported: ")  # there is no tracing of forward mode
        if cell.ranks == "fsdp":
            texts.append("the jvp is not returning a view")  # of a function of FSDP's
        if cell.recompute:
            texts.append("activation checkpointing, which runs parts again")
    if isinstance(route, Local):
        if cell.mode == "compiled":  # what is inside of modules can be, and here their ends are, too
            texts += ["Unsupported: ", "the model has no parameter"]
        if cell.recompute:
            texts.append("take activation checkpointing away")
        if cell.ranks == "fsdp":
            texts.append("are they sharded")
    return texts


def wrong(cell: Cell, found: str) -> bool:
    """Whether a cell is neither equal nor refused by an error that says what to do."""
    return found != "equal" and not found.startswith("refused: ") and not any(t in found for t in refusals(cell))
