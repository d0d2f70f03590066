"""Training runs in plain settings."""

import json

import pytest
import torch

import linfa
from deep.experiment import Data, Experiment, Optimizer, WeightRank, run
from deep.schedule import Schedule
from deep.unsupported import Unsupported


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Data("cifar11"), "unknown data 'cifar11': choose one of cifar10, cifar100, mnist"),
        (lambda: Data(limit=0), "limit is at least 1, or None; got 0"),
        (lambda: Data(classes=-3), "classes is at least 1, or None; got -3"),
        (lambda: Data(augment=("flip", "mirror")), "unknown augmentation mirror: choose from flip"),
        (lambda: Optimizer("sdg"), "unknown optimiser 'sdg': choose one of adam, adamw, sgd"),
        (lambda: Optimizer(lr=-1e-3), "^lr is at least 0; got -0.001"),
        (lambda: Optimizer(lr=float("nan")), "^lr is at least 0; got nan"),
        (lambda: Optimizer(weight_decay=-1), "weight_decay is at least 0; got -1"),
        (lambda: Optimizer(feedback_lr=-1), "feedback_lr is at least 0; got -1"),
        (lambda: Optimizer(feedback_decay=-1), "feedback_decay is at least 0; got -1"),
        (lambda: Optimizer(geometry_lr=-1), "geometry_lr is at least 0; got -1"),
        (lambda: Optimizer(momentum=1.0), r"^momentum is in \[0, 1\); got 1.0"),
        (lambda: Optimizer(geometry_momentum=1.0), r"geometry_momentum is in \[0, 1\); got 1.0"),
        (lambda: Optimizer("sgd", amsgrad=True), "amsgrad is of adam and adamw, and the optimiser is sgd"),
        (lambda: Experiment(linfa.fa(), "cnm"), "unknown model 'cnm': choose one of mlp, cnn"),
        (lambda: Experiment(linfa.fa(), epochs=0), "epochs is at least 1; got 0"),
        (lambda: Experiment(linfa.fa(), batch_size=0), "batch_size is at least 1; got 0"),
        (lambda: Experiment(linfa.fa(), seed=-1), "seed is at least 0; got -1"),
        (lambda: Experiment(linfa.fa(), mixup=-0.1), "mixup is at least 0; got -0.1"),
        (lambda: Experiment(linfa.fa(), label_smoothing=1.0), r"label_smoothing is in \[0, 1\); got 1.0"),
        (
            lambda: Experiment(linfa.fa(), epochs=3, schedule=Schedule(warmup=3)),
            "a warm-up of 3 epochs leaves nothing of 3",
        ),
        (
            lambda: Experiment(linfa.fa(), optimizer=Optimizer(feedback_lr=0.1)),
            "the feedback of fa does not learn: leave feedback_lr and feedback_decay out",
        ),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_rule_that_does_not_promote_is_refused_before_data_are_read(tmp_path):
    with pytest.raises(Unsupported, match="direct and local routes so far"):
        Experiment(linfa.pepita(), data=Data("cifar10", tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("share", "epochs", "limit"), [(1, 10, None), (0.25, 2, None), (0.05, 1, 2500), (1e-6, 1, 128)]
)
def test_a_share_of_the_budget(share, epochs, limit):
    short = Experiment(linfa.fa(), epochs=10, schedule=Schedule("cosine", warmup=2)).scaled(share)
    assert (short.epochs, short.data.limit) == (epochs, limit)
    assert short.schedule.warmup == pytest.approx(2 * epochs / 10)


@pytest.mark.parametrize("share", [0, 1.5, float("nan")])
def test_no_share(share):
    with pytest.raises(ValueError, match=r"a share of the budget is in \(0, 1\]; got"):
        Experiment(linfa.fa()).scaled(share)


CERTIFICATES = {}


def go(experiment, folder, **options):
    if experiment.rule not in CERTIFICATES:
        CERTIFICATES[experiment.rule] = linfa.verify(experiment.rule, promoted=False, depths=(2,))
    options = {"certificate": CERTIFICATES[experiment.rule], "progress": False, **options}
    rows = run(experiment, folder, **options)
    return rows, torch.load(folder / "checkpoint.pt", weights_only=True)


def small(rule, **settings):
    """Four steps an epoch."""
    settings = {"data": Data(limit=64), "sizes": {"hidden": (12,)}, "epochs": 3, "batch_size": 16, **settings}
    return Experiment(rule, "mlp", **settings)


def killed(experiment, folder, step):
    """A run with a checkpoint after every step that ends before one of them, after its events."""
    events = Experiment.events

    def deadly(self, steps):
        def kill(model, optimizer, now):
            if now == step:
                raise KeyboardInterrupt

        return *events(self, steps), kill

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "events", deadly)
        with pytest.raises(KeyboardInterrupt):
            go(experiment, folder, checkpoint_every=1)


