"""The examples run, and show what they say."""

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

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
