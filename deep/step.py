"""One step of training on a batch."""

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deep import divergence, local
from deep.data.mixup import dominant
from deep.distributed import is_sharded, replicated
from deep.factored import retract
from deep.loss_scale import set_loss_scale
from deep.precision import Precision


class Step:
    """``step(x, y)`` moves the parameters of a promoted model along its gradients on a batch.

    Args:
        model: promoted, on its device; also divided among processes.
        optimizer: of its parameters.
        loss: (logits, labels) -> scalar mean.
        precision: of the passes.
        clip: the gradient of all parameters together is shortened to this norm, for local losses that of every module;
            None leaves it.
        accumulate: into so many equal parts a batch is divided that go through the model one after the other, where
            all of it does not fit the memory.  A rule that is not linear in the batch sees each part as a batch.

    Raises:
        ValueError: for numbers that are not positive.
        Unsupported: for local losses with a compiled model.

    >>> import deep, linfa
    >>> net = deep.promote(nn.Sequential(nn.Linear(4, 3)), linfa.fa())
    >>> step = Step(net, torch.optim.SGD(net.parameters(), 0.1))
    >>> loss, right, count = step(torch.zeros(2, 4), torch.arange(2)).tolist()
    >>> count
    2.0
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable = nn.functional.cross_entropy,
        precision: Precision = Precision(),  # noqa: B008  frozen
        clip: float | None = None,
        accumulate: int = 1,
    ):
        if accumulate < 1 or (clip is not None and not clip > 0):
            raise ValueError(f"clip and accumulate are positive; got {clip} and {accumulate}")
        self.model, self.optimizer, self.loss, self.precision = model, optimizer, loss, precision
        self.clip, self.accumulate = clip, accumulate
        self.forward = precision.compiled(model)
        if not is_sharded(model):
            precision.laid_out(model)
            self.forward = replicated(self.forward)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The step; gives the sum of the losses, the right answers and the samples, float64 on the device."""
        seen, parts = [], self.parts(x, y)
        self.optimizer.zero_grad(set_to_none=True)
        with self.loss_scale():
            for number, (u, v) in enumerate(parts, 1):
                waits = number < len(parts) and isinstance(self.forward, DistributedDataParallel)
                with self.forward.no_sync() if waits else contextlib.nullcontext():
                    value, logits, plain = self.objective(self.forward, u, v)
                    (value / len(parts)).backward()
                right = (logits.argmax(1) == dominant(v)).sum()
                count = plain.new_full((), len(v), dtype=torch.float64)
                seen.append(torch.stack([plain.double() * len(v), right.double(), count]))
        for parameters in self.clipped():
            nn.utils.clip_grad_norm_(parameters, self.clip)
        self.optimizer.step()
        retract(self.model)
        return torch.stack(seen).sum(0)

    def objective(self, model, x, y):
        """The objective of a part, the logits, and the loss of these, whatever else has one."""
        last = []

        def watched(logits, y):
            last[:] = logits.detach(), self.loss(logits, y)
            return last[1]

        with self.precision.autocast(x.device.type):
            value = local.loss(model, x, y, watched)
        return value, last[0], last[1].detach()

    def parts(self, x, y):
        if len(y) % self.accumulate:
            raise ValueError(f"{len(y)} samples of a process make no {self.accumulate} equal parts to accumulate")
        return list(zip(self.precision.laid_out(x).chunk(self.accumulate), y.chunk(self.accumulate), strict=True))

    @contextlib.contextmanager
    def loss_scale(self):
        """Tells the rule by what the loss is multiplied."""
        if self.accumulate == 1:
            yield
            return
        set_loss_scale(self.model, 1 / self.accumulate)
        try:
            yield
        finally:
            set_loss_scale(self.model, 1.0)

    def clipped(self):
        """The groups of parameters whose gradients have a largest norm."""
        if self.clip is None:
            return []
        return local.modules(self.model) if isinstance(self.model, local.LocalModel) else [self.model.parameters()]

    def culprit(self, x: Tensor, y: Tensor) -> str | None:
        """What is not finite first on a batch, see `deep.divergence.culprit`; changes no weights."""
        with self.loss_scale():
            found = [
                divergence.culprit(self.model, lambda u=u, v=v: self.objective(self.model, u, v)[0] / self.accumulate)
                for u, v in self.parts(x, y)
            ]
        return next(filter(None, found), None)
