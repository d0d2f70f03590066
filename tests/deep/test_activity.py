"""Promoted rules whose hidden activities are normalised: both equalities, running statistics, refusals."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep import layers
from deep.activity import Normalisation
from deep.bridge import Run, fits
from deep.measure import alignment, exact_pass, one_pass
from linfa.rules import Standardised, Whitened

from .oracles import gradients, normalised  # isort: skip

KINDS = ("standardised", "whitened")
RULES = [linfa.fa(), linfa.bp(), linfa.dfa(), linfa.kolen_pollack(), linfa.dkp(), linfa.ldfa(2), linfa.muon(linfa.fa())]


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_promoted_net_follows_descent(rule, kind, depth):
    rule = linfa.normalised(rule, kind)
    if not fits(rule, depth):
        pytest.skip(f"{rule.name} does not fit a net of depth {depth}")
    worst, promoted, _ = Run(rule, depth, seed=depth).follow()
    assert worst <= 1e-10
    assert max(np.abs(a - b).max() for a, b in zip(promoted[0].weights, promoted[-1].weights, strict=True)) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_have_the_promoted_reading(kind):
    certificate = linfa.verify(linfa.normalised(linfa.fa(), kind), depths=(2, 3))
    assert certificate.passed
    assert sum(check.claim == "one rule" for check in certificate.checks) == 2


class Net(nn.Module):
    """Convolutions with stride, groups and a skip, then layers on vectors; no unit is a combination of others."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.c = nn.Linear(6, 5)
        self.d = nn.Linear(5, 5, bias=False)
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        x = torch.tanh(self.a(x))
        x = x + F.gelu(self.b(x))
        x = torch.tanh(self.c(x.mean((2, 3))))
        return self.head(torch.tanh(self.d(x)))


HIDDEN = ("a", "b", "c", "d")


def make():
    torch.manual_seed(0)
    return Net().double()


