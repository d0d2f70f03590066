"""The command line, in process."""

import dataclasses
import importlib.util
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pytest

import linfa
from linfa.choice import Choice, Flags
from linfa.cli import main
from linfa.rules.catalogue import CATALOGUE


def call(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    out = capsys.readouterr()
    return stop.value.code or 0, out.out, out.err


@pytest.mark.parametrize("command", ["demo", "derive", "discover", "simulate", "sweep", "verify", "atlas"])
def test_help_teaches(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert "(default: )" not in " ".join(out.replace("│", " ").split())
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


SWEEP = ("sweep", "fa", "ldfa", "--ranks", "1", "2", "4", "--spectrum", "3", "2", "1", "--seeds", "3")


def test_sweep(capsys, tmp_path):
    out, figure = tmp_path / "rows", tmp_path / "phase.png"
    code, text, _ = call(
        capsys, *SWEEP, "--scales", "0.1", "1", "--steps", "60", "--out", str(out), "--figure", str(figure)
    )
    assert code == 0
    head, *lines, last = text.splitlines()
    assert head.split()[:4] == ["rule", "rank", "scale", "diverged"]
    assert [line.split()[:3] for line in lines[:3]] == [
        ["fa", "-", "0.1"], ["fa", "-", "1"], ["ldfa(r,", "oja)", "1"]
    ]  # fmt: skip
    assert len(lines) == 8
    assert last == f"24 networks, one a row: {out / 'sweep.csv'}"
    assert figure.stat().st_size > 10_000
    assert len((out / "sweep.csv").read_text().splitlines()) == 25
    again = call(capsys, *SWEEP, "--scales", "0.1", "1", "--steps", "60", "--out", str(out), "--json")
    assert [line["rank"] for line in json.loads(again[1])] == [None, None, 1, 1, 2, 2, 4, 4]
    code, _, err = call(capsys, *SWEEP, "--out", str(out))
    assert (code, "holds a run with another" in err) == (2, True)


def test_sweep_runs_in_processes(capsys, tmp_path):
    settings = ["sweep", "bp", "--scales", "0.5", "--lrs", "0.01", "100", "--seeds", "2", "--seed", "4"]
    one = call(capsys, *settings, "--out", str(tmp_path / "one"))[1].splitlines()
    two = call(capsys, *settings, "--out", str(tmp_path / "two"), "--workers", "2")[1].splitlines()
    assert one[:-1] == two[:-1]
    assert "2 of 2" in one[2]
    assert (tmp_path / "one" / "sweep.csv").read_text() == (tmp_path / "two" / "sweep.csv").read_text()
    assert '"seeds": [\n  4,\n  5\n ]' in (tmp_path / "one" / "sweep.json").read_text()


def test_sweep_says_what_is_wrong_before_it_starts(capsys, tmp_path, monkeypatch):
    folder = ("--out", str(tmp_path / "rows"))
    code, _, err = call(capsys, "sweep", "ldfa", "--ranks", "11", *folder)
    assert code == 2
    assert "ldfa(11, oja) does not fit widths (3, 10, 10, 3): feedback of rank 11 fits no edge" in err
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, _, err = call(capsys, "sweep", "fa", "--parquet", str(tmp_path / "rows.parquet"), *folder)
    assert (code, "pip install pyarrow" in err) == (2, True)
    code, _, err = call(capsys, "sweep", "fa", "--axes", "rank", "scale", "lr", "--figure", "a.png", *folder)
    assert (code, "one or two axes; got rank, scale, lr" in err) == (2, True)
    assert not (tmp_path / "rows").exists()


def test_an_interrupted_sweep_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("linfa.sweep.measure", interrupted)
    code, _, err = call(capsys, "sweep", "fa", "--out", str(tmp_path))
    assert code == 130
    assert f"The same command goes on with the rows in {tmp_path}" in err


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
        (("simulate", "fa", "--spectrum"), "singular values are one or more numbers"),
        (("simulate", "fa", "--figure", "a.xyz"), "a.xyz is no figure that can be written: take .png"),
        (("sweep", "fa", "--figure", "a.xyz"), "a.xyz is no figure that can be written: take .png"),
        (("derive", "fa", "--depth", "0"), "depth"),
        (("derive", "fa", "--decay", "0.1"), "fa takes no --decay; it takes --scale"),
        (("derive", "uSF", "--decay", "0.1"), "uSF takes no --decay; it takes no settings"),
        (("derive", "ldfa"), "ldfa needs --rank"),
        (("derive", "fa", "--muon", "--factored", "2"), "use the Euclidean geometry"),
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


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_flags_of_a_rule_are_its_parameters(name):
    """Every rule is built from its own parameters alone, and refuses those of others."""
    takes = inspect.signature(CATALOGUE[name]).parameters
    given = {key: 2 for key, p in takes.items() if p.default is p.empty}
    assert Choice(name, Flags(**given)).build() == CATALOGUE[name](**given)
    others = {f.name for f in dataclasses.fields(Flags)} - set(takes)
    for key in others:
        with pytest.raises(ValueError, match=f"{name} takes no --{key}; it takes "):
            Choice(name, Flags(**given, **{key: True})).build()
    for key in given:
        with pytest.raises(ValueError, match=f"{name} needs --{key}"):
            Choice(name).build()


def test_one_parameter_has_one_type_in_all_rules():
    kinds = {}
    for make in CATALOGUE.values():
        for name, parameter in inspect.signature(make).parameters.items():
            kinds.setdefault(name, set()).add(str(parameter.annotation).removesuffix(" | None").split("'")[-2:][0])
    assert all(len(kind) == 1 for kind in kinds.values()), kinds


@pytest.mark.parametrize(
    ("args", "rule"),
    [
        (("ldfa", "--rank", "3", "--direct", "--clamp", "0.5"), linfa.ldfa(3, direct=True, clamp=0.5)),
        (("uSF",), linfa.sign_symmetry("uSF")),
        (("sign-symmetry", "--variant", "frSF"), linfa.sign_symmetry("frSF")),
        (("kolen-pollack",), linfa.kolen_pollack()),
        (("kolen-pollack", "--decay", "0"), linfa.kolen_pollack(0.0)),
        (("sgr", "--modules", "2", "--lam", "0.3"), linfa.sgr(2, 0.3)),
        (("directional-dfa", "--directions", "1", "--rate", "2"), linfa.directional_dfa(2.0, 1)),
        (("svd-local", "--rank", "2", "--retraction", "qr"), linfa.svd_local(2, retraction="qr")),
        (("fa", "--muon", "--normalised", "whitened"), linfa.normalised(linfa.muon(linfa.fa()), "whitened")),
        (("bp", "--decay", "0.1", "--factored", "2"), linfa.factored(linfa.bp(0.1), 2)),
    ],
)
def test_rules_by_name(monkeypatch, args, rule):
    monkeypatch.setattr(linfa.commands.DeriveCommand, "run", lambda self: self.choice.build() != rule)
    with pytest.raises(SystemExit) as stop:
        main(["derive", *args])
    assert stop.value.code is False


def test_help_needs_no_torch():
    """The commands of deep are listed and described without torch, which takes seconds to load."""
    code = (
        "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); from linfa.cli import main; "
        "main(['--help'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(name in out for name in [*linfa.commands.COMMANDS, *linfa.cli.DEEP])
    assert out.endswith("False\n")


def test_without_torch(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    for command in ("demo", "train"):
        code = call(capsys, command)[0]
        assert code == "this command needs torch: pip install 'linfa-lab[deep,plot]'"


@pytest.mark.parametrize(
    ("flags", "what"), [(("--ranks", "2"), "rank"), (("--plasticity", "hebb", "--direct"), "plasticity or direct")]
)
def test_a_sweep_refuses_settings_that_no_rule_has(capsys, tmp_path, flags, what):
    code, _, err = call(capsys, "sweep", "fa", "bp", *flags, "--out", str(tmp_path / "sweep"))
    assert (code, err) == (2, f"linfa: no rule of fa, bp has a {what}: leave it out\n")
    assert not (tmp_path / "sweep").exists()


def test_folders_of_results_are_made(capsys, tmp_path):
    figure, arrays = tmp_path / "one" / "a.png", tmp_path / "two" / "a.npz"
    code, out, _ = call(capsys, "simulate", "fa", "--time", "1", "--figure", str(figure), "--arrays", str(arrays))
    assert code == 0
    assert figure.exists()
    assert arrays.exists()
    assert "loss, first and last" in out
    assert re.search(r"conserved: W_l W_l\^T .*: to \d\.\de-\d\d\n", out)


def test_what_decays_follows_its_law(capsys):
    """B - W^T of Kolen-Pollack, by exp(-decay t)."""
    out = call(capsys, "simulate", "kolen-pollack", "--decay", "0.3", "--time", "5")[1]
    assert float(re.search(r": to (\S+)$", out).group(1)) < 1e-8


@pytest.mark.parametrize(("line", "first"), [("derive fa --depth 4", "fa: "), ("--help", "usage: "), ("--version", "")])
def test_a_reader_that_goes_is_no_error(line, first):
    command = f"'{sys.executable}' -m linfa.cli {line} | {'head -1' if first else 'true'}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith(first)
    assert not done.stderr


def test_version(capsys):
    assert call(capsys, "--version") == (0, f"linfa {linfa.__version__}\n", "")


def test_help_shows_no_twins_of_flags(capsys):
    assert "--no-" not in call(capsys, "simulate", "--help")[1]
