"""The step of a rule's geometry: the core's descent, torch's Muon, and the manners of a torch optimiser."""

import copy
import functools
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD

import deep
import linfa
from deep.bridge import Run
from deep.optimizer import check_optimizer
from linfa.rules import Euclidean, LayerRates, NewtonSchulz, Polar

from .oracles import polar  # isort: skip

KP = linfa.kolen_pollack(0.1)  # its decay stands beside the direction
SGR = linfa.sgr(decay=0.05)
GEOMETRIES = {
    "muon": lambda depth: Polar(), "norm kept": lambda depth: Polar(keep_norm=True),
    "newton-schulz": lambda depth: NewtonSchulz(),
    "rates": lambda depth: LayerRates(tuple(np.linspace(0.4, 1.6, depth))),
}  # fmt: skip


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("kind", GEOMETRIES)
@pytest.mark.parametrize("rule", [linfa.fa(), linfa.bp(), linfa.dfa(), KP, SGR], ids=lambda rule: rule.name)
def test_promoted_net_follows_descent(rule, kind, depth):
    rule = replace(rule, geometry=GEOMETRIES[kind](depth))
    worst, promoted, _ = Run(rule, depth, seed=depth).follow(
        10
    )  # Newton-Schulz makes roundings 500 times larger a step
    assert worst <= 1e-10
    assert max(np.abs(a - b).max() for a, b in zip(promoted[0].weights, promoted[-1].weights, strict=True)) > 1e-4


@pytest.mark.parametrize("rule", [linfa.muon(KP), replace(linfa.fa(), geometry=Polar(keep_norm=True))], ids=repr)
def test_certificates_have_the_promoted_reading(rule):
    certificate = linfa.verify(rule, depths=(2, 3))
    assert certificate.passed
    assert sum(check.claim == "one rule" for check in certificate.checks) == 2


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=2, bias=False),
        nn.ReLU(), nn.Flatten(), nn.Linear(24, 8), nn.Tanh(), nn.Linear(8, 3),
    ).double()  # fmt: skip


