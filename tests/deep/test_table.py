"""The table of a promoted model: every layer in it, and costs as torch counts them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import deep
import linfa
from deep.table import COSTS
from linfa.rules import Full, Plain, named

from .covered import promotable  # isort: skip


class Everything(nn.Module):
    """A language model with every kind of layer, and a shared weight."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(9, 6)
        self.conv = nn.Conv1d(6, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose1d(8, 6, 4, stride=2, padding=1)
        self.norm = nn.LayerNorm(6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(6, 10), nn.Linear(10, 6, bias=False)
        self.lm_head = nn.Linear(6, 9, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        x = self.wte(tokens)  # (N, T, 6)
        x = x + self.up(torch.tanh(self.conv(x.transpose(1, 2)))).transpose(1, 2)
        x = self.norm(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + self.fc2(torch.tanh(self.fc1(x)))
        return self.lm_head(x)


TOKENS = torch.arange(24).reshape(3, 8) % 9
LAYERWISE = {
    n: r for n, r in promotable().items()
    if r.route.single_layer and "kolen-pollack" not in n and r.parameterisation == Full() and r.activity == Plain()
}  # fmt: skip


def measured(model, sample):
    """Floating-point operations of forward and of backward with plasticity, products of attention left out."""
    counts = []
    with FlopCounterMode(display=False) as counter:
        loss = model(sample).square().mean()
    counts.append(counter)
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    counts.append(counter)
    return [
        sum(n for op, n in c.get_flop_counts()["Global"].items() if "attention" not in str(op)) for c in counts
    ]  # fmt: skip


def assert_counts(model, sample):
    got = deep.table(model, sample)
    total, (forward, backward) = got.total, measured(model, sample)
    assert len(sample) * total.forward == pytest.approx(forward, rel=1e-12)
    assert len(sample) * (total.backward + total.plasticity) == pytest.approx(backward, rel=1e-12)
    return got


@pytest.mark.parametrize("name", LAYERWISE)
def test_costs_are_those_that_torch_counts(name):
    torch.manual_seed(0)
    model = deep.promote(Everything(), LAYERWISE[name], sample=TOKENS)
    got = assert_counts(model, TOKENS)
    products = name in ("ldfa(2, oja)", "ldfa(2, hebb)", "ldfa(2, normative)")  # a mirror takes differences
    assert (got.total.plasticity > 0) == products


def test_costs_of_backprop_before_promotion():
    model = Everything()
    rows = {row.path: row for row in assert_counts(model, TOKENS).rows}
    assert set(rows) == {n.rpartition(".")[0] for n, _ in model.named_parameters(remove_duplicate=False)}
    assert {row.rule for row in rows.values()} == {"exact"}
    assert rows["norm"].forward == rows["wte"].backward == 0
    promoted = deep.table(deep.promote(model, linfa.bp()), TOKENS)
    for row in promoted.rows:
        mine, exact = ([getattr(r, c) for c in COSTS] for r in (row, rows[row.path]))
        assert mine == exact


@pytest.mark.parametrize("plasticity", ["fixed", "oja", "normative"])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.ConvTranspose3d])
def test_costs_of_convolutions(kind, plasticity):
    size = {"1": (9,), "2": (6, 5), "3": (4, 3, 5)}[kind.__name__[-2]]
    model = nn.Sequential(kind(3, 6, 3, padding=1), nn.Tanh(), kind(6, 4, 2, stride=2))
    x = torch.randn(2, 3, *size)
    deep.promote(model, linfa.ldfa(2, plasticity), sample=x)
    rows = assert_counts(model, x).rows
    assert [row.rank for row in rows] == [None, 2]
    feedback = model[2].feedback
    assert rows[1].feedback == feedback["Q"].numel() + feedback["P"].numel()


BASES = ("bp", "fa", "kolen-pollack", "ldfa(2, oja)", "ldfa(2, normative)", "uSF", "weight-mirror", "dfa", "dkp",
         "ldfa(2, oja, direct)")  # fmt: skip


def layer_size(conv):
    """Numbers in the weight of a convolution."""
    return conv.out_channels * conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]


@pytest.mark.parametrize("retraction", [None, "polar"])
@pytest.mark.parametrize("base", [*BASES, "svd-local(2)"])
def test_costs_of_factored_weights(base, retraction):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 4, (3, 2), stride=2, padding=(0, 1)), nn.Tanh(),
        nn.Flatten(), nn.Linear(36, 10), nn.Tanh(), nn.Linear(10, 5),
    )  # fmt: skip
    x = torch.randn(4, 3, 7, 5)
    rule = (
        linfa.svd_local(3, retraction=retraction) if base not in BASES else linfa.factored(named()[base], 3, retraction)
    )
    deep.promote(model, rule, sample=x)
    rows = {row.path: row for row in assert_counts(model, x).rows}
    layer = rows["2"]
    formed = base in ("ldfa(2, normative)", "uSF", "weight-mirror")  # the weight, once for the batch
    down, along = 5 * 3 * (6 * 3), 3 * 3 * (4 * 2)  # at the width of the input, and of the output
    assert layer.forward == 2 * 3 * (down + along + formed * layer_size(model[2]) / len(x))
    model[5].V.requires_grad_(False)
    model[0].U.requires_grad_(False)
    assert_counts(model, x)


