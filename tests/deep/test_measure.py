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
from linfa import observe


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


def test_layers_come_in_the_order_of_the_model():
    model = deep.promote(net(), linfa.dfa(), sample=X)
    for measure in (gradients, alignment, error_ranks):
        assert list(measure(model, X, Y)) == ["0", "3", "4", "5"]


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


def test_alignment_is_the_cosine_of_the_two_gradients():
    model = deep.promote(net(), linfa.dfa(), sample=X)
    plain = net()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if ".feedback." not in k})
    for m in (model, plain):
        F.cross_entropy(m(X), Y).backward()
    for path, cosine in alignment(model, X, Y).items():
        a, b = (m.get_submodule(path).weight.grad.double().numpy().ravel() for m in (model, plain))
        assert cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)


def test_dropout_drops_the_same_units_in_both_gradients():
    def dropping():
        return nn.Sequential(nn.Flatten(), nn.Linear(32, 30), nn.Dropout(0.5), nn.Linear(30, 20), nn.Linear(20, 5))

    cosines = alignment(deep.promote(dropping(), linfa.bp()), X, Y)
    assert all(v == pytest.approx(1, abs=1e-5) for v in cosines.values())
    cosines = alignment(deep.promote(dropping(), linfa.fa()), X, Y)
    assert cosines["4"] == pytest.approx(1, abs=1e-5)
    assert cosines["1"] < 0.9
    model = deep.promote(dropping(), linfa.sign_symmetry("brSF"))
    before = torch.get_rng_state()
    alignment(model, X, Y)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mode", [True, False])
def test_gradients_in_waiting_survive(mode):
    model = deep.promote(net(), linfa.kolen_pollack()).train(mode)
    F.cross_entropy(model(X), Y).backward()
    kept = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert any("feedback" in name for name in kept)
    for measure in (gradients, alignment, error_ranks):
        measure(model, X, Y)
    assert all(torch.equal(p.grad, kept[name]) for name, p in model.named_parameters() if name in kept)
    assert all(m.training is mode for m in model.modules())


@pytest.mark.parametrize("kind", [observe.effective_rank, observe.participation_ratio, observe.stable_rank])
def test_errors_of_a_convolution_are_positions_by_channels(kind):
    model = deep.promote(net(), linfa.fa()).double()
    got = error_ranks(model, X.double(), Y, kind=kind)["0"]
    out = model[0](X.double())
    out.retain_grad()
    F.cross_entropy(model[1:](out), Y).backward()
    rows = [out.grad[n, :, i, j].numpy() for n in range(20) for i in range(4) for j in range(4)]
    assert got == pytest.approx(float(kind(np.linalg.svd(np.array(rows), compute_uv=False))), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("direct", [False, True])
def test_no_delivered_error_has_more_than_the_rank(rank, direct):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 12), nn.Linear(12, 9), nn.Linear(9, 8), nn.Linear(8, 5)).double()
    x = X.double()
    deep.promote(model, linfa.ldfa(rank, direct=direct), sample=x)
    ranks = error_ranks(model, x, Y, kind=count)
    assert list(ranks) == ["1", "2", "3", "4"]
    assert ranks["4"] == 4
    assert ranks["1"] == ranks["2"] == rank
    assert ranks["3"] == (4 if direct else rank)  # the direct rule backpropagates exactly through the last layer
