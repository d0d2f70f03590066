"""Mixup by hand: one lambda for a batch, neighbours mixed, and an epoch that goes on in its middle."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep.data import Images, Mixed, Shuffled
from deep.data.mixup import dominant


@pytest.fixture(scope="module")
def images():
    x = torch.randint(0, 256, (24, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images(x, torch.arange(24) % 5, 5, (0.5,), (0.25,), "noise")


def shares(y, labels):
    """lambda of every sample whose neighbour has another label."""
    other = labels != labels.roll(1)
    return y.gather(1, labels[:, None])[other, 0]


def test_a_batch_is_mixed_by_one_share(images):
    loader = Shuffled(images, 8, 3)
    seen = []
    for (x, y), (u, labels) in zip(Mixed(loader, 1.0, 3).batches(2), loader.batches(2), strict=True):
        lam = shares(y, labels)[0]
        torch.testing.assert_close(y, lam * F.one_hot(labels, 5) + (1 - lam) * F.one_hot(labels, 5).roll(1, 0))
        torch.testing.assert_close(x, lam * u + (1 - lam) * u.roll(1, 0))
        assert 0 <= lam <= 1
        seen.append(float(lam))
    assert len(set(seen)) == 3


def test_draws_depend_on_seed_epoch_and_place_alone(images):
    mixed = Mixed(Shuffled(images, 6), 0.4)
    whole = list(mixed.batches(1))
    for start in range(5):
        rest = list(mixed.batches(1, start))
        assert len(rest) == 4 - start
        assert all(torch.equal(a, b) for old, new in zip(whole[start:], rest, strict=True) for a, b in zip(old, new))  # noqa: B905
    assert (mixed.steps, mixed.classes, mixed.shape, mixed.source) == (4, 5, (1, 4, 4), "noise")


def test_processes_share_lambda(images):
    parts = [Mixed(Shuffled(images, 8, rank=rank, world=2), 1.0) for rank in (0, 1)]
    plain = [Shuffled(images, 8, rank=rank, world=2) for rank in (0, 1)]
    found = [
        [float(shares(y, labels)[0]) for (_, y), (_, labels) in zip(m.batches(0), p.batches(0), strict=True)]
        for m, p in zip(parts, plain, strict=True)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_lambda_has_the_moments_of_the_beta_distribution(images):
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)), within four standard errors."""
    alpha, loader = 0.3, Shuffled(images, 2)
    lams = np.array([
        float(y[0, labels[0]])
        for epoch in range(40)
        for (_, y), (_, labels) in zip(Mixed(loader, alpha).batches(epoch), loader.batches(epoch), strict=True)
        if labels[0] != labels[1]
    ])  # fmt: skip
    variance = 1 / (4 * (2 * alpha + 1))
    assert lams.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / len(lams)))
    assert lams.var() == pytest.approx(variance, abs=4 * 0.09 / np.sqrt(len(lams)))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_no_alpha(images, alpha):
    with pytest.raises(ValueError, match=f"alpha of mixup is above 0; got {alpha}"):
        Mixed(Shuffled(images, 4), alpha)


def test_the_loss_is_the_mixture_of_two(images):
    loader = Shuffled(images, 8)
    (_, y), (_, labels) = next(Mixed(loader, 1.0).batches(0)), next(loader.batches(0))
    logits, lam = torch.randn(8, 5), shares(y, labels)[0]
    mixture = lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels.roll(1))
    torch.testing.assert_close(F.cross_entropy(logits, y), mixture)
    assert torch.equal(dominant(y), labels if lam > 0.5 else labels.roll(1))
    assert dominant(labels) is labels


@pytest.mark.parametrize("rule", [linfa.fa(), linfa.dfa(), linfa.sgr(), linfa.local()], ids=lambda rule: rule.name)
def test_every_rule_takes_mixed_labels(images, rule):
    """Twice the same labels, as classes and as probabilities, give the same gradients."""
    x, labels = images.normalised(slice(0, 8)), images.y[:8]
    found = []
    for y in (labels, F.one_hot(labels, 5).float()):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 5))
        deep.loss(deep.promote(model, rule, sample=x), x, y).backward()
        found.append([p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(found[0], found[1])
