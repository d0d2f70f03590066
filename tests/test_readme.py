"""Every block of code in the README runs."""

import re
import shlex
from pathlib import Path

import pytest

from derivations.__main__ import main as prove
from linfa.cli import main

TEXT = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_block(code, capsys):
    if "torch" in code:
        pytest.importorskip("torch")
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("line", [line for block in blocks("console") for line in block.splitlines()])
def test_command(line, capsys):
    name, *args = shlex.split(line)
    if name == "python":
        assert args[:2] == ["-m", "derivations"]
        assert prove(args[2:]) == 0
    else:
        assert name == "linfa"
        with pytest.raises(SystemExit) as stop:
            main(args)
        assert not stop.value.code
    assert capsys.readouterr().out


def test_the_two_commands_are_there():
    first, second = blocks("bash")
    assert first.rstrip().endswith("linfa demo")
    assert "pytest" in second
    assert TEXT.index("<!-- test -->") < TEXT.index(second)


def test_every_file_named_exists():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (Path(__file__).parents[1] / target).exists(), target
