"""Proofs as pages."""

import re

import pytest

pytest.importorskip("matplotlib")

from derivations import evidence, named
from derivations.__main__ import main
from linfa import theory


def test_a_page_has_every_step_and_its_evidence(tmp_path, capsys):
    path = tmp_path / "a.html"
    assert main(["saxe-mode", "--html", str(path)]) == 0
    assert "The page is" in capsys.readouterr().out
    text = path.read_text(encoding="utf-8")
    steps = named()["saxe_mode"]().steps
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles[-2:] == ["Theory against simulation", "Measured errors"]
    assert len(titles) == len(steps) + 2
    assert text.count("data:image/png") == 2
    assert text.count("data:image/svg") >= len(steps)


def test_evidence_is_known():
    for name in named():
        theories, keys = evidence(name)
        assert set(theories) <= set(theory.named())
        assert set(keys) <= {result.key for result in theory.results()}


def test_unknown_proofs_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["saxe"])
    assert "no proof is called saxe: choose one of" in capsys.readouterr().err
