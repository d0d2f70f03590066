"""The training loop: exact resume, certificates, logs, divergence."""

import contextlib
import csv
import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import deep.step
import deep.train as training
import linfa
from deep import checkpoint
from deep.data import Images, InOrder, Shuffled, flip
from deep.schedule import Schedule
from deep.train import Diverged, Unverified, evaluate, train

from .processes import Stopped, certificate  # isort: skip


@pytest.fixture(scope="module")
def images():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (70,), generator=g)
    x = torch.randint(0, 100, (70, 1, 6, 6), generator=g) + 70 * labels[:, None, None, None]
    return Images(x.to(torch.uint8), labels, 3, (0.5,), (0.3,), "noise, brighter by class")


def run(folder, images, rule, epochs, seed=0, batch_size=16, **kw):
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(),
        nn.Linear(8, 3),
    )  # fmt: skip
    deep.promote(model, rule, sample=images.normalised(slice(0, 2)))
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, 1e-2)
    kw.setdefault("certificate", certificate(rule))
    rows = train(
        model, rule, Shuffled(images, batch_size, seed, flip), InOrder(images.subset(20)), optimizer, folder,
        epochs=epochs, seed=seed, schedule=Schedule("exponential", rate=0.8), progress=False, **kw,
    )  # fmt: skip
    return model, rows


def place_of(folder):
    """Steps until the checkpoint of a run of four an epoch."""
    saved = checkpoint.load(folder) if folder.exists() else None
    return 0 if saved is None else 4 * len(saved["rows"]) + saved["step"]


def same(a, b):
    for (n, x), (m, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert n == m
        assert torch.equal(x, y), n


RULES = [linfa.bp(), linfa.ldfa(2), linfa.dfa(), linfa.sign_symmetry("brSF"), linfa.kolen_pollack(0.01), linfa.sgr(2)]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_resume_is_bit_equal(tmp_path, images, rule):
    whole, rows = run(tmp_path / "whole", images, rule, 4)
    run(tmp_path / "parts", images, rule, 2)
    resumed, again = run(tmp_path / "parts", images, rule, 4)
    same(whole, resumed)
    assert rows == again
    assert len(rows) == 4
    for name in ("log.csv", "log.jsonl", "certificate.json", "result.json", "run.json"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "parts" / name).read_text()
    a, b = (torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True) for folder in ("whole", "parts"))
    assert a["optimizer"]["state"]
    torch.testing.assert_close(a, b, rtol=0, atol=0)  # optimiser, too


def test_a_run_killed_in_an_epoch_goes_on_from_the_last_whole_one(tmp_path, images):
    rule, calls, mirror = linfa.ldfa(2), [], flip

    def killer(x, generator):
        calls.append(1)
        if len(calls) == 10:  # in the third epoch of four batches
            raise KeyboardInterrupt
        return mirror(x, generator)

    whole, rows = run(tmp_path / "whole", images, rule, 4)
    torch.manual_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(run.__globals__, "flip", killer)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", images, rule, 4)
    assert not (tmp_path / "killed/result.json").exists()
    assert len((tmp_path / "killed/log.jsonl").read_text().splitlines()) == 2
    resumed, again = run(tmp_path / "killed", images, rule, 4)
    same(whole, resumed)
    assert rows == again


