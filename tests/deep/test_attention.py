"""Attention promoted: the forward pass of torch in every setting, and the gradients of surrogates."""

import copy
import itertools
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import deep
import linfa
from deep import attention
from linfa.rules import Full, Plain, named

from .covered import promotable  # isort: skip
from .oracles import Draws, gradients  # isort: skip

T, S, N, E, HEADS = 4, 5, 3, 8, 2


def problem(batch_first=True, self_attention=False, seed=0, **settings):
    """A plain attention module in float64, and what it is called with."""
    torch.manual_seed(seed)
    module = nn.MultiheadAttention(E, HEADS, batch_first=batch_first, dtype=torch.float64, **settings)
    for p in module.parameters():
        nn.init.normal_(p, std=0.4)
    shape = (lambda t, n: (N, t, n)) if batch_first else (lambda t, n: (t, N, n))
    x = torch.randn(shape(T, E), dtype=torch.float64)
    if self_attention:
        return module, (x, x, x)
    y = torch.randn(shape(S, settings.get("kdim") or E), dtype=torch.float64)
    z = torch.randn(shape(S, settings["vdim"]), dtype=torch.float64) if "vdim" in settings else y
    return module, (x, y, z)


PADDING = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 1]], dtype=torch.bool)
FLAT = torch.triu(torch.ones(T, S, dtype=torch.bool), 2)
SPOTS = (torch.arange(N * HEADS * T * S) % 7 == 3).reshape(N * HEADS, T, S) & (torch.arange(S) > 0)
MASKS = {
    "none": {}, "padding": {"key_padding_mask": PADDING}, "flat": {"attn_mask": FLAT},
    "float": {"attn_mask": torch.linspace(-1, 1, T * S, dtype=torch.float64).reshape(T, S)},
    "both": {"attn_mask": FLAT ^ SPOTS, "key_padding_mask": PADDING},
}  # fmt: skip


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"batch_first": False, "bias": False}, {"kdim": 6, "vdim": 7}, {"add_bias_kv": True, "add_zero_attn": True}],
    ids=str,
)
@pytest.mark.parametrize("name", ["bp", "fa"])
def test_forward_and_exact_backward_are_those_of_torch(name, settings, mask):
    for need_weights, average in ((True, True), (True, False), (False, True)):
        plain, inputs = problem(**settings)
        module = deep.promote(copy.deepcopy(plain), named()[name])
        call = {"need_weights": need_weights, "average_attn_weights": average, **MASKS[mask]}
        (out, weights), (expected, theirs) = module(*inputs, **call), plain(*inputs, **call)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-13)
        assert (weights is None) == (not need_weights)
        if need_weights:
            torch.testing.assert_close(weights, theirs, rtol=1e-12, atol=1e-13)
        with torch.no_grad():
            assert torch.equal(module.eval()(*inputs, **call)[0], plain.eval()(*inputs, **call)[0])
        if name == "bp":
            for o in (out, expected):
                o.sin().sum().backward()
            for n, p in plain.named_parameters():
                torch.testing.assert_close(module.get_parameter(n).grad, p.grad, rtol=1e-10, atol=1e-12)


def test_unbatched_causal_and_dropout():
    plain, (x, y, z) = problem(dropout=0.3)
    module = deep.promote(copy.deepcopy(plain), linfa.fa())
    for call in ({"key_padding_mask": PADDING[0]}, {"need_weights": False}):
        mine, theirs = (m.eval()(x[0], y[0], z[0], **call) for m in (module, plain))
        for a, b in zip(mine, theirs, strict=True):
            assert a is b or torch.allclose(a, b, rtol=1e-12)
    causal = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
    for need_weights in (True, False):
        call = {"attn_mask": causal, "is_causal": True, "need_weights": need_weights}
        torch.testing.assert_close(module(x, x, x, **call)[0], plain(x, x, x, **call)[0], rtol=1e-12, atol=1e-13)
        outs = []
        for m in (module.train(), plain.train()):
            torch.manual_seed(3)
            outs.append(m(x, y, z, need_weights=need_weights)[0])
        torch.testing.assert_close(*outs, rtol=1e-12, atol=1e-13)
        module.eval(), plain.eval()
    call = {"attn_mask": causal, "is_causal": True, "key_padding_mask": PADDING[:, 1:], "need_weights": False}
    torch.testing.assert_close(module(x, x, x, **call)[0], plain(x, x, x, **call)[0], rtol=1e-12, atol=1e-13)
    with pytest.raises(RuntimeError, match="pass the mask as well"):
        module(x, x, x, is_causal=True)


