"""Refreshed feedback is the truncated SVD of the present weight; nothing else changes."""

import copy

import pytest
import torch
from torch import nn

import deep
import linfa
from linfa.rules import Direct, Hebb, Rule, SVDFactors


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
    )


@pytest.mark.parametrize("rule", [linfa.ldfa(2, "normative"), linfa.ldfa(2, "hebb")], ids=lambda rule: rule.name)
def test_refreshed_feedback_is_that_of_a_model_promoted_now(rule):
    model, x, y = deep.promote(net(), rule), torch.randn(8, 2, 8, 8), torch.arange(8) % 5
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        deep.loss(model, x, y).backward()
        optimizer.step()
    anew = deep.promote(deep.demote(copy.deepcopy(model)), rule, seed=7)  # the SVD draws nothing
    kept = dict(model.named_parameters())
    assert any(not torch.allclose(p, kept[name]) for name, p in anew.named_parameters())
    deep.refresh(model)
    for name, p in model.named_parameters():
        assert p is kept[name]
        torch.testing.assert_close(p, anew.get_parameter(name), rtol=0, atol=1e-6)
    optimizer.zero_grad()
    deep.loss(model, x, y).backward()
    optimizer.step()


def test_attention_is_refreshed_map_by_map():
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    deep.promote(block, linfa.ldfa(8, "normative"))
    with torch.no_grad():
        block.self_attn.in_proj_weight.mul_(2)
    deep.refresh(block)
    for name, W in zip("qkv", block.self_attn.in_proj_weight.chunk(3), strict=True):
        stored = block.self_attn.feedback[name]
        torch.testing.assert_close(stored["Q"] @ stored["P"], W.detach().T, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (linfa.fa(), "no feedback that starts from a weight"),
        (linfa.bp(), "nothing to refresh"),
        (linfa.factored(linfa.ldfa(2, "hebb"), 2), "follows full weights"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_nothing_to_refresh(rule, message):
    model = deep.promote(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)), rule)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(deep.Unsupported, match=message):
        deep.refresh(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_layers_without_feedback_are_passed_over():
    """The first needs none where promotion has seen that its input needs no error; alone it has nothing to refresh."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    deep.promote(model, linfa.ldfa(3, "normative"), sample=torch.randn(2, 4))
    with torch.no_grad():
        model[1].weight.mul_(2)
    deep.refresh(model)
    assert not list(model[0].feedback)
    Q, P = (model[1].feedback[name] for name in "QP")
    torch.testing.assert_close((Q @ P).T, model[1].weight, rtol=0, atol=1e-5)
    alone = deep.promote(nn.Sequential(nn.Linear(4, 6)), linfa.ldfa(3, "normative"), sample=torch.randn(2, 4))
    with pytest.raises(deep.Unsupported, match="nothing to refresh"):
        deep.refresh(alone)


class Asked(nn.Module):
    """Attention of the input itself to what a layer made of it."""

    def __init__(self):
        super().__init__()
        self.first, self.attention = nn.Linear(4, 4), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        made = self.first(x)
        return self.attention(x, made, made, need_weights=False)[0]


def test_one_of_the_maps_of_attention_may_have_no_feedback():
    model = deep.promote(Asked(), linfa.ldfa(4, "normative"), sample=torch.randn(2, 3, 4))
    with torch.no_grad():
        model.attention.in_proj_weight.mul_(2)
    deep.refresh(model)
    feedback = model.attention.feedback
    assert [len(feedback[name]) for name in "qkv"] == [0, 2, 2]
    weight = model.attention.in_proj_weight[4:8]
    torch.testing.assert_close((feedback["k"]["Q"] @ feedback["k"]["P"]).T, weight, rtol=0, atol=1e-5)


def test_a_broadcast_without_cuts_has_nothing_to_refresh():
    model = nn.Sequential(nn.Linear(4, 6).requires_grad_(False), nn.Linear(6, 3))
    deep.promote(model, Rule(Direct(), SVDFactors(2), Hebb()), sample=torch.randn(2, 4))
    with pytest.raises(deep.Unsupported, match="nothing to refresh"):
        deep.refresh(model)


def test_weights_of_half_precision_are_refreshed():
    model = deep.promote(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)).bfloat16(), linfa.ldfa(3, "normative"))
    with torch.no_grad():
        model[1].weight.mul_(2)
    deep.refresh(model)
    Q, P = (model[1].feedback[name].float() for name in "QP")
    torch.testing.assert_close((Q @ P).T, model[1].weight.float(), rtol=0, atol=0.02)