@pytest.mark.parametrize(
    ("asked", "number", "rows", "steps"),
    [
        ((6,), signal.SIGTERM, 1, 2), ((8,), signal.SIGINT, 2, 1), ((16,), signal.SIGTERM, 4, 0),
        ((10, 10), signal.SIGTERM, 2, 2), ((10, 10), signal.SIGINT, 2, 0),
    ],
)  # fmt: skip
def test_a_run_that_is_asked_to_stop_loses_nothing(tmp_path, request, images, asked, number, rows, steps):
    """In an epoch, in its last step, in that of the run; of Ctrl-C the second does not wait for the end of the step."""
    rule, calls, mirror = linfa.ldfa(2), [], flip
    found = signal.getsignal(number)
    before = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    signal.signal(number, before)  # in a process in the background SIGINT is ignored
    request.addfinalizer(lambda: signal.signal(number, found))

    def stopped(x, generator):
        calls.append(1)
        for _ in range(asked.count(len(calls))):
            os.kill(os.getpid(), number)
        return mirror(x, generator)

    whole, _ = run(tmp_path / "whole", images, rule, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(run.__globals__, "flip", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", images, rule, 4)
    assert signal.getsignal(number) is before
    saved = checkpoint.load(tmp_path / "stopped")
    assert (len(saved["rows"]), saved["step"]) == (rows, steps)
    assert (tmp_path / "stopped/result.json").exists() == (rows == 4)
    same(whole, run(tmp_path / "stopped", images, rule, 4)[0])


def test_a_record_outlives_a_part_of_the_run_without_it(tmp_path, images):
    """Of steps 0 .. 7 those before the second leg and after it are recorded, by their numbers in the run."""

    def leg(name, until, every):
        """Go on until a number of steps, with a recorder or none."""
        calls, place = [], place_of(tmp_path / name)

        def stopped(x, generator, mirror=flip):
            if place + len(calls) == until:
                raise Stopped
            calls.append(1)
            return mirror(x, generator)

        def recorder(model, *rest, real=training.train, **kw):
            kw["recorder"] = None if every is None else deep.Recorder(model, every, tmp_path / name)
            return real(model, *rest, **kw)

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Stopped):
            patch.setitem(run.__globals__, "flip", stopped)
            patch.setitem(run.__globals__, "train", recorder)
            run(tmp_path / name, images, linfa.fa(), 2, checkpoint_every=1)

    def steps(name):
        lines = (tmp_path / name / "record.jsonl").read_text().splitlines()
        return [row["step"] for row in map(json.loads, lines) if row["layer"] == "0"]

    for until, every in ((3, 1), (5, None), (None, 1)):
        leg("between", until, every)
    assert steps("between") == [0, 1, 2, 5, 6, 7]
    for until, every in ((3, None), (None, 2)):
        leg("late", until, every)
    assert steps("late") == [4, 6]


def test_handlers_of_the_user_stay(tmp_path, images):
    seen, before, mirror = [], signal.getsignal(signal.SIGTERM), flip

    def stopped(x, generator):
        os.kill(os.getpid(), signal.SIGTERM)
        return mirror(x, generator)

    signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(run.__globals__, "flip", stopped)
            run(tmp_path, images, linfa.bp(), 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": linfa.fa()}, "another rule.*rule: bp.* there, fa.* here"),
        ({"rule": linfa.bp(decay=0.1)}, "another rule.*decay=0.1 here"),
        ({"seed": 1}, r"another seed \(seed: 0 there, 1 here\)"),
        ({"settings": {"lr": 2}}, r"another settings \(settings: {} there, {'lr': 2} here\)"),
        ({"batch_size": 8}, r"another steps \(steps: 4 there, 8 here\)"),
        ({"epochs": 1}, "holds a run of 2 epochs, more than the 1 asked for"),
    ],
)
def test_resuming_something_else_raises_and_changes_nothing(tmp_path, images, change, message):
    run(tmp_path, images, linfa.bp(), 2)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        run(tmp_path, images, **{"rule": linfa.bp(), "epochs": 3} | change)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_settings_that_changed_are_named_before_the_certificate_is_made(tmp_path, images, monkeypatch):
    run(tmp_path, images, linfa.bp(), 1, settings={"adam": {"lr": 1, "decay": 0}, "model": "cnn"})
    monkeypatch.setattr(training.linfa, "verify", lambda rule: pytest.fail("verified"))
    changed = {"adam": {"lr": 2, "decay": 0}, "model": "mlp"}
    with pytest.raises(ValueError) as refused:
        run(tmp_path, images, linfa.bp(), 1, settings=changed, certificate=None)
    assert str(refused.value) == (
        f"{tmp_path} holds a run with another settings.adam.lr, settings.model (settings.adam.lr: 1 there, 2 here; "
        "settings.model: cnn there, mlp here): resume with the same, or choose another folder"
    )


def test_only_verified_rules_train(tmp_path, images):
    good = linfa.verify(linfa.fa(), promoted=False, depths=(2,))
    failing = dataclasses.replace(good, checks=(dataclasses.replace(good.checks[0], error=float("inf")),))
    with pytest.raises(Unverified, match="unverified=True"):
        run(tmp_path, images, linfa.fa(), 1, certificate=failing)
    assert not list(tmp_path.iterdir())
    run(tmp_path, images, linfa.fa(), 1, certificate=failing, unverified=True)
    assert json.loads((tmp_path / "certificate.json").read_text())["passed"] is False
    with pytest.raises(Unverified, match="the certificate is for fa"):
        run(tmp_path, images, linfa.dfa(), 1, certificate=good)


