"""The survey runs everything, in parallel, in order."""

import pytest

from linfa import survey, theory
from linfa.rules import named
from linfa.verify import Certificate


def test_unknown_results_are_refused():
    with pytest.raises(ValueError, match="no result is called 'Z9': choose one of A1"):
        survey.measured("Z9")


def test_rules_come_first_then_results(monkeypatch):
    """Jobs run where they are submitted, so that few of them can be put in place of all."""

    class Job:
        def __init__(self, run, *args):
            self.result = lambda: run(*args)

    class Pool:
        def __init__(self, *args, **kw): ...
        def __enter__(self):
            return self

        def __exit__(self, *error): ...
        def submit(self, *args):
            return Job(*args)

    monkeypatch.setattr(survey, "ProcessPoolExecutor", Pool)
    few, rules = theory.results()[:2], dict(list(named().items())[:2])
    monkeypatch.setattr(survey, "named", lambda: rules)
    monkeypatch.setattr(survey, "verify", lambda rule, seed: Certificate(repr(rule), str(seed), (), {}))
    monkeypatch.setattr(theory, "results", lambda: few)
    found = list(survey.survey(seed=3))
    assert [outcome.rule for outcome in found[:2]] == list(map(repr, rules.values()))
    assert [row.key for row in found[2:]] == [result.key for result in few]
    assert all(outcome.passed for outcome in found)
    assert not survey.Row("X", "", "", 1e-8, float("nan")).passed
