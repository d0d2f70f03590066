"""The models: shapes, promotion, gradients everywhere."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep.models import ViT, build, cnn, mlp, resnet20
from deep.models.vit import Attention

SMALL = {
    "mlp": lambda: mlp((3 * 16 * 16, 20, 15, 10)),
    "cnn": lambda: cnn(3, 10, width=4),
    "lenet": lambda: build("lenet", 3, 32, 10),
    "resnet20": lambda: build("resnet20", 3, 16, 10),
    "vit": lambda: ViT(16, 4, dim=16, depth=2, heads=2),
}
SIZE = {"lenet": 32}


@pytest.mark.parametrize("rule", [None, linfa.fa(), linfa.ldfa(3), linfa.dfa()], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name, rule):
    torch.manual_seed(0)
    model = SMALL[name]()
    x = torch.randn(4, 3, SIZE.get(name, 16), SIZE.get(name, 16))
    if rule is not None:
        deep.promote(model, rule, sample=x)
    out = model(x)
    assert out.shape == (4, 10)
    F.cross_entropy(out, torch.arange(4)).backward()
    for path, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, path
            assert torch.isfinite(p.grad).all()
            assert p.dim() == 1 or p.grad.any(), path


@pytest.mark.parametrize("name", SMALL)
def test_linear_maps_are_standard_layers(name):
    own = {type(m) for m in SMALL[name]().modules() if list(m.parameters(recurse=False))}
    assert own <= {nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.Embedding}


def test_vit_sees_where_patches_are():
    torch.manual_seed(0)
    model = SMALL["vit"]().eval()
    x = torch.randn(1, 3, 16, 16)
    swapped = torch.cat([x[..., 4:8], x[..., :4], x[..., 8:]], -1)
    assert (model(x) - model(swapped)).abs().max() > 1e-4


@pytest.mark.parametrize(("channels", "size", "classes"), [(3, 32, 100), (1, 28, 10)])
@pytest.mark.parametrize("name", SMALL)
def test_models_by_name(name, channels, size, classes):
    model = build(name, channels, size, classes).eval()
    assert model(torch.zeros(1, channels, size, size)).shape == (1, classes)


def test_numbers_of_parameters():
    def count(model):
        return sum(p.numel() for p in model.parameters())

    assert count(mlp((7, 5, 3))) == (7 * 5 + 5) + 2 * 5 + (5 * 3 + 3)
    assert count(mlp((7, 5, 3), norm=False, bias=False)) == 7 * 5 + 5 * 3
    channels = (3, 4, 4, 8, 8, 16, 16)
    convolutions = sum(9 * a * b + 2 * b for a, b in pairwise(channels))
    assert count(cnn(3, 10, width=4)) == convolutions + 16 * 10 + 10
    depth = sum(isinstance(m, (nn.Conv2d, nn.Linear)) and m.weight.shape[2:] != (1, 1) for m in resnet20().modules())
    assert depth == 20


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    mine = Attention(12, 3).double()
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(mine.qkv.weight)
        theirs.in_proj_bias.copy_(mine.qkv.bias)
        theirs.out_proj.weight.copy_(mine.proj.weight)
        theirs.out_proj.bias.copy_(mine.proj.bias)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(mine(x), theirs(x, x, x, need_weights=False)[0])


def test_errors():
    with pytest.raises(ValueError, match="choose one of mlp, cnn"):
        build("alexnet", 3, 32, 10)
    with pytest.raises(ValueError, match="do not tile"):
        ViT(image=30, patch=4)
    with pytest.raises(ValueError, match="not a multiple"):
        ViT(dim=10, heads=3)
    with pytest.raises(ValueError, match="widths"):
        mlp((3,))
