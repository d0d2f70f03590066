"""Every block of code in the README runs."""

import re
import shlex
from pathlib import Path

import pytest

from derivations.__main__ import main as prove
from linfa.cli import main, parse

TEXT = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_block(code, capsys):
    if "torch" in code:
        pytest.importorskip("torch")
    exec(compile(code, "README.md", "exec"), {})


LINES = [line for block in blocks("console") for line in block.splitlines()]
AWAY = ("linfa data get", "--data.folder", "linfa reproduce")
"""What needs the network, or files that came from there: such a line is read, and not run."""


@pytest.mark.parametrize("line", LINES)
def test_command(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, *args = shlex.split(line)
    if any(word in line for word in AWAY):
        assert parse(args).run
        return
    if name == "python":
        assert args[:2] == ["-m", "derivations"]
        assert prove(args[2:]) == 0
    else:
        assert name == "linfa"
        with pytest.raises(SystemExit) as stop:
            main(args)
        assert not stop.value.code
    assert capsys.readouterr().out
    if args[0] == "train":
        written = {path.name for path in Path(args[-1]).iterdir()}
        assert {"result.json", "curves.png", "record.png", "log.csv", "certificate.json"} <= written


def test_the_first_run_is_among_them():
    assert sum(line.startswith("linfa train") and not any(word in line for word in AWAY) for line in LINES) == 1


def test_the_two_commands_are_there():
    first, second = blocks("bash")
    assert first.rstrip().endswith("linfa demo")
    assert "pytest" in second
    assert TEXT.index("<!-- test -->") < TEXT.index(second)


def test_every_file_named_exists():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (Path(__file__).parents[1] / target).exists(), target
