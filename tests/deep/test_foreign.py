"""Models of other libraries, untouched.  Each test runs where its library is installed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep import layers

from .oracles import surrogate_net  # isort: skip

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def library(name):
    return pytest.importorskip(name, reason=f"{name} is not installed: pip install {name} to promote its models")


def images(size=16):
    return torch.randn(3, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def tokens():
    return torch.randint(0, 11, (3, 6), generator=torch.Generator().manual_seed(0))


def torchvision_resnet():
    library("torchvision")
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4), images(32), ()


def timm_resnet():
    library("timm")
    from timm.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4, channels=(8, 8, 12, 16)), images(32), ()


def timm_mixer():
    library("timm")
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(num_classes=4, img_size=16, patch_size=4, num_blocks=2, embed_dim=16), images(), ()


def timm_vit():
    library("timm")
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=4)
    return model, images(), ("cls_token", "pos_embed")


def hugging_face_vit():
    transformers = library("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4,
        num_labels=4,
    )  # fmt: skip
    names = ("vit.embeddings.cls_token", "vit.embeddings.position_embeddings")
    return transformers.ViTForImageClassification(config), images(), names


def hugging_face_resnet():
    transformers = library("transformers")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    config.num_labels = 4
    return transformers.ResNetForImageClassification(config), images(), ()


def hugging_face_llama():
    transformers = library("transformers")
    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    return model, tokens(), (type(model.model.norm),)


def gpt2():
    transformers = library("transformers")
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=8, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def hugging_face_gpt2():
    """GPT-2 after the way out that the error names: its Conv1D layers, of transposed weight, as nn.Linear."""
    model = gpt2()
    for path, module in list(model.named_modules()):
        if type(module).__name__ == "Conv1D":
            parent, _, name = path.rpartition(".")
            linear = nn.Linear(*module.weight.shape)
            linear.load_state_dict({"weight": module.weight.T, "bias": module.bias})
            setattr(model.get_submodule(parent), name, linear)
    return model, tokens(), ()


MODELS = [
    torchvision_resnet, timm_resnet, timm_mixer, timm_vit, hugging_face_vit, hugging_face_resnet,
    hugging_face_llama, hugging_face_gpt2,
]  # fmt: skip


def seeded(make):
    torch.manual_seed(0)
    model, x, exact = make()
    return model.double().eval(), x, exact  # without dropout, and with statistics that stay


def loss(model, x):
    out = model(x)
    out = getattr(out, "logits", out)
    return F.cross_entropy(out.flatten(0, -2), torch.arange(out.shape[:-1].numel()) % 4)


def gradients(model, x):
    loss(model, x).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None and ".feedback." not in n}


def assert_same(mine, theirs):
    assert set(mine) == set(theirs)
    for name, g in mine.items():
        torch.testing.assert_close(g, theirs[name], rtol=1e-8, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_promoted_untouched(make):
    model, x, exact = seeded(make)
    plain = copy.deepcopy(model)
    backprop = gradients(plain, x)
    deep.promote(model, linfa.bp(), exact=exact)
    assert_same(gradients(model, x), backprop)
    deep.demote(model)
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert set(model.state_dict()) == set(plain.state_dict())
    model.zero_grad()

    deep.promote(model, linfa.fa(), exact=exact)
    assert torch.equal(loss(model, x), loss(plain, x))
    paths = [path for path, m in model.named_modules() if isinstance(m, layers.Promoted)]
    assert len(paths) >= 4
    mine = gradients(model, x)
    assert_same(mine, gradients(surrogate_net(lambda: copy.deepcopy(plain), model.state_dict(), paths), x))
    assert any(F.cosine_similarity(mine[n].flatten(), g.flatten(), dim=0) < 0.9 for n, g in backprop.items())


@pytest.mark.parametrize("rule", [linfa.dfa(), linfa.ldfa(2), linfa.kolen_pollack()], ids=lambda rule: rule.name)
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_state_goes_into_a_fresh_model(make, rule):
    models = []
    for seed in range(2):
        model, x, exact = seeded(make)
        models.append(deep.promote(model, rule, sample=x, exact=exact, seed=seed))
    first, second = models
    before = gradients(first, x)
    second.load_state_dict(first.state_dict())
    assert_same(gradients(second, x), before)


def test_gpt2_names_its_way_out():
    """The weight of a Conv1D of transformers is transposed, and its class is not one that promotion knows."""
    model = gpt2()
    kinds = [type(m) for m in model.modules()]
    with pytest.raises(deep.Unsupported, match=r"h\.0\.attn\.c_attn is a transformers\S*Conv1D .*exact=.*nn\.Linear"):
        deep.promote(model, linfa.fa())
    assert kinds == [type(m) for m in model.modules()]


@pytest.mark.parametrize("make", [timm_vit, hugging_face_vit], ids=lambda make: make.__name__)
def test_loose_parameters_are_named(make):
    model, _, exact = seeded(make)
    names = "', '".join(exact)
    with pytest.raises(deep.Unsupported, match=rf"exact=\('{names}'\)"):
        deep.promote(model, linfa.fa())
