"""Runs in processes of their own, which may be killed, or train together:

    python -m tests.deep.processes TASK FOLDER

A task is a function below.  Processes are forks of one that has imported everything.
"""

import contextlib
import dataclasses
import functools
import importlib
import io
import itertools
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import deep
import linfa
from deep import checkpoint, distributed
from deep.data import Images, InOrder, Shuffled, flip
from deep.experiment import Data, Experiment, Optimizer, run
from deep.precision import Precision
from deep.recipes import Recipe
from deep.schedule import Schedule
from deep.train import train
from linfa.verify import Certificate

SPACE = torch.Generator().manual_seed(0)
LABELS = torch.randint(0, 3, (96,), generator=SPACE)
PIXELS = torch.randint(0, 100, (96, 1, 6, 6), generator=SPACE) + 70 * LABELS[:, None, None, None]
IMAGES = Images(PIXELS.to(torch.uint8), LABELS, 3, (0.5,), (0.3,), "noise, brighter by class")


def fork(work, *args) -> int:
    """A process that does some work and ends, with status 1 for an exception."""
    process = os.fork()
    if process:
        return process
    try:
        work(*args)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def wait(process) -> int:
    """0 for a process that came to its end, else minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def must(work, *args):
    """A process that comes to its end."""
    status = wait(fork(work, *args))
    assert status == 0, status


def lonely(folder, epochs=3):
    """A run with everything that has a state: feedback, batch statistics, dropout, moments, an average, a record."""
    torch.manual_seed(3)
    rule = linfa.ldfa(2)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(),
        nn.Linear(8, 3),
    )  # fmt: skip
    deep.promote(model, rule, sample=IMAGES.normalised(slice(0, 2)))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    train(
        model, rule, Shuffled(IMAGES, 6, 1, flip), InOrder(IMAGES.subset(20)), optimizer, folder, epochs=epochs,
        schedule=Schedule("cosine", warmup=0.5), seed=1, average=0.9, clip=1.0, checkpoint_every=3,
        recorder=deep.Recorder(model, 11, folder), certificate=certificate(rule), progress=False,
    )  # fmt: skip


def certificate(rule):
    """Of a rule that nobody checked here."""
    return Certificate(repr(rule), rule.fingerprint, (), {})


def place(folder):
    """Steps until the checkpoint of a run of `lonely`."""
    saved = checkpoint.load(folder)
    return 0 if saved is None else 16 * len(saved["rows"]) + saved["step"]


def killed(folder):
    """Runs and steps of the checkpoints that were left by runs killed at random times, and place by place."""
    must(lonely, folder / "short", 1)
    begin = time.perf_counter()
    must(lonely, folder / "whole")
    times = list(kills(folder / "times", time.perf_counter() - begin))
    return {"times": times, "places": list(crashes(folder / "places"))}


def kills(folder, duration, times=20):
    """Kill runs of some duration until they were hit so many times, and let the last one come to its end."""
    draw, number = random.Random(0), 0
    while times:
        process = fork(lonely, folder / str(number))
        time.sleep(draw.uniform(0, duration / 2))
        os.kill(process, signal.SIGKILL)
        hit = wait(process) == -signal.SIGKILL
        times -= hit
        yield number, place(folder / str(number))
        number += not hit
    must(lonely, folder / str(number))


def crashes(folder):
    """Let a run die at every place in turn, each time going on from where the last one left the folder."""
    for after in itertools.count():
        status = wait(fork(crash, folder, after))
        yield place(folder)
        if status == 0:
            return
        assert status == -signal.SIGKILL, status


def crash(folder, after):
    """Die at the given place among all the places where a file is half written, or named anew."""
    count = itertools.count()

    def die():
        if next(count) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    def broken(real):
        def call(*args):
            die()
            real(*args)

        return call

    def half(state, path, real=torch.save):
        buffer = io.BytesIO()
        real(state, buffer)
        content = buffer.getvalue()
        path.write_bytes(content[: len(content) // 2])
        die()
        path.write_bytes(content)

    os.replace, os.fsync, torch.save = broken(os.replace), broken(os.fsync), half
    lonely(folder, 1)


class Stopped(Exception):
    """A run that was told to stop."""


class Stopping(Shuffled):
    """Batches that end with an exception."""

    def batches(self, epoch, start=0):
        for place, batch in enumerate(super().batches(epoch, start), start):
            if place == 7:
                raise Stopped
            yield batch


RULES = {
    "bp": linfa.bp(decay=0.01), "ldfa": linfa.ldfa(2, "fixed"), "dfa": linfa.dfa(),
    "kolen-pollack": linfa.kolen_pollack(0.01), "muon": linfa.muon(linfa.fa()), "sgr": linfa.sgr(2),
    "svd-local": linfa.svd_local(2),
}  # fmt: skip
PARTS = {"accumulate": 2, "clip": 0.5}
CASES = [
    ("bp", "ddp", {}), ("ldfa", "ddp", {}), ("dfa", "ddp", {"average": 0.8}), ("kolen-pollack", "ddp", PARTS),
    ("muon", "ddp", {}), ("sgr", "ddp", {"clip": 0.1}),
    ("bp", "fsdp", {}), ("ldfa", "fsdp", {}), ("dfa", "fsdp", PARTS), ("kolen-pollack", "fsdp", {}),
    ("ldfa", "fsdp, compiled", {}), ("svd-local", "fsdp, compiled", {}),
]  # fmt: skip


def case(folder, name, strategy, options, loader=Shuffled):
    """A run of one rule on however many processes there are."""
    rule, rank, world = RULES[name], distributed.rank(), distributed.world()
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3)
    )  # fmt: skip
    deep.promote(model, rule, sample=IMAGES.normalised(slice(0, 2)))
    precision = Precision(compile="eager" if "compiled" in strategy else None)
    if "fsdp" in strategy and world > 1:
        distributed.shard(model, rule)
    adam = functools.partial(torch.optim.Adam, lr=1e-2, eps=1e-2)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = deep.optimizer(model, 0.01, others=adam) if name == "muon" else adam(learning)
    test = InOrder(IMAGES.subset(21), 10, rank, world)
    with contextlib.suppress(Stopped):
        train(
            model, rule, loader(IMAGES, 8, 1, None, rank, world), test, optimizer, folder, epochs=1, seed=1,
            checkpoint_every=5, certificate=certificate(rule), progress=False, precision=precision, **options,
        )  # fmt: skip


class Asked(Shuffled):
    """Batches in the middle of which the second process is asked to stop, by two who do not know of each other."""

    def batches(self, epoch, start=0):
        for place, batch in enumerate(super().batches(epoch, start), start):
            if place == 3 and not start and self.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def asked(folder):
    """A run that is asked to stop, and what it says then; it goes on to its end."""
    for number, (name, strategy) in enumerate((("ldfa", "ddp"), ("bp", "fsdp"))):
        case(folder / f"whole-{number}", name, strategy, {})
        try:
            case(folder / f"asked-{number}", name, strategy, {}, Asked)
        except KeyboardInterrupt:
            dist.barrier()
            (folder / f"at-{number}-{distributed.rank()}").write_text(
                str(checkpoint.load(folder / f"asked-{number}")["step"])
            )
        dist.barrier()
        case(folder / f"asked-{number}", name, strategy, {}, Asked)


def interrupted(folder):
    """After which step each process of each run stopped, and how far each is from one that nobody asked to."""
    found = [wait(process) for process in [fork(joined, folder / "pair", rank, asked, folder) for rank in range(2)]]
    assert found == [0, 0]
    steps = [[int((folder / f"at-{number}-{rank}").read_text()) for rank in range(2)] for number in range(2)]
    ends = [[checkpoint.load(folder / f"{kind}-{number}") for kind in ("whole", "asked")] for number in range(2)]
    return {"steps": steps, "gaps": [gap(*pair) for pair in ends]}


def begun(folder):
    """Every case in one process, whole, and begun."""
    for number, (name, strategy, options) in enumerate(CASES):
        case(folder / f"whole-{number}", name, strategy, options)
        case(folder / f"from-one-{number}", name, strategy, options, Stopping)


def resumed(folder):
    """What several processes began, whole in one."""
    for number, (name, strategy, options) in enumerate(CASES):
        case(folder / f"from-two-{number}", name, strategy, options)


def joined(store, rank, work, *args, world=2):
    """Work as one of several processes, which meet at a file that does not exist yet."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    work(*args)
    dist.destroy_process_group()


