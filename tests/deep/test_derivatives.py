"""Shorter derivatives beside torch's own, in float64."""

import collections

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad, grad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

import deep
import linfa
from deep.derivatives import PUSHED, Instead, Twice

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own


def drawn(*shape, seed=0, **kw):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed), **kw)


def normalisation(training, affine, tracked):
    norm = nn.BatchNorm2d(3, affine=affine, track_running_stats=tracked).double().train(training)
    with torch.no_grad():
        for number, p in enumerate(norm.parameters()):
            p.copy_(drawn(3, seed=number))
        if tracked:
            norm(drawn(5, 3, 2, 2, seed=9) if training else drawn(1, 3, 1, 1))
            norm.running_mean.copy_(drawn(3, seed=4))
            norm.running_var.copy_(1 + drawn(3, seed=5).square())
    return norm


class Convolution(nn.Module):
    def __init__(self, kind, *sizes, **kw):
        super().__init__()
        self.inner = kind(*sizes, **kw).double()

    def forward(self, x):
        conv = self.inner
        geometry = conv.stride, conv.padding, conv.dilation, conv.transposed, conv.output_padding, conv.groups
        return torch.convolution(x, conv.weight, conv.bias, *geometry)


LAYERS = {
    "linear": (nn.Linear(3, 4).double(), (5, 2, 3)),
    "linear without bias": (nn.Linear(3, 4, bias=False).double(), (5, 3)),
    "layer norm": (nn.LayerNorm(3).double(), (5, 2, 3)),
    "layer norm of two axes": (nn.LayerNorm((2, 3)).double(), (5, 2, 3)),
    "layer norm without weights": (nn.LayerNorm(3, elementwise_affine=False).double(), (5, 3)),
    "gelu": (nn.GELU(), (5, 3)),
    "gelu by tanh": (nn.GELU("tanh"), (5, 3)),
    "convolution": (Convolution(nn.Conv2d, 3, 4, 3, stride=2, padding=1, dilation=2, groups=1), (2, 3, 7, 6)),
    "grouped": (Convolution(nn.Conv1d, 4, 4, 3, groups=2, bias=False), (2, 4, 7)),
    "transposed": (Convolution(nn.ConvTranspose2d, 3, 2, 3, stride=2, output_padding=1), (2, 3, 4, 4)),
    **{
        f"batch norm{', training' * training}{', affine' * affine}{', tracked' * tracked}": (
            normalisation(training, affine, tracked), (4, 3, 3, 2),
        )
        for training in (True, False) for affine in (True, False) for tracked in (True, False)
    },
}  # fmt: skip
with torch.no_grad():
    for number, parameter in enumerate(LAYERS["layer norm"][0].parameters()):
        parameter.copy_(drawn(3, seed=number + 20))


def pushed(layer, x, tangent):
    with forward_ad.dual_level():
        y, d = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, tangent)))
    return y.detach(), d.detach()


