"""The demonstration on fewer images."""

import re

import pytest
import torch

import linfa
from deep import demo
from deep.demo import Demo, run, task_of
from linfa.rules import Homogeneous, named

pytest.importorskip("matplotlib")


@pytest.fixture
def few(monkeypatch):
    shipped = demo.fashion_mnist_subset
    monkeypatch.setattr(demo, "fashion_mnist_subset", lambda split: shipped(split).subset(320))


def test_the_page(tmp_path, few, monkeypatch):
    """Of rules with and without a symbolic form and a promotion, and one that claims too much."""
    assert demo.named is named
    boast = linfa.bp(0.1)
    object.__setattr__(boast, "claims", (Homogeneous(2),))
    rules = {"fa": linfa.fa(), "normalised": linfa.normalised(linfa.fa()), "pepita": linfa.pepita(), "boast": boast}
    monkeypatch.setattr(demo, "named", lambda: rules)
    torch.manual_seed(0)
    path = run(Demo(out=tmp_path / "demo", epochs=1, progress=False))
    text = path.read_text(encoding="utf-8")
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == ["Derive", "Simulate", "The spurious solution, and its cure", "Verify", "Promote"]
    assert text.count("data:image/png") == 3
    assert (text.count("<td>passed</td>"), text.count("<td>FAILED</td>")) == (3, 1)
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "Finished in" in text
    error = float(re.search(r"Largest relative error (\S+?)\.<", text)[1])
    assert error < 1e-8


def test_an_interrupted_run_leaves_what_it_has(tmp_path, few, monkeypatch):
    def interrupt(*args):
        """Stop. Here."""
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_spurious", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(Demo(out=tmp_path, epochs=1, progress=False))
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Derive", "Simulate"]
    assert "Interrupted" in text
    assert "Finished in" not in text


def test_missing_data_writes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        run(Demo(out=tmp_path / "demo", data=tmp_path / "nowhere"))
    assert not (tmp_path / "demo").exists()


def test_the_task_is_white_and_scaled(few):
    task = task_of(demo.fashion_mnist_subset("train"))
    assert task.whiteness_violation == 0
    assert torch.linalg.matrix_norm(torch.as_tensor(task.Syx), 2).item() == pytest.approx(1)
