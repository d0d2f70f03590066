"""``linfa train``, in process."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest

import deep.train
import linfa
from deep.commands import COMMANDS, Settings
from deep.data import NAMES
from deep.experiment import AUGMENTATIONS, ON_PIXELS, Data, Experiment, Optimizer, WeightRank
from deep.models import MODELS
from deep.precision import Precision
from deep.schedule import Schedule
from linfa.cli import DEEP, main

SMALL = ["--model", "mlp", "--sizes", "hidden=(12,)", "--data.limit", "256", "--epochs", "1"]


@pytest.fixture
def quick(monkeypatch):
    """Certificates of fewer checks, and no figures."""
    monkeypatch.setattr("deep.experiment.draw", lambda *args: None)
    verify = linfa.verify
    monkeypatch.setattr(deep.train.linfa, "verify", lambda rule: verify(rule, promoted=False, depths=(2,)))


def call(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    out = capsys.readouterr()
    return stop.value.code or 0, out.out, out.err


def test_help_shows_every_setting(capsys):
    """Name, text and default of every field of an experiment and its parts."""
    code, out, _ = call(capsys, "train", "--help")
    assert code == 0

    def names(kind, prefix=""):
        for field in dataclasses.fields(kind):
            if dataclasses.is_dataclass(field.type):
                yield from names(field.type, f"{prefix}{field.name}.")
            else:
                yield f"--{prefix}{field.name}".replace("_", "-")

    found = list(names(Settings))
    assert {"--epochs", "--data.folder", "--optimizer.feedback-lr", "--schedule.warmup"} <= set(found)
    assert not [name for name in found if name not in out]
    assert "learning rate of feedback that learns" in " ".join(out.split())
    assert DEEP["train"].split(".")[0] in out
    told = " ".join(out.replace("│", " ").split())
    assert all(re.search(rf"\b{name}\b", told) for name in [*MODELS, *NAMES, *AUGMENTATIONS, *ON_PIXELS])
    assert not re.search(r"(INT|FLOAT|STR|PATH|--no-\S+) \(default", told)  # every setting has a text
    assert "(default: )" not in told
    assert re.search(r"grayscale, trivial \(TrivialAugment\)\. \(default: none\)", told)


def test_the_settings_are_those_of_an_experiment():
    assert Experiment(linfa.fa(), **vars(Settings())) == Experiment(linfa.fa())
    assert list(DEEP) == list(COMMANDS)


def test_every_setting_arrives(capsys, monkeypatch):
    seen = []

    def fake(experiment, *args, **options):
        seen.append((experiment, *args, options))
        return [{"epoch": 20, "test_accuracy": 0.125}]

    monkeypatch.setattr("deep.commands.run", fake)
    line = (
        "train svd-local --rank 6 --retraction qr --model vit --sizes dim=32 heads=4 --promotion exact=('head',) "
        "--data.name cifar10 --data.folder here --data.augment flip crop --data.limit 500 --optimizer.name sgd "
        "--optimizer.lr 3e-4 --optimizer.momentum 0.8 --schedule.shape step --schedule.milestones 0.3 0.6 "
        "--schedule.warmup 0.5 --weight-rank.last 2 --weight-rank.tau 0.9 --epochs 20 --batch-size 32 --mixup 0.2 "
        "--label-smoothing 0.1 --seed 3 --out there --record-every 7 --device cuda --unverified "
        "--precision.dtype bfloat16 --clip 0.5 --average 0.99 --checkpoint-every 50 --sharded"
    )
    code, out, _ = call(capsys, *line.split())
    assert code == 0
    assert out == "epoch 20: test accuracy 12.50 %, log in there\n"
    ((experiment, folder, options),) = seen
    assert experiment == Experiment(
        linfa.svd_local(6, retraction="qr"), "vit", {"dim": 32, "heads": 4},
        Data("cifar10", Path("here"), ("flip", "crop"), 500), Optimizer("sgd", 3e-4, momentum=0.8),
        Schedule("step", 0.5, milestones=(0.3, 0.6)), 20, 32, label_smoothing=0.1, mixup=0.2,
        weight_rank=WeightRank(2, tau=0.9), promotion={"exact": ("head",)}, seed=3,
        precision=Precision("bfloat16"), clip=0.5, average=0.99,
    )  # fmt: skip
    assert str(folder) == "there"
    expected = {"device": "cuda", "record_every": 7, "unverified": True, "progress": True, "after": None,
                "checkpoint_every": 50, "sharded": True}  # fmt: skip
    assert options == expected


def test_a_run_and_the_same_command_again(capsys, tmp_path, quick):
    folder = tmp_path / "run"
    line = ["train", "ldfa", "--rank", "4", *SMALL, "--out", str(folder)]
    code, out, _ = call(capsys, *line)
    assert code == 0
    assert "epoch 1: test accuracy" in out
    names = {path.name for path in folder.iterdir()}
    assert {"run.json", "certificate.json", "log.csv", "log.jsonl", "checkpoint.pt", "result.json"} <= names
    log = (folder / "log.jsonl").read_text()
    code, out, _ = call(capsys, *line, "--json")
    assert code == 0
    assert json.loads(out) == json.loads(log)
    code, _, err = call(capsys, "train", "fa", *line[4:])
    assert code == 2
    assert "another rule" in err


@pytest.mark.parametrize(
    ("line", "name", "text"),
    [
        (["train", "fa", *SMALL], "run", "The same command goes on with the run in here"),
        (["reproduce", "ldfa-fc"], "reproduce", "The same command goes on with the runs in here"),
    ],
)
def test_an_interruption_says_how_to_go_on(capsys, monkeypatch, line, name, text):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"deep.commands.{name}", interrupted)
    code, _, err = call(capsys, *line, "--out", "here")
    assert (code, err) == (130, f"\nInterrupted. {text}\n")


def test_tensorboard_missing_is_said_before_the_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, _, err = call(capsys, "train", "fa", *SMALL, "--tensorboard", "--out", str(tmp_path / "run"))
    assert code == 2
    assert err == "linfa: TensorBoard is not installed: pip install tensorboard\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("fa", "--epochs", "0"), "epochs is at least 1; got 0"),
        (("fa", "--optimizer.lr", "-1"), "lr is at least 0; got -1.0"),
        (("fa", "--accumulate", "3"), "batches of 128 make no 3 equal parts to accumulate"),
        (("fa", "--accumulate", "0"), "batches of 128 make no 0 equal parts to accumulate"),
        (("fa", "--clip", "0"), "clip is above 0, or None; got 0.0"),
        (("fa", "--average", "1"), "average is in (0, 1), or None; got 1.0"),
        (("fa", "--average", "nan"), "average is in (0, 1), or None; got nan"),
        (("fa", "--checkpoint-every", "0"), "checkpoint_every is at least 1, or None; got 0"),
        (("fa", "--device", "quantum"), "the device quantum cannot be used: "),
        (("fa", "--device", "cuda:99"), "the device cuda:99 cannot be used: "),
        (("fa", "--schedule.warmup", "9"), "a warm-up of 9.0 epochs leaves nothing of 5"),
        (("fa", "--data.name", "cifar11"), "unknown data 'cifar11'"),
        (("fa", "--data.augment", "mirror"), "unknown augmentation mirror"),
        (("fa", "--model", "cnm"), "unknown model 'cnm'"),
        (("fa", "--sizes", "width"), "'width' is no NAME=VALUE"),
        (("fa", "--sizes", "wide=3"), "cnn takes no wide"),
        (("fa", "--optimizer.feedback-lr", "0.1"), "the feedback of fa does not learn: leave feedback-lr"),
        (("fa", "--data.name", "cifar10"), "cifar10 needs the folder of its files"),
        (("fa", "--data.name", "cifar10", "--data.folder", "no-such-folder"), "no folder"),
        (("pepita",), "direct and local routes so far"),
        (("ldfa",), "ldfa needs --rank"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_leaves_nothing(capsys, args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, "train", *args)
    assert code == 2
    assert message in " ".join(err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())