LAYERWISE = [
    name for name, rule in promotable().items()
    if rule.route.single_layer and rule.parameterisation == Full() and rule.activity == Plain()
]  # fmt: skip


class Alone(nn.Module):
    """Attention and nothing else."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, query, key, value):
        return self.attention(query, key, value)[0]


def losses(out):
    return out.sin().flatten(1).sum(1)


@pytest.mark.parametrize("settings", [{}, {"kdim": 6, "vdim": 7}], ids=["one parameter", "three"])
@pytest.mark.parametrize("name", LAYERWISE)
def test_gradients_equal_surrogates(name, settings):
    attention, inputs = problem(**settings)
    make = lambda: Alone(copy.deepcopy(attention))  # noqa: E731
    model, rule = make(), named()[name]
    deep.promote(model, rule, seed=4)
    mine, theirs = (tuple(t.clone().requires_grad_() for t in inputs) for _ in range(2))
    torch.manual_seed(5)
    losses(model(*mine)).mean().backward()
    expected = gradients(make, rule, model.state_dict(), theirs, losses, Draws(seed=5))
    assert set(expected) == {n for n, p in model.named_parameters() if p.grad is not None}
    for n, g in expected.items():
        torch.testing.assert_close(model.get_parameter(n).grad, g, rtol=1e-9, atol=1e-12)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)


def test_kolen_pollack_follows_each_projection():
    module, inputs = problem()
    decay = 0.2
    deep.promote(module, linfa.kolen_pollack(decay))
    inputs = [t.requires_grad_() for t in inputs]
    module(*inputs)[0].sin().sum().backward()
    for n, w, g in zip("qkv", module.in_proj_weight.chunk(3), module.in_proj_weight.grad.chunk(3), strict=True):
        B = module.feedback[n]["B"]
        torch.testing.assert_close(B.grad - decay * B, (g - decay * w).mT)


def test_redrawn_magnitudes_have_the_spread_of_each_projection():
    module, inputs = problem(kdim=64, vdim=64, seed=1)
    with torch.no_grad():
        module.k_proj_weight.mul_(100)
    deep.promote(module, linfa.sign_symmetry("brSF"))
    before = module.feedback["k"]["M"].clone()
    module(*inputs)
    spread = {n: p["M"].square().mean().sqrt().item() for n, p in module.feedback.items()}
    assert not torch.equal(before, module.feedback["k"]["M"])
    assert spread["k"] == pytest.approx(module.k_proj_weight.square().mean().sqrt().item(), rel=0.2)
    assert spread["v"] == pytest.approx(module.v_proj_weight.square().mean().sqrt().item(), rel=0.2)


def test_a_sample_spares_projections_of_what_needs_no_error():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.attention = nn.Linear(E, E), nn.MultiheadAttention(E, HEADS, batch_first=True)

        def forward(self, x, memory):
            return self.attention(self.embed(x), key=memory, value=memory, need_weights=False)[0]

    sample = torch.randn(N, T, E), torch.randn(N, S, E)
    model = deep.promote(Crossed(), linfa.fa(), sample=sample)
    assert [len(part) for part in model.attention.feedback.values()] == [1, 0, 0]
    model(*sample).sum().backward()
    with pytest.raises(RuntimeError, match="has no feedback"):
        model(sample[0], sample[1].requires_grad_()).sum().backward()
    with pytest.raises(deep.Unsupported, match="attention attends from one input to another"):
        deep.promote(Crossed(), linfa.dfa(), sample=sample)


class Encoder(nn.Module):
    """Two layers of torch's own transformer encoder, with a head on mean tokens or on every token."""

    def __init__(self, mean=True):
        super().__init__()
        layer = nn.TransformerEncoderLayer(E, HEADS, 12, dropout=0.0, batch_first=True)
        self.embed, self.body = nn.Linear(6, E), nn.TransformerEncoder(layer, 2)
        self.head, self.mean = nn.Linear(E, 3), mean

    def forward(self, x, padding=None):
        x = self.body(self.embed(x), src_key_padding_mask=padding)
        return self.head(x.mean(1) if self.mean else x)


def encoder(mean=True, seed=0):
    torch.manual_seed(seed)
    model = Encoder(mean).double()
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, std=0.5)
    return model