def test_logs_agree(tmp_path, images):
    rows = run(tmp_path, images, linfa.bp(), 2, monitor=lambda model, epoch: {"twice": 2 * epoch})[1]
    jsonl = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    with (tmp_path / "log.csv").open() as file:
        table = list(csv.DictReader(file))
    assert jsonl == rows
    assert [float(r["test_loss"]) for r in table] == [r["test_loss"] for r in rows]
    assert [r["twice"] for r in rows] == [2, 4]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["last"] == rows[-1]
    assert result["fingerprint"] == linfa.bp().fingerprint
    assert not list(tmp_path.glob("*.part"))


def test_divergence_keeps_the_last_checkpoint(tmp_path, images):
    run(tmp_path, images, linfa.bp(), 1)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "result.json").unlink()
    with pytest.raises(Diverged, match="the loss is not finite after 0 steps of epoch 2"):
        run(tmp_path, images, linfa.bp(), 2, loss=lambda out, y: F.cross_entropy(out, y) * float("nan"))
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    assert not (tmp_path / "result.json").exists()


def test_training_learns(tmp_path, images):
    rows = run(tmp_path, images, linfa.fa(), 12)[1]
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]


def test_evaluate_by_hand(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.Dropout(0.5)).train()
    loss, accuracy = evaluate(model, InOrder(images, 32))
    assert model.training
    with torch.no_grad():
        out = model.eval()(images.normalised())
    assert loss == pytest.approx(float(F.cross_entropy(out, images.y)), rel=1e-5)
    assert accuracy == pytest.approx(float((out.argmax(1) == images.y).double().mean()))


def test_every_epoch_has_an_order_of_its_own(tmp_path, images):
    seen = []

    def watch(x, generator):
        seen.append(float(x.sum()))
        return x

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(run.__globals__, "flip", watch)
        run(tmp_path, images, linfa.bp(), 2)
    first, second = seen[:4], seen[4:]
    assert first != second
    assert len(seen) == 8


def test_a_run_killed_by_its_monitor_goes_on(tmp_path, images):
    def watch(model, epoch):
        return {"size": float(model[0].weight.detach().norm())}

    def killer(model, epoch):
        if epoch == 3:
            raise KeyboardInterrupt
        return watch(model, epoch)

    rule = linfa.sign_symmetry("brSF")
    whole, rows = run(tmp_path / "whole", images, rule, 4, monitor=watch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", images, rule, 4, monitor=killer)
    assert not (tmp_path / "killed/result.json").exists()
    resumed, again = run(tmp_path / "killed", images, rule, 4, monitor=watch)
    same(whole, resumed)
    assert rows == again


def test_a_run_killed_between_checkpoint_and_log_has_its_log_in_the_end(tmp_path, images, monkeypatch):
    def killer(folder, name, rows):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_rows", killer)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, images, linfa.bp(), 1)
    rows = run(tmp_path, images, linfa.bp(), 1)[1]
    assert len(rows) == 1
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == rows


def test_a_longer_run_takes_back_the_result_until_it_is_whole(tmp_path, images):
    def killer(model, epoch):
        raise KeyboardInterrupt

    run(tmp_path, images, linfa.bp(), 1)
    assert json.loads((tmp_path / "result.json").read_text())["epochs"] == 1
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, images, linfa.bp(), 2, monitor=killer)
    assert not (tmp_path / "result.json").exists()
    run(tmp_path, images, linfa.bp(), 2)
    result = (tmp_path / "result.json").read_text()
    assert json.loads(result)["last"]["epoch"] == json.loads(result)["epochs"] == 2
    run(tmp_path, images, linfa.bp(), 2)
    assert (tmp_path / "result.json").read_text() == result


