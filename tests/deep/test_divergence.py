"""A run whose numbers are no longer finite says where, and keeps the last good checkpoint."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep import checkpoint, divergence
from deep.data import InOrder, Shuffled
from deep.divergence import culprit, finite
from deep.events import Shrink
from deep.train import Diverged, train
from linfa.ranks import RankSchedule

from .processes import IMAGES, certificate  # isort: skip

MARKED = IMAGES.x.clone()
MARKED[50] = 255  # and no other pixel is
TRAINING = Shuffled(replace(IMAGES, x=MARKED), 8, 1)
WHITE = float(TRAINING.images.normalised(slice(50, 51)).max())


def marked(epoch):
    """The step of an epoch whose batch has the marked image."""
    return next(k for k, (x, _) in enumerate(TRAINING.batches(epoch)) if x.max() == WHITE)


class Gate(nn.Module):
    """Sees whether the marked image is in the batch."""

    seen = False

    def forward(self, x):
        self.seen = bool(x.max() == WHITE)
        return x


class Spoil(torch.autograd.Function):
    """The identity, with an infinite error."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, error):
        return error * float("inf")


class Flaky(nn.Module):
    """The identity, which spoils a part of its pass when a gate has seen what it waits for."""

    def __init__(self, gate, part):
        super().__init__()
        self.gate, self.part = [gate], part

    def forward(self, x):
        if not (self.training and self.gate[0].seen):
            return x
        return {"output": lambda x: x * float("inf"), "error": Spoil.apply}.get(self.part, lambda x: x)(x)


def run(folder, part, rule=None, epochs=2, **kw):
    rule, gate = rule or linfa.fa(), Gate()
    torch.manual_seed(0)
    model = nn.Sequential(
        gate, nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), Flaky(gate, part), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)
    )  # fmt: skip
    deep.promote(model, rule, sample=IMAGES.normalised(slice(0, 2)))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)

    def loss(out, y):
        bad = part == "loss" and gate.seen and model.training
        return F.cross_entropy(out, y) * (float("nan") if bad else 1.0)

    @torch.no_grad()
    def step(optimizer, *_):
        if gate.seen and part == "weight":
            model[5].weight[0, 0] = float("inf")
        if part == "moments":
            optimizer.state[model[5].weight]["exp_avg"].fill_(float("nan"))

    optimizer.register_step_post_hook(step)
    return train(
        model, rule, TRAINING, InOrder(IMAGES), optimizer, folder, epochs=epochs, seed=1, loss=loss,
        certificate=certificate(rule), progress=False, **kw,
    )  # fmt: skip


TEXTS = {
    "output": (r"the output of 4 \(Flaky\)", 0), "error": (r"the gradient of 2\.(weight|bias)", 0),
    "loss": ("the loss", 0), "weight": (r"the weight 5\.weight", 1),
}  # fmt: skip


@pytest.mark.parametrize("part", TEXTS)
@pytest.mark.parametrize("every", [None, 3, 1])
def test_the_step_and_the_layer_are_named(tmp_path, part, every):
    """However long after it is found; and the checkpoint is good, and of before."""
    text, later = TEXTS[part]
    place = marked(0)
    assert 3 < place < TRAINING.steps - 1
    with pytest.raises(Diverged, match=f"^{text} is not finite after {place + later} steps of epoch 1; .*keeps the"):
        run(tmp_path, part, checkpoint_every=every)
    saved = checkpoint.load(tmp_path)
    assert saved["rows"] == []
    assert saved["step"] == (0 if every is None else place - place % every)
    assert finite([*saved["model"].values(), *(v for s in saved["optimizer"]["state"].values() for v in s.values())])
    run(tmp_path, None, checkpoint_every=every)  # goes on


def test_moments_are_not_saved(tmp_path):
    """Spoilt in every step, they are found before the first checkpoint."""
    with pytest.raises(Diverged, match="what the optimiser remembers is not finite after 1 steps of epoch 1"):
        run(tmp_path, "moments", checkpoint_every=1)
    assert checkpoint.load(tmp_path)["step"] == 0


@pytest.mark.parametrize("rule", [linfa.sgr(2), linfa.dfa(), linfa.ldfa(2)], ids=lambda rule: rule.name)
def test_rules_that_send_errors_elsewhere(tmp_path, rule):
    with pytest.raises(Diverged, match=rf"the output of 4 \(Flaky\) is not finite after {marked(0)} steps of epoch 1"):
        run(tmp_path, "output", rule, average=0.9, clip=1.0, accumulate=2)


def test_looking_is_rare(tmp_path, monkeypatch):
    """Once an epoch and before each checkpoint; every so many steps at the losses alone."""
    looks, look = [], divergence.finite
    monkeypatch.setattr(divergence, "finite", lambda tensors: looks.append(len(list(tensors))) or look(tensors))
    monkeypatch.setattr("deep.train.CHECK", 5)
    run(tmp_path, None, epochs=1)
    assert looks == [1, 1, max(looks)]
    assert max(looks) > 10


def test_what_repeating_does_not_bring_back(tmp_path, monkeypatch):
    """On a GPU sums have no order: the same steps may end otherwise."""
    times = []

    def flicker(self):
        times.append(1)
        return torch.tensor(float("nan") if len(times) == 4 else 1.0)

    class Flicker(nn.Module):
        def forward(self, x):
            return x * flicker(self) if self.training else x

    model = deep.promote(nn.Sequential(nn.Flatten(), Flicker(), nn.Linear(36, 3)), linfa.bp())
    with pytest.raises(Diverged, match=r"^what repeating the steps did not bring back is not finite after 12 steps"):
        train(
            model, linfa.bp(), TRAINING, InOrder(IMAGES), torch.optim.SGD(model.parameters(), 0.1), tmp_path, epochs=1,
            certificate=certificate(linfa.bp()), progress=False,
        )  # fmt: skip


def test_ranks_that_fall(tmp_path):
    """Steps of before cannot be repeated with smaller weights; the checkpoint stays good."""
    rule = linfa.factored(linfa.fa(), 6)
    event = Shrink(RankSchedule(6, 2, stages=4), steps=TRAINING.steps)
    with pytest.raises(Diverged, match=r"not finite after 12 steps of epoch 1; .* the checkpoint of before ranks fell"):
        run(tmp_path, "loss", rule, epochs=1, events=(event,))
    assert checkpoint.load(tmp_path)["model"]["2.s"].shape == (6, 1)
    with pytest.raises(deep.Unsupported, match=r"ranks that fall change the parameters .* leave the average out"):
        run(tmp_path / "average", None, rule, events=(event,), average=0.9)


def test_culprit_of_a_good_pass():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    before = [p.clone() for p in model.parameters()]
    assert culprit(model, lambda: model(torch.ones(4, 2)).sum()) is None
    assert all(map(torch.equal, before, model.parameters()))
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    with torch.no_grad():
        model[2].bias[0] = model[0].weight[0, 0] = float("nan")
        assert culprit(model, lambda: model(torch.ones(4, 2)).sum()) == "the weight 0.weight"


def test_the_gradient_that_comes_first_is_that_of_the_last_layer():
    """An infinite error spoils all layers below."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3, bias=False), Flaky(Gate(), "error"), nn.Linear(3, 2))
    model[2].gate[0].seen = True
    assert culprit(model, lambda: model(torch.ones(4, 2)).sum()) == "the gradient of 1.weight"
