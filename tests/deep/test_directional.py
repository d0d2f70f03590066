"""Rules that read forward maps through random directions: directional DFA and the weight mirror."""

import copy
import pickle
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import deep
import linfa
from deep import layers
from deep.bridge import Replay, Run, fits
from deep.models import ViT
from linfa.rules import Dense, Direct, Layerwise, Mirror, Normative, RandomFactors, Rule

from .oracles import Draws, arrival, gradients, multi_root_gradients  # isort: skip

DDFA = linfa.directional_dfa(directions=1)
BROADCAST = {
    "directional": linfa.directional_dfa(rate=2.0, directions=1),
    "rank 2": linfa.directional_dfa(rate=0.5, directions=1, rank=2),
    "gain and leak": Rule(Direct(), Dense(), Mirror(0.5, 2.0, 1), decay=0.1, name="gain and leak"),
    "one exact layer": Rule(Direct(exact_top=1), Dense(), Mirror(1.0, 0.5, 1), name="one exact layer"),
}
SAMPLED = BROADCAST | {
    "weight mirror": linfa.weight_mirror(0.5, directions=3),
    "mirror of rank 2": Rule(Layerwise(), RandomFactors(2), Mirror(1.5, 0.5, 2), decay=0.1, name="mirror of rank 2"),
}


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("name", SAMPLED)
def test_promoted_net_follows_descent_along_the_same_directions(name, depth):
    rule = SAMPLED[name]
    if not fits(rule, depth):
        pytest.skip(f"{name} backpropagates more layers exactly than a net of depth {depth} has")
    worst, promoted, _ = Run(rule, depth, seed=depth).follow()
    assert worst <= 1e-10
    for before, after in zip(promoted[0].feedback, promoted[-1].feedback, strict=True):
        assert np.abs(before[0] - after[0]).max() > 1e-3


def test_the_core_takes_other_steps_along_other_directions(monkeypatch):
    monkeypatch.setattr(Replay, "standard_normal", lambda self, shape: np.random.default_rng(0).standard_normal(shape))
    for name in ("directional", "weight mirror"):
        assert Run(SAMPLED[name], 3, seed=3).follow()[0] > 1e-3


def test_replay_sees_that_shapes_differ():
    with pytest.raises(ValueError, match=r"asks for directions \(2, 3\), the promoted net drew \(3, 2\)"):
        Replay([torch.ones(3, 2)]).standard_normal((2, 3))


def test_a_sampled_rule_is_verified_alike_whatever_was_drawn_before():
    ends = []
    for seed in (1, 2):
        run = Run(DDFA, 3, seed=0)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        ends.append(run.follow()[1][-1].feedback[0][0])
        assert torch.equal(before, torch.get_rng_state())
    assert (ends[0] == ends[1]).all()


class Mlp(nn.Module):
    """ReLU and batch normalisation, whose statistics of the batch couple the samples."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(5, 6), nn.Linear(6, 7), nn.Linear(7, 4), nn.Linear(4, 3)
        self.na, self.nb = (nn.BatchNorm1d(n, track_running_stats=False) for n in (6, 7))

    def forward(self, x):
        return self.d(self.c(F.relu(self.nb(self.b(F.relu(self.na(self.a(x))))))).tanh())


class Cnn(nn.Module):
    """Stride, groups, pooling and a skip."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.c = nn.Conv2d(4, 3, 2, stride=2, bias=False)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.a(x)), 2)
        x = x + F.gelu(self.b(x))
        return self.head(torch.tanh(self.c(x)).flatten(1))