X = torch.randn(14, 2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.arange(14) % 4


def losses(out):
    return F.cross_entropy(out, Y, reduction="none")


def normalise(net, kind):
    """Hooks that normalise the outputs of the hidden layers of a plain net."""
    for path in HIDDEN:
        axis = -1 if path in "cd" else 1
        net.get_submodule(path).register_forward_hook(lambda m, inputs, out, axis=axis: normalised(kind, out, axis))
    return net


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rule", [linfa.bp(), linfa.fa(), linfa.ldfa(2), linfa.sign_symmetry(), linfa.dfa()], ids=lambda rule: rule.name
)
def test_gradients_equal_the_oracle(rule, kind):
    rule = linfa.normalised(rule, kind)
    net = deep.promote(make(), rule, sample=X, seed=3)
    losses(net(X)).mean().backward()
    expected = gradients(make, rule, net.state_dict(), X, losses)
    assert set(expected) == {name for name, p in net.named_parameters() if p.grad is not None}
    for name, g in expected.items():
        torch.testing.assert_close(net.get_parameter(name).grad, g, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_backprop_is_the_gradient(kind):
    net, plain = deep.promote(make(), linfa.normalised(linfa.bp(), kind), sample=X), normalise(make(), kind)
    torch.testing.assert_close(net(X), plain(X))
    for model in (net, plain):
        losses(model(X)).mean().backward()
    for name, p in plain.named_parameters():
        torch.testing.assert_close(net.get_parameter(name).grad, p.grad, rtol=1e-8, atol=1e-12)


def test_standardised_is_batch_norm_without_affine():
    x = torch.randn(7, 3, 4, 5)
    ours, theirs = Normalisation(Standardised(), 3, axis=-3), nn.BatchNorm2d(3, affine=False, eps=1e-12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    tokens = x.movedim(1, -1)
    torch.testing.assert_close(Normalisation(Standardised(), 3)(tokens), ours(x).movedim(1, -1))


@pytest.mark.parametrize("activity", [Standardised(), Whitened()], ids=repr)
def test_running_statistics(activity):
    torch.manual_seed(0)
    mix, shift = torch.randn(3, 3, dtype=torch.float64), torch.tensor([1.0, -2.0, 0.5])
    norm = Normalisation(activity, 3).double()
    before = torch.randn(20, 3, dtype=torch.float64)
    assert torch.equal(norm.eval()(before), before)
    norm.train()
    for _ in range(150):
        norm(torch.randn(400, 3, dtype=torch.float64) @ mix.T + shift)
    fresh = torch.randn(5000, 3, dtype=torch.float64) @ mix.T + shift
    state = copy.deepcopy(norm.state_dict())
    h = norm.eval()(fresh)
    torch.testing.assert_close(h, copy.deepcopy(norm).train()(fresh), rtol=0.1, atol=0.1)
    assert torch.equal(norm.eval()(fresh[:1]), h[:1])  # one sample at a time
    again = Normalisation(activity, 3).double().eval()
    again.load_state_dict(state)
    assert torch.equal(again(fresh), h)
    fresh.requires_grad_()
    norm.load_state_dict(state)
    (slope,) = torch.autograd.grad(norm(fresh)[0, 0], fresh)
    torch.testing.assert_close(slope[0], state["matrix"][0])  # a linear map


def test_a_unit_that_does_not_vary_stays_at_zero():
    x = torch.randn(9, 3)
    x[:, 1] = 0.1
    x.requires_grad_()
    for activity in (Standardised(), Whitened()):
        h = Normalisation(activity, 3)(x)
        h[:, 0].sum().add(h.pow(3).sum()).backward()
        assert h[:, 1].abs().max() < 1e-6
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_round_trips(kind, tmp_path):
    rule = linfa.normalised(linfa.ldfa(2), kind)
    net = deep.promote(make(), rule, sample=X)
    for _ in range(3):
        net(X)
    keys = set(make().state_dict())
    assert keys <= set(net.state_dict())
    assert {"a.normalisation.mean", "d.normalisation.matrix"} <= set(net.state_dict())
    assert not any(key.startswith("head.normalisation") for key in net.state_dict())
    other = deep.promote(make(), rule, sample=X, seed=5)
    other.load_state_dict(net.state_dict())
    for twin in (other, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin.eval()(X), net.eval()(X))
    net.train()
    with torch.no_grad():
        assert torch.equal(net(X), other.train()(X))
    deep.demote(net)
    assert set(net.state_dict()) == keys
    assert torch.equal(net(X), make()(X))
    assert type(net.a) is nn.Conv2d


def test_measures_compare_with_backpropagation_through_the_same_normalisation():
    for mode in (True, False):
        for kind in KINDS:
            net = deep.promote(make(), linfa.normalised(linfa.bp(), kind), sample=X)
            net(X)
            cosines = alignment(net.train(mode), X, Y)
            assert list(cosines.values()) == pytest.approx([1.0] * 5)
    net = deep.promote(make(), linfa.normalised(linfa.fa()), sample=X)
    assert alignment(net, X, Y)["a"] < 0.9

    for measured in (one_pass, exact_pass):  # in front of the normalisation errors have no mean
        errors = measured(net, X, Y).errors
        for path in HIDDEN:
            assert errors[path].sum(0).abs().max() < 1e-12 * errors[path].abs().sum()
            assert errors[path].abs().max() > 1e-4


def test_refusals():
    with pytest.raises(ValueError, match="normalises every layer but the last: pass sample="):
        deep.promote(make(), linfa.normalised(linfa.fa()))
    net = make()
    with pytest.raises(deep.Unsupported, match="use exact_top=0"):
        deep.promote(net, linfa.normalised(linfa.ldfa(2, "fixed", direct=True)), sample=X)
    assert type(net.a) is nn.Conv2d
    with pytest.raises(deep.Unsupported, match=r"put nn\.BatchNorm after the hidden layers"):
        deep.promote(net, linfa.normalised(linfa.local()), sample=X)
    net = deep.promote(net, linfa.normalised(linfa.fa()), sample=X)
    with pytest.raises(ValueError, match="a single sample has no variance"):
        net(X[:1])  # whose positions are enough for the convolutions alone
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="has no second derivative here"):
        torch.autograd.grad(net.c.normalisation(x)[0, 0], x, create_graph=True)


def test_layers_left_out_are_not_normalised():
    net = deep.promote(make(), linfa.normalised(linfa.fa()), sample=X, exact=("c",))
    kinds = [type(module) for module in net.children()]
    assert kinds == [
        layers.NormalisedEdgeConv2d, layers.NormalisedEdgeConv2d, nn.Linear, layers.NormalisedEdgeLinear,
        layers.EdgeLinear,
    ]  # fmt: skip
    net = deep.promote(make(), linfa.normalised(linfa.dfa()), sample=X)
    assert type(net.d) is layers.NormalisedCutLinear
    assert type(net.head) is layers.CutLinear
