"""The models: shapes, promotion, gradients everywhere."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep.models import (
    LanguageModel,
    ResNet,
    ViT,
    alexnet,
    alexnet_cifar,
    build,
    cnn,
    mlp,
    resnet18,
    resnet20,
    resnet50,
    retina,
    vgg13,
    vgg_like,
    vit_b16,
)
from deep.models.resnet import Bottleneck
from deep.models.transformer import Attention
from deep.models.vgg import vgg

SMALL = {
    "mlp": lambda: mlp((3 * 16 * 16, 20, 15, 10)),
    "cnn": lambda: cnn(3, 10, width=4),
    "lenet": lambda: build("lenet", 3, 32, 10),
    "resnet20": lambda: build("resnet20", 3, 16, 10),
    "vit": lambda: ViT(16, 4, dim=16, depth=2, heads=2),
    "vit-b16": lambda: ViT(16, 8, dim=16, depth=2, heads=2, mlp_ratio=4, class_token=True),
    "vgg": lambda: vgg(((4, 4), (6, 6)), 12, 10, 3, 16, norm=True),
    "vgg13": lambda: vgg(((4, 4), (6, 6), (8,)), 12, 10, 3, 16, norm=False),
    "resnet18": lambda: ResNet((2, 1), 10, width=4, stem="imagenet"),
    "resnet50": lambda: ResNet((2, 1), 10, width=4, block=Bottleneck),
    "retina": lambda: retina(10, 3, width=6, bottleneck=3, size=16),
}
SIZE = {"lenet": 32}
BY_NAME = ("mlp", "cnn", "lenet", "resnet20", "vit", "retina", "resnet18")
WHOLE = {
    "resnet18": (resnet18, 11_689_512, 224),
    "resnet50": (resnet50, 25_557_032, 224),
    "alexnet": (alexnet, 61_100_840, 224),
    "vgg13": (vgg13, 133_047_848, 224),
    "vit-b16": (vit_b16, 86_567_656, 224),
}
"""Models with the numbers of parameters that torchvision publishes."""


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


def test_a_class_token_is_what_the_class_is_read_off():
    """Without blocks to move it there, nothing of the image reaches the token."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    for class_token in (False, True):
        a, b = ViT(16, 8, dim=16, depth=0, heads=2, class_token=class_token)(x)
        assert torch.equal(a, b) is class_token


@pytest.mark.parametrize(("channels", "size", "classes"), [(3, 32, 100), (1, 28, 10)])
@pytest.mark.parametrize("name", BY_NAME)
def test_models_by_name(name, channels, size, classes):
    model = build(name, channels, size, classes).eval()
    assert model(torch.zeros(1, channels, size, size)).shape == (1, classes)


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", WHOLE)
def test_published_numbers_of_parameters(name):
    make, number, size = WHOLE[name]
    with torch.device("meta"):
        model, named = make(), build(name, 3, size, 1000)
        assert count(model) == count(named) == number
        assert model.eval()(torch.empty(2, 3, size, size)).shape == (2, 1000)


@pytest.mark.parametrize(
    ("name", "number"),
    [("resnet18", 11_173_962), ("resnet32", 466_906), ("resnet50", 23_520_842), ("vgg13", 9_938_378)],
)
def test_small_images_get_another_stem(name, number):
    """ResNets of the usual CIFAR implementations have as many; of VGG-13 only the convolutions are the paper's."""
    with torch.device("meta"):
        model = build(name, 3, 32, 10)
        assert count(model) == number
        assert model.eval()(torch.empty(2, 3, 32, 32)).shape == (2, 10)


def test_the_network_of_ldfa():
    """384 units, 8 blocks of 8 heads, twice as many hidden units, patches of 4."""
    block = 4 * 384 * 384 + 4 * 384 + 2 * 2 * 384 * 384 + 3 * 384 + 4 * 384
    with torch.device("meta"):
        model = build("vit", 3, 32, 10)
    assert count(model) == 8 * block + (48 + 1 + 64) * 384 + 2 * 384 + 10 * 385
    assert len(model.blocks) == 8
    assert model.blocks[0].attention.heads == 8


@pytest.mark.parametrize("make", [vgg_like, alexnet_cifar])
def test_a_step_at_full_width(make):
    torch.manual_seed(0)
    model, x = make().train(), torch.randn(2, 3, 32, 32)
    deep.promote(model, linfa.ldfa(4), sample=x)
    F.cross_entropy(model(x), torch.arange(2)).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters() if p.requires_grad and p.dim() > 1)


@pytest.mark.parametrize("rule", [None, linfa.fa(), linfa.ldfa(3), linfa.dfa()], ids=str)
def test_a_language_model_learns_to_count(rule):
    torch.manual_seed(0)
    model = LanguageModel(vocabulary=7, context=8, dim=16, depth=1, heads=2)
    tokens = (torch.arange(8) + torch.arange(7)[:, None]) % 7
    if rule is not None:
        deep.promote(model, rule, sample=tokens)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(60):
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5  # 1.95 without learning


def test_a_language_model_does_not_see_what_comes():
    torch.manual_seed(0)
    model = LanguageModel(vocabulary=7, context=8, dim=16, depth=2, heads=2).eval()
    a = torch.randint(0, 7, (2, 8))
    b = a.clone()
    b[:, 5] = (b[:, 5] + 1) % 7
    changed = (model(a) - model(b)).abs().amax((0, 2)) > 1e-5
    assert changed.tolist() == [False] * 5 + [True] * 3
    assert model.head.weight is not model.embed.weight


def test_the_bottleneck_is_that_of_torchvision():
    torchvision = pytest.importorskip("torchvision", reason="compares with torchvision's ResNet-50, if it is installed")
    theirs, mine = torchvision.models.resnet50().double().eval(), resnet50().double().eval()
    with torch.no_grad():
        # Both register the layers of a block in the order of the formulas but for the shortcut, which is last.
        for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
            a.copy_(b)
        x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
        torch.testing.assert_close(mine(x), theirs(x))


def test_numbers_of_parameters():
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
        build("inception", 3, 32, 10)
    with pytest.raises(ValueError, match="5 halvings leave nothing of an image of 28"):
        build("vgg13", 1, 28, 10)
    with pytest.raises(ValueError, match="unknown stem 'large': choose one of cifar, imagenet"):
        resnet18(stem="large")
    with pytest.raises(ValueError, match="9 tokens exceed the context of 8"):
        LanguageModel(7, 8, dim=4, depth=1, heads=1)(torch.zeros(1, 9, dtype=torch.long))
    with pytest.raises(ValueError, match="do not tile"):
        ViT(image=30, patch=4)
    with pytest.raises(ValueError, match="not a multiple"):
        ViT(dim=10, heads=3)
    with pytest.raises(ValueError, match="widths"):
        mlp((3,))
