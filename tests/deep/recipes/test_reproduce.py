"""Recipes over seeds: the table is that of the logs, and nothing is trained twice."""

import dataclasses
import json
import statistics

import pytest

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes import Recipe, reproduce

BP = Experiment(
    linfa.bp(), model="mlp", sizes={"hidden": (8,)}, data=Data(limit=256), epochs=2, batch_size=64,
    optimizer=Optimizer("sgd", lr=0.05),
)  # fmt: skip
RECIPE = Recipe(
    title="Two rules",
    source="ours",
    arms={"BP": BP, "FA, fixed": dataclasses.replace(BP, rule=linfa.fa())},
    published={"BP": 88.0},
    record_every=4,
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return out, reproduce(RECIPE, out, scale=1, seeds=(0, 1), progress=False)


def accuracy(folder):
    return [100 * json.loads(line)["test_accuracy"] for line in (folder / "log.jsonl").read_text().splitlines()]


def hidden(folder):
    """The hidden layer's cosine at the last measurement."""
    rows = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
    assert [(row["step"], row["layer"]) for row in rows] == [(0, "1"), (0, "4"), (4, "1"), (4, "4")]
    return rows[2]["update_cosine"]


def test_the_table_is_that_of_the_logs(done):
    out, table = done
    assert table == json.loads((out / "table.json").read_text())
    for name, slug in (("BP", "BP"), ("FA, fixed", "FA-fixed")):
        logs = [accuracy(out / f"{slug}-{seed}") for seed in (0, 1)]
        row = table["arms"][name]
        assert row["runs"] == [log[-1] for log in logs]
        assert row["mean"] == pytest.approx(sum(row["runs"]) / 2)
        assert row["std"] == pytest.approx(abs(row["runs"][0] - row["runs"][1]) / 2**0.5)
        assert row["best"] == pytest.approx(sum(map(max, logs)) / 2)
        records = [hidden(out / f"{slug}-{seed}") for seed in (0, 1)]
        assert row["recorded"]["update_cosine"][-1] == [4, pytest.approx(sum(records) / 2)]
    assert table["arms"]["BP"]["recorded"]["update_cosine"][-1][1] == pytest.approx(1)
    assert table["arms"]["FA, fixed"]["recorded"]["update_cosine"][-1][1] < 0.5
    assert table["arms"]["BP"]["published"] == 88.0
    assert table["arms"]["FA, fixed"]["published"] is None
    assert min((out / name).stat().st_size for name in ("figure.png", "measures.png")) > 5000


def test_the_log_has_every_epoch(done):
    out, _ = done
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [(row["arm"], row["seed"], row["epoch"]) for row in rows] == [
        (arm, seed, epoch) for arm in ("BP", "FA, fixed") for seed in (0, 1) for epoch in (1, 2)
    ]


def test_markdown(done):
    out, table = done
    head, rule, bp, fa = (out / "table.md").read_text().splitlines()
    assert head.count("|") == rule.count("|") == bp.count("|") == fa.count("|")
    row = table["arms"]["BP"]
    assert bp.startswith(f"| BP | {row['mean']:.2f} ± {row['std']:.2f} | {row['best']:.2f} | 2 | 88.00 | 1.00 |")


def test_what_is_whole_is_not_trained_again(done):
    out, table = done
    before = {path: path.stat().st_mtime_ns for path in out.glob("*-*/*")}
    assert reproduce(RECIPE, out, scale=1, seeds=(0, 1), progress=False) == table
    assert {path: path.stat().st_mtime_ns for path in out.glob("*-*/*")} == before


def test_other_settings_in_the_same_folder_raise(done):
    out, _ = done
    with pytest.raises(ValueError, match="holds a run with another settings"):
        reproduce(RECIPE, out, scale=0.5, seeds=(0,), progress=False)


def test_a_run_that_diverges_is_counted(tmp_path):
    wild = dataclasses.replace(BP, optimizer=Optimizer("sgd", lr=1e38))
    recipe = dataclasses.replace(RECIPE, arms={"BP": BP, "wild": wild}, record_every=None)
    table = reproduce(recipe, tmp_path, scale=1, seeds=(0,), progress=False)
    assert table["arms"]["wild"]["diverged"] == 1
    assert table["arms"]["wild"]["mean"] is None
    assert "(1 diverged)" in (tmp_path / "table.md").read_text()
    assert table["arms"]["BP"]["std"] is None
    assert table["arms"]["BP"]["mean"] == statistics.mean(table["arms"]["BP"]["runs"])


def test_unknown_arms(tmp_path):
    with pytest.raises(ValueError, match="unknown arm DFA: choose from BP, FA, fixed"):
        reproduce(RECIPE, tmp_path, scale=1, arms=["DFA"])
    assert not list(tmp_path.iterdir())


def test_a_run_that_diverged_late_does_not_count_with_what_it_had_before(tmp_path):
    table = reproduce(RECIPE, tmp_path, scale=1, seeds=(0, 1), arms=["BP"], progress=False)
    result = tmp_path / "BP-1" / "result.json"
    result.write_text(json.dumps({**json.loads(result.read_text()), "diverged": "the loss"}))
    row = reproduce(RECIPE, tmp_path, scale=1, seeds=(0, 1), arms=["BP"], progress=False)["arms"]["BP"]
    assert row["runs"] == table["arms"]["BP"]["runs"][:1]
    assert (row["diverged"], row["std"]) == (1, None)


def test_runs_of_other_settings_are_not_mixed(tmp_path):
    reproduce(RECIPE, tmp_path, scale=1, seeds=(0,), arms=["BP"], progress=False)
    with pytest.raises(ValueError, match="BP-0 holds a run of BP with other settings: choose another folder"):
        reproduce(RECIPE, tmp_path, scale=0.5, seeds=(1,), arms=["BP"], progress=False)
