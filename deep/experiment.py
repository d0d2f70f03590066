"""One training run as plain settings, and everything that is made from them."""

import contextlib
import dataclasses
import functools
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from deep import data, distributed, models
from deep.coverage import check_rule
from deep.curves import draw
from deep.data import InOrder, Limited, Loader, Mixed, Shuffled
from deep.events import Event, Refresh, Shrink
from deep.optimizer import optimizer as directed
from deep.optimizer import taught
from deep.precision import Precision
from deep.promote import promote
from deep.record import Recorder
from deep.refresh import check_refresh
from deep.schedule import Schedule
from deep.train import train
from linfa.ranks import RankSchedule
from linfa.rules import Euclidean, Factored, Rule

AUGMENTATIONS: dict[str, Callable] = {
    "flip": data.flip,
    "crop": data.shift_crop,
    "rotate": data.rotate,
    "cutout": data.cutout,
}
"""Augmentations of normalised images by name, each with its usual strength."""

ON_PIXELS: dict[str, Callable] = {"grayscale": data.grayscale, "trivial": data.trivial_augment}
"""Augmentations of bytes by name."""

SPLITS = "train", "test"


@dataclass(frozen=True)
class Data:
    """Which images.

    Args:
        name: cifar10, cifar100, mnist, fashion-mnist, imagenet, or fashion-mnist-subset, which is in the package.
        folder: of its files; None for what is in the package.
        augment: names of augmentations, in order: flip, crop, rotate, cutout, grayscale, trivial (TrivialAugment).
        limit: the first so many training images, of "imagenet" those of every epoch's order; None for all.
        classes: the images of the first so many classes; None for all.
        grayscale: their luminance in place of their colours.
        trust: SHA-256 of images to accept although they are not the published ones, or not all of them, of the training
            and of the test images.
        workers: processes that decode the images of "imagenet"; None for as many as there are cores, at most 4.

    Raises:
        ValueError: for an unknown name, or numbers below 1.
    """

    name: str = data.SHIPPED
    folder: Path | None = None
    augment: tuple[str, ...] = ()
    limit: int | None = None
    classes: int | None = None
    grayscale: bool = False
    trust: tuple[str, ...] = ()
    workers: int | None = None

    def __post_init__(self):
        if self.name not in data.NAMES:
            raise ValueError(f"unknown data {self.name!r}: choose one of {', '.join(data.NAMES)}")
        changed = self.augment or self.classes is not None or self.grayscale or self.trust
        if self.name in data.STREAMS and changed:
            raise ValueError(f"{self.name} is read from its files, with crops of its own: leave augment, classes, "
                             "grayscale and trust out")  # fmt: skip
        if self.workers is not None and (self.workers < 0 or self.name not in data.STREAMS):
            raise ValueError(f"workers, at least 0, decode the images of {', '.join(data.STREAMS)}; got {self.workers} "
                             f"for {self.name}")  # fmt: skip
        for name in ("limit", "classes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is at least 1, or None; got {value}")
        known = AUGMENTATIONS | ON_PIXELS
        unknown = [name for name in self.augment if name not in known]
        if unknown:
            raise ValueError(f"unknown augmentation {', '.join(unknown)}: choose from {', '.join(known)}")

    def images(self, split: str) -> data.Images:
        """The images of "train" or "test", where they fit the memory."""
        images = data.load(self.name, self.folder, split, self.trust)
        if self.classes is not None:
            images = images.first_classes(self.classes)
        if self.grayscale:
            images = images.grayscale()
        return images if self.limit is None or split == "test" else images.subset(min(self.limit, len(images)))

    def loaders(
        self, batch_size: int, seed: int, device: str | torch.device = "cpu", rank: int = 0, world: int = 1
    ) -> tuple[Loader, Loader]:
        """Training and test batches; arguments as for `Shuffled`."""
        if self.name in data.STREAMS:
            if self.folder is None:
                raise ValueError(f"{self.name} needs the folder of its files: data.folder")
            make = functools.partial(
                data.STREAMS[self.name].make, self.folder, batch_size=batch_size, seed=seed, workers=self.workers
            )
            training, test = (make(split=split, device=device, rank=rank, world=world) for split in SPLITS)
            return training if self.limit is None else Limited(training, max(1, self.limit // batch_size)), test
        training, test = (self.images(split).to(device) for split in SPLITS)
        shuffled = Shuffled(training, batch_size, seed, self.augmentation(training), rank, world)
        return shuffled, InOrder(test, rank=rank, world=world)

    def augmentation(self, images: data.Images) -> Callable | None:
        """(normalised images, generator) -> images: all augmentations, one after the other."""
        if not self.augment:
            return None
        pixels = {name: data.OnPixels(part, images.mean, images.std) for name, part in ON_PIXELS.items()}
        return functools.partial(_augment, tuple((AUGMENTATIONS | pixels)[name] for name in self.augment))


def _augment(parts, x, generator):
    for part in parts:
        x = part(x, generator)
    return x


OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
"""Optimisers by name."""


@dataclass(frozen=True)
class Optimizer:
    """Which optimiser takes the gradients.

    A rule whose geometry is not Euclidean has its promoted weights moved by `deep.optimizer` at ``geometry_lr``, all
    but the last one, and the named optimiser takes the others.

    Args:
        name: of the optimiser in torch.
        lr: learning rate.
        weight_decay: of every parameter it has; "adam" and "sgd" add it to the gradient, "adamw" to the step.
        momentum: of "sgd".
        amsgrad: of "adam" and "adamw".
        feedback_lr: learning rate of feedback that learns, heads of local rules among it; None for ``lr``.
        feedback_decay: weight decay of feedback that learns; None for ``weight_decay``.
        geometry_lr: learning rate of the weights that a rule such as muon moves in directions of its own.
        geometry_momentum: of their gradients' mean.

    Raises:
        ValueError: for an unknown name, or numbers out of range.
    """

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    amsgrad: bool = False
    feedback_lr: float | None = None
    feedback_decay: float | None = None
    geometry_lr: float = 0.02
    geometry_momentum: float = 0.95

    def __post_init__(self):
        if self.name not in OPTIMIZERS:
            raise ValueError(f"unknown optimiser {self.name!r}: choose one of {', '.join(OPTIMIZERS)}")
        for name in ("lr", "weight_decay", "feedback_lr", "feedback_decay", "geometry_lr"):
            if (value := getattr(self, name)) is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} is at least 0; got {value}")
        for name in ("momentum", "geometry_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is in [0, 1); got {getattr(self, name)}")
        if self.amsgrad and self.name == "sgd":
            raise ValueError("amsgrad is of adam and adamw, and the optimiser is sgd")

    def build(self, model: nn.Module, rule: Rule) -> torch.optim.Optimizer:
        """The optimiser of a promoted model's parameters that require a gradient."""
        if rule.geometry == Euclidean():
            return self._plain(model, [p for p in model.parameters() if p.requires_grad])
        promoted, _ = taught(model)
        others = functools.partial(self._plain, model)
        head = list(promoted)[-1:]
        return directed(model, self.geometry_lr, self.geometry_momentum, others, euclidean=head)

    def _plain(self, model, parameters):
        inside = {id(p) for name, p in model.named_parameters() if "feedback" in name}
        forward = {"params": [p for p in parameters if id(p) not in inside]}
        feedback = {"params": [p for p in parameters if id(p) in inside]}
        feedback["lr"] = self.lr if self.feedback_lr is None else self.feedback_lr
        feedback["weight_decay"] = self.weight_decay if self.feedback_decay is None else self.feedback_decay
        groups = [group for group in (forward, feedback) if group["params"]]
        more = {"momentum": self.momentum} if self.name == "sgd" else {"amsgrad": self.amsgrad}
        return OPTIMIZERS[self.name](groups, lr=self.lr, weight_decay=self.weight_decay, fused=True, **more)


@dataclass(frozen=True)
class WeightRank:
    """How the rank of factored weights falls during training, see `linfa.ranks.RankSchedule`.

    Args:
        last: rank in the last stage; None for a rank that stays.
        stages: equally long stages of the run, in each of which the rank stays.
        smallest: least rank of a layer.
        tau: share in (0, 1] of the squared singular values that is kept whatever the rank was to be; None for any.

    Raises:
        ValueError: for numbers that have no use because the rank stays.
    """

    last: int | None = None
    stages: int = 4
    smallest: int = 1
    tau: float | None = None

    def __post_init__(self):
        if self.last is None and (self.stages, self.smallest, self.tau) != (4, 1, None):
            raise ValueError("a weight rank that stays has no stages, smallest and tau: say the last rank")

    def schedule(self, rule: Rule) -> RankSchedule | None:
        """The schedule that starts from the rank of a rule's weights; None for a rank that stays.

        Raises:
            ValueError: for a rule whose weights have no rank, or numbers that make no schedule.
        """
        if self.last is None:
            return None
        if not isinstance(rule.parameterisation, Factored):
            raise ValueError(f"the weights of {rule.name} are not factored: they have no rank that could fall")
        return RankSchedule(rule.parameterisation.rank, self.last, self.stages, self.smallest, self.tau)


@dataclass(frozen=True)
class Experiment:
    """A training run in plain settings.

    Args:
        rule: the learning rule.
        model: mlp, cnn, lenet, vgg, vgg13, alexnet, resnet18, resnet20, resnet32, resnet50, retina, vit or vit-b16, of
            `deep.models`.
        sizes: settings of that network that are not its defaults, such as width=16.
        data: which images.
        optimizer: how the gradients are taken.
        schedule: of the learning rates.
        epochs: passes over the training images.
        batch_size: samples of a step, of all processes together.
        label_smoothing: share of the target that all classes divide.
        mixup: alpha of `deep.data.Mixed`, by which training images are mixed in pairs; 0 for none.
        weight_rank: how the rank of factored weights falls.
        refresh_every: epochs from one refreshment of feedback that started from the weights to the next, as in the
            released code of LDFA, where it is 0.5; None for never.
        precision: of the passes.
        clip: largest norm of the gradient, which is shortened to it; None leaves it.
        accumulate: equal parts of a batch that go through the model one after the other, to save memory.
        average: decay of a moving average of the weights, which is tested beside them; None for none.
        promotion: further arguments of `deep.promote`, such as ranks={"*.qkv": 96}.
        seed: of weights, feedback, order and augmentation.

    Raises:
        ValueError: for unknown names or numbers out of range, before any data are read.
        Unsupported: for a rule that does not promote.

    >>> import linfa
    >>> short = Experiment(linfa.fa(), epochs=20).scaled(0.1)
    >>> short.epochs
    2
    """

    rule: Rule
    model: str = "cnn"
    sizes: Mapping[str, Any] = field(default_factory=dict)
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = field(default_factory=Schedule)
    epochs: int = 5
    batch_size: int = 128
    label_smoothing: float = 0.0
    mixup: float = 0.0
    weight_rank: WeightRank = WeightRank()
    refresh_every: float | None = None
    precision: Precision = field(default_factory=Precision)
    clip: float | None = None
    accumulate: int = 1
    average: float | None = None
    promotion: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self):
        if self.model not in models.MODELS:
            raise ValueError(f"unknown model {self.model!r}: choose one of {', '.join(models.MODELS)}")
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is at least {least}; got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is in [0, 1); got {self.label_smoothing}")
        if not 0 <= self.mixup < math.inf:
            raise ValueError(f"mixup is at least 0; got {self.mixup}")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise ValueError(f"batches of {self.batch_size} make no {self.accumulate} equal parts to accumulate")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip is above 0, or None; got {self.clip}")
        if self.average is not None and not 0 < self.average < 1:
            raise ValueError(f"average is in (0, 1), or None; got {self.average}")
        if not self.schedule.warmup < self.epochs:
            raise ValueError(f"a warm-up of {self.schedule.warmup} epochs leaves nothing of {self.epochs}")
        check_rule(self.rule)
        self.weight_rank.schedule(self.rule)
        if self.refresh_every is not None:
            if not 0 < self.refresh_every < math.inf:
                raise ValueError(f"refresh_every is above 0, or None; got {self.refresh_every}")
            check_refresh(self.rule)

    def scaled(self, share: float) -> "Experiment":
        """The same at a share in (0, 1] of its budget: fewer epochs; below one epoch, fewer images.

        Raises:
            ValueError: for another share.
        """
        if not 0 < share <= 1:
            raise ValueError(f"a share of the budget is in (0, 1]; got {share}")
        epochs = max(1, round(share * self.epochs))
        stream = data.STREAMS.get(self.data.name)
        images = len(self.data.images("train")) if stream is None else stream.images
        limit = min(images, max(self.batch_size, math.ceil(round(share * self.epochs / epochs * images, 6))))
        shorter: dict[str, Any] = {"epochs": epochs, "schedule": self.schedule.stretched(epochs / self.epochs)}
        if limit < images:
            shorter["data"] = dataclasses.replace(self.data, limit=limit)
        return dataclasses.replace(self, **shorter)

    def describe(self) -> dict:
        """All settings as plain JSON."""
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        parts = {key: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for key, v in parts.items()}
        parts["rule"] = repr(self.rule)
        for key in ("folder", "trust", "workers"):  # where the files are and who reads them changes nothing
            del parts["data"][key]
        return json.loads(json.dumps(parts, default=repr))

    def loaders(self, device: str | torch.device = "cpu", rank: int = 0, world: int = 1) -> tuple[Loader, Loader]:
        """Training and test batches, of one of several processes."""
        training, test = self.data.loaders(self.batch_size, self.seed, device, rank, world)
        return Mixed(training, self.mixup, self.seed) if self.mixup else training, test

    def network(self, training: Loader, device: str | torch.device = "cpu") -> nn.Module:
        """The promoted model, its weights and feedback drawn by the seed."""
        torch.manual_seed(self.seed)
        channels, size, _ = training.shape
        model = models.build(self.model, channels, size, training.classes, **self.sizes).to(device)
        sample = next(iter(training.batches(0)))[0][:2]
        return promote(model, self.rule, sample=sample, seed=self.seed, **self.promotion)

    def events(self, steps: int) -> tuple[Event, ...]:
        """What happens between steps, with so many of them in an epoch."""
        schedule = self.weight_rank.schedule(self.rule)
        found: list[Event] = [] if schedule is None else [Shrink(schedule, steps * self.epochs)]
        if self.refresh_every is not None:
            found.append(Refresh(max(1, round(self.refresh_every * steps))))
        return tuple(found)

    def rates(self, steps: int, points: int = 500) -> dict[str, tuple[list, list]]:
        """Learning rates over time in epochs, with so many steps in an epoch, by what is learned; for a figure."""
        own = {"weights": self.optimizer.lr}
        if self.rule.geometry != Euclidean():
            own = {"promoted weights": self.optimizer.geometry_lr, "others": self.optimizer.lr}
        if self.optimizer.feedback_lr is not None:
            own["feedback"] = self.optimizer.feedback_lr
        chosen = range(0, steps * self.epochs, -(-steps * self.epochs // points))
        factors = [self.schedule.factor(step, steps, self.epochs) for step in chosen]
        times = [step / steps for step in chosen]
        return {name: (times, [rate * factor for factor in factors]) for name, rate in own.items()}

    def loss(self) -> Callable:
        """(logits, labels) -> scalar mean."""
        return functools.partial(F.cross_entropy, label_smoothing=self.label_smoothing)


def run(
    experiment: Experiment, folder: str | Path, *, device: str | torch.device = "cpu", sharded: bool = False,
    record_every: int | None = None, **options,
) -> list[dict]:  # fmt: skip
    """Train an experiment, or go on with it if it is in the folder already; returns the rows of the log.

    Beside the files of `deep.train.train` the folder receives ``curves.png``, and ``record.png`` if there is a record.
    Started by ``torchrun`` all of its processes train together, see `deep.distributed`.

    Args:
        experiment: the settings; those in the folder have to be the same.
        folder: as in `deep.train.train`.
        device: where to train.
        sharded: divide parameters and moments among the processes (FSDP2).
        record_every: steps from one measurement of a `deep.Recorder` to the next; None for none.
        options: of `deep.train.train`: monitor, certificate, checkpoint_every, progress ...
    """
    chosen, rule, loss = experiment, experiment.rule, experiment.loss()
    with flushed_denormals(), distributed.processes(device) as device:
        training, test = chosen.loaders(device, distributed.rank(), distributed.world())
        model = chosen.precision.laid_out(chosen.network(training, device))
        if sharded:
            distributed.shard(model, rule)
        recorder = None if record_every is None else Recorder(model, record_every, folder, loss=loss)
        rows = train(
            model, rule, training, test, chosen.optimizer.build(model, rule), folder, epochs=chosen.epochs,
            schedule=chosen.schedule, seed=chosen.seed, loss=loss, precision=chosen.precision, clip=chosen.clip,
            accumulate=chosen.accumulate, average=chosen.average, recorder=recorder,
            events=chosen.events(training.steps), settings=chosen.describe(), **options,
        )  # fmt: skip
        if distributed.rank() == 0:
            draw(Path(folder), rows, rule.name, chosen.rates(training.steps), recorder)
    return rows


@contextlib.contextmanager
def flushed_denormals():
    """Denormal numbers count as zero inside, as on a GPU; moments of Adam that fade below 1e-38 would slow a CPU down.

    The mode is one of the processor's, so that all Python code of this thread would keep it if it were not put back.

    >>> with flushed_denormals():
    ...     sys.float_info.min / 2
    0.0
    >>> sys.float_info.min / 2 > 0
    True
    """
    before = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
