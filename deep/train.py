"""A plain training loop: progress, logs, checkpoints that resume exactly, and the certificate of the rule.

The loop is the one that anybody would write (``loss.backward(); optimizer.step()``); use your own if you have one.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import linfa
from deep import local
from deep.data import Loader
from deep.data.loader import stream
from deep.data.mixup import dominant
from deep.events import Event
from deep.factored import retract
from deep.log import write, write_rows
from deep.optimizer import check_optimizer
from deep.progress import Progress
from deep.ranks import shrink_to
from deep.record import Recorder
from deep.schedule import Schedule
from linfa.verify import Certificate


class Diverged(FloatingPointError):
    """The loss is no longer a finite number."""


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
    an epoch), ``checkpoint.pt`` and ``result.json`` once the run is whole.  A run resumed from its checkpoint continues
    bit for bit on CPU: the order of the data and every draw depend on the seed and the number of the step alone.

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
        monitor: (model, epoch) -> more columns for the log, plain numbers or text.
        recorder: called with every batch before its step; a resumed run goes on with it.
        events: of `deep.events`, called before every step, and before the recorder, as (model, optimizer, step of the
            whole run).
        after: called with every row of the log once it is written.
        checkpoint_every: steps from one checkpoint to the next, beside the one after each epoch; None for no others.
        certificate: of the rule; by default `linfa.verify` makes one.
        unverified: train although the certificate does not pass.
        progress: show a bar where the output is a terminal.
        settings: more to write into ``run.json``.

    Returns:
        The rows of the log: epoch, train_loss, train_accuracy, test_loss, test_accuracy (in [0, 1]), and the monitor's.

    Raises:
        Unverified: if the certificate fails and ``unverified`` is not set.
        ValueError: if the folder holds a run of another rule, seed, data, number of steps or settings, or of more
            epochs, or if the optimiser does not take the directions of the rule; the folder stays as it is.
        Diverged: naming the epoch, when the training or the test loss is not finite; the last checkpoint stays.
    """
    folder = Path(folder)
    certificate = certificate or linfa.verify(rule)
    if certificate.fingerprint != rule.fingerprint:
        raise Unverified(f"the certificate is for {certificate.rule}, the rule is {rule!r}")
    check_optimizer(rule, optimizer)
    if not certificate.passed and not unverified:
        raise Unverified(f"{rule.name} does not pass its own claims (see linfa.verify); pass unverified=True to go on")
    about = {"rule": repr(rule), "fingerprint": rule.fingerprint, "seed": seed, "data": training.source}
    about |= {"steps": training.steps, "settings": settings or {}}
    run = _Run(model, optimizer, recorder)
    _resume(folder, about, run, epochs)
    write(folder / "certificate.json", certificate.to_json())
    if len(run.rows) < epochs:
        (folder / "result.json").unlink(missing_ok=True)  # of a run that was whole with fewer epochs
    bar = Progress(rule.name, epochs * training.steps, len(run.rows) * training.steps + run.step, progress)
    for epoch in range(len(run.rows), epochs):
        model.train()
        for x, y in training.batches(epoch, run.step):
            place = epoch * training.steps + run.step
            for event in events:
                event(model, optimizer, place)
            schedule.set(optimizer, place, training.steps, epochs)
            torch.manual_seed(stream(seed, epoch, run.step))
            run.take(x, y, loss)
            bar.step(epoch + 1, len(y), run.seen)
            if checkpoint_every and run.step % checkpoint_every == 0 and run.step < training.steps:
                run.check(rule, "train", run.seen()["train_loss"], epoch)
                run.save(folder / "checkpoint.pt")
        row = {"epoch": epoch + 1, **run.seen()}
        row["test_loss"], row["test_accuracy"] = evaluate(model, test, loss)
        for part in ("train", "test"):  # the last step of an epoch shows in the test loss alone
            run.check(rule, part, row[f"{part}_loss"], epoch)
        if monitor is not None:
            row |= monitor(model, epoch + 1)
        run.close(row)
        run.save(folder / "checkpoint.pt")
        write_rows(folder, "log", run.rows)
        if after is not None:
            after(run.rows[-1])
    bar.close()
    if recorder is not None:
        recorder.close()
    last = run.rows[-1] if run.rows else None
    write(folder / "result.json", json.dumps({**about, "epochs": epochs, "last": last}, indent=1))
    return run.rows


