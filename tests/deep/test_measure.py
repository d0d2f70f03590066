"""What is read off a promoted model."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep.measure import alignment, error_ranks, gradients


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 12), nn.Linear(12, 8),
        nn.Linear(8, 5),
    )  # fmt: skip


X, Y = torch.randn(20, 2, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 5


def count(singular):
    return (singular > 1e-5 * singular[..., :1]).sum(-1)


def test_alignment():
    assert all(v == pytest.approx(1, abs=1e-5) for v in alignment(deep.promote(net(), linfa.bp()), X, Y).values())
    cosines = alignment(deep.promote(net(), linfa.fa()), X, Y)
    assert list(cosines) == ["0", "3", "4", "5"]
    assert cosines["5"] == pytest.approx(1, abs=1e-5)
    assert all(abs(cosines[k]) < 0.9 for k in ("0", "3"))


def test_nothing_is_left_behind():
    model = deep.promote(net(), linfa.dfa(), sample=X).train()
    state = copy.deepcopy(model.state_dict())
    for measure in (gradients, alignment, error_ranks):
        measure(model, X, Y)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_gradients_are_those_of_the_loss():
    model = deep.promote(net(), linfa.ldfa(3))
    got = gradients(model, X, Y)
    F.cross_entropy(model(X), Y).backward()
    for path, gradient in got.items():
        torch.testing.assert_close(gradient, model.get_submodule(path).weight.grad)


def test_ranks_of_errors_that_crossed_low_rank_feedback():
    ranks = error_ranks(deep.promote(net(), linfa.ldfa(2)), X, Y, kind=count)
    assert ranks["4"] == 2
    assert ranks["3"] == 2
    assert ranks["5"] == 4  # five classes, and the errors of softmax sum to zero


def test_kinds_agree_with_numpy():
    model = deep.promote(net(), linfa.bp())
    got = error_ranks(model, X, Y)
    h = model[:5](X).detach()
    error = (F.softmax(model[5](h), 1) - F.one_hot(Y, 5)) @ model[5].weight
    s = np.linalg.svd(error.detach().double().numpy(), compute_uv=False)
    p = s / s.sum()
    assert got["4"] == pytest.approx(np.exp(-(p[p > 0] * np.log(p[p > 0])).sum()), rel=1e-4)