class Tokens(nn.Module):
    """Attention between tokens, each with an error of its own."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.qkv = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 24)
        self.proj, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.embed(x)
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        return self.head(x + self.proj(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2)))


NETS = {"mlp": (Mlp, (8, 5)), "cnn": (Cnn, (4, 2, 8, 8)), "tokens": (Tokens, (4, 5, 6))}


def problem(kind, rule, seed=0):
    """A promoted net whose feedback is not zero, its plain twin, a batch, a loss and where the feedback runs."""
    make, shape = NETS[kind]
    torch.manual_seed(seed)
    plain, x = make().double(), torch.randn(shape, dtype=torch.float64)
    net = deep.promote(copy.deepcopy(plain), rule, sample=x, seed=3)
    (source,) = [path for path, m in net.named_modules() if isinstance(m, layers.Cut) and m.edges]
    head = net.get_submodule(source)
    stored = {path: head.feedback[key] for path, key in head.edges.items()}
    with torch.no_grad():
        for matrices in stored.values():
            for matrix in matrices.values():
                matrix.normal_()

    def losses(out):
        return F.cross_entropy(out.flatten(0, -2), torch.arange(out[..., 0].numel()) % 3, reduction="none")

    return net, plain, x, losses, stored, source


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", BROADCAST)
def test_gradients_equal_a_functional_jvp_along_the_same_directions(kind, name):
    rule = BROADCAST[name]
    net, _, x, losses, stored, _ = problem(kind, rule)
    assert len(stored) == 3 - rule.route.exact_top
    torch.manual_seed(7)
    losses(net(x)).mean().backward()
    expected = gradients(lambda: NETS[kind][0]().double(), rule, net.state_dict(), x, losses, Draws(seed=7))
    assert set(expected) == {path for path, p in net.named_parameters() if p.grad is not None}
    for path, g in expected.items():
        torch.testing.assert_close(net.get_parameter(path).grad, g, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", NETS)
def test_the_estimate_has_the_mean_of_the_jacobians(kind):
    """Within three standard errors of 400 batches, against reverse-mode Jacobians of each sample's own output.

    In the MLP with batch normalisation, and with tokens that attend, the other blocks of the Jacobian do not vanish.
    """
    net, plain, x, losses, stored, source = problem(kind, DDFA)
    lead = 2 if kind == "tokens" else 1
    torch.manual_seed(1)
    seen = {path: [] for path in stored}
    for _ in range(400):
        net.zero_grad()
        losses(net(x)).mean().backward()
        for path, matrices in stored.items():
            seen[path].append((matrices["B"] - matrices["B"].grad).detach().T)  # (n_e, n_h)
    live = {}
    for path in stored:
        layer = plain.get_submodule(path)
        layer.register_forward_pre_hook(lambda m, inputs, path=path: live.update({path: inputs[0]}))
    plain(x)
    zero = {path: torch.zeros_like(live[path]) for path in stored}
    jacobians = torch.func.jacrev(arrival(plain, x, zero, source, False))(zero)
    total, spread = 0, []
    for path, J in jacobians.items():
        J = J.detach().flatten(0, lead - 1).flatten(1 + 1, 1 + lead).flatten(3)  # (N, n_e, N, n_h)
        own = torch.stack([J[i, :, i] for i in range(len(J))])
        others = J.abs().sum() - own.abs().sum()
        assert (others > 0.05 * own.abs().sum()) == ((kind, path) in COUPLED), (kind, path)
        samples = torch.stack(seen[path]) - own.mean(0)
        total = total + (samples * torch.rand(samples.shape[1:], dtype=torch.float64)).sum((1, 2))
        z = samples.mean(0) / (samples.std(0) / len(samples) ** 0.5)
        spread.append(z.square().flatten())
    assert abs(total.mean()) <= 3 * total.std() / len(total) ** 0.5
    assert torch.cat(spread).mean() < 2


COUPLED = {("mlp", "b"), ("tokens", "qkv")}
"""Cuts below which a normalisation or attention mixes samples or tokens."""


def test_the_weight_mirror_sees_kernels_and_weights_through_its_directions():
    rule = linfa.weight_mirror(0.5, directions=3)
    torch.manual_seed(0)
    net = Cnn().double()
    x = torch.randn(4, 2, 8, 8, dtype=torch.float64)
    deep.promote(net, rule, sample=x)
    torch.manual_seed(7)
    F.cross_entropy(net(x), torch.arange(4) % 3).backward()
    torch.manual_seed(7)
    for path in ("head", "c", "b"):  # a backward draws from the last layer down
        layer = net.get_submodule(path)
        W = layer.weight.detach().flatten(1)
        groups = getattr(layer, "groups", 1)
        W = W.reshape(groups, len(W) // groups, -1)
        xi = torch.randn((groups, W.shape[-1], 3) if groups > 1 else (W.shape[-1], 3), dtype=W.dtype)
        xi = xi.reshape(groups, W.shape[-1], 3)
        seen = torch.einsum("gij,gjk,glk->gli", W, xi, xi) / 3
        B = layer.feedback["B"]
        expected = 0.5 * B.detach() - seen.reshape(B.shape)
        torch.testing.assert_close(B.grad, expected, rtol=1e-10, atol=1e-12)


SHARED = {"directional": DDFA, "rank 2": linfa.directional_dfa(directions=1, rank=2), "dkp": linfa.dkp(0.1)}


@pytest.mark.parametrize("name", SHARED)
def test_positions_share_feedback(name):
    """Gradients are those of the matrix repeated over positions; J^ and G are means over positions."""
    rule, torch_seed = SHARED[name], 7
    torch.manual_seed(0)
    plain, x, y = Cnn().double(), torch.randn(5, 2, 8, 8, dtype=torch.float64), torch.arange(5) % 3
    model = deep.promote(copy.deepcopy(plain), rule, sample=x, shared=True)
    stored = {path: model.head.feedback[path] for path in ("b", "c", "head")}
    first = rule.feedback.names[0]
    assert [len(stored[path][first]) for path in stored] == [4, 4, 12]
    with torch.no_grad():
        for matrix in feedback_of(model).values():
            matrix.normal_()
    torch.manual_seed(torch_seed)
    F.cross_entropy(model(x), y).backward()
    live, B = {}, {}
    for path, matrices in stored.items():
        layer = plain.get_submodule(path)
        layer.register_forward_pre_hook(lambda m, inputs, path=path: live.update({path: inputs[0].detach()}))
        B[path] = matrices["Q"].detach() @ matrices["P"].detach() if "Q" in matrices else matrices["B"].detach()
    out = plain(x).detach().requires_grad_()
    F.cross_entropy(out, y).backward()
    shapes = {path: live[path].shape for path in stored}
    seen = {path: live[path] for path in stored}
    d = out.grad * len(x)
    if name != "dkp":
        torch.manual_seed(torch_seed)
        seen = {path: torch.randn(shape, dtype=torch.float64) for path, shape in shapes.items()}
        zero = {path: torch.zeros(shape, dtype=torch.float64) for path, shape in shapes.items()}
        _, d = torch.func.jvp(arrival(plain, x, seen, "head", False), (zero,), (seen,))
        d = d.detach()
    for path, matrices in stored.items():
        h = seen[path].mean((2, 3)) if path != "head" else seen[path]
        mean = torch.einsum("nh,ne->he", h, d) / len(x)
        mean = mean @ matrices["P"].detach().T if "P" in matrices else mean
        leaking = 0.1 * B[path] + mean if name == "dkp" else matrices[first].detach() - mean
        torch.testing.assert_close(matrices[first].grad, leaking, rtol=1e-10, atol=1e-12)
    full = {path: M.repeat_interleave(shapes[path][1:].numel() // len(M), 0) for path, M in B.items()}
    grads = multi_root_gradients(plain, x, lambda out: F.cross_entropy(out, y), full, "head", False)
    for path, p in model.named_parameters():
        if ".feedback." not in path:
            expected = grads[path] + (rule.decay * p.detach() if path.endswith("weight") else 0)
            torch.testing.assert_close(p.grad, expected, rtol=1e-10, atol=1e-12)


def test_positions_share_feedback_of_direct_rules_alone():
    with pytest.raises(ValueError, match="that of fa is not"):
        deep.promote(net(), linfa.fa(), sample=X, shared=True)


def net(norm=False):
    torch.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3)]
    return nn.Sequential(*layers[:1], nn.BatchNorm1d(8), *layers[1:]) if norm else nn.Sequential(*layers)


X, Y = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3


def promoted(**kw):
    return deep.promote(net(**kw), DDFA, sample=X)


def backward(model, x=X, y=Y):
    F.cross_entropy(model(x), y).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def feedback_of(model):
    return {n: p for n, p in model.named_parameters() if ".feedback." in n}


def no_level_is_open():
    with pytest.raises(RuntimeError, match="no level"):
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))
    return True


def test_sgd_is_the_moving_average_of_the_estimates():
    model, a = promoted().double(), 0.01
    optimizer = torch.optim.SGD(feedback_of(model).values(), lr=a)
    averages = [torch.zeros_like(B) for B in feedback_of(model).values()]
    for _ in range(5):
        optimizer.zero_grad()
        backward(model, X.double())
        shown = [(B - B.grad).detach() for B in feedback_of(model).values()]
        optimizer.step()
        averages = [(1 - a) * mean + a * new for mean, new in zip(averages, shown, strict=True)]
    for B, mean in zip(feedback_of(model).values(), averages, strict=True):
        torch.testing.assert_close(B.detach(), mean)


def test_directional_dfa_learns_and_its_feedback_finds_the_jacobian():
    torch.manual_seed(0)
    model = promoted(norm=True)
    inside = {id(p) for p in feedback_of(model).values()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in inside]},
        {"params": list(feedback_of(model).values()), "lr": 3e-2},
    ]
    optimizer = torch.optim.Adam(groups, 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        value = F.cross_entropy(model(X), Y)
        value.backward()
        optimizer.step()
    assert value < 0.05
    W, B = model[7].weight.detach(), model[7].feedback["7"]["B"].detach()
    assert F.cosine_similarity(B.flatten(), W.T.flatten(), dim=0) > 0.8


def test_a_new_direction_at_every_step_and_none_in_evaluation():
    model = promoted()
    a = backward(model)
    model.zero_grad()
    b = backward(model)
    model.zero_grad()
    assert not any(torch.equal(a[n], b[n]) for n in feedback_of(model))
    before = torch.get_rng_state()
    evaluated = backward(model.eval())
    assert not set(feedback_of(model)) & set(evaluated)
    assert all(torch.equal(g, a[n]) for n, g in evaluated.items())
    with torch.no_grad():
        model.train()(X)
    assert torch.equal(before, torch.get_rng_state())


def test_parts_in_evaluation_are_not_probed():
    model = promoted()
    model[2].eval()
    assert set(feedback_of(model)) - set(backward(model)) == {"6.feedback.2.B"}


def test_after_the_forward_no_tangent_is_alive(monkeypatch):
    """Between forward and backward one estimate (n_e, n_h) is kept for each cut, beside what feedback stores."""
    drawn, make_dual = [], forward_ad.make_dual

    def watched(x, tangent):
        drawn.append(weakref.ref(tangent))
        return make_dual(x, tangent)

    monkeypatch.setattr(forward_ad, "make_dual", watched)
    model = promoted()
    out = model(X)
    assert len(drawn) >= 6  # three cuts, also at promotion, and the linear maps after them
    assert forward_ad.unpack_dual(out).tangent is None
    assert no_level_is_open()
    assert not any(ref() is not None for ref in drawn)
    kept = [tuple(t.shape) for t in out.grad_fn.saved_tensors if t is not None]
    assert kept == [(3, 8), (3, 7), (3, 6), (8, 3), (7, 3), (6, 3)]
    assert not model[6].cuts


def test_a_failed_forward_leaves_no_level_open_and_does_not_poison_the_next():
    model = promoted()
    fine = copy.deepcopy(model)
    handle = model[5].register_forward_pre_hook(lambda module, inputs: 1 / 0)
    for error in (ZeroDivisionError, ZeroDivisionError):
        with pytest.raises(error):
            model(X)
        assert no_level_is_open()
    handle.remove()
    torch.manual_seed(5)
    mine = backward(model)
    torch.manual_seed(5)
    assert all(torch.equal(g, mine[n]) for n, g in backward(fine).items())


def test_parts_of_a_model_need_a_level_around_them():
    model = promoted()
    with pytest.raises(RuntimeError, match=r"call the promoted model itself, not its parts .*dual_level"):
        model[2](model[1](model[0](X)))
    h = model[:3](X)  # a slice opens a level of its own
    with pytest.raises(RuntimeError, match="a forward pass that is over"):
        model[3:](h)
    torch.manual_seed(5)
    whole = backward(model)
    model.zero_grad()
    torch.manual_seed(5)
    with forward_ad.dual_level():
        for layer in model:
            h = layer(X if layer is model[0] else h)
    F.cross_entropy(h, Y).backward()
    assert all(torch.equal(p.grad, whole[n]) for n, p in model.named_parameters())


def test_forward_mode_of_the_user():
    model = promoted()
    with pytest.raises(RuntimeError, match="Nested forward mode"):
        torch.func.jvp(model, (X,), (X,))
    assert no_level_is_open()
    mine = torch.func.jvp(model.eval(), (X,), (X,))
    for a, b in zip(mine, torch.func.jvp(net(), (X,), (X,)), strict=True):
        torch.testing.assert_close(a, b)


def test_copies_and_pickles_and_states():
    model = promoted()
    assert repr(model).startswith("Sequential(")
    other = deep.promote(net(), DDFA, sample=X, seed=1)
    backward(model)
    torch.optim.SGD(model.parameters(), 0.1).step()
    other.load_state_dict(model.state_dict(), strict=True)
    model.zero_grad()
    results = []
    for one in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), other):
        assert type(one) is type(model)
        torch.manual_seed(5)
        results.append(backward(one))
    for result in results[1:]:
        assert all(torch.equal(g, result[n]) for n, g in results[0].items())
    assert type(deep.demote(model)) is nn.Sequential
    plain = net()
    plain.load_state_dict(model.state_dict())
    model.zero_grad()
    for (n, g), (m, h) in zip(backward(model).items(), backward(plain).items(), strict=True):
        assert n == m
        assert torch.equal(g, h)


def test_a_model_of_one_layer_keeps_its_class():
    model = deep.promote(nn.Sequential(nn.Linear(4, 3)), DDFA, sample=X)
    assert type(model) is nn.Sequential
    backward(model)


def test_accumulated_batches_add_their_estimates():
    model = promoted().double()
    x = X.double()
    torch.manual_seed(5)
    one = backward(model, x)
    two = backward(model, x)
    gap = {n: two[n] - one[n] for n in one}
    torch.manual_seed(5)
    model.zero_grad()
    assert all(torch.equal(g, one[n]) for n, g in backward(model, x).items())
    assert not any(torch.allclose(gap[n], one[n]) for n in feedback_of(model))


@pytest.mark.parametrize("rule", [DDFA, linfa.weight_mirror(directions=64)], ids=str)
def test_bf16_autocast(rule):
    model = deep.promote(net(norm=True), rule, sample=X)
    x = X.repeat(50, 1)
    with torch.no_grad():
        for matrix in feedback_of(model).values():
            matrix.normal_()
    y = Y.repeat(50)
    torch.manual_seed(5)
    exact = backward(model, x, y)
    model.zero_grad()
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x)
    assert out.dtype == torch.bfloat16
    F.cross_entropy(out.float(), y).backward()
    for n, p in model.named_parameters():
        assert p.grad.dtype == torch.float32
        if exact[n].norm() > 1e-3:
            limit = 0.15 if n not in feedback_of(model) else 0.5  # other numbers are drawn in another dtype
            assert (p.grad - exact[n]).norm() < limit * exact[n].norm(), n


@pytest.mark.filterwarnings("ignore")  # dynamo's own notices
def test_compile_runs_training_without_it_and_refuses_fullgraph():
    model = promoted()
    torch.manual_seed(5)
    eager = backward(model)
    model.zero_grad()
    torch._dynamo.reset()
    torch.manual_seed(5)
    got = backward(torch.compile(model, backend="aot_eager"))
    assert all(torch.equal(g, eager[n.removeprefix("_orig_mod.")]) for n, g in got.items())
    torch._dynamo.reset()
    whole = torch.compile(model, backend="aot_eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="does not trace forward-mode AD"):
        whole(X)
    torch._dynamo.reset()
    model.zero_grad()
    mine = backward(torch.compile(model.eval(), backend="aot_eager", fullgraph=True))
    for n, g in mine.items():
        torch.testing.assert_close(g, eager[n.removeprefix("_orig_mod.")])


@pytest.mark.filterwarnings("ignore")
def test_the_weight_mirror_compiles():
    model = deep.promote(net(), linfa.weight_mirror(directions=3), sample=X)
    torch.manual_seed(5)
    eager = backward(model)
    model.zero_grad()
    torch._dynamo.reset()
    torch.manual_seed(5)
    got = backward(torch.compile(model, backend="aot_eager", fullgraph=True))
    for n, g in got.items():
        torch.testing.assert_close(g, eager[n.removeprefix("_orig_mod.")])


class Checkpointed(nn.Module):
    def __init__(self, begin, end, reentrant):
        super().__init__()
        self.layers, self.begin, self.end, self.reentrant = net(), begin, end, reentrant

    def forward(self, x):
        h = self.layers[: self.begin](x)
        h = checkpoint(self.layers[self.begin : self.end], h, use_reentrant=self.reentrant)
        return self.layers[self.end :](h)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # a reentrant pass without gradients
def test_checkpointing_works_below_the_cuts_and_raises_above():
    backward(deep.promote(Checkpointed(0, 2, False), DDFA, sample=X))
    with pytest.raises(RuntimeError, match="activation checkpointing"):
        backward(deep.promote(Checkpointed(2, 4, False), DDFA, sample=X))
    with pytest.raises(RuntimeError, match="different number of tensors"):
        backward(deep.promote(Checkpointed(3, 4, False), DDFA, sample=X))
    with pytest.raises(deep.Unsupported, match=r"forward mode does not follow the model from the input of layers\.2"):
        deep.promote(Checkpointed(3, 4, True), DDFA, sample=X)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_what_forward_mode_does_not_follow_is_refused_before_anything_is_changed():
    model = Checkpointed(3, 4, True)
    kinds, keys = [type(m) for m in model.modules()], set(model.state_dict())
    with pytest.raises(deep.Unsupported, match=r"from the input of layers\.2 on .*use operations that it knows"):
        deep.promote(model, DDFA, sample=X)
    assert no_level_is_open()
    assert kinds == [type(m) for m in model.modules()]
    assert keys == set(model.state_dict())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_attention_is_followed_by_its_math_backend():
    torch.manual_seed(0)
    model, x = ViT(image=8, patch=4, dim=8, depth=1, heads=2, classes=3), torch.randn(4, 3, 8, 8)
    got = backward(deep.promote(model, DDFA, sample=x), x, torch.arange(4) % 3)
    assert set(feedback_of(model)) <= set(got)


MAPS_OVER_SEVERAL_LAYERS = [
    linfa.directional_dfa(), linfa.directional_dfa(directions=4), Rule(Direct(), RandomFactors(2), Normative()),
]  # fmt: skip


@pytest.mark.parametrize("rule", MAPS_OVER_SEVERAL_LAYERS, ids=str)
def test_maps_over_several_layers_are_shown_to_one_direction_a_sample(rule):
    with pytest.raises(deep.Unsupported, match=r"use directions=1, as in linfa.directional_dfa\(directions=1\)"):
        deep.promote(net(), rule, sample=X)


@pytest.mark.parametrize("rule", [DDFA, linfa.directional_dfa(rank=2, directions=1), linfa.weight_mirror(1.0, 2)],
                         ids=str)  # fmt: skip
def test_sampled_rules_pass_their_certificate(rule):
    certificate = linfa.verify(rule)
    assert certificate.passed, str(certificate)
    assert any(check.reading == "promoted" for check in certificate.checks)
    assert not any("order" in check.claim for check in certificate.checks)