def evaluate(model: nn.Module, test: Loader, loss: Callable = F.cross_entropy) -> tuple[float, float]:
    """Mean loss and accuracy in evaluation mode, over all batches.

    Args:
        model: a classifier.
        test: batches on its device.
        loss: (logits, labels) -> scalar mean.
    """
    mode = model.training
    model.eval()
    total, right, seen = 0.0, 0, 0
    with torch.no_grad():
        for x, y in test.batches(0):
            logits = model(x)
            total += float(loss(logits, y)) * len(y)
            right += int((logits.argmax(1) == y).sum())
            seen += len(y)
    model.train(mode)
    return total / seen, right / seen


class _Run:
    """What a run has come to: rows of the log, and within an epoch its steps and sums."""

    def __init__(self, model, optimizer, recorder):
        self.model, self.optimizer, self.recorder = model, optimizer, recorder
        self.rows, self.step = [], 0
        device = next(model.parameters()).device
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, right answers, samples

    def take(self, x, y, loss):
        """A step on a batch."""
        if self.recorder is not None:
            self.recorder(x, y)
        last = []

        def watched(logits, y):
            last[:] = logits.detach(), loss(logits, y)
            return last[1]

        self.optimizer.zero_grad(set_to_none=True)
        local.loss(self.model, x, y, watched).backward()
        self.optimizer.step()
        retract(self.model)
        logits, value = last  # of the model's own output, whatever else has a loss
        right = (logits.argmax(1) == dominant(y)).sum()
        self.sums += torch.stack([value.detach().double() * len(y), right.double(), right.new_tensor(len(y)).double()])
        self.step += 1

    def seen(self) -> dict:
        """Mean loss and accuracy of the epoch until now."""
        total, right, count = self.sums.tolist()
        return {"train_loss": total / count, "train_accuracy": right / count}

    def check(self, rule, part, value, epoch):
        if not math.isfinite(value):
            raise Diverged(f"the {part} loss of {rule.name} is {value} in epoch {epoch + 1}; a smaller learning rate?")

    def close(self, row):
        """End an epoch."""
        self.rows.append(json.loads(json.dumps(row)))  # plain numbers: a checkpoint with numpy's does not load again
        self.step = 0
        self.sums.zero_()

    def save(self, path):
        """Write a checkpoint so that the file is always whole."""
        recorder = None if self.recorder is None else self.recorder.state_dict()
        part = path.with_suffix(".part")
        torch.save({"rows": self.rows, "step": self.step, "sums": self.sums, "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(), "recorder": recorder}, part)  # fmt: skip
        os.replace(part, path)

    def load(self, saved):
        self.rows, self.step = saved["rows"], saved["step"]
        self.sums.copy_(saved["sums"])
        shrink_to(self.model, saved["model"], self.optimizer)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.recorder is not None and saved["recorder"] is not None:
            self.recorder.load_state_dict(saved["recorder"])


def _resume(folder, about, run, epochs):
    folder.mkdir(parents=True, exist_ok=True)
    described = folder / "run.json"
    if described.exists():
        old = json.loads(described.read_text())
        changed = [key for key in about if old.get(key) != json.loads(json.dumps(about[key]))]
        if changed:
            raise ValueError(
                f"{folder} holds a run with another {', '.join(changed)} ("
                + "; ".join(f"{key}: {old.get(key)} there, {about[key]} here" for key in changed)
                + "): resume with the same, or choose another folder"
            )
    else:
        write(described, json.dumps(about, indent=1))
    checkpoint = folder / "checkpoint.pt"
    if not checkpoint.exists():
        return
    saved = torch.load(checkpoint, map_location=run.sums.device, weights_only=True)
    if len(saved["rows"]) + (saved["step"] > 0) > epochs:
        raise ValueError(f"{folder} holds a run of {len(saved['rows'])} epochs, more than the {epochs} asked for")
    run.load(saved)
    write_rows(folder, "log", run.rows)  # a run may have been killed between its checkpoint and its log
