"""Several processes train what one does."""

import os

import pytest
import torch
from torch import nn

import deep
import linfa
from deep import checkpoint, distributed

from .test_resume import outcome

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_two_processes_take_the_steps_of_one(tmp_path):
    """Begun by one and whole in two, and the other way round, in the middle of an epoch; checkpoint and log."""
    found = outcome("together", tmp_path)
    for rule, strategy, options, *gaps in found["gaps"]:
        assert max(gaps) < (3e-6 if rule == "muon" else 3e-7), (rule, strategy, options)
    launched = checkpoint.load(tmp_path / "launched")  # by torchrun, sharded
    assert launched["rows"][0]["epoch"] == 1
    assert launched["model"]["1.weight"].shape == (8, 784)
    assert (tmp_path / "launched/result.json").exists()
    assert (tmp_path / "launched/log.csv").read_text() == (tmp_path / "again/log.csv").read_text()
    one, other = found["refused"]
    assert one == other
    assert (
        one.pop("loader") == "the loader divides its batches among 1 processes, and there are 2: give it rank and world"
    )
    assert one.pop("average").startswith("a sharded model cannot be copied: leave the average and the recorder out")
    assert {name: text.split(", ")[0] for name, text in one.items()} == {
        name: f"{name} {reason}" for name, reason in {
            "fa + muon": "finds directions of full gradients",
            "sgr(2)": "takes gradients inside of the forward pass",
            "directional-dfa": "sends directions through the whole model",
            "bp + factored(2)": "leads factors back after every step",
        }.items()
    }  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_processes_stop_after_the_same_step_when_one_is_asked(tmp_path):
    """By SIGTERM, twice; replicated and sharded; the run goes on as if nothing had been."""
    found = outcome("interrupted", tmp_path)
    for one, other in found["steps"]:
        assert 4 <= one == other <= 6
    assert found["gaps"] == [0, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_processes_reproduce_one_run_after_the_other(tmp_path):
    """Each of three, of which one diverges; all processes have the table, and read what is whole."""
    one, *others = outcome("recipe", tmp_path)
    assert {name: (len(arm["runs"]), arm["diverged"]) for name, arm in one["arms"].items()} == {
        "BP": (1, 0), "FA": (1, 0), "lost": (0, 1),
    }  # fmt: skip
    assert others == [one] * 3
    assert (tmp_path / "runs/table.md").exists()


def test_sharding_needs_processes():
    with pytest.raises(ValueError, match="no processes to divide the model among: start them with torchrun"):
        distributed.shard(deep.promote(nn.Sequential(nn.Linear(2, 2)), linfa.bp()), linfa.bp())