FALLING = small(linfa.svd_local(6, retraction="qr"), weight_rank=WeightRank(last=2, stages=4))
REFRESHED = small(linfa.ldfa(3, "normative"), refresh_every=0.5)
MIXED = small(linfa.sgr(), mixup=0.4, label_smoothing=0.1, data=Data(limit=64, augment=("flip", "crop")))


@pytest.mark.parametrize("experiment", [FALLING, REFRESHED, MIXED], ids=["falling rank", "refreshed", "mixed"])
def test_a_run_goes_on_exactly(tmp_path, experiment):
    rows, whole = go(experiment, tmp_path / "whole")
    for step in (3, 6, 8):  # where the rank falls: inside an epoch twice; and at the beginning of one
        killed(experiment, tmp_path / str(step), step)
        again, parts = go(experiment, tmp_path / str(step))
        assert again == rows
        torch.testing.assert_close(parts, whole, rtol=0, atol=0)


def test_the_rank_falls_by_its_schedule(tmp_path):
    seen = []

    def watch(model, epoch):
        seen.append({layer.s.shape[-2] for layer in model.modules() if hasattr(layer, "s")})
        return {}

    _, saved = go(FALLING, tmp_path, monitor=watch)
    assert seen == [{5}, {4}, {2}]  # 6, 5, 4, 2 from the steps 0, 3, 6, 9 on
    kept = [value for state in saved["optimizer"]["state"].values() for value in state.values() if value.dim()]
    assert any(2 in value.shape for value in kept)
    assert not any(6 in value.shape for value in kept)


def test_a_record_of_falling_ranks(tmp_path):
    """The trajectory of gradients starts anew with gradients of another size, also in a run that goes on."""
    go(FALLING, tmp_path / "whole", record_every=1)
    rows = [json.loads(line) for line in (tmp_path / "whole/record.jsonl").read_text().splitlines()]
    ranks = {row["step"]: row["trajectory_effective_rank"] for row in rows if row["layer"] == rows[0]["layer"]}
    assert [step for step, rank in ranks.items() if rank == pytest.approx(1)] == [0, 3, 6, 9]
    killed(FALLING, tmp_path / "parts", 7)
    go(FALLING, tmp_path / "parts", record_every=1)


def test_feedback_is_refreshed_on_time(tmp_path, monkeypatch):
    seen, steps = [], []
    monkeypatch.setattr("deep.events.refresh", lambda model: seen.append(len(steps)))
    monkeypatch.setattr("deep.train.retract", lambda model: steps.append(1))
    go(REFRESHED, tmp_path)
    assert seen == [2, 4, 6, 8, 10]


def test_label_smoothing_by_hand():
    logits, y = torch.randn(6, 4), torch.arange(6) % 4
    target = 0.8 * torch.nn.functional.one_hot(y, 4) + 0.2 / 4
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(Experiment(linfa.fa(), label_smoothing=0.2).loss()(logits, y), expected)


def test_accuracy_of_mixed_labels_is_that_of_the_dominant_ones(tmp_path):
    """A model that knows the labels of its training images by heart is right wherever it sees more than half of one."""
    experiment = small(linfa.bp(), mixup=0.1, epochs=20, data=Data(limit=64), optimizer=Optimizer("adam", 1e-2))
    rows, _ = go(experiment, tmp_path)
    assert rows[-1]["train_accuracy"] > 0.7


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"weight_rank": WeightRank(last=2)}, ValueError, "the weights of fa are not factored"),
        ({"rule": linfa.svd_local(4), "weight_rank": WeightRank(last=5)}, ValueError, "ranks fall from first to last"),
        ({"refresh_every": 0.5}, Unsupported, "the feedback of fa does not start from a weight"),
        ({"rule": linfa.ldfa(2, "hebb", direct=True), "refresh_every": 1}, Unsupported, "does not start from a weight"),
        (
            {"rule": linfa.factored(linfa.ldfa(2, "hebb"), 2), "refresh_every": 1},
            Unsupported,
            "refreshing follows full weights",
        ),
        ({"rule": linfa.ldfa(2, "normative"), "refresh_every": 0.0}, ValueError, "refresh_every is above 0, or None"),
    ],
)
def test_what_does_not_fit_the_rule(settings, kind, message):
    with pytest.raises(kind, match=message):
        Experiment(**{"rule": linfa.fa()} | settings)


def test_a_rank_that_stays_has_no_schedule():
    with pytest.raises(ValueError, match="a weight rank that stays has no stages, smallest and tau: say the last rank"):
        WeightRank(tau=0.9)
