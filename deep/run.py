"""One training run from plain settings: what ``linfa train`` does."""

import contextlib
import sys

import torch

from deep.data import cifar10, fashion_mnist_subset, flip, shift_crop
from deep.models import build
from deep.promote import promote
from deep.train import train


def run(settings, rule) -> list[dict]:
    """Build the data, the model and the optimiser of a run, train it and draw its figure; returns the log.

    Args:
        settings: an object with the fields of ``linfa.cli.TrainCommand``.
        rule: a `linfa.Rule`.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with flushed_denormals():
        rows = _train(settings, rule)
    if settings.figure:
        curves(rows, rule.name).savefig(settings.figure)
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


def _train(settings, rule):
    if settings.data is None:
        training, test = fashion_mnist_subset("train"), fashion_mnist_subset("test")
        augment = None
    else:
        training, test = cifar10(settings.data, "train"), cifar10(settings.data, "test")
        augment = _flip_and_shift
    training, test = training.to(settings.device), test.to(settings.device)
    torch.manual_seed(settings.seed)
    model = build(settings.model, training.x.shape[1], training.x.shape[-1], training.classes).to(settings.device)
    promote(model, rule, sample=training.normalised(slice(0, 2)), seed=settings.seed)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / settings.epochs)
    about = {"model": settings.model, "epochs": settings.epochs, "lr": settings.lr, "schedule": "linear to 0"}
    return train(
        model, rule, training, test, optimizer, settings.out,
        epochs=settings.epochs, batch_size=settings.batch_size, seed=settings.seed, scheduler=schedule,
        augment=augment, unverified=settings.unverified, progress=not settings.json,
        settings={**about, "optimizer": "adamw", "weight decay": settings.weight_decay},
    )  # fmt: skip


def _flip_and_shift(x, generator):
    return shift_crop(flip(x, generator), generator)


def curves(rows: list[dict], name: str):
    """Loss and accuracy by epoch, as a matplotlib figure."""
    import matplotlib.pyplot as plt

    from linfa import plot

    with plot.style():
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
        epochs = [row["epoch"] for row in rows]
        for ax, key, title in zip(axes, ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
            for part, dash in (("train", ":"), ("test", "-")):
                values = [row[f"{part}_{key}"] for row in rows]
                ax.plot(epochs, values, dash, marker="o", markersize=3, color=plot.colour(name), label=part)
            ax.set(title=title, xlabel="epoch")
        axes[0].legend(title=name)
    return figure