def refusals(folder):
    """What several processes refuse, by the name of what they were told."""
    model = deep.promote(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), linfa.bp())
    rest = InOrder(IMAGES), torch.optim.SGD(model.parameters(), 0.1), folder / "refused"
    yield "loader", lambda: train(model, linfa.bp(), Shuffled(IMAGES, 8), *rest, epochs=1,
                                  certificate=certificate(linfa.bp()))  # fmt: skip
    for rule in (
        linfa.muon(linfa.fa()), linfa.sgr(2), linfa.directional_dfa(), linfa.factored(linfa.bp(), 2, retraction="qr")
    ):  # fmt: skip
        yield rule.name, lambda rule=rule: distributed.shard(model, rule)
    sharded = distributed.shard(model, linfa.bp())
    share = Shuffled(IMAGES, 8, rank=distributed.rank(), world=2)
    yield "average", lambda: train(sharded, linfa.bp(), share, *rest, epochs=1, average=0.9,
                                   certificate=certificate(linfa.bp()))  # fmt: skip


def refused(folder):
    """The texts of the refusals."""
    texts = {}
    for name, work in refusals(folder):
        try:
            work()
        except (ValueError, TypeError) as error:
            texts[name] = str(error)
    (folder / f"refused-{distributed.rank()}").write_text(json.dumps(texts))