X = torch.randn(N, S, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["fa", "ldfa(2, oja)", "dfa"])
def test_torch_encoder_layers_in_every_mode(name):
    """The fused kernel of eval mode reads weights and no forward of ours, so it has to stay right."""
    plain = encoder()
    model = deep.promote(copy.deepcopy(plain), named()[name], sample=X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notice that nested tensors are a prototype
        for training, grad, padding in itertools.product((True, False), (True, False), (None, PADDING)):
            for m in (plain, model):
                m.train(training)
            with torch.set_grad_enabled(grad):
                torch.testing.assert_close(model(X, padding), plain(X, padding), rtol=1e-10, atol=1e-12)
    model.train()
    y = torch.tensor([0, 1, 2])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        values.append(F.cross_entropy(model(X), y))
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.85 * values[0]
    deep.demote(model)
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert set(model.state_dict()) == set(plain.state_dict())


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("name", ["dfa", "ldfa(2, oja, direct)"])
def test_direct_self_attention_from_many_roots(name, mean):
    """Every weight gradient from one backward with the cuts as roots, on torch's encoder with its own attention."""
    plain, rule = encoder(mean), named()[name]
    model = deep.promote(copy.deepcopy(plain), rule, sample=X, seed=1)

    def losses(out):
        rows = out.flatten(0, -2)
        return F.cross_entropy(rows, torch.arange(len(rows)) % 3, reduction="none")

    losses(model(X)).mean().backward()
    assert {"body.layers.0.self_attn", "body.layers.1.self_attn.out_proj"} <= set(model.head.edges)
    expected = gradients(lambda: copy.deepcopy(plain), rule, model.state_dict(), X, losses)
    assert set(expected) == {n for n, p in model.named_parameters() if p.grad is not None}
    for n, g in expected.items():
        assert (model.get_parameter(n).grad - g).abs().max() < 1e-10 * g.abs().max(), n


@pytest.mark.parametrize("name", ["ldfa(2, oja)", "dfa"])
def test_checkpointing_and_accumulation(name):
    model, y = deep.promote(encoder(), named()[name], sample=X), torch.tensor([0, 1, 2])
    F.cross_entropy(model(X), y, reduction="sum").backward()
    exact = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    x = checkpoint(model.body, model.embed(X), use_reentrant=False)
    F.cross_entropy(model.head(x.mean(1)), y, reduction="sum").backward()
    for n, g in exact.items():
        torch.testing.assert_close(model.get_parameter(n).grad, g, rtol=1e-9, atol=1e-12)
    model.zero_grad()
    for i in range(N):
        F.cross_entropy(model(X[i : i + 1]), y[i : i + 1], reduction="sum").backward()
    for n, g in exact.items():
        if "feedback" not in n:
            torch.testing.assert_close(model.get_parameter(n).grad, g, rtol=1e-9, atol=1e-12)


def test_exact_attention_takes_its_output_projection_along():
    for exact in (("body.layers.0.self_attn",), (nn.MultiheadAttention,)):
        model = deep.promote(encoder(), linfa.fa(), exact=exact)
        kinds = [type(layer.self_attn) for layer in model.body.layers]
        assert kinds[0] is nn.MultiheadAttention
        for layer in model.body.layers:
            promoted = isinstance(layer.self_attn, attention.EdgeAttention)
            assert isinstance(layer.self_attn.out_proj, attention.EdgeOutProjection) == promoted


@pytest.mark.parametrize("name", ["kolen-pollack", "ldfa(2, oja)", "dfa"])
def test_compile_autocast_and_round_trips(name):
    make = lambda seed: deep.promote(encoder(seed=seed).float(), named()[name], sample=X.float(), seed=seed)  # noqa: E731
    model, other, x, y = make(0), make(1), X.float(), torch.tensor([0, 1, 2])

    def gradients(module):
        module.zero_grad()
        F.cross_entropy(module(x).float(), y).backward()
        return {n.removeprefix("_orig_mod."): p.grad for n, p in module.named_parameters() if p.grad is not None}

    exact = gradients(model)
    other.load_state_dict(model.state_dict())
    for twin in (copy.deepcopy(model), other):
        assert all(torch.equal(g, exact[n]) for n, g in gradients(twin).items())
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamo's own notices
        for n, g in gradients(torch.compile(model, fullgraph=True, backend="aot_eager")).items():
            torch.testing.assert_close(g, exact[n], rtol=1e-3, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for n, g in gradients(model).items():
            if exact[n].norm() > 1e-3:
                assert (g - exact[n]).norm() < 0.3 * exact[n].norm(), n
