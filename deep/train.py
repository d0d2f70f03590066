"""A plain training loop: progress, logs, checkpoints that resume exactly, and the certificate of the rule.

The loop is the one that anybody would write (``loss.backward(); optimizer.step()``); use your own if you have one.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import linfa
from deep import local
from deep.data import Images, batches
from deep.factored import retract
from deep.log import write, write_rows
from deep.optimizer import check_optimizer
from deep.record import Recorder
from linfa.verify import Certificate


class Diverged(FloatingPointError):
    """The loss is no longer a finite number."""


class Unverified(RuntimeError):
    """A rule whose certificate does not pass."""


def train(
    model: nn.Module,
    rule: linfa.Rule,
    training: Images,
    test: Images,
    optimizer: torch.optim.Optimizer,
    folder: str | Path,
    *,
    epochs: int,
    batch_size: int = 128,
    seed: int = 0,
    scheduler=None,
    augment: Callable | None = None,
    loss: Callable = F.cross_entropy,
    monitor: Callable[[nn.Module, int], dict] | None = None,
    recorder: Recorder | None = None,
    certificate: Certificate | None = None,
    unverified: bool = False,
    progress: bool = True,
    settings: dict | None = None,
) -> list[dict]:
    """Train a promoted model, or go on with the run that is in the folder.

    The folder receives ``run.json`` (rule, seed, settings), ``certificate.json``, ``log.csv`` and ``log.jsonl`` (a row
    an epoch), ``checkpoint.pt`` after each epoch and ``result.json`` once the run is whole.  A run resumed from its
    checkpoint continues bit for bit on CPU: the order of the data and every draw depend on (seed, epoch) alone.

    Args:
        model: a module, promoted with the rule.
        rule: that rule.
        training, test: images on the model's device.
        optimizer: any torch optimiser over the parameters that require a gradient, feedback included; for a rule whose
            geometry is not Euclidean that of `deep.optimizer`.
        folder: where the run lives.
        epochs: how many in all.
        batch_size: samples a step; an incomplete last batch is dropped.
        seed: of the order of the data, the augmentation and torch's own generator.
        scheduler: a torch learning-rate scheduler, stepped after each epoch.
        augment: (images uint8 or float, generator) -> images.
        loss: (logits, labels) -> scalar mean, the criterion of `deep.loss`.
        monitor: (model, epoch) -> more columns for the log, plain numbers or text.
        recorder: called with every batch before its step; a resumed run goes on with it.
        certificate: of the rule; by default `linfa.verify` makes one.
        unverified: train although the certificate does not pass.
        progress: show a bar where the output is a terminal.
        settings: more to write into ``run.json``.

    Returns:
        The rows of the log: epoch, train_loss, train_accuracy, test_loss, test_accuracy (in [0, 1]), and the monitor's.

    Raises:
        Unverified: if the certificate fails and ``unverified`` is not set.
        ValueError: if the folder holds a run of another rule, seed or other settings, or of more epochs, or if the
            training images do not fill a batch, or if the optimiser does not take the directions of the rule; the
            folder stays as it is.
        Diverged: naming the epoch, when the training or the test loss is not finite; the last checkpoint stays.
    """
    folder = Path(folder)
    if len(training) < batch_size:
        raise ValueError(f"{len(training)} training images make no batch of {batch_size}")
    certificate = certificate or linfa.verify(rule)
    if certificate.fingerprint != rule.fingerprint:
        raise Unverified(f"the certificate is for {certificate.rule}, the rule is {rule!r}")
    check_optimizer(rule, optimizer)
    if not certificate.passed and not unverified:
        raise Unverified(f"{rule.name} does not pass its own claims (see linfa.verify); pass unverified=True to go on")
    about = {"rule": repr(rule), "fingerprint": rule.fingerprint, "seed": seed, "batch_size": batch_size}
    about |= {"data": training.source, "settings": settings or {}}
    rows = _resume(folder, about, model, optimizer, scheduler, recorder, epochs)
    write(folder / "certificate.json", certificate.to_json())
    if len(rows) < epochs:
        (folder / "result.json").unlink(missing_ok=True)  # of a run that was whole with fewer epochs
    bar = _bar(progress, epochs, len(rows), rule.name)
    for epoch in range(len(rows), epochs):
        seen = _epoch(model, training, optimizer, batch_size, (seed, epoch), augment, loss, recorder)
        row = {"epoch": epoch + 1, **seen}
        if scheduler is not None:
            scheduler.step()
        test_loss, test_accuracy = evaluate(model, test, loss)
        row |= {"test_loss": test_loss, "test_accuracy": test_accuracy}
        for part in ("train", "test"):  # the last step of an epoch shows in the test loss alone
            if not math.isfinite(row[f"{part}_loss"]):
                raise Diverged(
                    f"the {part} loss of {rule.name} is {row[f'{part}_loss']} in epoch {epoch + 1}; a smaller learning "
                    "rate?"
                )
        if monitor is not None:
            row |= monitor(model, epoch + 1)
        rows.append(json.loads(json.dumps(row)))  # plain numbers alone: a checkpoint with numpy's does not load again
        _save(folder / "checkpoint.pt", {"rows": rows, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
              "scheduler": None if scheduler is None else scheduler.state_dict(),
              "recorder": None if recorder is None else recorder.state_dict()})  # fmt: skip
        write_rows(folder, "log", rows)
        bar.update()
        bar.set_postfix(test=f"{test_accuracy:.3f}")
    bar.close()
    if recorder is not None:
        recorder.close()
    write(folder / "result.json", json.dumps({**about, "epochs": epochs, "last": rows[-1] if rows else None}, indent=1))
    return rows


def evaluate(model: nn.Module, images: Images, loss: Callable = F.cross_entropy, batch_size: int = 1000):
    """Mean loss and accuracy in evaluation mode, over all images.

    Args:
        model: a classifier.
        images: on its device.
        loss: (logits, labels) -> scalar mean.
        batch_size: images at a time.
    """
    mode = model.training
    model.eval()
    total, right = 0.0, 0
    with torch.no_grad():
        for index in torch.arange(len(images), device=images.y.device).split(batch_size):
            logits, y = model(images.normalised(index)), images.y[index]
            total += float(loss(logits, y)) * len(index)
            right += int((logits.argmax(1) == y).sum())
    model.train(mode)
    return total / len(images), right / len(images)


def _epoch(model, images, optimizer, batch_size, seed, augment, loss, recorder):
    """One pass over the data; its order and every draw in it depend on the seed alone."""
    mixed = seed[0] * 1_000_003 + seed[1]
    torch.manual_seed(mixed)
    generator = torch.Generator(images.x.device).manual_seed(mixed)
    model.train()
    total, right, seen = torch.zeros((), device=images.x.device), 0, 0
    for x, y in batches(images, batch_size, generator, augment):
        if recorder is not None:
            recorder(x, y)
        last = []

        def watched(logits, y, last=last):
            last[:] = logits.detach(), loss(logits, y)
            return last[1]

        optimizer.zero_grad(set_to_none=True)
        local.loss(model, x, y, watched).backward()
        optimizer.step()
        retract(model)
        logits, value = last  # of the model's own output, whatever else has a loss
        total += value.detach() * len(y)
        right += (logits.argmax(1) == y).sum()
        seen += len(y)
    return {"train_loss": float(total) / seen, "train_accuracy": int(right) / seen}


def _resume(folder, about, model, optimizer, scheduler, recorder, epochs) -> list[dict]:
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
        return []
    device = next(model.parameters()).device
    saved = torch.load(checkpoint, map_location=device, weights_only=True)
    if len(saved["rows"]) > epochs:
        raise ValueError(f"{folder} holds a run of {len(saved['rows'])} epochs, more than the {epochs} asked for")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    if scheduler is not None:
        scheduler.load_state_dict(saved["scheduler"])
    if recorder is not None and saved.get("recorder") is not None:
        recorder.load_state_dict(saved["recorder"])
    write_rows(folder, "log", saved["rows"])  # a run may have been killed between its checkpoint and its log
    return saved["rows"]


def _save(path, content):
    """Write a checkpoint so that the file is always whole."""
    part = path.with_suffix(".part")
    torch.save(content, part)
    os.replace(part, path)


def _bar(progress, total, done, name):
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc=name, unit="epoch", disable=None if progress else True)