def pair(folder):
    """Every case begun in two processes, and what one began whole in two."""
    for number, (name, strategy, options) in enumerate(CASES):
        case(folder / f"from-two-{number}", name, strategy, options, Stopping)
        case(folder / f"from-one-{number}", name, strategy, options)
    refused(folder)


def launched(folder, rank, port):
    """An experiment as ``torchrun`` starts it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
                   "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "run"}  # fmt: skip
    rule = linfa.fa()
    experiment = Experiment(rule, "mlp", {"hidden": (8,)}, Data(limit=64), epochs=1, batch_size=16)
    for name in "launched", "again":  # which are two groups of processes
        run(experiment, folder / name, sharded=True, record_every=None, progress=False, certificate=certificate(rule))
        assert not dist.is_initialized()


def reproduced(folder, rank, port):
    """A recipe as ``torchrun`` starts it, of which one arm diverges; what each process says of it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
                   "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "run"}  # fmt: skip
    bp = Experiment(linfa.bp(), "mlp", {"hidden": (4,)}, Data(limit=64), epochs=1, batch_size=32)
    lost = dataclasses.replace(bp, optimizer=Optimizer("sgd", lr=1e30))
    reproduce = importlib.import_module("deep.recipes.reproduce")
    reproduce._certificate = certificate
    arms = {"BP": bp, "FA": dataclasses.replace(bp, rule=linfa.fa()), "lost": lost}
    table = reproduce.reproduce(Recipe("two", "ours", arms), folder / "runs", scale=1.0, seeds=(0,), progress=False)
    (folder / f"table-{rank}").write_text(json.dumps(table))


def recipe(folder):
    """The tables of two processes, and again once all is whole."""
    found = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        assert [wait(process) for process in [fork(reproduced, folder, rank, port) for rank in range(2)]] == [0, 0]
        found += [json.loads((folder / f"table-{rank}").read_text()) for rank in range(2)]
    return found


def together(folder):
    """Distances of runs that changed the number of their processes from those of one process; and refusals."""
    must(begun, folder)
    assert [wait(process) for process in [fork(joined, folder / "pair", rank, pair, folder) for rank in range(2)]] == [
        0,
        0,
    ]
    must(resumed, folder)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    assert [wait(process) for process in [fork(launched, folder, rank, port) for rank in range(2)]] == [0, 0]
    gaps = []
    for number, chosen in enumerate(CASES):
        states = [checkpoint.load(folder / f"{kind}-{number}") for kind in ("whole", "from-one", "from-two")]
        gaps.append([*chosen, *(gap(states[0], state) for state in states[1:])])
    return {"gaps": gaps, "refused": [json.loads((folder / f"refused-{rank}").read_text()) for rank in range(2)]}


def gap(one, other) -> float:
    """The largest difference of two checkpoints."""
    (mine,), (theirs,) = one["rows"], other["rows"]
    gaps = [abs(mine[key] - theirs[key]) for key in mine]
    for part in ("model", "average"):
        for name, value in (one[part] or {}).items():
            gaps.append(float((value.double() - other[part][name].double()).abs().max()))
    for number, moments in one["optimizer"]["state"].items():
        for key, value in moments.items():
            gaps.append(float((value - other["optimizer"]["state"][number][key]).abs().max()))
    return max(gaps)


def main(task, folder):
    folder = Path(folder)
    torch.set_num_threads(1)
    (folder / "result").write_text(json.dumps(globals()[task](folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
