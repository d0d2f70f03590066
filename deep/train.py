"""A plain training loop: progress, logs, checkpoints that resume exactly, and the certificate of the rule.

The step is the one that anybody would write (``loss.backward(); optimizer.step()``); use your own loop if you have one.
"""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import linfa
from deep import checkpoint, distributed, divergence
from deep.data import Loader
from deep.data.mixup import dominant
from deep.divergence import Diverged, agreed
from deep.events import Event, Shrink
from deep.interruption import Interruption
from deep.log import check_claim, claim, write, write_rows
from deep.optimizer import check_optimizer
from deep.precision import Precision
from deep.progress import Progress
from deep.record import Recorder
from deep.run import Run
from deep.schedule import Schedule
from deep.step import Step
from deep.unsupported import Unsupported
from linfa.verify import Certificate

CHECK = 100
"""Steps from one look at whether the losses are finite to the next."""


class Unverified(RuntimeError):
    """A rule whose certificate does not pass."""


def train(
    model: nn.Module,
    rule: linfa.Rule,
    training: Loader,
    test: Loader,
    optimizer: torch.optim.Optimizer,
    folder: str | Path,
    *,
    epochs: int,
    schedule: Schedule = Schedule("constant"),  # noqa: B008  frozen
    seed: int = 0,
    loss: Callable = F.cross_entropy,
    precision: Precision = Precision(),  # noqa: B008  frozen
    clip: float | None = None,
    accumulate: int = 1,
    average: float | None = None,
    monitor: Callable[[nn.Module, int], dict] | None = None,
    recorder: Recorder | None = None,
    events: Sequence[Event] = (),
    after: Callable[[dict], None] | None = None,
    checkpoint_every: int | None = None,
    certificate: Certificate | None = None,
    unverified: bool = False,
    progress: bool = True,
    settings: dict | None = None,
) -> list[dict]:
    """Train a promoted model, or go on with the run that is in the folder.

    The folder receives ``run.json`` (rule, seed, settings), ``certificate.json``, ``log.csv`` and ``log.jsonl`` (a row
    an epoch), ``checkpoint.pt`` and the one before (see `deep.checkpoint`), and ``result.json`` once the run is whole.
    A run resumed from its checkpoint continues bit for bit on CPU: the order of the data and every draw depend on the
    seed and the number of the step alone.  Asked to stop (SIGINT, SIGTERM) it writes a checkpoint after its step first;
    of several processes one that is asked is enough, and all of them stop after the same step.

    Where torch.distributed is initialised, all processes train together, each with loaders of its own rank and a folder
    that all of them see; see `deep.distributed`.  Their number may change when a run is resumed.

    Args:
        model: a module, promoted with the rule.
        rule: that rule.
        training, test: batches on the model's device.
        optimizer: any torch optimiser over the parameters that require a gradient, feedback included; for a rule whose
            geometry is not Euclidean that of `deep.optimizer`.
        folder: where the run lives.
        epochs: how many in all.
        schedule: of the learning rates of all parameter groups.
        seed: of torch's own generator, as for dropout.
        loss: (logits, labels) -> scalar mean, the criterion of `deep.loss`.
        precision: of the passes.
        clip, accumulate: of the gradients, see `deep.step.Step`.
        average: decay in (0, 1) of a moving average of the weights, which is tested beside them; None for none.
        monitor: (model, epoch) -> more columns for the log, plain numbers or text.  Every process calls it, and the
            first one's columns count.
        recorder: called with every batch before its step; a resumed run goes on with it.  Of several processes the
            first one records, its own share of a batch.
        events: of `deep.events`, called before every step, and before the recorder, as (model, optimizer, step of the
            whole run).
        after: called with every row of the log once it is written, by the first process.
        checkpoint_every: steps from one checkpoint to the next, beside the one after each epoch; None for no others.
        certificate: of the rule; by default that of the folder, if it still speaks of the rule, or what `linfa.verify`
            makes.
        unverified: train although the certificate does not pass.
        progress: show a bar where the output is a terminal.
        settings: more to write into ``run.json``.

    Returns:
        The rows of the log: epoch, train_loss, train_accuracy, test_loss, test_accuracy (in [0, 1]), those of the
        average as ema_test_loss and ema_test_accuracy, and the monitor's.

    Raises:
        Unverified: if the certificate fails and ``unverified`` is not set.
        ValueError: if the folder holds a run of another rule, seed, data, number of steps or settings, or of more
            epochs, if the optimiser does not take the directions of the rule, or if the loader is not of this process;
            the folder stays as it is.
        Damaged: if no checkpoint of the folder can be read.
        Unsupported: for what sharded models and local losses cannot do.
        Diverged: naming the step and the layer, when a loss, a weight or what the optimiser remembers is not finite;
            the last checkpoint stays.
        KeyboardInterrupt: when it was asked to stop.
    """
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every is at least 1, or None; got {checkpoint_every}")
    folder = Path(folder)
    about = {"rule": repr(rule), "fingerprint": rule.fingerprint, "seed": seed, "data": training.source}
    about |= {"steps": training.steps, "precision": dataclasses.asdict(precision), "clip": clip}
    about |= {"accumulate": accumulate, "average": average, "settings": settings or {}}
    if certificate is None:
        check_claim(folder, "run.json", about)  # at once: a certificate takes its time
        certificate = _certificate(folder / "certificate.json", rule)
    if certificate.fingerprint != rule.fingerprint:
        raise Unverified(f"the certificate is for {certificate.rule}, the rule is {rule!r}")
    check_optimizer(rule, optimizer)
    _check_processes(model, training, average, recorder, events)
    if not certificate.passed and not unverified:
        raise Unverified(f"{rule.name} does not pass its own claims (see linfa.verify); pass unverified=True to go on")
    first = distributed.rank() == 0
    step = Step(model, optimizer, loss, precision, clip, accumulate)
    run = Run(step, schedule, seed, epochs, training.steps, average, recorder if first else None, events)
    _resume(folder, about, run, epochs)
    if first:
        write(folder / "certificate.json", certificate.to_json())
        if len(run.rows) < epochs:
            (folder / "result.json").unlink(missing_ok=True)  # of a run that was whole with fewer epochs
    agreement = distributed.Agreement()
    shown = Progress(rule.name, epochs * training.steps, run.place, progress and first)
    with Interruption() as interruption, contextlib.closing(agreement), contextlib.closing(shown) as bar:
        for epoch in range(len(run.rows), epochs):
            model.train()
            for x, y in training.batches(epoch, run.step):
                run.take(x, y)
                bar.step(epoch + 1, len(y) * distributed.world(), run.shown)
                last, stop = run.step == training.steps, agreement(interruption.asked)
                due = stop or (checkpoint_every and run.step % checkpoint_every == 0)
                if (last or due or run.step % CHECK == 0) and not run.is_finite(thoroughly=last or due):
                    raise Diverged(run.explain(folder, training))
                if due and not last:
                    run.save(folder)
                    if stop:
                        raise KeyboardInterrupt
            row = {"epoch": epoch + 1, **run.seen()}
            for part, tested in run.tested().items():
                row[f"{part}_loss"], row[f"{part}_accuracy"] = evaluate(tested, test, loss, precision)
                if not math.isfinite(row[f"{part}_loss"]):
                    raise Diverged(_where_tested(part, row, tested, step, test))
            if monitor is not None:
                row |= monitor(model, epoch + 1)
            run.close(row)
            run.save(folder)
            if first:
                write_rows(folder, "log", run.rows)
                if after is not None:
                    after(run.rows[-1])
        if run.recorder is not None:
            run.recorder.close()
        if first:
            last = run.rows[-1] if run.rows else None
            write(folder / "result.json", json.dumps({**about, "epochs": epochs, "last": last}, indent=1))
    return run.rows