@pytest.mark.parametrize("name", LAYERS)
def test_tangents_are_those_of_forward_mode(name):
    layer, shape = LAYERS[name]
    x, v = drawn(*shape, seed=1), drawn(*shape, seed=2)
    state = {n: b.clone() for n, b in layer.state_dict().items()}
    y, d = pushed(layer, x, v)
    after = {n: b.clone() for n, b in layer.state_dict().items()}
    layer.load_state_dict(state)
    used = []
    watched = {f: (lambda *a, g=g, **k: used.append(g) or g(*a, **k)) for f, g in PUSHED.items()}
    with Instead(watched):
        mine, mine_d = pushed(layer, x, v)
    assert used
    assert d.norm() > 0.1
    torch.testing.assert_close(mine, y, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(mine_d, d, rtol=1e-11, atol=1e-12)
    for n, b in layer.state_dict().items():  # running statistics, moved once
        torch.testing.assert_close(b, after[n])
    layer.load_state_dict(state)


def test_the_gradient_of_the_value_stays():
    """And the tangent is a constant to it."""
    norm = normalisation(True, True, False)
    x = drawn(4, 3, 3, 2, requires_grad=True)
    weights = drawn(4, 3, 3, 2, seed=3)
    wanted = grad((weights * norm(x)).sum(), (x, *norm.parameters()))
    with forward_ad.dual_level(), Instead(PUSHED):
        y, d = forward_ad.unpack_dual(norm(forward_ad.make_dual(x, drawn(4, 3, 3, 2, seed=4))))
        assert not d.requires_grad
        for mine, theirs in zip(grad((weights * y).sum(), (x, *norm.parameters())), wanted, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_tangent_of_the_weight_is_left_to_torch():
    x, W = drawn(2, 3), drawn(4, 3, seed=1)
    with forward_ad.dual_level():
        dual_x, dual_W = forward_ad.make_dual(x, drawn(2, 3, seed=2)), forward_ad.make_dual(W, drawn(4, 3, seed=3))
        theirs = forward_ad.unpack_dual(F.linear(dual_x, dual_W)).tangent
        with Instead(PUSHED):
            mine = forward_ad.unpack_dual(F.linear(dual_x, dual_W)).tangent
            plain = forward_ad.unpack_dual(F.linear(dual_x, W)).tangent
    torch.testing.assert_close(mine, theirs)
    assert not torch.allclose(mine, plain)


def test_arguments_may_be_named_as_in_torch():
    x, v, W, s = drawn(2, 3, 5), drawn(2, 3, 5, seed=1), drawn(4, 5, seed=2), drawn(3, seed=3).square()
    kernel = drawn(4, 3, 2, seed=4)
    calls = {
        F.linear: {"weight": W, "bias": None},
        F.layer_norm: {"normalized_shape": (5,), "weight": None, "bias": None, "eps": 1e-3},
        F.batch_norm: {"running_mean": s, "running_var": s, "weight": None, "bias": None, "training": False},
    }
    for function, named in calls.items():
        theirs = pushed(lambda x, f=function, k=named: f(input=x, **k), x, v)
        with Instead(PUSHED):
            mine = pushed(lambda x, f=function, k=named: f(input=x, **k), x, v)
        torch.testing.assert_close(mine, theirs)
    with Twice():
        torch.testing.assert_close(F.conv1d(input=x, weight=kernel, padding=1), F.conv1d(x, kernel, padding=1))


BLIND = torch.tensor([[True, True, False], [False, False, False], [True, False, True], [True, True, True]])
ATTENTION = {
    "plain": {},
    "causal": {"is_causal": True},
    "scaled": {"scale": 0.3},
    "masked": {"attn_mask": BLIND},
    "masked by heads": {"attn_mask": BLIND ^ torch.tensor([[[False]], [[True]]])},
    "biased": {"attn_mask": drawn(4, 3, seed=8).where(BLIND | ~BLIND.any(1, keepdim=True), -torch.inf)},
}


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("moving", ["qkv", "q", "k", "v", "qv"])
def test_tangents_of_attention(name, moving):
    """Beside a difference quotient of what torch computes, in a batch, without one, and of a single head."""
    inputs = {"q": drawn(2, 2, 4, 5), "k": drawn(2, 2, 3, 5, seed=1), "v": drawn(2, 2, 3, 6, seed=2)}
    directions = {n: drawn(*x.shape, seed=3 + len(n)) if n in moving else None for n, x in inputs.items()}

    def attend(h, part=slice(None)):
        shifted = [x[part] if directions[n] is None else (x + h * directions[n])[part] for n, x in inputs.items()]
        return F.scaled_dot_product_attention(*shifted, **ATTENTION[name])

    for part in (slice(None), 0, (0, 0)):
        if part == (0, 0) and name == "masked by heads":
            continue
        with forward_ad.dual_level(), Instead(PUSHED):
            duals = [
                x[part] if directions[n] is None else forward_ad.make_dual(x[part], directions[n][part])
                for n, x in inputs.items()
            ]
            y, d = forward_ad.unpack_dual(F.scaled_dot_product_attention(*duals, **ATTENTION[name]))
        torch.testing.assert_close(y, attend(0, part), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(d, (attend(1e-6, part) - attend(-1e-6, part)) / 2e-6, rtol=1e-6, atol=1e-8)
        assert d.norm() > 0.1


def test_attention_keeps_its_gradient_and_no_weights():
    """Its gradient is that of the same backend, and the graph holds nothing of the size of T x T."""
    q, k, v = (drawn(2, 2, 40, 5, seed=n, requires_grad=True) for n in range(3))
    weights, kept = drawn(2, 2, 40, 5, seed=3), []
    wanted = grad((weights * F.scaled_dot_product_attention(q, k, v)).sum(), (q, k, v))
    with forward_ad.dual_level(), Instead(PUSHED):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            y = F.scaled_dot_product_attention(*(forward_ad.make_dual(x, drawn(*x.shape)) for x in (q, k, v)))
        y, d = forward_ad.unpack_dual(y)
        assert not d.requires_grad
        for mine, theirs in zip(grad((weights * y).sum(), (q, k, v)), wanted, strict=True):
            assert torch.equal(mine, theirs)
    assert max(kept) < 2 * 2 * 40 * 40


@pytest.mark.parametrize("given", [{"dropout_p": 0.5}, {"enable_gqa": True}, {"attn_mask": drawn(4, 3, seed=6)}])
def test_attention_with_more_is_left_to_torch(given):
    """Dropout, whose draws no backend tells, groups of heads, and a mask that moves."""
    heads = 1 if "enable_gqa" in given else 2
    inputs = drawn(2, 2, 4, 5), drawn(2, heads, 3, 5, seed=1), drawn(2, heads, 3, 6, seed=2)

    def attend():
        torch.manual_seed(0)
        duals = [forward_ad.make_dual(x, drawn(*x.shape, seed=7)) for x in inputs]
        mask = {n: forward_ad.make_dual(x, drawn(4, 3, seed=9)) for n, x in given.items() if n == "attn_mask"}
        return forward_ad.unpack_dual(F.scaled_dot_product_attention(*duals, **given | mask))

    with forward_ad.dual_level():
        with sdpa_kernel(SDPBackend.MATH):
            theirs = attend()
        with Instead(PUSHED):
            mine = attend()
    torch.testing.assert_close(mine.primal, theirs.primal)
    torch.testing.assert_close(mine.tangent, theirs.tangent)


def test_attention_of_torch_that_is_not_promoted_has_forward_mode():
    attention = nn.MultiheadAttention(4, 2, batch_first=True).double()
    x, v = drawn(2, 3, 4), drawn(2, 3, 4, seed=1)

    def attend(x):
        return attention(x, x, x, need_weights=False)[0]

    with Instead(PUSHED):
        _, mine = pushed(attend, x, v)
    torch.testing.assert_close(
        mine, ((attend(x + 1e-6 * v) - attend(x - 1e-6 * v)) / 2e-6).detach(), rtol=1e-6, atol=1e-8
    )


def test_one_value_in_a_channel_cannot_be_normalised():
    with forward_ad.dual_level(), Instead(PUSHED), pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(2).double()(forward_ad.make_dual(drawn(1, 2), drawn(1, 2)))


CONVOLUTIONS = {
    "plain": (lambda: [nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 2)], (3, 2, 6, 5)),
    "strided, padded, dilated": (
        lambda: [nn.Conv2d(2, 4, 3, stride=(2, 1), padding=(1, 2), dilation=(1, 2)), nn.Tanh()], (3, 2, 6, 7),
    ),
    "grouped": (lambda: [nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), nn.Conv2d(6, 2, 1, bias=False)], (3, 4, 5, 5)),
    "same, circular": (
        lambda: [nn.Conv2d(2, 3, 3, padding="same"), nn.Tanh(),
                 nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular")], (3, 2, 5, 5),
    ),
    "one dimension": (lambda: [nn.Conv1d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv1d(3, 3, 3)], (3, 2, 9)),
    "three dimensions": (lambda: [nn.Conv3d(2, 3, 2), nn.Tanh()], (3, 2, 4, 3, 3)),
    "transposed": (lambda: [nn.ConvTranspose2d(2, 3, 3, stride=2), nn.Tanh()], (3, 2, 4, 4)),
    "not first": (lambda: [nn.Tanh(), nn.Conv2d(2, 3, 3), nn.Softplus()], (3, 2, 5, 5)),
    "twice": (lambda: [(conv := nn.Conv2d(2, 2, 3, padding=1)), nn.Tanh(), conv, nn.Tanh()], (3, 2, 5, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_of_a_gradient_are_those_of_autograd(name, frozen):
    """Of lam |dvalue/dx - g|^2 + value by every weight."""
    torch.manual_seed(0)
    layers, shape = CONVOLUTIONS[name]
    net = nn.Sequential(*layers()).double()
    if frozen:
        next(net.parameters()).requires_grad_(False)
    weights, x = [p for p in net.parameters() if p.requires_grad], drawn(*shape, requires_grad=True)

    def value():
        return net(x).square().flatten(1).sum(1).cos().mean()

    below = 0.1 * drawn(*shape, seed=1)
    first = value()
    (error,) = grad(first, x, create_graph=True)
    wanted = grad(first + 0.7 * (error - below).square().sum(), weights)
    twice = Twice()
    with twice:
        twice.start = x
        first = value()
        mine = twice.errors(first)
        torch.testing.assert_close(mine, error, rtol=1e-10, atol=1e-13)
        found = grad([first, mine], weights, [None, 1.4 * (mine.detach() - below)])
    for got, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-9, atol=1e-12)


def test_a_second_derivative_that_is_not_there_is_refused():
    conv, x, twice = nn.Conv2d(2, 3, 3).double(), drawn(2, 2, 4, 4, requires_grad=True), Twice()
    with twice, pytest.raises(RuntimeError, match="is taken of errors alone"):
        grad(conv(x).square().sum(), x, create_graph=True)


class Counter(TorchDispatchMode):
    """How often each operation runs."""

    def __init__(self):
        super().__init__()
        self.calls = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func] += 1
        return func(*args, **(kwargs or {}))


def test_reconciliation_takes_five_convolutions_where_backpropagation_takes_three():
    """None with a kernel as large as an image: of a module but the first forward and q, and three gradients."""
    torch.manual_seed(0)
    body = [m for _ in range(3) for m in (nn.Conv2d(2, 2, 3, padding=1), nn.Tanh())]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(2 * 64, 3))
    x, y = torch.randn(4, 2, 8, 8), torch.arange(4) % 3
    deep.promote(model, linfa.sgr(), sample=x)
    with Counter() as counter:
        deep.loss(model, x, y)
    assert counter.calls[torch.ops.aten.convolution.default] == 3 + 2
    assert counter.calls[torch.ops.aten.convolution_backward.default] == 3 + 2 * 2
