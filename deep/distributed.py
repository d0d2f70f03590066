"""Several processes: which one this is, a model that all of them train, and tensors in one piece.

Under ``torchrun`` every process trains on its share of each batch.  DistributedDataParallel keeps the model on all of
them and averages gradients; with `shard` every process keeps a part of each parameter, its gradient and its moments.
Whatever is averaged is linear in the batch for most rules, so that several processes take the step of one.  Where it is
not (feedback that reads the covariance of errors, as Oja's, clamped errors, normalised activities) every process finds
on its share what one finds on a batch of that size; random numbers are its own.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from deep.unsupported import Unsupported
from linfa.rules import Direct, Euclidean, Factored, Local, Rule

BLOCKS = itertools.count()
"""Numbers of the blocks of `processes` in this process, the same in all of them."""


def rank() -> int:
    """The number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextlib.contextmanager
def processes(device: str | torch.device) -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started, if it did, until the end of the block; gives this one's device.

    Raises:
        ValueError: for a device that there is not.

    >>> with processes("cpu") as device:
    ...     device, rank(), world()
    (device(type='cpu'), 0, 1)
    """
    launched = dist.is_torchelastic_launched() and not dist.is_initialized()
    try:
        device = torch.device(device)
        if launched and device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"the device {device} cannot be used: {error}") from error
    if not launched:
        yield device
        return
    store, number, count = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"block {next(BLOCKS)}", store)  # where the next block does not find what this one left
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=number, world_size=count)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def shard(model: nn.Module, rule: Rule) -> nn.Module:
    """Divide the parameters of a promoted model among all processes (FSDP2), before it has an optimiser.

    Raises:
        ValueError: without torch.distributed.
        Unsupported: for rules that need a parameter in one piece outside of its layer.
    """
    weights = rule.parameterisation
    reasons = {
        "finds directions of full gradients": rule.geometry != Euclidean(),
        "takes gradients inside of the forward pass": isinstance(rule.route, Local),
        "sends directions through the whole model": isinstance(rule.route, Direct) and "J" in rule.plasticity.reads,
        "leads factors back after every step": isinstance(weights, Factored) and weights.retraction is not None,
    }
    for reason, applies in reasons.items():
        if applies:
            raise Unsupported(f"{rule.name} {reason}, which sharded parameters do not allow: train it without sharding")
    if not dist.is_initialized():
        raise ValueError("there are no processes to divide the model among: start them with torchrun")
    mesh = dist.init_device_mesh(next(model.parameters()).device.type, (world(),))
    for part in _parts(model):
        fully_shard(part, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def _parts(model):
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        elif next(child.parameters(), None) is not None:
            yield child


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` divided the model."""
    return isinstance(model, FSDPModule)


def replicated(model: nn.Module) -> nn.Module:
    """The model under DistributedDataParallel if there are several processes."""
    if world() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def total(tensor: Tensor) -> Tensor:
    """The sum over all processes, on all of them."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


def least(number: int, device: torch.device) -> int:
    """The smallest over all processes, on all of them."""
    if world() == 1:
        return number
    tensor = torch.tensor(number, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MIN)
    return int(tensor)


class Agreement:
    """``agreement(mine)`` says, on all processes alike, whether any of them said so in the call before.

    All of them make the same calls.  No call waits for one that others have not come to yet, so that a step does not
    take longer; of one process it is what that one says now.

    >>> agreement = Agreement()
    >>> agreement(False), agreement(True)
    (False, True)
    """

    def __init__(self):
        self.group = dist.new_group(backend="gloo") if world() > 1 else None  # apart from gradients, and on no device
        self.said = self.work = None

    def __call__(self, mine: bool) -> bool:
        if self.group is None:
            return mine
        before = self._before()
        self.said = torch.tensor(int(mine))
        self.work = dist.all_reduce(self.said, dist.ReduceOp.MAX, self.group, async_op=True)
        return before

    def _before(self):
        if self.work is None:
            return False
        self.work.wait()
        return bool(self.said)

    def close(self) -> None:
        """Wait for the last call: a process that ends before may never come to its end."""
        self._before()
        self.work = None


def gathered(thing) -> list:
    """What every process has, on all of them."""
    if world() == 1:
        return [thing]
    things = [None] * world()
    dist.all_gather_object(things, thing)
    return things


def mine(tensor: Tensor) -> Tensor:
    """This process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(state):
    """Nested dictionaries with every divided tensor in one piece, on the processor; a step of all processes."""
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    return state.full_tensor().cpu() if isinstance(state, DTensor) else state


def divided(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every process has, divided as another one of its shape is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def load(model: nn.Module, optimizer: torch.optim.Optimizer, saved: dict, moments: dict) -> None:
    """Load whole states of a model and its optimiser, however many processes wrote them."""
    now = model.state_dict()
    model.load_state_dict({name: divided(t, now[name]) if name in now else t for name, t in saved.items()})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        number: {k: divided(v, p) if getattr(v, "shape", None) == p.shape else v for k, v in parts.items()}
        for number, parts in moments["state"].items()
        for p in (parameters[number],)
    }
    optimizer.load_state_dict({**moments, "state": state})
