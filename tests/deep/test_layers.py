"""Convolutions of every dimension as edges: the matricised kernel, its feedback and plasticity, every setting."""

import copy
import warnings

import pytest
import torch
from torch import nn

import deep
import linfa
from deep import maps

from .oracles import CONVOLUTIONS, convolution_columns, feedback_matrix  # isort: skip

SIZES = {1: (9,), 2: (7, 6), 3: (5, 5, 6)}
SETTINGS = {
    "plain": {}, "stride": {"stride": 2, "padding": 1}, "grouped": {"groups": 2, "dilation": 2},
    "depthwise": {"groups": 4, "stride": 2},
}  # fmt: skip
RULES = {
    "fa": linfa.fa(), "oja": linfa.ldfa(2), "kolen-pollack": linfa.kolen_pollack(0.05),
    "clamped": linfa.ldfa(2, "hebb", clamp=1e-5), "mirror": linfa.weight_mirror(), "uSF": linfa.sign_symmetry(),
}  # fmt: skip


def layer_and_input(kind, setting, seed=0):
    torch.manual_seed(seed)
    layer = kind(4, 6 if setting != "depthwise" else 8, 3 if "2d" not in kind.__name__ else (3, 2), **SETTINGS[setting])
    dimension = len(layer.kernel_size)
    if setting == "stride":
        layer.padding = (2, 0, 1)[:dimension]
    if layer.transposed and setting in ("stride", "grouped"):  # the latter adds positions that no column reaches
        layer.output_padding = (1,) * dimension
    return layer.double(), torch.randn(3, 4, *SIZES[dimension], dtype=torch.float64, requires_grad=True)


def mean_loss(y):
    """Of a mean over samples and positions, so that both are samples."""
    return (y.sin() + 0.3 * y).sum(1).mean()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("name", RULES)
def test_every_gradient_from_columns(name, kind, setting):
    """Weight, input and feedback gradients from the columns that the layer sees, by each plasticity's formula."""
    layer, x = layer_and_input(kind, setting)
    rule = RULES[name].at_rank(1 if setting == "depthwise" else 2)
    deep.promote(layer, rule, seed=2)
    y = layer(x)
    y.retain_grad()
    mean_loss(y).backward()
    probe = x.detach().requires_grad_()
    seen, e = convolution_columns(layer, probe, y.grad)
    h = seen.detach()
    W = next(iter(maps.matrices(layer).values()))
    B = feedback_matrix(layer.feedback, W)
    B = B if B.dim() == 3 else B[None]
    W = W if W.dim() == 3 else W[None]
    (dx,) = torch.autograd.grad((seen * torch.einsum("ghe,gen->ghn", B, e)).sum(), probe)  # patches add up
    bound = rule.feedback.clamp
    if bound is not None:
        assert dx.abs().max() > bound
        dx = dx.clip(-bound, bound)
    torch.testing.assert_close(x.grad, dx, rtol=1e-9, atol=1e-14)
    G = torch.einsum("gen,ghn->geh", e, h)
    shaped = (G.mT if layer.transposed else G).reshape(layer.weight.shape)
    torch.testing.assert_close(layer.weight.grad, shaped + rule.decay * layer.weight.detach(), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(layer.bias.grad, y.grad.transpose(0, 1).flatten(1).sum(1), rtol=1e-9, atol=1e-14)
    expected = {
        "fa": {}, "uSF": {}, "kolen-pollack": {"B": G.mT + rule.decay * B}, "mirror": {"B": B - W.mT},
    }.get(name)  # fmt: skip
    if expected is None:
        Q, P = (layer.feedback[n].detach().reshape(layer.groups, *layer.feedback[n].shape[-2:]) for n in "QP")
        expected = {"Q": G.mT @ P.mT, "P": Q.mT @ G.mT}
        if name == "oja":
            C = torch.stack([torch.cov(group, correction=0) for group in e])
            C = C / C.diagonal(dim1=-2, dim2=-1).amax(-1)[:, None, None]
            expected["P"] = -P @ C @ (torch.eye(P.shape[-1]).to(P) - P.mT @ P)
    learned = {n: p.grad for n, p in layer.feedback.items() if p.requires_grad}
    assert set(learned) == set(expected)
    for n, gradient in learned.items():
        torch.testing.assert_close(gradient, expected[n].reshape(gradient.shape), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_the_forward_pass_stays(name, kind):
    """Batched and not, every padding mode, and the output size of a transposed convolution."""
    modes = ["zeros"] if "Transpose" in kind.__name__ else ["zeros", "reflect", "replicate", "circular"]
    for mode in modes:
        layer = kind(4, 6, 3, padding=2, stride=2, padding_mode=mode)
        head = nn.Linear(6, 2)
        x = torch.randn(3, 4, *SIZES[len(layer.kernel_size)])
        plain = copy.deepcopy(layer)
        model = nn.Sequential(layer, nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), head)
        deep.promote(model, linfa.fa() if name == "fa" else linfa.dfa(), sample=x)
        assert torch.equal(layer(x), plain(x))
        assert torch.equal(layer(input=x), plain(x))
        torch.testing.assert_close(layer(x[0]), plain(x[0]))
        if plain.transposed:
            size = [n + 1 for n in plain(x).shape[2:]]
            assert torch.equal(layer(x, output_size=size), plain(x, size))
            assert layer(x, size).shape[2:] == torch.Size(size)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("name", ["oja", "kolen-pollack"])
def test_compile_autocast_and_round_trips(name, kind):
    layer, x = layer_and_input(kind, "stride")
    layer, x = deep.promote(layer.float(), RULES[name]), x.detach().float().requires_grad_()

    def gradients(module, x):
        module.zero_grad()
        mean_loss(module(x).float()).backward()
        return {n.removeprefix("_orig_mod."): p.grad for n, p in module.named_parameters() if p.grad is not None}

    exact = gradients(layer, x)
    fresh = deep.promote(layer_and_input(kind, "stride", seed=1)[0].float(), RULES[name], seed=9)
    fresh.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), fresh):
        assert all(torch.equal(g, exact[n]) for n, g in gradients(other, x).items())
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamo's own notices
        for n, g in gradients(torch.compile(layer, fullgraph=True, backend="aot_eager"), x).items():
            torch.testing.assert_close(g, exact[n], rtol=1e-3, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for n, g in gradients(layer, x).items():
            assert g.dtype == torch.float32
            if n == "feedback.P":  # a small difference of large products
                continue
            assert (g - exact[n]).norm() < 0.3 * exact[n].norm(), n


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_forward_mode_uses_the_true_weight(kind):
    layer, x = layer_and_input(kind, "grouped")
    plain, x, direction = copy.deepcopy(layer), x.detach(), torch.randn_like(x)
    deep.promote(layer, linfa.fa())
    weights = {n: p.detach() for n, p in layer.named_parameters()}
    shifts = {n: torch.randn_like(p) for n, p in weights.items()}

    def tangent(module):
        names = [n for n, _ in module.named_parameters()]
        call = lambda w, x: torch.func.functional_call(module, w, (x,))  # noqa: E731
        return torch.func.jvp(call, ({n: weights[n] for n in names}, x), ({n: shifts[n] for n in names}, direction))[1]

    torch.testing.assert_close(tangent(layer), tangent(plain))
