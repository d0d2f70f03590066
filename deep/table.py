"""What promotion made of a model, as a table: each layer's rule, rank, feedback and cost."""

import dataclasses
from dataclasses import dataclass
from math import prod

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from deep import layers, local, maps, ops
from deep.factored import FactoredLayer, inner_columns, is_exact, matrices
from deep.kinds import EXACT, LAYERWISE, original
from linfa.rules import Rule


@dataclass(frozen=True)
class Row:
    """One layer with parameters.

    Args:
        path: of the module.
        type: its class, as before promotion.
        rule: the name of its rule; "exact" where it is left on backpropagation.
        rank: how many numbers a sample sends through its feedback; None without feedback.
        feedback: numbers that its feedback stores.
        forward, backward, plasticity: floating-point operations per sample of products with weights and feedback, and
            of penalties on factors, which are backward; None without a formula: for layers that are not promoted
            themselves, for plasticity that random directions show the map of several layers, and for what local losses
            do backward.
    """

    path: str
    type: str
    rule: str
    rank: int | None
    feedback: int
    forward: float | None
    backward: float | None
    plasticity: float | None


COSTS = "forward", "backward", "plasticity"


@dataclass(frozen=True)
class Table:
    """The rows of all layers with parameters, in the order of the modules; ``str`` makes a text of it."""

    rows: tuple[Row, ...]

    @property
    def total(self) -> Row:
        """The sums over the layers, those without a formula left out."""
        costs = {name: sum(getattr(row, name) or 0 for row in self.rows) for name in COSTS}
        return Row("total", "", "", None, sum(row.feedback for row in self.rows), **costs)

    def __str__(self):
        head = [field.name for field in dataclasses.fields(Row)]
        lines = [head] + [[_text(getattr(row, name)) for name in head] for row in (*self.rows, self.total)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        sides = [str.ljust] * 3 + [str.rjust] * 5
        cells = [[side(cell, w) for side, cell, w in zip(sides, line, widths, strict=True)] for line in lines]
        return "\n".join("  ".join(line) for line in cells)


def _text(value):
    if not isinstance(value, int | float):
        return "-" if value is None else value
    for power, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= power:
            return f"{value / power:.3g} {unit}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class _Use:
    """A map in one call of its layer: on how many columns it acts, in how many blocks, and whether x needs an error.

    ``inner`` is on how many columns the first of two factors acts.
    """

    columns: int
    blocks: int
    needs_error: bool
    inner: int = 0


def table(model: nn.Module, sample) -> Table:
    """Say for each layer with parameters what its rule is, and what a step on the sample costs.

    Counted are multiplications and additions in products with weights and feedback, as `torch.utils.flop_counter` does
    it.  The products of attention itself have no parameters and are left out.  The cost of plasticity has a part that
    does not depend on the number of samples, so per sample it falls with the size of the batch.  Of a model with local
    losses the heads are rows of their own, named as in its parameters.

    Args:
        model: promoted or not.
        sample: a batch for it (a tuple for several inputs), whose first axis numbers the samples.

    >>> import linfa
    >>> from deep.promote import promote
    >>> x = torch.zeros(4, 8)
    >>> net = promote(nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4)), linfa.ldfa(2), sample=x)
    >>> print(table(net, x))
    path   type       rule          rank  feedback  forward  backward  plasticity
    0      Linear     ldfa(2, oja)     -         0      256       256           0
    1      LayerNorm  exact            -         0        0         0           0
    2      Linear     ldfa(2, oja)     2        40      128       208         116
    total                              -        40      384       464         116
    """
    known = {path: module for path, module in model.named_modules() if _has_parameters(module)}
    inside = tuple(f"{path}.{part}.".lstrip(".") for path in known for part in ("feedback", "parametrizations"))
    known = {path: module for path, module in known.items() if not f"{path}.".startswith(inside)}
    calls, broadcast = _watch(model, known, sample), {}
    for module in known.values():
        if isinstance(module, layers.Cut):
            broadcast |= {path: (module, key) for path, key in module.edges.items()}
    samples = len(sample[0] if isinstance(sample, tuple) else sample)
    rows = {path: _row(path, module, calls, broadcast.get(path), samples) for path, module in known.items()}
    for top, module in model.named_modules():
        if isinstance(module, local.LocalModel):
            inner = {path: below for path, below in rows.items() if _is_inside(path, top) and known[path] is not module}
            rows = {path: row for path, row in rows.items() if known[path] is not module}
            rows |= {path: _taught(row, module, known[path]) for path, row in inner.items()} | _heads(top, module)
    return Table(tuple(rows.values()))


def _has_parameters(module):
    return parametrize.is_parametrized(module) or next(module.parameters(recurse=False), None) is not None


def _watch(model, known, sample):
    """Module -> what was seen of each of its calls, {map: use}, in one forward pass without effects."""
    calls = {module: [] for module in known.values()}

    def record(module, args, kwargs, y):
        if original(module) not in LAYERWISE:
            return
        seen = {}
        for name, x in maps.inputs(module, args, kwargs).items():
            y = y[0] if isinstance(y, tuple) else y
            blocks = prod(x.shape[: layers.leading(module, x.dim())])
            inner = inner_columns(module, x, y) if isinstance(module, FactoredLayer) else 0
            seen[name] = _Use(maps.columns(module, x, y), blocks, x.requires_grad, inner)
        calls[module].append(seen)
        if type(module) is nn.MultiheadAttention and module.out_proj in calls:  # which it does not call
            calls[module.out_proj].append({"": _Use(prod(y.shape[:-1]), 1, y.requires_grad)})

    handles = [module.register_forward_hook(record, with_kwargs=True) for module in calls]
    try:
        with torch.enable_grad(), maps.evaluated(model):
            model(*sample) if isinstance(sample, tuple) else model(sample)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _row(path, module, calls, broadcast, samples):
    promoted, kind = isinstance(module, layers.Promoted), original(module)
    row = {"path": path, "type": kind.__name__, "rule": module.rule.name if promoted else "exact"}
    if kind not in LAYERWISE:
        return Row(**row, rank=None, feedback=0, **dict.fromkeys(COSTS, 0 if isinstance(module, EXACT) else None))
    edges = _edges(module, calls, broadcast)
    updates = any(p.requires_grad for p in maps.parameters(module)) or any(edge.reads_gradient for edge in edges)
    backward = not promoted or (isinstance(module, layers.Cut) and not module.is_cut)  # autograd's, to the input
    products = [
        (2 * use.columns * W.numel(), use) for name, W in matrices(module).items() for use in _uses(calls, module, name)
    ]
    costs = {
        "forward": sum(product for product, _ in products),
        "backward": sum(product * (updates + (backward and use.needs_error)) for product, use in products)
        + sum(edge.delivery() for edge in edges),
        "plasticity": None,
    }
    if not (isinstance(module, layers.Cut) and "J" in module.rule.plasticity.reads):
        costs["plasticity"] = sum(edge.learning() for edge in edges)
    if isinstance(module, FactoredLayer):
        costs |= _factored(module, calls[module], edges)
    ranks = [edge.rank for edge in edges if edge.rank is not None]
    return Row(**row, rank=max(ranks, default=None), feedback=sum(B.numel() for edge in edges for B in edge.stored),
               **{name: None if cost is None else cost / samples for name, cost in costs.items()})  # fmt: skip


def _factored(module, calls, edges):
    """Operations of a layer whose weight is U diag(s) V^T: with V, with U, and with the penalties on them."""
    rule, exact, cut = module.rule, is_exact(module.rule), isinstance(module, layers.Cut)
    U, s, V = (p.requires_grad for p in module.stored())
    if _adds(rule):  # one function gives the gradients of all three
        U = s = V = U or s or V
    forward, backward = 0, 0 if exact else sum(edge.delivery() for edge in edges)
    for call in calls:
        (use,) = call.values()
        first, second = 2 * use.inner * module.V.numel(), 2 * use.columns * module.U.numel()
        onward = use.needs_error and (not module.is_cut if cut else exact)
        forward += first + second
        backward += second * ((U or s) + (V or onward)) + first * (V + onward) + _objective(module)
        if not (cut or exact):  # the edge stands beside the factors, and may read the weight
            (edge,), reads = edges, rule.feedback.reads_weight or "J" in rule.plasticity.reads
            forward += 2 * reads * edge.W.numel() * module.stored().rank
            backward += 2 * edge.reads_gradient * edge.W.numel() * use.columns
    return {"forward": forward, "backward": backward}


def _adds(rule):
    """Whether the gradient of factors has more in it than that of the loss."""
    return rule.parameterisation.penalties or rule.parameterisation.retraction or rule.decay


def _objective(module):
    """Operations of what the rule adds to the gradient of the factors, on matrices without numbers."""
    part = module.rule.parameterisation
    if not _adds(module.rule) or not any(p.requires_grad for p in module.stored()):
        return 0
    aligned = any(penalty.reads_frame for penalty in part.penalties)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        frame = module.frame().to("meta") if aligned and module.teacher is not None else None
        stored = part.build(*(matrix.to("meta") for matrix in module.stored()))
        part.tangent(stored, part.objective(stored, stored, frame))
    return counter.get_total_flops()


def _is_inside(path, top):
    return not top or path == top or path.startswith(f"{top}.")


def _taught(row, model, module):
    """The row of a layer in a model with local losses, whose backward passes have no formula here."""
    mine = isinstance(module, maps.LAYERS)
    return dataclasses.replace(row, rule=model.local.rule.name if mine else row.rule, backward=None, plasticity=None)


def _heads(top, model):
    """A row for each head of a model with local losses, which reads one vector a sample."""
    rows = {}
    for number in range(1, len(model.local.parts)):
        names = model.local.heads(number)
        stored = [model.get_parameter(name) for name in names]
        path, count = f"{top}.{names[0]}".lstrip("."), sum(B.numel() for B in stored)
        rank = min(min(B.shape) for B in stored)
        rows[path] = Row(path, "head", model.local.rule.name, rank, count, 2 * count, None, None)
    return rows


def _uses(calls, module, name):
    return [call[name] for call in calls[module]]


def _edges(module, calls, broadcast):
    """The edges to a layer's input: its own, or the one that broadcasts to it."""
    if broadcast is not None:
        source, key = broadcast
        uses = [next(iter(call.values())) for call in calls[source]]
        uses = [_Use(use.blocks, use.blocks, needs_error=True) for use in uses]
        return [_Edge(source.rule, _stored(source.rule, source.feedback[key]), None, uses, False)]
    if isinstance(module, layers.Cut) or not isinstance(module, layers.Promoted):
        return []
    edges, blocked = [], isinstance(module, nn.modules.conv._ConvNd)
    for name, W in matrices(module).items():
        stored = _stored(module.rule, module.feedback[name] if name else module.feedback)
        edges.append(_Edge(module.rule, stored, W.to("meta"), _uses(calls, module, name), blocked))
    return edges


def _stored(rule, parameters):
    """What an edge stores, in the order of the rule and without numbers."""
    matrices = [parameters[name] for name in rule.feedback.names] if parameters else []
    return tuple(nn.Parameter(B.detach().to("meta"), B.requires_grad) for B in matrices)


@dataclass(frozen=True)
class _Edge:
    """An edge of a rule: what it stores, its weight W or None over several layers, and its uses."""

    rule: Rule
    stored: tuple
    W: torch.Tensor | None
    uses: list[_Use]
    blocked: bool

    @property
    def reads_gradient(self):
        """Whether its plasticity needs the gradient of the weight."""
        return self.W is not None and self.learns and "G" in self.rule.plasticity.reads

    @property
    def learns(self):
        return any(B.requires_grad for B in self.stored)

    @property
    def factors(self):
        """The matrices that an error goes through; none where the edge was left out."""
        there = len(self.stored) == len(self.rule.feedback.names)
        return self.rule.feedback.factors(self.stored, self.W) if there else ()

    @property
    def rank(self):
        if not self.stored and not any(use.needs_error for use in self.uses):
            return None
        return min((min(factor.shape[-2:]) for factor in self.factors), default=None)

    def delivery(self):
        """Operations that carry the error of every column through the factors."""
        return sum(2 * use.columns * B.numel() for use in self.uses if use.needs_error for B in self.factors)

    def learning(self):
        """Operations of the plasticity, counted as it runs on matrices without numbers."""
        return sum(map(self._learning, self.uses)) if self.learns else 0

    def _learning(self, use):
        *group, n_h, _ = self.stored[0].shape
        *_, r, n_e = self.stored[-1].shape
        blocks = use.blocks if self.blocked else 1

        def empty(*shape):
            return torch.empty(shape, dtype=self.stored[0].dtype, device="meta")

        error, crossed = empty(blocks, *group, n_e, use.columns // blocks), (None, None)
        if self.blocked and use.needs_error and len(self.stored) == 2:  # as it crossed when it was delivered
            crossed = self.stored[1], empty(blocks, *group, r, use.columns // blocks)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            G = empty(*group, n_e, n_h)
            if self.W is None and "G" in self.rule.plasticity.reads:
                G = error[0] @ empty(use.columns, n_h)
            J = None if self.W is None else ops.shown(self.rule.plasticity, self.W)
            ops.feedback_gradients(self.rule, self.stored, G, error, J, crossed)
        return counter.get_total_flops()
