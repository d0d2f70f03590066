"""No step of training mixes devices or waits for one: on a device that computes nothing, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration


@pytest.fixture(scope="module")
def found():
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no backends written in Python")
    command = [sys.executable, "-m", "tests.deep.accelerator"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_rule_on_every_layer(found):
    wrong = {cell: text for cell, text in found["steps"].items() if text not in ("moved", "refused")}
    assert not wrong
    assert sum(text == "moved" for text in found["steps"].values()) > 110


def test_what_happens_to_images(found):
    assert set(found["images"].values()) == {"gpu:0"}, found["images"]
    assert len(found["images"]) > 20
