"""The training loop: exact resume, certificates, logs, divergence."""

import csv
import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep.data import Images, flip
from deep.train import Diverged, Unverified, evaluate, train


@pytest.fixture(scope="module")
def images():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (70,), generator=g)
    x = torch.randint(0, 100, (70, 1, 6, 6), generator=g) + 70 * labels[:, None, None, None]
    return Images(x.to(torch.uint8), labels, 3, (0.5,), (0.3,), "noise, brighter by class")


CERTIFICATES = {}


def certificate(rule):
    if rule not in CERTIFICATES:
        CERTIFICATES[rule] = linfa.verify(rule)
    return CERTIFICATES[rule]


def run(folder, images, rule, epochs, seed=0, **kw):
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(),
        nn.Linear(8, 3),
    )  # fmt: skip
    deep.promote(model, rule, sample=images.normalised(slice(0, 2)))
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, 1e-2)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    kw.setdefault("certificate", certificate(rule))
    rows = train(
        model, rule, images, images.subset(20), optimizer, folder, epochs=epochs, batch_size=16, seed=seed,
        scheduler=scheduler, augment=flip, progress=False, **kw,
    )  # fmt: skip
    return model, rows


def same(a, b):
    for (n, x), (m, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert n == m
        assert torch.equal(x, y), n


RULES = [linfa.bp(), linfa.ldfa(2), linfa.dfa(), linfa.sign_symmetry("brSF"), linfa.kolen_pollack(0.01)]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_resume_is_bit_equal(tmp_path, images, rule):
    whole, rows = run(tmp_path / "whole", images, rule, 4)
    run(tmp_path / "parts", images, rule, 2)
    resumed, again = run(tmp_path / "parts", images, rule, 4)
    same(whole, resumed)
    assert rows == again
    assert len(rows) == 4
    assert (tmp_path / "whole/log.csv").read_text() == (tmp_path / "parts/log.csv").read_text()


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
    ("change", "message"),
    [
        ({"rule": linfa.fa()}, "another rule"),
        ({"seed": 1}, "another seed"),
        ({"settings": {"lr": 2}}, "another settings"),
    ],
)
def test_resuming_something_else_raises_and_changes_nothing(tmp_path, images, change, message):
    run(tmp_path, images, linfa.bp(), 1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        run(tmp_path, images, change.pop("rule", linfa.bp()), 2, **change)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_only_verified_rules_train(tmp_path, images):
    good = certificate(linfa.fa())
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
    with pytest.raises(Diverged, match="in epoch 2"):
        run(tmp_path, images, linfa.bp(), 2, loss=lambda out, y: F.cross_entropy(out, y) * float("nan"))
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    assert not (tmp_path / "result.json").exists()


def test_training_learns(tmp_path, images):
    rows = run(tmp_path, images, linfa.fa(), 12)[1]
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]


def test_evaluate_by_hand(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.Dropout(0.5)).train()
    loss, accuracy = evaluate(model, images, batch_size=32)
    assert model.training
    with torch.no_grad():
        out = model.eval()(images.normalised())
    assert loss == pytest.approx(float(F.cross_entropy(out, images.y)), rel=1e-5)
    assert accuracy == pytest.approx(float((out.argmax(1) == images.y).double().mean()))


def test_a_batch_larger_than_the_data(tmp_path, images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="make no batch of 100"):
        train(
            deep.promote(model, linfa.bp()), linfa.bp(), images, images, optimizer, tmp_path, epochs=1, batch_size=100,
            certificate=certificate(linfa.bp()), progress=False,
        )  # fmt: skip


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
