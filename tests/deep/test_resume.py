"""A run that is killed, in any way, and resumed is the run that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def outcome(task, folder):
    """What a task of `tests.deep.processes` found."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.deep.processes", task, folder], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "result").read_text())


FILES = "log.csv", "log.jsonl", "record.csv", "record.jsonl", "run.json", "result.json", "certificate.json"


def assert_same_run(one, other):
    for name in FILES:
        assert (one / name).read_text() == (other / name).read_text(), name
    for name in ("checkpoint.pt", "checkpoint.before.pt"):
        a, b = (torch.load(folder / name, weights_only=True) for folder in (one, other))
        assert a["optimizer"]["state"]
        assert a["recorder"]["trajectories"]
        assert a["average"]["n_averaged"] > 0
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not list(other.glob("*.part"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_kill_minus_nine(tmp_path):
    """At twenty random times, and at every place where a file is half written or about to have another name."""
    found = outcome("killed", tmp_path)
    times, places = [tuple(place) for place in found["times"]], found["places"]
    assert len(times) >= 20
    assert len({place for place in times if 0 < place[1] < 48}) > 5  # they were hit while they ran
    assert any(step % 16 for _, step in times)  # and in the middle of an epoch
    assert len(places) > 20
    for steps in (times, places):
        assert steps == sorted(steps)
    for run in (tmp_path / "times").iterdir():
        assert_same_run(tmp_path / "whole", run)
    assert_same_run(tmp_path / "short", tmp_path / "places")
