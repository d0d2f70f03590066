"""What a training run has come to: rows of the log, and within an epoch its steps and sums."""

import itertools
import json

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from deep import checkpoint, distributed, divergence
from deep.data.loader import seed_of
from deep.divergence import agreed
from deep.ranks import shrink_to


class Run:
    """The state of `deep.train.train`, on every process.

    Args:
        advance: the step on a batch.
        schedule: of the learning rates.
        seed: of the draws in a step.
        epochs, steps: of the whole run, and of an epoch.
        average: decay of the average of the weights, or None.
        recorder: called before every step, or None.
        events: of `deep.events`.
    """

    def __init__(self, advance, schedule, seed, epochs, steps, average=None, recorder=None, events=()):
        self.model, self.optimizer, self.advance = advance.model, advance.optimizer, advance
        self.schedule, self.seed, self.epochs, self.steps, self.recorder = schedule, seed, epochs, steps, recorder
        self.events = events
        self.average = None
        if average is not None:
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(average))
        self.rows, self.step = [], 0
        self.record = None  # state of a recorder that the run had and has no longer
        self.device = next(self.model.parameters()).device
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, right answers, samples
        self.good = torch.zeros((), dtype=torch.int64, device=self.device)  # steps until the loss was not finite

    def take(self, x, y):
        """A step on a batch."""
        place = self.place
        for event in self.events:
            event(self.model, self.optimizer, place)
        self.draw()
        if self.recorder is not None:
            self.recorder(x, y)
        self.schedule.set(self.optimizer, place, self.steps, self.epochs)
        self.sums += self.advance(x, y)
        self.good += self.sums[0].isfinite()
        self.step += 1
        if self.average is not None:
            self.average.update_parameters(self.model)

    @property
    def place(self):
        """The number of the next step, counted from 0 over the whole run."""
        return len(self.rows) * self.steps + self.step

    def draw(self):
        """Let the draws of this step depend on its number, and differ from those of the data."""
        torch.manual_seed(seed_of(self.seed, len(self.rows), self.step, distributed.rank(), 1))

    def is_finite(self, thoroughly):
        """Whether all losses of the epoch were on all processes, and thoroughly, whether the state is."""
        tensors = [self.sums]
        if thoroughly:
            tensors += divergence.state(self.model, self.optimizer)
        return bool(distributed.least(divergence.finite(tensors), self.device))

    def seen(self):
        """Mean loss and accuracy of the epoch until now."""
        total, right, count = distributed.total(self.sums.clone()).tolist()
        return {"train_loss": total / count, "train_accuracy": right / count}

    def shown(self):
        """The same on what this process saw, to be looked at while it goes on."""
        total, right, count = self.sums.tolist()
        return {"train_loss": total / count, "train_accuracy": right / count}

    def tested(self):
        """What is tested after an epoch."""
        return {"test": self.model} | ({} if self.average is None else {"ema_test": self.average.module})

    def close(self, row):
        """End an epoch."""
        self.rows.append(json.loads(json.dumps(row)))  # plain numbers: a checkpoint with numpy's does not load again
        self.step = 0
        self.sums.zero_()
        self.good.zero_()

    def save(self, folder):
        """Write a checkpoint, on the first process; the sums of all of them are its own from now on."""
        distributed.total(self.sums)
        parts = {"model": self.model, "optimizer": self.optimizer, "average": self.average, "recorder": self.recorder}
        states = {name: None if part is None else part.state_dict() for name, part in parts.items()}
        states["recorder"] = states["recorder"] or self.record
        states = distributed.whole({"rows": self.rows, "step": self.step, "sums": self.sums, **states})
        if distributed.rank() == 0:
            checkpoint.save(folder, states)
        else:
            self.sums.zero_()

    def load(self, saved):
        """Go on from a checkpoint, whatever number of processes wrote it."""
        self.rows, self.step = list(saved["rows"]), saved["step"]
        self.sums.copy_(saved["sums"] * (distributed.rank() == 0))
        self.good.fill_(self.step)
        shrink_to(self.model, saved["model"], self.optimizer)
        distributed.load(self.model, self.optimizer, saved["model"], saved["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.record = saved["recorder"]
        if self.recorder is not None:
            if self.record is not None:
                self.recorder.load_state_dict(self.record)
            self.recorder.step = self.place  # which it has not counted to where the run went on without it

    def explain(self, folder, training):
        """Come to the step that was not finite once more, from the last checkpoint, to say what was not."""
        saved = checkpoint.load(folder)
        if any(p.shape != saved["model"][name].shape for name, p in self.model.named_parameters()):
            return (
                f"a loss, a weight or what the optimiser remembers is not finite after {self.step} steps of epoch "
                f"{len(self.rows) + 1}; a smaller learning rate, a warm-up, or clip? {folder} keeps the checkpoint of "
                "before ranks fell"
            )
        until, bad = self.step, distributed.least(int(self.good), self.device)
        self.recorder = None
        self.load(saved)
        self.model.train()
        epoch, since, found = len(self.rows), self.step, None
        for x, y in itertools.islice(training.batches(epoch, since), until - since):
            found = self.look(x, y, bad - 1)  # in the step before, gradients may have been the first
            if found is not None:
                break
            self.take(x, y)
        else:
            found = self.look(x, y, bad - 1) or "what repeating the steps did not bring back"
        return (
            f"{found} is not finite after {self.step} steps of epoch {epoch + 1}; a smaller learning rate, a warm-up, "
            f"or clip? {folder} keeps the checkpoint after {since} steps of that epoch"
        )

    def look(self, x, y, since):
        """What is not finite in the state, or since some step in the pass over a batch."""
        good = self.is_finite(thoroughly=True)
        if good and self.step < since:
            return None
        self.draw()
        return agreed(self.advance.culprit(x, y)) or (None if good else "what the optimiser remembers")
