"""The command line, in process."""

import dataclasses
import json

import numpy as np
import pytest

import linfa
from linfa.cli import main


def call(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    out = capsys.readouterr()
    return stop.value.code or 0, out.out, out.err


@pytest.mark.parametrize("command", ["demo", "derive", "discover", "simulate", "verify", "atlas", "train"])
def test_help_teaches(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert "default" in out
    assert len(out.splitlines()) >= 10


def test_derive(capsys):
    code, out, _ = call(capsys, "derive", "ldfa", "--rank", "2", "--plasticity", "hebb")
    assert code == 0
    assert "dP_1/dt = Q_1.T*W_1*E.T" in out
    assert out.count("proved") == 2
    assert r"\dot{W}_{1}" in call(capsys, "derive", "fa", "--format", "latex")[1]
    assert "dw_1/dt = b_1*(s - w_1*w_2)" in call(capsys, "derive", "fa", "--format", "modes")[1]
    read = json.loads(call(capsys, "derive", "bp", "--format", "json", "--depth", "3")[1])
    assert read["equations"]["W_3"] == "E*W_1.T*W_2.T"


def test_simulate(capsys, tmp_path):
    figure, arrays = tmp_path / "a.png", tmp_path / "a.npz"
    code, out, _ = call(
        capsys, "simulate", "fa", "--json", "--figure", str(figure), "--arrays", str(arrays), "--time", "30"
    )
    assert code == 0
    read = json.loads(out)
    assert read["loss"][1] < 1e-6 * read["loss"][0]
    np.testing.assert_allclose(read["mode strengths"], [3, 2, 1], atol=1e-3)
    assert figure.stat().st_size > 10_000
    with np.load(arrays) as saved:
        assert saved["W1"].shape == (201, 10, 6)
    assert "0.5" in call(capsys, "simulate", "brSF", "--lr", "0.01", "--time", "0.5")[1]


def test_seeds_matter(capsys):
    one, two, again = (call(capsys, "simulate", "fa", "--seed", s, "--time", "1")[1] for s in ("1", "2", "1"))
    assert one == again != two


def test_discover(capsys):
    code, out, _ = call(capsys, "discover", "bp", "--widths", "2", "2", "1")
    assert code == 0
    assert "3 conserved polynomials, proved" in out
    read = json.loads(call(capsys, "discover", "fa", "--json", "--widths", "2", "3", "2")[1])
    assert (len(read["polynomials"]), read["explained"], read["proved"]) == (10, 10, True)


def test_verify_all_prints_the_table_and_tells_of_failures(capsys, monkeypatch):
    from linfa import survey

    rows = [linfa.verify(linfa.bp(), promoted=False), survey.measured("X1")]
    monkeypatch.setattr(survey, "survey", lambda seed: iter(rows))
    code, out, _ = call(capsys, "verify", "--all")
    assert code == 0
    assert "ok   X1 " in out
    assert out.endswith("2 of 2 rules and results passed\n")
    rows.append(dataclasses.replace(rows[1], error=1.0))
    code, out, _ = call(capsys, "verify", "--all")
    assert code == 1
    assert "FAIL X1 " in out
    assert "2 of 3" in out
    assert json.loads(call(capsys, "verify", "--all", "--json")[1])[2]["passed"] is False


def test_verify(capsys):
    code, out, _ = call(capsys, "verify", "kolen-pollack", "--decay", "0.2", "--json")
    assert code == 0
    (read,) = json.loads(out)
    assert read["passed"]
    assert "decay=0.2" in read["rule"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("verify", "ldfa", "--rank", "0"), "at least 1"),
        (("simulate", "fa", "--time", "-1"), "time is a number"),
        (("simulate", "ldfa", "--rank", "9"), "fits no edge"),
        (("simulate", "fa", "--spectrum", "-1"), "not negative"),
        (("derive", "fa", "--depth", "0"), "depth"),
        (("derive", "fa", "--decay", "0.1"), "takes no decay"),
        (("train", "fa", "--data", "no-such-folder"), "no folder"),
        (("demo", "--data", "no-such-folder"), "no folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _out, err = call(capsys, *args)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_unknown_rule(capsys):
    code, _, err = call(capsys, "derive", "hebbian")
    assert code
    assert "hebbian" in err


def test_train_and_resume(capsys, tmp_path, monkeypatch):
    load = pytest.importorskip("deep.data.load")
    shipped = load.fashion_mnist_subset
    monkeypatch.setattr(load, "fashion_mnist_subset", lambda split: shipped(split).subset(256))
    args = ["--model", "lenet", "--epochs", "1", "--out", str(tmp_path / "run"), "--figure", str(tmp_path / "f.png")]
    code, out, _ = call(capsys, "train", "ldfa", "--rank", "4", *args)
    assert code == 0
    assert "test accuracy" in out
    assert (tmp_path / "f.png").exists()
    assert (tmp_path / "run" / "result.json").exists()
    code, _, err = call(capsys, "train", "fa", *args)
    assert code == 2
    assert "another rule" in err
