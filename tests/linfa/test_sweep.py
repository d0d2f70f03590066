"""Sweeps: members against single runs, rows against trajectories, and folders that are stopped anywhere."""

import concurrent.futures
import csv
import dataclasses
import importlib
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa import sweep as sweeping
from linfa.dynamics import start
from linfa.observe import effective_rank
from linfa.rules import named
from linfa.simulate import Diverged
from linfa.sweep import Sweep, foreseen, measure, run, write_parquet

SMALL = Sweep((linfa.fa(), linfa.ldfa(1)), ranks=(1, 2), widths=(4,), scales=(0.1, 0.5), seeds=(3, 0, 7), steps=40)


def alone(sweep, ensemble, member):
    """The same network by itself."""
    task = ensemble.task(member.seed)
    network = linfa.Network.small(ensemble.shape, member.scale, member.seed)
    return linfa.descend(
        ensemble.rule, task, network, member.lr, sweep.steps, batch_size=sweep.batch_size, seed=member.seed
    )


def check_members(sweep):
    """Rows against single runs; a learning rate of 1e3 diverges, and nobody else notices."""
    (ensemble,) = sweep.ensembles()
    for member, row in zip(ensemble.members, measure(ensemble), strict=True):
        try:
            single = alone(sweep, ensemble, member)
        except Diverged:
            assert row["diverged"]
            assert row["loss"] is row["reach_time"] is row["update_alignment"] is row["effective_rank"] is None
            assert row["start_loss"] > 0
            continue
        assert not row["diverged"]
        if member.lr > 1:  # chaos, in which rounding errors grow
            continue
        expected = {
            "loss": single.loss[-1], "start_loss": single.loss[0],
            "update_alignment": single.update_alignment[-1].mean(),
            "effective_rank": effective_rank(single.singular_values)[-1],
        }  # fmt: skip
        if single.feedback_alignment.shape[-1]:
            expected["feedback_alignment"] = single.feedback_alignment[-1].mean()
        for name, value in expected.items():
            np.testing.assert_allclose(row[name], value, rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("rule", named().values(), ids=str)
def test_a_member_is_what_it_is_alone(rule):
    check_members(Sweep(
        (rule,), tasks=((1.5, 1.0, 0.5),), inputs=4, noise=0.1, widths=(4,), scales=(0.3,), lrs=(0.02, 1e3),
        seeds=(3, 1), steps=40,
    ))  # fmt: skip


@pytest.mark.parametrize(
    "rule", [linfa.fa(), linfa.sign_symmetry("brSF"), linfa.directional_dfa(directions=3)], ids=str
)
def test_a_member_has_its_own_draws_on_the_way(rule):
    check_members(Sweep((rule,), widths=(4,), lrs=(0.01,), seeds=(2, 5, 4), steps=30, batch_size=4))


def test_all_members_have_a_task_that_is_given():
    x = np.random.default_rng(0).standard_normal((20, 3)) + 0.5
    task = linfa.Task.from_data(x, x[:, :2] ** 2)
    check_members(Sweep((linfa.fa(),), tasks=(task,), widths=(4,), seeds=(2, 5), steps=30, batch_size=6))


def test_feedback_alignment_in_five_lines():
    sweep = Sweep((linfa.fa(),), depths=(3,), widths=(5,), scales=(0.4,), lrs=(0.02,), seeds=(4,), steps=200)
    (ensemble,) = sweep.ensembles()
    (row,) = measure(ensemble)
    state = start(linfa.fa(), linfa.Network.small((3, 5, 5, 3), 0.4, 4), 4)
    (A, B, C), ((F,), (G,)) = state.weights, state.feedback
    S = linfa.Task.from_spectrum((3.0, 2.0, 1.0), seed=4).Syx
    for _ in range(200):
        e = C @ B @ A - S
        A, B, C = A - 0.02 * F @ G @ e, B - 0.02 * G @ e @ A.T, C - 0.02 * e @ (B @ A).T
    np.testing.assert_allclose(row["loss"], 0.5 * ((C @ B @ A - S) ** 2).sum(), rtol=1e-10)


def test_rows_say_what_they_are_of():
    rows = [row for ensemble in SMALL.ensembles() for row in measure(ensemble)]
    assert [row["number"] for row in rows] == list(range(len(SMALL))) == list(range(18))
    kinds = {(row["rule"], row["rank"], row["scale"], row["seed"]) for row in rows}
    assert kinds == {
        (*kind, s, k) for kind in (("fa", None), ("ldfa(r, oja)", 1), ("ldfa(r, oja)", 2)) for s in (0.1, 0.5)
        for k in (3, 0, 7)
    }  # fmt: skip
    assert {(row["task"], row["depth"], row["width"], row["lr"]) for row in rows} == {("3 2 1", 3, 4, 0.03)}
    assert [ensemble.rule.name for ensemble in SMALL.ensembles()] == ["fa", "ldfa(1, oja)", "ldfa(2, oja)"]


def test_times_and_losses_that_are_measured():
    sweep = Sweep((linfa.fa(),), depths=(2,), noise=0.3, lrs=(0.01,), seeds=(0, 1), steps=600, fraction=0.1)
    (ensemble,) = sweep.ensembles()
    for member, row in zip(ensemble.members, measure(ensemble), strict=True):
        single = alone(sweep, ensemble, member)
        above = single.loss - 0.5 * 3 * 0.3**2
        first = single.times[np.argmax(above <= 0.1 * above[0])]
        assert first <= row["reach_time"] < first + 0.01 * 600 / sweeping.MEASURES
        assert row["best_loss"] == pytest.approx(0.5 * 3 * 0.3**2, rel=1e-9)
    (never,) = measure(*dataclasses.replace(sweep, steps=3, seeds=(0,)).ensembles())
    assert never["reach_time"] is None


def test_the_best_loss_is_that_of_the_rank():
    sweep = Sweep((linfa.ldfa(1), linfa.bp()), ranks=(1, 2), widths=(2, 5), seeds=(0,), steps=1)
    best = {(row["rank"], row["width"]): row["best_loss"] for e in sweep.ensembles() for row in measure(e)}
    wanted = {(1, 2): 2.5, (2, 2): 0.5, (1, 5): 2.5, (2, 5): 0.5, (None, 2): 0.5, (None, 5): 0.0}
    assert best == pytest.approx(wanted, abs=1e-12)


def test_theory_is_where_small_starts_end_and_stop_to_end():
    sweep = Sweep((linfa.ldfa(1, "fixed"),), ranks=(1, 2), depths=(2,), scales=(1e-4,), lrs=(0.05,), seeds=(0, 1, 2),
                  steps=2000)  # fmt: skip
    for ensemble in sweep.ensembles():
        for row in measure(ensemble):
            assert row["zero_start_loss"] == pytest.approx(row["loss"], rel=1e-3)
            assert row["zero_start_loss"] > row["best_loss"]
            for share, lost in ((0.95, False), (1.1, True)):
                at = dataclasses.replace(sweep, lrs=(share * row["max_lr"],), seeds=(row["seed"],))
                (again,) = measure(at.ensembles()[row["rank"] - 1])
                assert (again["diverged"] or again["loss"] > 1.1 * row["loss"]) == lost


def test_theory_speaks_where_it_knows():
    sweep = Sweep((linfa.bp(), linfa.dfa(), linfa.fa()), tasks=((8.0, 1.0),), depths=(3, 2), seeds=(0, 1), steps=1)
    said = {(row["rule"], row["depth"]): (row["zero_start_loss"], row["max_lr"])
            for ensemble in sweep.ensembles() for row in measure(ensemble)}  # fmt: skip
    assert said["bp", 3] == (None, pytest.approx(2 / (3 * 16)))
    assert said["dfa", 3] == said["fa", 3] == (None, None)
    assert said["dfa", 2] == said["fa", 2] != (None, None)
    assert not foreseen(linfa.kolen_pollack(), 2)
    coloured = linfa.Task.teacher(np.eye(2), Sxx=np.diag([1.0, 2.0]))
    (row,) = measure(*Sweep((linfa.fa(),), tasks=(coloured,), depths=(2,), seeds=(0,), steps=1).ensembles())
    assert (row["zero_start_loss"], row["max_lr"]) == (pytest.approx(0, abs=1e-12), None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows and the folder of a sweep that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return run(SMALL, folder, progress=False), folder


def test_the_folder_has_it_all(whole):
    rows, folder = whole
    assert [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()] == rows
    with (folder / "sweep.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in read] == [row["loss"] for row in rows]
    assert [row["rank"] for row in read] == ["" if row["rank"] is None else str(row["rank"]) for row in rows]
    assert not list(folder.glob("*.part"))
    assert run(SMALL, folder) == rows


@given(st.floats(0, 1), st.sampled_from([1, 2, 5, None]))
def test_killed_anywhere_it_goes_on(whole, place, size):
    rows, folder = whole
    with tempfile.TemporaryDirectory() as name:
        cut, written = Path(name), (folder / "rows.jsonl").read_bytes()
        (cut / "sweep.json").write_bytes((folder / "sweep.json").read_bytes())
        (cut / "rows.jsonl").write_bytes(written[: round(place * len(written))])
        assert run(SMALL, cut, size=size, progress=False) == rows
        assert (cut / "sweep.csv").read_bytes() == (folder / "sweep.csv").read_bytes()
        assert sorted((cut / "rows.jsonl").read_text().splitlines()) == sorted(written.decode().splitlines())


def test_what_is_done_is_not_done_again(whole, tmp_path, monkeypatch):
    seen = []

    def stopped(ensemble, device=None):
        on_disk = (tmp_path / "rows.jsonl").read_text().splitlines()
        assert len(on_disk) == 3 * len(seen)
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(ensemble.members)
        return measure(ensemble, device)

    monkeypatch.setattr(sweeping, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(SMALL, tmp_path, size=3, progress=False)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 6
    monkeypatch.setattr(sweeping, "measure", lambda e, device=None: seen.append(e.members) or measure(e, device))
    assert run(SMALL, tmp_path, size=4, progress=False) == whole[0]
    numbers = [member.number for members in seen for member in members]
    assert sorted(numbers) == list(range(18))


class Backwards(concurrent.futures.Executor):
    """Does the last block first."""

    def __init__(self):
        self.jobs = []

    def submit(self, work, *args):
        future = concurrent.futures.Future()
        self.jobs.append((future, work, args))
        if len(self.jobs) == 9:
            for waiting, job, given_ in reversed(self.jobs):
                waiting.set_result(job(*given_))
        return future


def test_the_order_does_not_matter(whole, tmp_path):
    assert run(SMALL, tmp_path, Backwards(), size=2, progress=False) == whole[0]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert run(SMALL, tmp_path / "threads", pool, size=1, progress=False) == whole[0]


def test_processes_give_the_same_rows(whole, tmp_path):
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert run(SMALL, tmp_path, pool, size=3, progress=False) == whole[0]


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_gives_the_same_rows(whole, tmp_path):
    distributed = pytest.importorskip(
        "distributed", reason="dask is not installed: pip install distributed to run sweeps on a cluster"
    )
    cluster = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.Client(**cluster) as client:
        assert run(SMALL, tmp_path, client.get_executor(), size=3, progress=False) == whole[0]


def test_a_block_that_fails_leaves_the_others_on_disk(tmp_path, monkeypatch):
    def failing(ensemble, device=None):
        if ensemble.rank == 2:
            raise MemoryError("too large")
        return measure(ensemble, device)

    monkeypatch.setattr(sweeping, "measure", failing)
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(MemoryError, match="too large"):
        run(SMALL, tmp_path, pool, progress=False)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 12


def test_after_a_failure_nothing_new_begins(tmp_path, monkeypatch):
    begun = []

    def failing(ensemble, device=None):
        begun.append(ensemble)
        time.sleep(0.05)
        raise MemoryError("too large")

    monkeypatch.setattr(sweeping, "measure", failing)
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(MemoryError, match="too large"):
        run(SMALL, tmp_path, pool, size=1, progress=False)
    assert len(begun) < 6


def test_another_sweep_does_not_go_into_a_folder(whole):
    rows, folder = whole
    for change in ({"steps": 41}, {"rules": (linfa.fa(scale=2.0), linfa.ldfa(1))}, {"tasks": ((3.0, 2.0, 1.5),)}):
        with pytest.raises(ValueError, match=f"a run with another {next(iter(change))} .*: resume with the same"):
            run(dataclasses.replace(SMALL, **change), folder)
    one, two = (linfa.Task.teacher(np.eye(2), noise=noise) for noise in (0.1, 0.2))
    assert repr(one) == repr(two)
    assert Sweep((linfa.fa(),), tasks=(one,)).settings() != Sweep((linfa.fa(),), tasks=(two,)).settings()
    assert run(SMALL, folder) == rows


def test_a_damaged_folder_says_where(tmp_path):
    run(SMALL, tmp_path, progress=False)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    for damage in ("{", "{}", "7"):
        (tmp_path / "rows.jsonl").write_text("\n".join([lines[0], damage, *lines[1:]]) + "\n")
        with pytest.raises(ValueError, match=r"rows\.jsonl is damaged in line 2"):
            run(SMALL, tmp_path)
    for damage in ("", '{"rules": ', "[3]", "7"):
        (tmp_path / "sweep.json").write_text(damage)
        with pytest.raises(ValueError, match=r"sweep\.json is damaged and does not say what run the folder holds"):
            run(SMALL, tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rules": ()}, "at least one of rules"),
        ({"seeds": ()}, "at least one of seeds"),
        ({"lrs": (0.1, -1.0)}, "lrs are positive numbers"),
        ({"depths": (0,)}, "depths are at least 1"),
        ({"seeds": (-1,)}, "seeds are at least 0"),
        ({"seeds": (1, 1)}, r"seeds are all different; got \(1, 1\)"),
        ({"steps": 0}, "steps is at least 1"),
        ({"fraction": 1.0}, r"fraction in \(0, 1\)"),
        ({"ranks": (9,)}, r"ldfa\(9, oja\) does not fit widths \(3, 4, 4, 3\): feedback of rank 9 fits no edge"),
        ({"rules": (linfa.fa(), linfa.fa(scale=2.0))}, "two rules are called fa"),
        ({"tasks": ((-1.0,),)}, "singular values are one or more numbers, finite and not negative"),
        ({"inputs": 2}, "3 singular values do not fit a map from 2 inputs"),
    ],
)
def test_bad_sweeps(change, text):
    with pytest.raises(ValueError, match=text):
        dataclasses.replace(SMALL, **change)


def test_torch_learns_the_same():
    pytest.importorskip("torch")
    for ensemble in Sweep((linfa.ldfa(1), linfa.sign_symmetry("brSF"), linfa.muon(linfa.fa())), lrs=(0.02, 1e3),
                          seeds=(1, 2), steps=50, batch_size=5).ensembles():  # fmt: skip
        for here, there in zip(measure(ensemble), measure(ensemble, device="cpu"), strict=True):
            assert here["diverged"] == there["diverged"]
            if here["lr"] < 1:
                numbers = {name for name, value in here.items() if isinstance(value, float)}
                assert {k: here[k] for k in numbers} == pytest.approx({k: there[k] for k in numbers}, rel=1e-8)
                assert {k: here[k] for k in {*here} - numbers} == {k: there[k] for k in {*here} - numbers}


def test_parquet(whole, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install pyarrow")
    write_parquet(whole[0], tmp_path / "rows.parquet")
    assert parquet.read_table(tmp_path / "rows.parquet").to_pylist() == whole[0]


def test_optional_libraries_are_named(monkeypatch, whole):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        write_parquet(whole[0], "rows.parquet")
    with pytest.raises(ImportError, match=r"cuda needs torch: pip install 'linfa-lab\[deep\]'"):
        measure(SMALL.ensembles()[0], device="cuda")


def test_a_device_that_there_is_not():
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="the device quantum cannot be used: "):
        measure(SMALL.ensembles()[0], device="quantum")