X = torch.randn(9, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(9) % 3


def fill(model):
    model.zero_grad()
    F.cross_entropy(model(X), Y).backward()


def test_a_step_by_hand():
    """Kernels as matrices, one for each group; everything else by the other optimiser."""
    model = deep.promote(net(), linfa.muon(KP))
    descent = deep.optimizer(model, 0.1, momentum=0.0, others=functools.partial(SGD, lr=0.5))
    fill(model)
    before = {name: (p.detach().clone(), p.grad.clone()) for name, p in model.named_parameters()}
    descent.step()
    for name, p in model.named_parameters():
        W, G = before[name]
        if name.endswith("weight") and W.dim() > 1:
            rows = G.flatten(1).chunk(2) if name == "3.weight" else [G.flatten(1)]
            step = torch.cat([polar(g) for g in rows]).reshape(W.shape)
            torch.testing.assert_close(p.detach(), W - 0.1 * (step + 0.1 * W), rtol=1e-7, atol=1e-8)
        else:
            torch.testing.assert_close(p.detach(), W - 0.5 * G, rtol=1e-12, atol=1e-14)


def test_decay_is_no_part_of_a_directed_gradient():
    plain, muon = (deep.promote(net(), rule, seed=1) for rule in (replace(KP, decay=0.0), linfa.muon(KP)))
    fill(plain)
    fill(muon)
    for (name, a), b in zip(plain.named_parameters(), muon.parameters(), strict=True):
        decay = 0.1 * b.detach() if "feedback" in name else 0  # feedback has no geometry
        torch.testing.assert_close(a.grad + decay, b.grad, rtol=1e-12, atol=1e-14)


def test_euclidean_steps_are_sgd():
    model, twin = (deep.promote(net(), KP) for _ in range(2))
    descent, sgd = deep.optimizer(model, 0.1, 0.0, functools.partial(SGD, lr=0.1)), SGD(twin.parameters(), 0.1)
    for _ in range(3):
        fill(model)
        fill(twin)
        descent.step()
        sgd.step()
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_newton_schulz_is_the_muon_of_torch(momentum, precision):
    """torch works in bfloat16, three decimal digits, which five steps make worse: 5 % of the step, 10 % an entry."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 48), nn.Linear(48, 20), nn.Linear(20, 20))
    theirs = copy.deepcopy(model)
    deep.promote(model, replace(linfa.bp(0.1), geometry=NewtonSchulz()))
    lr = 0.02
    mine = deep.optimizer(model, lr, momentum, functools.partial(SGD, lr=0.0), precision=precision)
    weights = [layer.weight for layer in theirs]
    muon = [torch.optim.Muon([W], lr / math.sqrt(max(1, W.shape[0] / W.shape[1])), weight_decay=0.0, momentum=momentum)
            for W in weights]  # fmt: skip
    for step in range(3):
        for a, W, m in zip(model, weights, muon, strict=True):
            G = torch.randn(W.shape, generator=torch.Generator().manual_seed(step))
            before = a.weight.detach().clone(), W.detach().clone()
            a.weight.grad, W.grad = G, G.clone()
            m.step()
            W.data -= lr * 0.1 * before[1]  # theirs decays by a scaled rate
        mine.step()
        for a, W in zip(model, weights, strict=True):
            gap = a.weight.detach() - W.detach()
            assert gap.norm() <= 0.05 * lr * (step + 1) * math.sqrt(min(W.shape))
            assert gap.abs().max() <= 0.1 * lr * (step + 1)
            assert (gap.abs().max() > 0) or precision is not None


def test_a_direction_of_rounding_is_none():
    """A gradient of rank 3 in single precision has 5 more singular values, of the size of its roundings."""
    torch.manual_seed(0)
    model = deep.promote(
        nn.Sequential(nn.Linear(12, 8, bias=False), nn.Linear(8, 4, bias=False)), linfa.muon(linfa.fa())
    )
    before = model[0].weight.detach().clone()
    descent = deep.optimizer(model, 1.0, momentum=0.0)
    model(torch.randn(3, 12)).square().sum().backward()
    descent.step()
    s = torch.linalg.svdvals((before - model[0].weight.detach()).double())
    torch.testing.assert_close(s, torch.tensor([1.0] * 3 + [0.0] * 5, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_scheduler_state_and_resume():
    def start():
        model = deep.promote(net(), linfa.muon(KP))
        descent = deep.optimizer(model, 0.05, others=functools.partial(torch.optim.Adam, lr=0.01))
        return model, descent, torch.optim.lr_scheduler.ExponentialLR(descent, 0.5)

    def go(model, descent, schedule, steps):
        for _ in range(steps):
            fill(model)
            descent.step()
            schedule.step()

    whole, parts = start(), start()
    go(*whole, 4)
    assert [group["lr"] for group in whole[1].param_groups] == [0.05 / 16, 0.01 / 16]
    assert [group["lr"] for group in whole[1].others.param_groups] == [0.01 / 16]
    go(*parts, 2)
    again = start()
    for old, new in zip(parts, again, strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    go(*again, 2)
    assert all(map(torch.equal, whole[0].parameters(), again[0].parameters()))
    twin = copy.deepcopy(again)  # model and optimiser together
    go(*twin, 1)
    go(*whole, 1)
    assert all(map(torch.equal, whole[0].parameters(), twin[0].parameters()))
    assert len(again[1].state_dict()["state"]) == sum(p.requires_grad for p in again[0].parameters())


def test_closure_and_idle_weights():
    model = deep.promote(net(), linfa.muon(KP))
    descent = deep.optimizer(model, 0.1)
    idle = model[6].weight

    def closure():
        fill(model)
        idle.grad = None
        return torch.tensor(7.0)

    before = [p.detach().clone() for p in (idle, model[0].weight, model[0].bias)]
    assert descent.step(closure) == 7.0
    moved = [not torch.equal(a, b) for a, b in zip(before, (idle, model[0].weight, model[0].bias), strict=True)]
    assert moved == [False, True, True]


def test_left_out_layers_take_the_other_step():
    model = deep.promote(net(), linfa.muon(linfa.fa()), exact=("6",))
    model[0].weight.requires_grad_(False)
    descent = deep.optimizer(model, 0.1, others=functools.partial(SGD, lr=0.1), euclidean=("8",))
    directed, left = (group["params"] for group in descent.param_groups)
    assert [p is model[3].weight for p in directed] == [True]
    assert {id(model[6].weight), id(model[8].weight), id(model[1].weight)} <= set(map(id, left))
    assert id(model[0].weight) not in set(map(id, left))


def test_factors_of_a_weight_take_the_euclidean_step():
    model = deep.promote(net(), linfa.factored(linfa.fa(), 2), sample=X)
    descent = deep.optimizer(model, 0.1, 0.0, functools.partial(SGD, lr=0.5))
    fill(model)
    before = {name: (p.detach().clone(), p.grad.clone()) for name, p in model.named_parameters() if p.grad is not None}
    descent.step()
    for name, (p, g) in before.items():
        rate = 0.1 if name.split(".")[-1] in "UsV" else 0.5
        torch.testing.assert_close(model.get_parameter(name).detach(), p - rate * g)
    assert {name.split(".")[-1] for name in before} == {"U", "s", "V", "weight", "bias"}  # weight: of the batch norm
    deep.shrink(model, 1, descent)
    fill(model)
    descent.step()
    assert len(descent.param_groups[0]["params"]) == 12


def test_what_an_optimizer_refuses():
    model = deep.promote(net(), linfa.muon(KP))
    with pytest.raises(ValueError, match="promote the model first"):
        deep.optimizer(net(), 0.1)
    with pytest.raises(ValueError, match="euclidean names no promoted layer of the model: 1"):
        deep.optimizer(model, 0.1, euclidean=("1",))
    with pytest.raises(ValueError, match=r"would not decay: use a rule without decay"):
        deep.optimizer(model, 0.1, euclidean=("8",))
    with pytest.raises(ValueError, match=r"momentum is in \[0, 1\)"):
        deep.optimizer(model, 0.1, momentum=1.0)
    with pytest.raises(NotImplementedError, match="make another"):
        deep.optimizer(model, 0.1).add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    mixed = nn.Sequential(deep.promote(net(), linfa.fa()), deep.promote(net(), linfa.muon(linfa.fa())))
    with pytest.raises(ValueError, match="one geometry and one decay"):
        deep.optimizer(mixed, 0.1)
    rates = deep.promote(net(), replace(linfa.fa(), geometry=LayerRates((1.0,))))
    descent = deep.optimizer(rates, 0.1)
    with pytest.raises(ValueError, match="1 learning rates do not fit 4 weights"):
        descent.step()


def test_gradients_are_not_descended_where_directions_should_be():
    model = deep.promote(net(), linfa.muon(KP))
    chosen = {"sgd": SGD(model.parameters(), 0.1), "muon": deep.optimizer(model, 0.1)}
    with pytest.raises(ValueError, match=r"which SGD does not take: use deep.optimizer\(model, lr\)"):
        check_optimizer(linfa.muon(KP), chosen["sgd"])
    with pytest.raises(ValueError, match=r"directions of NewtonSchulz"):
        check_optimizer(replace(KP, geometry=NewtonSchulz()), chosen["muon"])
    for rule, name in itertools.product((KP, linfa.muon(KP)), chosen):
        if rule.geometry == Euclidean() or name == "muon":
            check_optimizer(rule, chosen[name])


def test_accumulated_gradients_are_one_direction():
    model, twin = (deep.promote(net().eval(), linfa.muon(linfa.fa())) for _ in range(2))
    one, two = (deep.optimizer(m, 0.1, 0.0, functools.partial(SGD, lr=0.1)) for m in (model, twin))
    fill(model)
    for part in (slice(0, 3), slice(3, 9)):
        (F.cross_entropy(twin(X[part]), Y[part], reduction="sum") / 9).backward()
    one.step()
    two.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_a_muon_rule_trains(tmp_path):
    from deep.data import Images, InOrder, Shuffled
    from deep.train import train

    labels = torch.arange(40) % 3
    x = (200 * F.one_hot(labels, 4)[:, None, :, None] + torch.arange(40)[:, None, None, None]).expand(-1, -1, -1, 4)
    images = Images(x.to(torch.uint8), labels, 3, (0.5,), (0.3,), "a bright row by class")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
    rule = linfa.muon(linfa.fa())
    deep.promote(model, rule)
    certificate = linfa.verify(rule, promoted=False, depths=(2,))
    data = Shuffled(images, 10), InOrder(images)
    with pytest.raises(ValueError, match="does not take"):
        train(model, rule, *data, SGD(model.parameters(), 0.1), tmp_path, epochs=1, certificate=certificate)
    assert not list(tmp_path.iterdir())
    for epochs in (2, 8):
        rows = train(model, rule, *data, deep.optimizer(model, 0.02), tmp_path, epochs=epochs,
                     certificate=certificate, progress=False)  # fmt: skip
    assert rows[-1]["test_accuracy"] > 0.9
