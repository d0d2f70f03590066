"""Training runs in plain settings."""

import io
import json
import re
import sys
import types
from dataclasses import replace

import pytest
import torch

import linfa
from deep.board import board
from deep.data import STREAMS, Limited, Mixed, load
from deep.data.load import Stream
from deep.experiment import ON_PIXELS, Data, Experiment, Optimizer, WeightRank, run
from deep.progress import Progress
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


@pytest.fixture(autouse=True)
def drawn(request, monkeypatch):
    """No figures, but where a test asks for them: they take longer than such a run."""
    if "figures" not in request.node.name:
        monkeypatch.setattr("deep.experiment.draw", lambda *args: None)


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
    monkeypatch.setattr("deep.step.retract", lambda model: steps.append(1))
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


class Streamed:
    """What ImageNet's loader has, of noise."""

    source, classes, shape, steps = "noise", 3, (3, 8, 8), 5

    def __init__(self, folder, split, batch_size, seed, device, rank, world, workers):
        self.asked = folder, split, batch_size, seed, device, rank, world, workers
        self.size, self.world = batch_size // world, world

    def batches(self, epoch, start=0):
        for place in range(start, self.steps):
            draws = torch.Generator().manual_seed(100 * epoch + place)
            yield torch.randn(self.size, *self.shape, generator=draws), torch.arange(self.size) % self.classes


@pytest.fixture
def streamed(monkeypatch):
    monkeypatch.setitem(STREAMS, "imagenet", Stream(Streamed, 100))


def test_images_that_do_not_fit_the_memory(tmp_path, streamed):
    experiment = small(linfa.fa(), data=Data("imagenet", tmp_path, workers=7))
    assert experiment.describe() == replace(experiment, data=Data("imagenet", tmp_path)).describe()
    training, test = experiment.loaders("cpu", rank=1, world=2)
    assert training.asked == (tmp_path, "train", 16, 0, "cpu", 1, 2, 7)
    assert test.asked == (tmp_path, "test", 16, 0, "cpu", 1, 2, 7)
    rows, _ = go(experiment, tmp_path / "run")
    assert len(rows) == 3
    assert isinstance(replace(experiment, mixup=0.2).loaders()[0], Mixed)


def test_shorter_epochs_of_them(tmp_path, streamed):
    experiment = small(linfa.fa(), data=Data("imagenet", tmp_path)).scaled(0.1)  # 30 of 300 images
    assert (experiment.epochs, experiment.data.limit) == (1, 30)
    short, whole = experiment.loaders()[0], small(linfa.fa(), data=Data("imagenet", tmp_path)).loaders()[0]
    assert short.steps == 1
    assert short.source == "noise, 1 batches an epoch"
    two = Limited(whole, 2)
    for start in range(4):
        expected = list(whole.batches(1, start))[: max(0, 2 - start)]
        torch.testing.assert_close(list(two.batches(1, start)), expected)
    assert Limited(whole, 9).steps == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Data("imagenet", augment=("flip",)), "imagenet is read from its files, with crops of its own"),
        (
            lambda: Data("imagenet", workers=-1),
            "workers, at least 0, decode the images of imagenet; got -1 for imagenet",
        ),
        (lambda: Data("cifar10", workers=2), "workers, at least 0, decode the images of imagenet; got 2 for cifar10"),
        (lambda: Data("imagenet", classes=10), "leave augment, classes, grayscale and trust out"),
        (lambda: Data("imagenet").loaders(16, 0), "imagenet needs the folder of its files: data.folder"),
        (lambda: load("imagenet", "."), "imagenet does not fit the memory: read it with deep.data.imagenet"),
    ],
)
def test_what_such_images_do_not_have(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_figures_at_the_end(tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    go(small(linfa.muon(linfa.fa())), tmp_path, record_every=4)
    for name in ("curves", "record"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert pyplot.get_fignums() == before


def test_the_rates_that_are_drawn():
    rule, settings = linfa.muon(linfa.kolen_pollack(0.0)), Optimizer(lr=0.1, feedback_lr=0.3, geometry_lr=0.5)
    experiment = Experiment(rule, optimizer=settings, epochs=2, schedule=Schedule("linear"))
    times = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]
    for name, rate in (("promoted weights", 0.5), ("others", 0.1), ("feedback", 0.3)):
        found = experiment.rates(steps=4)[name]
        assert found[0] == times
        assert found[1] == pytest.approx([rate * (1 - time / 2) for time in times])
    assert len(experiment.rates(steps=4000)["others"][0]) == 500
    assert list(Experiment(linfa.fa()).rates(10)) == ["weights"]


def test_without_matplotlib_there_are_no_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    rows, _ = go(small(linfa.bp(), epochs=1), tmp_path)
    assert len(rows) == 1
    assert capsys.readouterr().err == f"no figures in {tmp_path}: they need matplotlib, pip install 'linfa-lab[plot]'\n"
    assert not list(tmp_path.glob("*.png"))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_shows_loss_accuracy_and_speed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = Progress("fa", total=4, done=1)
    shown.bar.mininterval = 0
    for _ in range(3):
        shown.step(2, 100, lambda: {"train_loss": 1.23456, "train_accuracy": 0.5})
    shown.close()
    text = sys.stderr.getvalue()
    assert "4/4" in text
    assert re.search(r"accuracy=0.500, epoch=2, images=\d+/s, loss=1.235", text)


def test_silence_asks_for_nothing(capsys):
    quiet = Progress("fa", total=2)
    quiet.step(1, 10, lambda: pytest.fail("asked"))
    quiet.close()
    assert not capsys.readouterr().err


def test_tensorboard_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="TensorBoard is not installed: pip install tensorboard"):
        board(tmp_path)


def test_every_row_goes_to_tensorboard(tmp_path, monkeypatch):
    seen = []

    class SummaryWriter:
        def __init__(self, folder):
            assert folder == tmp_path / "tensorboard"
            assert (tmp_path / "run.json").exists()  # nothing goes into a folder that is of another run

        def add_scalar(self, *scalar):
            seen.append(scalar)

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    rows, _ = go(
        small(linfa.bp(), epochs=2), tmp_path, after=board(tmp_path), monitor=lambda model, epoch: {"note": "text"}
    )
    expected = [(key, row[key], row["epoch"]) for row in rows for key in row if key not in ("epoch", "note")]
    assert seen == expected
    assert len(seen) == 8


def test_augmentations_of_pixels_see_pixels_and_give_normalised_images():
    seen = []

    def record(x, generator):
        seen.append(x)
        return 255 - x

    images = Data(limit=8).images("train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ON_PIXELS, "trivial", record)
        augment = Data(limit=8, augment=("trivial",)).augmentation(images)
        changed = augment(images.normalised(), None)
    assert torch.equal(seen[0], images.x)
    torch.testing.assert_close(changed, replace(images, x=255 - images.x).normalised())


@pytest.mark.parametrize("name", ["flip", "crop", "rotate", "cutout", "grayscale", "trivial"])
def test_every_augmentation_changes_images_by_its_generator(name):
    images = Data(limit=16).images("train")
    if name == "grayscale":  # which gray images are already
        images = replace(images, x=torch.randint(0, 255, (16, 3, 8, 8), dtype=torch.uint8), mean=(0.5,) * 3,
                                     std=(0.3,) * 3)  # fmt: skip
    augment, x = Data(augment=(name,)).augmentation(images), images.normalised()
    first, again, other = (augment(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first.shape == x.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