def test_what_a_monitor_reads_with_numpy_can_be_resumed(tmp_path, images):
    def monitor(model, epoch):
        return {"rank": np.float64(1.5) * epoch}

    run(tmp_path, images, linfa.bp(), 1, monitor=monitor)
    rows = run(tmp_path, images, linfa.bp(), 2, monitor=monitor)[1]
    assert [row["rank"] for row in rows] == [1.5, 3.0]
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(TypeError, match="Tensor"):
        run(tmp_path, images, linfa.bp(), 3, monitor=lambda model, epoch: {"rank": torch.ones(())})
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def step(folder, images, lr, epochs=1):
    """Full-batch descent without anything random, so that neither order nor draws matter."""
    torch.manual_seed(0)
    model = deep.promote(nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.Tanh(), nn.Linear(6, 3)), linfa.bp())
    optimizer = torch.optim.SGD(model.parameters(), lr)
    rows = train(
        model, linfa.bp(), Shuffled(images, len(images)), InOrder(images), optimizer, folder, epochs=epochs,
        progress=False, certificate=certificate(linfa.bp()),
    )  # fmt: skip
    return model, rows


def test_an_epoch_is_the_loop_anyone_would_write(tmp_path, images):
    model, rows = step(tmp_path, images, 0.1, epochs=3)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.Tanh(), nn.Linear(6, 3))
    x, y = images.normalised(), images.y
    for row in rows:
        out = plain(x)
        loss = F.cross_entropy(out, y)
        assert row["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert row["train_accuracy"] == pytest.approx(float((out.argmax(1) == y).double().mean()))
        for p, g in zip(plain.parameters(), torch.autograd.grad(loss, list(plain.parameters())), strict=True):
            p.data -= 0.1 * g
        with torch.no_grad():
            assert row["test_loss"] == pytest.approx(float(F.cross_entropy(plain(x), y)), rel=1e-5)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_divergence_in_the_last_step_of_an_epoch_keeps_no_checkpoint_of_it(tmp_path, images):
    with pytest.raises(Diverged, match=r"the test loss is inf in epoch 1, .*: the output of 1 \(EdgeLinear\) is not"):
        step(tmp_path, images, 1e38)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["rows"] == []
    assert not (tmp_path / "result.json").exists()


def test_every_step_has_the_learning_rate_of_its_time(tmp_path, images, monkeypatch):
    seen = []
    monkeypatch.setattr(deep.step, "retract", lambda model: seen.append(optimizer.param_groups[0]["lr"]))
    model = deep.promote(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), linfa.bp())
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    schedule = Schedule("linear", warmup=0.5)
    train(
        model, linfa.bp(), Shuffled(images, 16), InOrder(images), optimizer, tmp_path, epochs=2, schedule=schedule,
        certificate=certificate(linfa.bp()), progress=False,
    )  # fmt: skip
    assert seen == pytest.approx([0.5, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_the_default_certificate_is_of_the_rule(tmp_path, images):
    run(tmp_path, images, linfa.ldfa(3, "hebb"), 1, certificate=None)
    stored = json.loads((tmp_path / "certificate.json").read_text())
    assert stored["passed"] is True
    assert stored["fingerprint"] == linfa.ldfa(3, "hebb").fingerprint
    assert stored == json.loads(linfa.verify(linfa.ldfa(3, "hebb")).to_json())


class Own(type(linfa.fa().plasticity)):
    """A part of a rule whose code nobody knows."""


def test_a_certificate_is_made_again_when_it_speaks_no_longer_of_the_rule(tmp_path, images, monkeypatch):
    own = dataclasses.replace(linfa.fa(), plasticity=Own())
    made = []

    def verify(rule, real=linfa.verify):
        made.append(rule)
        return real(rule, promoted=False, depths=(1,))

    monkeypatch.setattr(training.linfa, "verify", verify)

    def again(rule, damage):
        made.clear()
        run(tmp_path / rule.plasticity.__class__.__name__, images, rule, 1, certificate=None)
        path = tmp_path / rule.plasticity.__class__.__name__ / "certificate.json"
        before = path.read_text()
        path.write_text(damage(before))
        made.clear()
        run(path.parent, images, rule, 1, certificate=None)
        assert path.read_text() == before
        return len(made)

    same, old = lambda text: text, lambda text: text.replace(f'"linfa": "{linfa.__version__}"', '"linfa": "0"')
    fa = linfa.fa()
    assert [again(fa, damage) for damage in (same, old, lambda text: text[:99], lambda text: "[]")] == [0, 1, 1, 1]
    assert again(fa, lambda text: text.replace(fa.fingerprint, "0" * 16)) == 1
    assert again(own, same) == 1