def evaluate(
    model: nn.Module,
    test: Loader,
    loss: Callable = F.cross_entropy,
    precision: Precision = Precision(),  # noqa: B008  frozen
) -> tuple[float, float]:
    """Mean loss and accuracy in evaluation mode, over the batches of all processes.

    Args:
        model: a classifier.
        test: batches on its device.
        loss: (logits, labels) -> scalar mean.
        precision: of the passes.
    """
    mode = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=next(model.parameters()).device)
    with torch.no_grad():
        for x, y in test.batches(0):
            with precision.autocast(x.device.type):
                logits = model(precision.laid_out(x))
                value = loss(logits, y) if len(y) else sums.new_zeros(())
            right = (logits.argmax(1) == dominant(y)).sum()
            sums += torch.stack([value.double() * len(y), right.double(), right.new_tensor(len(y)).double()])
    model.train(mode)
    total, right, seen = distributed.total(sums).tolist()
    return total / seen, right / seen


def _certificate(path, rule):
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # there is none, or it is none of ours
        kept = Certificate.from_json(path.read_text())
        if kept.speaks_of(rule):
            return kept
    return linfa.verify(rule)


def _check_processes(model, training, average, recorder, events):
    world = distributed.world()
    if training.world != world:
        raise ValueError(f"the loader divides its batches among {training.world} processes, and there are {world}: "
                         "give it rank and world")  # fmt: skip
    if distributed.is_sharded(model) and (average is not None or recorder is not None):
        raise Unsupported("a sharded model cannot be copied: leave the average and the recorder out, or do not shard")
    if (world > 1 or average is not None) and any(isinstance(event, Shrink) for event in events):
        raise Unsupported("ranks that fall change the parameters that an average and other processes hold: leave the "
                          "average out, and train on one")  # fmt: skip


def _resume(folder, about, run, epochs):
    first = distributed.rank() == 0
    if first:
        claim(folder, "run.json", about)
    saved = checkpoint.load(folder) if first else None
    distributed.gathered(None)  # until the first has read, and set aside what is damaged
    saved = saved if first else checkpoint.load(folder)
    distributed.gathered(None)  # until all have read
    if saved is not None:
        if len(saved["rows"]) + (saved["step"] > 0) > epochs:
            raise ValueError(f"{folder} holds a run of {len(saved['rows'])} epochs, more than the {epochs} asked for")
        run.load(saved)
    if first and run.rows:
        write_rows(folder, "log", run.rows)  # a run may have been killed between its checkpoint and its log
    if saved is None:
        run.save(folder)  # to come back to, if the first steps diverge


def _where_tested(part, row, model, step, test):
    """Say what is not finite on the test images."""
    model.eval()
    with torch.no_grad():
        found = [divergence.culprit(model, lambda x=x, y=y: step.objective(model, x, y)[0]) for x, y in test.batches(0)]
    return (
        f"the {part} loss is {row[part + '_loss']} in epoch {row['epoch']}, though weights are finite: "
        f"{agreed(next(filter(None, found), None)) or 'the loss'} is not; a smaller learning rate, or clip?"
    )
