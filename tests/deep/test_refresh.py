"""Refreshed feedback is the truncated SVD of the present weight; nothing else changes."""

import copy

import pytest
import torch
from torch import nn

import deep
import linfa


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