def test_groups_divide_the_cost():
    """torch counts the weight gradient of a grouped convolution g times over, so here it is a formula."""
    for kind in (nn.Conv2d, nn.ConvTranspose2d):
        model = nn.Sequential(kind(4, 8, 3, padding=1, groups=4))
        x = torch.randn(2, 4, 5, 5, requires_grad=True)
        (row,) = deep.table(deep.promote(model, linfa.fa()), x).rows
        assert row.forward == 2 * 25 * 8 * 9
        assert row.backward == 2 * row.forward
        assert row.feedback == 8 * 9
        assert row.forward * 2 == measured(model, x)[0]


@pytest.mark.parametrize("name", ["dfa", "dkp", "ldfa(2, oja, direct)"])
def test_costs_of_the_direct_route(name):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(3, 4, 3), nn.Tanh(), nn.ConvTranspose1d(4, 4, 2), nn.Tanh(),
        nn.Flatten(), nn.Linear(28, 10), nn.Tanh(), nn.Linear(10, 4),
    )  # fmt: skip
    x = torch.randn(5, 3, 8)
    deep.promote(model, named()[name], sample=x)
    rows = {row.path: row for row in assert_counts(model, x).rows}
    top = name.endswith("direct)")
    assert rows["0"].rank is None
    assert rows["2"].rank == (2 if top else 4)
    assert (rows["7"].rank is None) == top
    assert sum(row.feedback for row in rows.values()) == sum(p.numel() for p in model[7].feedback.parameters())
    if top:  # the error of a convolution comes sample by sample, all its channels and positions at once
        model = nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Conv1d(3, 4, 3), nn.Tanh(), nn.Conv1d(4, 5, 3))
        assert_counts(deep.promote(model, named()[name], sample=torch.randn(5, 3, 9)), torch.randn(5, 3, 9))
    tokens = deep.promote(Everything(), named()[name], sample=TOKENS, exact=("conv", "up"))
    assert_counts(tokens, TOKENS)


def test_frozen_weights_and_exact_layers():
    model = deep.promote(Everything(), linfa.ldfa(2, "fixed"), sample=TOKENS, exact=("attention", "fc1"))
    model.fc2.weight.requires_grad_(False)
    rows = {row.path: row for row in assert_counts(model, TOKENS).rows}
    assert [rows[n].rule for n in ("attention", "attention.out_proj", "fc1", "wte")] == ["exact"] * 4
    assert [rows[n].type for n in ("attention", "attention.out_proj", "up")] == [
        "MultiheadAttention", "NonDynamicallyQuantizableLinear", "ConvTranspose1d"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["ldfa(2, oja)", "kolen-pollack", "bp"])
def test_feedback_without_use_costs_its_plasticity(name):
    """Promoted without a sample the first layer has feedback, which learns although nothing needs its error."""
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 4))
    deep.promote(model, named()[name])
    model[2].weight.requires_grad_(False)
    x = torch.randn(3, 3, 5)
    first, second, _ = assert_counts(model, x).rows
    assert first.feedback == sum(p.numel() for p in model[0].feedback.parameters())
    assert first.rank == {"ldfa(2, oja)": 2, "kolen-pollack": 4, "bp": None}[name]
    delivered = {"ldfa(2, oja)": 2 * 2 * (12 + 5), "kolen-pollack": 120, "bp": 120}[name]
    assert second.backward == delivered + 120 * (name != "bp")  # the gradient of a frozen weight teaches feedback


def test_nothing_with_parameters_is_left_out():
    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 4))
            self.lstm, self.fc = nn.LSTM(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
            self.twice = nn.Linear(4, 4)

        def forward(self, x):
            return self.twice(self.twice(self.fc(self.lstm(x + self.token)[0])))

    x = torch.randn(3, 4)
    model = deep.promote(Loose(), linfa.fa(), sample=x, exact=("token", "lstm"))
    rows = {row.path: row for row in deep.table(model, x).rows}
    assert [(p, r.type, r.rule) for p, r in rows.items()] == [
        ("", "Loose", "exact"), ("lstm", "LSTM", "exact"), ("fc", "Linear", "fa"), ("twice", "Linear", "fa"),
    ]  # fmt: skip
    assert rows["lstm"].forward is None
    assert rows["twice"].forward == 2 * rows["fc"].forward == 64
    assert rows["twice"].feedback == 16
    text = str(deep.table(model, x)).splitlines()
    assert text[0].split() == ["path", "type", "rule", "rank", "feedback", *COSTS]
    assert text[2].split() == ["lstm", "LSTM", "exact", "-", "0", "-", "-", "-"]
    assert text[-1].split()[0] == "total"
    assert len({len(line) for line in text}) == 1


def test_looking_changes_nothing():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 3))
    x = torch.randn(4, 1, 5, 5)
    deep.promote(model, linfa.dfa(), sample=x).train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    deep.table(model, x)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert model.training
    assert not model[0]._forward_hooks
    F.cross_entropy(model(x), torch.tensor([0, 1, 2, 0])).backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_precision_of_a_model_costs_nothing(dtype):
    """Plasticity is counted on matrices of the model's own precision."""
    found = []
    for kind in (torch.float32, dtype):
        net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3)).to(kind)
        x = torch.zeros(2, 2, 6, 6, dtype=kind)
        found.append(deep.table(deep.promote(net, linfa.ldfa(2), sample=x), x))
    assert found[0] == found[1]
