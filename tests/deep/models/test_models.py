"""The models: shapes, promotion, gradients everywhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep.models import ViT, build, cnn, mlp

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


def test_errors():
    with pytest.raises(ValueError, match="choose one of mlp, cnn"):
        build("alexnet", 3, 32, 10)
    with pytest.raises(ValueError, match="do not tile"):
        ViT(image=30, patch=4)
    with pytest.raises(ValueError, match="not a multiple"):
        ViT(dim=10, heads=3)
    with pytest.raises(ValueError, match="widths"):
        mlp((3,))
