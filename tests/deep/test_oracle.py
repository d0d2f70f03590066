"""The second equality of the bridge: on nonlinear nets, promoted gradients equal independent oracles."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
from linfa.rules import Dense, Direct, Full, Layerwise, Local, Plain, RandomFactors, Rule, named

from .covered import promotable  # isort: skip
from .oracles import Draws, gradients  # isort: skip


class ConvNet(nn.Module):
    """Stride, padding, dilation, groups, with and without bias, circular and 'same' padding, batch norm, a skip."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, (3, 2), stride=(2, 1), padding=(1, 0), groups=4)
        self.c = nn.Conv2d(8, 12, 3, padding="same", dilation=2, bias=False, padding_mode="circular")
        self.d = nn.Conv2d(12, 12, 3, padding="same", padding_mode="zeros", groups=2)
        self.norm = nn.BatchNorm2d(12)
        self.e = nn.Linear(12, 7)
        self.head = nn.Linear(7, 5, bias=False)

    def forward(self, x):
        x = F.relu(self.a(x))
        x = torch.tanh(self.b(x))
        x = F.relu(self.norm(self.c(x)))
        x = x + F.gelu(self.d(x))
        return self.head(torch.tanh(self.e(x.mean((2, 3)))))


class Block(nn.Module):
    """A pre-norm transformer block on tokens with a head: leading dimensions (batch, tokens), fused qkv, residuals."""

    def __init__(self, dim=8):
        super().__init__()
        self.embed = nn.Linear(6, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.head = nn.Linear(dim, 4)

    def forward(self, x):
        x = self.embed(x)
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


class TokenBlock(Block):
    """The same block with a prediction for every token: the error comes position by position."""

    def forward(self, x):
        x = self.embed(x)
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(x + self.down(F.gelu(self.up(self.norm2(x)))))


class Decoder(nn.Module):
    """Down and up again in one, two and three dimensions: transposed convolutions with stride, groups and no bias."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv1d(2, 4, 3, stride=2, padding=1, padding_mode="reflect")
        self.b = nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.c = nn.Conv2d(6, 6, 3, padding="same", groups=6)
        self.d = nn.ConvTranspose2d(6, 4, (2, 3), stride=(2, 1), dilation=(1, 2), bias=False)
        self.e = nn.Conv3d(2, 4, (1, 3, 2), padding="valid")
        self.f = nn.ConvTranspose3d(4, 3, 2, padding=(0, 1, 0))
        self.head = nn.Linear(3, 5)

    def forward(self, x):
        x = F.relu(self.b(torch.tanh(self.a(x))))
        x = torch.tanh(self.c(x.unflatten(-1, (2, -1))))
        x = torch.tanh(self.d(x)).unflatten(1, (2, 2))
        return self.head(torch.tanh(self.f(torch.tanh(self.e(x)))).mean((2, 3, 4)))


NETS = {
    "conv": (ConvNet, (5, 3, 9, 8)), "block": (Block, (5, 7, 6)), "tokens": (TokenBlock, (5, 7, 6)),
    "decoder": (Decoder, (5, 2, 8)),
}  # fmt: skip
COVERED = {  # test_factored.py, test_activity.py and test_local.py have the others
    name: rule
    for name, rule in promotable().items()
    if not isinstance(rule.route, Local) and rule.parameterisation == Full() and rule.activity == Plain()
}
COVERED["two exact layers"] = Rule(Direct(exact_top=2), Dense(), name="two exact layers")


def problem(kind, seed=0):
    make, shape = NETS[kind]
    torch.manual_seed(seed)
    net = make().double()
    x = torch.randn(shape, dtype=torch.float64)
    y = torch.randint(0, 4, (shape[0], 7) if kind == "tokens" else (shape[0],))

    def losses(out):
        return F.cross_entropy(out.flatten(0, -2), y.flatten(), reduction="none")

    return (lambda: make().double()), net, x, losses


def assert_same(net, theirs, tolerance=1e-10):
    """Every gradient of a net, and no other."""
    mine = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert mine.keys() == theirs.keys()
    for name, g in mine.items():
        gap = (g - theirs[name]).abs().max() / theirs[name].abs().max().clamp(min=1e-30)
        assert gap <= tolerance, f"{name}: {gap:.1e}"


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", COVERED)
def test_gradients_equal_the_oracle(kind, name):
    """Of layerwise rules by surrogates, of direct ones by a backward from many roots; of feedback by its formulas."""
    make, net, x, losses = problem(kind)
    rule = COVERED[name]
    deep.promote(net, rule, sample=x if isinstance(rule.route, Direct) else None, seed=3)
    with torch.no_grad():
        for n, p in net.named_parameters():
            if "feedback" in n and p.requires_grad:  # away from where it starts, which may be where it rests
                p += 0.1 * torch.randn_like(p)
    torch.manual_seed(5)
    losses(net(x)).mean().backward()
    assert_same(net, gradients(make, rule, net.state_dict(), x, losses, Draws(seed=5)))


@pytest.mark.parametrize("kind", NETS)
def test_bp_is_autograd(kind):
    make, net, x, losses = problem(kind)
    plain = make()
    plain.load_state_dict(net.state_dict())
    losses(plain(x)).mean().backward()
    deep.promote(net, named()["bp"])
    losses(net(x)).mean().backward()
    assert_same(net, {n: p.grad for n, p in plain.named_parameters()})


@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_rules_differ_from_backprop(name):
    """Otherwise the equalities above would say nothing."""
    make, net, x, losses = problem("conv")
    plain = make()
    plain.load_state_dict(net.state_dict())
    losses(plain(x)).mean().backward()
    deep.promote(net, named()[name], sample=x)
    losses(net(x)).mean().backward()
    for layer in ("a", "b", "c"):
        mine, exact = net.get_submodule(layer).weight.grad, plain.get_submodule(layer).weight.grad
        assert F.cosine_similarity(mine.flatten(), exact.flatten(), dim=0).abs() < 0.9
    torch.testing.assert_close(net.head.weight.grad, plain.head.weight.grad)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))


@pytest.mark.parametrize("plasticity", ["oja", "hebb", "normative", "kolen-pollack"])
def test_conv_plasticity_from_unfolded_patches(plasticity):
    """Feedback gradients of a grouped convolution, from patches unfolded by hand and each plasticity's formula."""
    torch.manual_seed(0)
    rule = named()[f"ldfa(2, {plasticity})"]
    net = Tiny().double()
    deep.promote(net, rule, seed=1)
    x, y = torch.randn(4, 2, 6, 6, dtype=torch.float64), torch.randint(0, 3, (4,))
    seen = {}

    def watch(module, inputs, output):
        seen["x"] = inputs[0].detach()
        output.register_hook(lambda error: seen.update(e=error))

    net.second.register_forward_hook(watch)
    F.cross_entropy(net(x), y).backward()
    patches = F.unfold(seen["x"], 3, padding=1, stride=2)  # (N, C k k, positions)
    for group in range(2):
        h = patches.unflatten(1, (2, -1))[:, group]  # (N, n_h, positions)
        e = seen["e"].flatten(2).unflatten(1, (2, -1))[:, group]  # (N, n_e, positions)
        G = torch.einsum("nep,nhp->eh", e, h)
        flat = e.permute(1, 0, 2).flatten(1)
        C = torch.cov(flat, correction=0)
        C = C / C.diagonal().max()
        W = net.second.weight.detach().flatten(1)[3 * group : 3 * group + 3]
        Q, P = (net.second.feedback[n].detach()[group] for n in "QP")
        dQ, dP = {
            "oja": (-G.T @ P.T, P @ C @ (torch.eye(3) - P.T @ P)),
            "hebb": (-G.T @ P.T, -Q.T @ G.T),
            "normative": ((W.T - Q @ P) @ P.T, Q.T @ (W.T - Q @ P)),
            "kolen-pollack": (-G.T @ P.T, None),
        }[plasticity]
        torch.testing.assert_close(net.second.feedback["Q"].grad[group], -dQ, rtol=1e-9, atol=1e-14)
        if dP is None:
            assert net.second.feedback["P"].grad is None
        else:
            torch.testing.assert_close(net.second.feedback["P"].grad[group], -dP, rtol=1e-9, atol=1e-14)


def test_clamp_limits_the_delivered_error():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)).double()
    bound = 1e-3
    deep.promote(net, Rule(Layerwise(), RandomFactors(2, clamp=bound), name="clamped"))
    seen = []
    x = torch.randn(8, 4, dtype=torch.float64)
    h = net[0](x)
    h.register_hook(seen.append)
    net[1](h).square().sum().backward()
    assert seen[0].abs().max() == bound
