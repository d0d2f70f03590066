"""One error for many layers: the fan-out at its source."""

from torch.autograd import Function

from deep.ops.delivery import deliver
from deep.ops.function import alias, identity_form
from deep.ops.plasticity import feedback_gradients


def as_rows(x, lead, units=None):
    """A tensor as a matrix (N, units) whose rows are the samples that its ``lead`` first axes number.

    With fewer units than the sample has entries they are its channels, in the mean over positions.
    """
    rows = x.reshape(x.shape[:lead].numel(), x.shape[lead:].numel())
    if units is None or units == rows.shape[1]:
        return rows
    return rows.unflatten(1, (units, -1)).mean(-1)


def from_rows(rows, shape, lead):
    """Rows (N, units) in the shape of a tensor; channels are repeated at every position."""
    if rows.numel() < shape.numel():
        rows = rows.reshape(*shape[: lead + 1], *(1 for _ in shape[lead + 1 :])).expand(shape)
    return rows.reshape(shape)


def mean_product(d, v, lead, units):
    """Mean over samples of d v^T, (n_e, units)."""
    d, v = as_rows(d, lead), as_rows(v, lead, units)
    return d.mT @ v / len(d)


class FanOut(Function):
    """The identity on a signal whose error is broadcast: backward hands e on, and e B_l^T to every cut.

    Args:
        signal: where the error is read, (*lead, n_e...).
        rule: a rule of the direct route.
        lead: number of leading axes that number the samples.
        cuts: K.
        tensors: the K cut activities (*lead, n_h...), as many forward maps of the edges (n_e, n_h), None for one that
            this pass does not show, then what each edge stores, with units or channels for its n_h.
    """

    @staticmethod
    def forward(signal, rule, lead, cuts, *tensors):
        return alias(signal)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.rule, ctx.lead, ctx.cuts, *tensors = inputs
        activities = tensors[: ctx.cuts]
        ctx.shapes = [(a.shape, a.dtype) for a in activities]
        keep = "G" in ctx.rule.plasticity.reads
        ctx.save_for_backward(*(activities if keep else ctx.cuts * (None,)), *tensors[ctx.cuts :])

    @staticmethod
    def backward(ctx, error):
        saved, rule, cuts, reads = ctx.saved_tensors, ctx.rule, ctx.cuts, ctx.rule.plasticity.reads
        activities, maps, stored = saved[:cuts], saved[cuts : 2 * cuts], saved[2 * cuts :]
        width = len(stored) // cuts
        rows = as_rows(error, ctx.lead)
        delivered, grads = [], []
        for cut, (shape, dtype) in enumerate(ctx.shapes):
            mine = tuple(B.to(rows.dtype) for B in stored[cut * width : (cut + 1) * width])
            wanted = ctx.needs_input_grad[4 + cut]
            delivered.append(from_rows(deliver(rule, mine, None, rows), shape, ctx.lead).to(dtype) if wanted else None)
            learns = any(ctx.needs_input_grad[4 + 2 * cuts + cut * width :][:width])
            G, J = None, maps[cut]
            if learns and "G" in reads:
                G = rows.mT @ as_rows(activities[cut], ctx.lead, len(mine[0])).to(rows.dtype)
            if J is not None:
                J = J.to(rows.dtype)
            learns = learns and (J is not None or "J" not in reads)  # evaluation mode shows no map
            grads.extend(feedback_gradients(rule, mine, G, rows.mT[None], J) if learns else (None,) * width)
        return (error, None, None, None, *delivered, *(None,) * cuts, *grads)


identity_form(FanOut, 0)
