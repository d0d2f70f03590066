"""The examples run, and show what they say."""

import functools
import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import linfa

EXAMPLES = Path(__file__).parents[1] / "examples"
pytest.importorskip("matplotlib")


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_rule_of_your_own(tmp_path, capsys):
    pytest.importorskip("torch")
    certificate, right = load("a_rule_of_your_own").main(tmp_path / "a.png")
    assert certificate.passed
    assert {check.reading for check in certificate.checks} == {"symbolic", "simulated", "law", "promoted"}
    assert right > 0.7
    assert "dB_1/dt = (-lambda)*B_1 + 2*W_1*E.T" in capsys.readouterr().out
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_feedback_rank(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["feedback_rank.py", str(tmp_path / "a.png")])
    runpy.run_path(str(EXAMPLES / "feedback_rank.py"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(float(line.split()[-1]) < 1e-6 for line in lines)
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_rank_of_learning(tmp_path, capsys):
    """One seed of the statements of its docstring."""
    four, flat, small, zero = load("rank_of_learning").main(tmp_path / "a.png", seeds=1)
    assert 1.5 * four["FA"].trajectory < four["BP"].trajectory
    assert four["FA"].all_layers > 0.8 * four["BP"].all_layers
    for name in ("FA + Muon", "FA + normalisation", "FA + both"):
        assert four[name].trajectory > 1.4 * four["BP"].trajectory
    assert abs(four["FA"].start - four["BP"].start) < 1
    assert four["FA + Muon"].errors < four["BP"].errors + 1 < 5 < four["FA"].errors < four["FA + normalisation"].errors
    assert abs(flat["FA"].errors - flat["BP"].errors) < 1 > abs(flat["FA"].all_layers - flat["BP"].all_layers)
    assert small["FA + normalisation"].trajectory < small["FA"].trajectory < 4 < 15 < small["FA + Muon"].trajectory
    assert zero["FA"].errors > zero["FA"].start > 7
    assert len(capsys.readouterr().out.splitlines()) == 15
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def scale():
    pytest.importorskip("torch")
    return load("theory_predicts_scale")


def test_theory_predicts_scale(scale, tmp_path, monkeypatch, capsys):
    """The shortest story: predictions at both ends, units of the measurement, an order for each rule."""
    monkeypatch.setattr(scale, "certificate", functools.cache(lambda rule: linfa.verify(rule, 0, False, (2,))))
    monkeypatch.setattr(scale, "DRAWS", 20)
    story = scale.Story(tmp_path / "a.png", tmp_path / "runs", classes=(3,), seeds=1, images=150, epochs=1)
    table, found = scale.main(story)
    rows = [row for row in table["spurious"] if row["kind"] == "relu" and row["rank"] != "bp"]
    predicted = [row["predicted"] for row in rows]
    assert predicted[0] == 1 > predicted[1] > 0 == pytest.approx(predicted[2], abs=1e-12) == predicted[3] + 0
    assert (rows[0]["left"], rows[-1]["left"], rows[0]["modes"]) == (1, 0, [1, 1])
    everything = next(row for row in table["spurious"] if row["kind"] == "relu" and row["rank"] == "bp")
    assert rows[0]["loss"] != everything["loss"]  # from the same start: the body has not learned
    assert found["knee 3 relu"]["predicted"] < 2
    muon, bp = (next(row for row in table["order"] if row["rule"] == name)["predicted"] for name in ("muon", "bp"))
    assert (bp, muon) == (sorted(bp), sorted(muon, reverse=True))
    assert json.loads((story.out / "table.json").read_text()) == table
    assert len((story.out / "log.jsonl").read_text().splitlines()) == 16 + 6
    assert len(capsys.readouterr().out.splitlines()) == len(found) == 10
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_what_the_scale_is_measured_with(scale):
    """A model that knows the labels has learned every mode, one that knows nothing none; agreement of known numbers."""
    import torch

    story = scale.Story(classes=(3,), images=300)
    images, _ = scale.pictures(story, 3, "train")
    labels = torch.nn.functional.one_hot(images.y, 3).double()

    class Knows(torch.nn.Sequential):
        def forward(self, x):
            return self.size * labels

    for size, share, loss in ((0.0, 0.0, 1 / 3), (50.0, 1.0, 0.0)):
        model = Knows(torch.nn.Linear(2, 3))
        model.size = size
        shares, left, cosine = scale.Watch(model, images, 1, *scale.modes(story, 3)).look()
        assert (*shares, left) == pytest.approx((share, share, loss), abs=1e-9)
        assert cosine is None
    assert scale.knee([0, 2, 4], [1.0, 0.2, 0.0]) == pytest.approx(3)
    assert scale.determination([1, 2], [1, 2]) == 1 > 0 == scale.determination([1.5, 1.5], [1, 2])
    assert scale.tau([1, 2, 3], np.array([1, 2, np.nan])) == 1 == -scale.tau([3, 2, 1], np.array([1, 2, np.nan]))
