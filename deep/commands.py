"""Commands of ``linfa`` that need torch: `linfa.cli` loads this file when one of them is asked for."""

import ast
import dataclasses
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec
from tyro.extras import literal_type_from_choices

from deep.board import board
from deep.data import get
from deep.experiment import Experiment, run
from deep.memory import keep_memory
from deep.recipes import RECIPES, reproduce
from deep.recipes.reproduce import markdown
from linfa.choice import Chosen, Command
from linfa.rules import Fixed


def pairs(words: list[str]) -> dict[str, Any]:
    """Settings from words NAME=VALUE; a value is a Python literal, or else a text.

    >>> pairs(["width=16", "hidden=(800,)", "patch=4", "norm=group"])
    {'width': 16, 'hidden': (800,), 'patch': 4, 'norm': 'group'}

    Raises:
        ValueError: for a word without "=".
    """
    read = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} is no NAME=VALUE")
        try:
            read[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            read[name] = text
    return read


Pairs = Annotated[
    Mapping[str, Any],
    PrimitiveConstructorSpec(
        nargs="*",
        metavar="[NAME=VALUE ...]",
        instance_from_str=pairs,
        is_instance=lambda value: isinstance(value, Mapping),
        str_from_instance=lambda value: [f"{name}={setting!r}" for name, setting in value.items()] or ["none"],
    ),
]
"""How a mapping is read from the command line."""

Settings = dataclasses.make_dataclass(
    "Settings",
    [
        (f.name, Pairs if f.type == Mapping[str, Any] else f.type, f)
        for f in dataclasses.fields(Experiment)
        if f.name != "rule"
    ],
    frozen=True,
    namespace={"__doc__": Experiment.__doc__},
)
"""The fields of an experiment but its rule, which is chosen by name."""


@dataclass(frozen=True)
class TrainCommand(Command):
    """``linfa train``: an `Experiment` in a folder."""

    choice: Chosen
    settings: Annotated[Settings, arg(name="")]  # pyright: ignore[reportInvalidTypeForm]
    out: Path = Path("runs/latest")
    """Folder of the run."""
    record_every: int | None = None
    """Steps from one measurement of alignment and ranks, each layer's, to the next; None for none."""
    checkpoint_every: int | None = 1000
    """Steps from one checkpoint to the next, beside the one after each epoch; None for no others."""
    sharded: bool = False
    """Started by torchrun: divide parameters and moments among the processes (FSDP2)."""
    tensorboard: bool = False
    """Write the log for TensorBoard, too, into a folder of that name."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int | None = None
    """CPU threads."""
    unverified: bool = False
    """Train even if the certificate of the rule does not pass."""
    json: bool = False
    """Print the log as JSON lines."""

    def run(self):
        if self.threads:
            torch.set_num_threads(self.threads)
        keep_memory()
        experiment = Experiment(self.choice.build(), **vars(self.settings))
        _check_feedback(experiment)
        first = _first()
        rows = run(
            experiment, self.out, device=self.device, sharded=self.sharded, record_every=self.record_every,
            checkpoint_every=self.checkpoint_every, unverified=self.unverified, progress=not self.json,
            after=board(self.out) if self.tensorboard and first else None,
        )  # fmt: skip
        if self.json and first:
            print("\n".join(map(json.dumps, rows)))
        elif first:
            last = rows[-1]
            print(f"epoch {last['epoch']}: test accuracy {100 * last['test_accuracy']:.2f} %, log in {self.out}")
        return 0

    def interrupted(self):
        return f"Interrupted. The same command goes on with the run in {self.out}"


def _first():
    """Whether this is the first of the processes of torchrun, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _check_feedback(experiment):
    """Raise ValueError for settings of feedback that learns, where none does; arms of one recipe may share them."""
    own = experiment.optimizer.feedback_lr, experiment.optimizer.feedback_decay
    if isinstance(experiment.rule.plasticity, Fixed) and own != (None, None):
        raise ValueError(f"the feedback of {experiment.rule.name} does not learn: leave feedback-lr and feedback-decay "
                         "out")  # fmt: skip


@dataclass(frozen=True)
class ReproduceCommand(Command):
    """``linfa reproduce``."""

    name: Positional[literal_type_from_choices(RECIPES)]  # pyright: ignore[reportInvalidTypeForm]
    """Which experiment."""
    scale: float | None = None
    """Share in (0, 1] of the published budget; by default one for a first look."""
    data: Path | None = None
    """Folder of the official files, as ``linfa data get`` leaves them."""
    out: Path | None = None
    """Folder of the runs; by default one in ``runs`` of the experiment's name."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the runs."""
    arms: tuple[str, ...] | None = None
    """Some of the arms; by default all."""
    trust: tuple[str, ...] = ()
    """SHA-256 of images to accept although they are not all of the published ones."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int | None = None
    """CPU threads."""

    def run(self):
        if self.threads:
            torch.set_num_threads(self.threads)
        keep_memory()
        out, recipe = self.folder(), RECIPES[self.name]
        table = reproduce(recipe, out, self.data, self.scale, self.seeds, self.arms, self.device, self.trust)
        if not _first():
            return 0
        print(f"{table['title']}, {table['scale']:.3g} of the budget\n{table['source']}\n\n{markdown(table)}\n")
        print(f"figure and logs in {out}")
        return 0

    def interrupted(self):
        return f"Interrupted. The same command goes on with the runs in {self.folder()}"

    def folder(self) -> Path:
        """Of the runs."""
        return self.out or Path("runs") / self.name


@dataclass(frozen=True)
class DataCommand(Command):
    """``linfa data get``."""

    action: Positional[Literal["get"]]
    """What to do."""
    name: Positional[literal_type_from_choices(get.SOURCES)]
    """Which data set."""
    out: Path = Path("data")
    """Folder for the files; all data sets can share one."""

    def run(self):
        fetched = get.get(get.SOURCES[self.name], self.out)
        print(f"{self.name} is in {self.out}, as published" if fetched else f"{self.name} was in {self.out} already")
        print(f"  {self.use()}")
        return 0

    def interrupted(self):
        return "Interrupted. The same command goes on from here."

    def use(self) -> str:
        """How to work with the files."""
        return f"linfa train ldfa --rank 32 --data.name {self.name} --data.folder {shlex.quote(str(self.out))}"


COMMANDS = {"train": TrainCommand, "reproduce": ReproduceCommand, "data": DataCommand}
"""By name; `linfa.cli.DEEP` holds their texts."""
