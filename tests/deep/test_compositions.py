"""The new kinds of layers and weights under what else a rule may say: geometry, activity, factors, directions."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import deep
import linfa
from deep import layers, maps, measure
from linfa.rules import KolenPollack, Local, RandomFactors, Rule, named

from .oracles import polar  # isort: skip

E = 6


class Mixed(nn.Module):
    """Attention on what convolutions made of a signal, with a shared weight; a head on the mean."""

    def __init__(self, uneven=False):
        super().__init__()
        self.uneven, settings = uneven, {"kdim": E, "vdim": E + 1} if uneven else {}
        self.conv = nn.Conv1d(3, E, 3, padding=1, groups=3)
        self.up = nn.ConvTranspose1d(E, E, 2, stride=2, groups=2)
        self.attention = nn.MultiheadAttention(E, 2, batch_first=True, **settings)
        self.a, self.b = nn.Linear(E, E), nn.Linear(E, E)
        self.b.weight = self.a.weight
        self.head = nn.Linear(E, 4)

    def forward(self, x):
        x = self.up(torch.tanh(self.conv(x))).transpose(1, 2)
        value = F.pad(x, (0, 1)) if self.uneven else x
        x = x + self.attention(x, x, value, need_weights=False)[0]
        return self.head(self.b(torch.tanh(self.a(x))).mean(1))


def mixed(uneven=False):
    torch.manual_seed(0)
    return Mixed(uneven).double()


X = torch.randn(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 1])


@pytest.mark.parametrize("uneven", [False, True])
def test_directions_are_taken_of_every_matrix_by_itself(uneven):
    """Torch stores the projections of attention in one parameter, and those of unequal widths in three."""
    model = mixed(uneven)
    rule = replace(linfa.muon(linfa.fa()), decay=0.5)
    deep.promote(model, rule, sample=X)
    chosen = deep.optimizer(model, lr=0.1, momentum=0.0)
    F.cross_entropy(model(X), Y).backward()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    chosen.step()
    pieces = {"conv.weight": 3, "up.weight": 2, "a.weight": 1, "head.weight": 1, "attention.out_proj.weight": 1}
    pieces |= {f"attention.{n}_proj_weight": 1 for n in "qkv"} if uneven else {"attention.in_proj_weight": 3}
    for name, count in pieces.items():
        parts = [polar(g.flatten(1)).reshape(g.shape) for g in grads[name].chunk(count)]
        expected = (1 - 0.1 * 0.5) * before[name] - 0.1 * torch.cat(parts)
        torch.testing.assert_close(model.get_parameter(name).detach(), expected, rtol=1e-8, atol=1e-10)
    updates = measure.updates(model, measure.gradients(model, X, Y))
    assert updates["attention"].numel() == sum(p.numel() for p in maps.parameters(model.attention))


def test_what_is_measured():
    model = deep.promote(mixed(), linfa.bp(), sample=X)
    seen = measure.one_pass(model, X, Y)
    assert seen.gradients["attention"].shape == (3 * E, E)
    assert seen.errors["conv"].shape == (20, E)
    assert seen.errors["up"].shape == seen.errors["attention.out_proj"].shape == (40, E)
    assert "attention" not in seen.errors
    assert all(value == pytest.approx(1) for value in measure.alignment(model, X, Y).values())
    made = parametrizations.weight_norm(nn.Linear(4, 5)), nn.Unflatten(1, (1, 5)), nn.ConvTranspose1d(1, 2, 2)
    net = nn.Sequential(*made, nn.Flatten()).double()
    deep.promote(net, linfa.fa())
    x = torch.randn(5, 4, dtype=torch.float64)
    assert measure.gradients(net, x, Y)["0"].shape == (5 + 20,)
    angles = measure.feedback_angles(net, x)
    W = net[2].weight.detach().flatten(1)
    cosine = F.cosine_similarity(net[2].feedback["B"].detach().flatten(), W.flatten(), dim=0)
    assert angles["2"] == pytest.approx(cosine.acos().rad2deg().item())


@pytest.mark.parametrize("uneven", [False, True])
def test_the_angle_of_attention_is_that_of_three_maps(uneven):
    model = deep.promote(mixed(uneven), linfa.ldfa(3, "hebb"))
    attention = model.attention
    weights = [getattr(attention, f"{n}_proj_weight") for n in "qkv"] if uneven else attention.in_proj_weight.chunk(3)
    B = [attention.feedback[n]["Q"] @ attention.feedback[n]["P"] for n in "qkv"]
    mine, theirs = (torch.cat([M.detach().flatten() for M in Ms]) for Ms in (B, [W.T for W in weights]))
    cosine = F.cosine_similarity(mine, theirs, dim=0)
    assert measure.feedback_angles(model, X)["attention"] == pytest.approx(cosine.acos().rad2deg().item())
    seen = {row["layer"]: row["feedback_angle"] for row in deep.Recorder(model).measure(X, Y)}
    assert seen["attention"] == pytest.approx(cosine.acos().rad2deg().item(), rel=1e-4)
    deep.promote(deep.demote(model), linfa.bp())
    assert measure.feedback_angles(model, X)["attention"] == pytest.approx(0, abs=1e-4)


class Standardise(nn.Module):
    def forward(self, x):
        axes = [i for i in range(x.dim()) if i != 1]
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, correction=0)
        return (x - mean) / variance.sqrt()


@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_normalised_convolutions(name):
    """A rule of normalised activities, and the rule on a model that normalises the same channels by itself."""
    kinds = [nn.Conv1d(3, 5, 3), nn.ConvTranspose1d(5, 4, 2), nn.Conv1d(4, 4, 2)]
    tail = [nn.Tanh(), nn.Flatten(), nn.Linear(8, 4)]
    inner = [part for conv in kinds for part in (conv, Standardise())]
    rule = named()[name]
    by_model = nn.Sequential(*inner, *tail).double()
    by_rule = nn.Sequential(*kinds, *tail).double()
    by_rule = copy.deepcopy(by_rule)
    deep.promote(by_model, rule, sample=X, seed=1)
    deep.promote(by_rule, linfa.normalised(rule), sample=X, seed=1)
    assert type(by_rule[1]).__name__.startswith("Normalised")
    pairs = {0: 0, 2: 1, 4: 2, 8: 5}
    with torch.no_grad():
        for p, q in zip(by_model.parameters(), by_rule.parameters(), strict=False):
            assert p.shape == q.shape
            q.copy_(p)
    for m in (by_model, by_rule):
        F.cross_entropy(m.train()(X), Y).backward()
    for i, j in pairs.items():
        gap = (by_model[i].weight.grad - by_rule[j].weight.grad).abs().max()
        assert gap <= 1e-8 * by_model[i].weight.grad.abs().max(), (i, j)
    twin = copy.deepcopy(by_rule)
    assert type(twin[0]) is getattr(layers, type(by_rule[0]).__name__)  # where pickle looks for it
    deep.demote(by_rule)
    assert [type(m) for m in by_rule[:3]] == [nn.Conv1d, nn.ConvTranspose1d, nn.Conv1d]


def test_positions_may_share_broadcast_feedback():
    """Feedback to channels is feedback to units that repeats itself."""
    make = lambda: nn.Sequential(  # noqa: E731
        nn.Conv1d(3, 5, 3), nn.Tanh(), nn.ConvTranspose1d(5, 4, 2), nn.Tanh(), nn.Conv1d(4, 4, 2), nn.Flatten(),
        nn.Linear(8, 4),
    )  # fmt: skip
    model, other = make().double(), make().double()
    deep.promote(model, linfa.dfa(), sample=X, shared=True)
    deep.promote(other, linfa.dfa(), sample=X)
    assert model[6].feedback["2"]["B"].shape == (5, 4)
    with torch.no_grad():
        for i, key in ((2, "2"), (4, "4")):
            wide = other[6].feedback[key]["B"]
            B = model[6].feedback[key]["B"]
            wide.copy_(B.repeat_interleave(len(wide) // len(B), 0))
            other[i].load_state_dict({n: p for n, p in model[i].state_dict().items() if "feedback" not in n})
        other[0].load_state_dict(model[0].state_dict())
        other[6].feedback["6"]["B"].copy_(model[6].feedback["6"]["B"])
        for p, q in zip((other[6].weight, other[6].bias), (model[6].weight, model[6].bias), strict=True):
            p.copy_(q)
    for m in (model, other):
        F.cross_entropy(m(X), Y).backward()
    for i in (0, 2, 4, 6):
        torch.testing.assert_close(model[i].weight.grad, other[i].weight.grad)
    assert deep.table(model, X).rows[1].feedback == 20


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own
def test_random_directions_go_through_attention_and_transposed_convolutions():
    model, rule = mixed(), linfa.directional_dfa(directions=1)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        deep.promote(model, rule, sample=X, exact=("a", "b"))
        F.cross_entropy(model(X), Y).backward()
        rows = {row.path: row for row in deep.table(model, X).rows}
    assert all(p.grad is not None for p in model.head.feedback.parameters())
    assert rows["up"].plasticity is None
    assert rows["up"].backward > 0


REFUSED = {
    "factors of a shared weight": (mixed, linfa.svd_local(2), r"a shares its weight .* factors in place of the weight"),
    "factors of a kernel in one dimension": (mixed, linfa.factored(linfa.bp(), 2), "is a Conv1d, .* alone so far"),
    "factors of a computed weight": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))), linfa.factored(linfa.fa(), 2),
        "computed from parameters, .* learns factors",
    ),
    "directions of a computed weight": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))), linfa.muon(linfa.fa()),
        "where no optimiser steps",
    ),
    "normalised attention": (mixed, linfa.normalised(linfa.fa()), "attention has three maps inside"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_compose_is_refused_before_anything_changes(case):
    make, rule, message = REFUSED[case]
    model = make()
    kinds = [type(m) for m in model.modules()]
    exact = ("conv", "up", "attention") if "shared" in case else ()
    with pytest.raises(deep.Unsupported, match=message):
        deep.promote(model, rule, sample=X if isinstance(model, Mixed) else None, exact=exact)
    assert kinds == [type(m) for m in model.modules()]


def test_ranks_have_no_use_for_heads_and_factors():
    with pytest.raises(ValueError, match="ranks has no use"):
        deep.promote(mixed(), linfa.local(), sample=X, ranks={"*": 2})
    with pytest.raises(deep.Unsupported, match="one rank for all layers"):
        deep.promote(nn.Sequential(nn.Linear(4, 4)), linfa.svd_local(2), ranks={"*": 2})


def test_the_table_of_other_rules():
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 4))
    x = torch.randn(3, 6)
    factored = deep.promote(copy.deepcopy(net), linfa.svd_local(2), sample=x)
    rows = deep.table(factored, x).rows
    assert [(row.type, row.rank, row.feedback) for row in rows] == [
        ("Linear", None, 0), ("Linear", 2, 2 * (8 + 4)), ("Linear", 2, 2 * (8 + 4)),
    ]  # fmt: skip
    local = deep.promote(nn.Sequential(copy.deepcopy(net), nn.LayerNorm(4)), linfa.local(), sample=x)
    head = local.get_parameter("feedback_2_B")
    rows = {row.path: row for row in deep.table(local, x).rows}
    assert list(rows) == ["0.0", "0.2", "0.3", "1", "feedback_1_B", "feedback_2_B"]
    assert [row.rule for row in rows.values()] == ["local", "local", "local", "exact", "local", "local"]
    assert (rows["0.0"].forward, rows["0.0"].backward, rows["0.0"].rank) == (96, None, None)
    assert (rows["feedback_2_B"].type, rows["feedback_2_B"].rank, rows["feedback_2_B"].feedback) == ("head", 4, 32)
    assert rows["feedback_2_B"].forward == 2 * head.numel()
    mine = deep.promote(copy.deepcopy(net), Rule(Local(2), RandomFactors(2), KolenPollack()), sample=x)
    (row,) = [row for row in deep.table(nn.Sequential(nn.Linear(6, 6), mine), x).rows if row.type == "head"]
    assert (row.path, row.rank, row.feedback) == ("1.feedback_1_Q", 2, 2 * (8 + 4))
