"""Commands of ``linfa`` that need torch: `linfa.cli` loads this file when one of them is asked for."""

import ast
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from deep.board import board
from deep.experiment import Experiment, run
from linfa.cli import Chosen
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
        str_from_instance=lambda value: [f"{name}={setting!r}" for name, setting in value.items()],
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
class TrainCommand:
    """``linfa train``: an `Experiment` in a folder."""

    choice: Chosen
    settings: Annotated[Settings, arg(name="")]  # pyright: ignore[reportInvalidTypeForm]
    out: Path = Path("runs/latest")
    """Folder of the run."""
    record_every: int | None = None
    """Steps from one measurement of alignment and ranks, each layer's, to the next; None for none."""
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
        experiment = Experiment(self.choice.build(), **vars(self.settings))
        _check_feedback(experiment)
        rows = run(
            experiment, self.out, device=self.device, record_every=self.record_every, unverified=self.unverified,
            progress=not self.json, after=board(self.out) if self.tensorboard else None,
        )  # fmt: skip
        if self.json:
            print("\n".join(map(json.dumps, rows)))
        else:
            last = rows[-1]
            print(f"epoch {last['epoch']}: test accuracy {100 * last['test_accuracy']:.2f} %, log in {self.out}")
        return 0


def _check_feedback(experiment):
    """Raise ValueError for settings of feedback that learns, where none does; arms of one recipe may share them."""
    own = experiment.optimizer.feedback_lr, experiment.optimizer.feedback_decay
    if isinstance(experiment.rule.plasticity, Fixed) and own != (None, None):
        raise ValueError(f"the feedback of {experiment.rule.name} does not learn: leave feedback-lr and feedback-decay "
                         "out")  # fmt: skip


COMMANDS = {"train": TrainCommand}
"""By name; `linfa.cli.DEEP` holds their texts."""
