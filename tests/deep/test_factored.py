"""Promoted layers that store U diag(s) V^T, against composed weights, explicit penalties and hand-made slices."""

import copy
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import deep
import linfa
from deep.bridge import Run, read
from deep.factored import factored_layers
from linfa.ranks import RankSchedule, truncate
from linfa.rules import Alignment, Direct, Factored, LayerRates, Layerwise, Oja, Rule, SVDStructured
from linfa.tree import leaves

from .oracles import compose, gradients  # isort: skip
from .test_oracle import ConvNet, assert_same, problem  # isort: skip

PARTS = ("U", "s", "V")


def factors(layer):
    return [layer.get_parameter(name).detach().clone().requires_grad_() for name in PARTS]


def disturb(net):
    """Factors away from orthonormal frames, some s negative: where training leads them."""
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in factored_layers(net).values():
            for M in layer.stored():
                M += 0.2 * torch.randn_like(M)
            layer.s[..., -1, :] *= -1


RULES = {
    "bp": linfa.factored(linfa.bp(), 3),
    "fa": linfa.factored(linfa.fa(), 3),
    "ldfa, fixed": linfa.factored(linfa.ldfa(2, "fixed"), 3),
    "uSF, decay": replace(linfa.factored(linfa.sign_symmetry("uSF"), 2), decay=0.1),
    "dfa": linfa.factored(linfa.dfa(), 2),
    "dfa, exact top": linfa.factored(linfa.ldfa(2, "fixed", direct=True), 2),
    "svd-local, not aligned": linfa.svd_local(2, alignment=0.0, sparsity=0.1, retraction="polar"),
}
ALIGNED = {
    "svd-local": linfa.svd_local(2, 0.4, 0.3),
    "svd-local, subspace": replace(
        linfa.svd_local(3, 0.4, 0.3, cosine=0.5, sparsity=0.2, subspace=True, retraction="qr"), decay=0.1
    ),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k in ("conv", "block") for n in RULES] + [("conv", n) for n in ALIGNED]
)
def test_gradients_equal_those_of_the_composed_weight(kind, name):
    make, net, x, losses = problem(kind)
    rule = (RULES | ALIGNED)[name]
    deep.promote(net, rule, sample=x, seed=3)
    assert len(factored_layers(net)) >= 6
    disturb(net)
    want = gradients(make, rule, net.state_dict(), x, losses)
    losses(net(x)).mean().backward()
    assert_same(net, want)


@pytest.mark.parametrize("kind", ["conv", "block", "tokens"])
def test_full_rank_bp_is_the_plain_model(kind):
    make, net, x, _ = problem(kind)
    plain = make()
    plain.load_state_dict(net.state_dict())
    deep.promote(net, linfa.factored(linfa.bp(), 24 if kind == "conv" else 8), sample=x)
    assert all(p is not None for layer in factored_layers(net).values() for p in layer.stored())
    torch.testing.assert_close(net(x), plain(x), rtol=1e-12, atol=1e-12)
    assert set(plain.state_dict()) - set(net.state_dict()) == {f"{p}.weight" for p in factored_layers(net)}


@pytest.mark.parametrize("rule", [linfa.factored(linfa.bp(), 3), linfa.svd_local(3), linfa.factored(linfa.fa(), 3)])
def test_demote_composes_the_weight(rule):
    make, net, x, _ = problem("conv")
    plain = make()
    deep.promote(net, rule, sample=x)
    disturb(net)
    net.eval()
    weights, out = {p: compose(m, *factors(m)).detach() for p, m in factored_layers(net).items()}, net(x)
    deep.demote(net)
    assert [type(m) for m in net.modules()] == [type(m) for m in plain.modules()]
    assert list(net.state_dict()) == list(plain.state_dict())
    assert all(p.is_contiguous() and p.requires_grad for p in net.parameters())
    for path in ("a", "b", "c", "d", "e", "head"):
        torch.testing.assert_close(net.get_submodule(path).weight.detach(), weights[path])
    torch.testing.assert_close(net(x), out, rtol=1e-11, atol=1e-12)


def test_promotion_truncates_to_the_best_approximation():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 5, dtype=torch.float64))
    s = torch.linalg.svdvals(net[0].weight)
    weight = net[0].weight.detach().clone()
    deep.promote(net, linfa.factored(linfa.bp(), 2))
    gap = (weight - compose(net[0], *factors(net[0]))).norm()
    assert gap.item() == pytest.approx(s[2:].norm().item(), rel=1e-10)
    assert "rank=2" in repr(net)


def test_a_frozen_layer_stays_frozen():
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    net[0].weight.requires_grad_(False)
    deep.promote(net, linfa.svd_local(2), sample=torch.randn(3, 6))
    assert not any(p.requires_grad for p in net[0].stored())
    net(torch.randn(3, 6)).sum().backward()
    assert net[0].U.grad is None
    assert not deep.demote(net)[0].weight.requires_grad


class Largest(TorchDispatchMode):
    """The largest storage that any operation makes, in numbers."""

    seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.seen = max(self.seen, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.mark.parametrize("name", ["svd-local", "bp", "ldfa, fixed"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_nothing_of_the_size_of_the_weight_is_formed(kind, name):
    rule = (RULES | ALIGNED)[name].at_rank(2)
    if kind == "linear":
        net, x, full = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 40)), torch.randn(2, 40), 1600
    else:
        net = nn.Sequential(nn.Conv2d(20, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 20, 3), nn.Flatten(),
                            nn.Linear(20, 3))  # fmt: skip
        x, full = torch.randn(2, 20, 3, 3), 3600
    deep.promote(net, rule, sample=x)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    with Largest() as largest:
        net(x).square().sum().backward()
        optimizer.step()
    assert 0 < largest.seen < full / 3


def held(net):
    """Numbers that parameters, gradients and Adam's moments hold."""
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    net(torch.randn(2, 60)).square().sum().backward()
    optimizer.step()
    state = sum(v.numel() for entries in optimizer.state.values() for k, v in entries.items() if k != "step")
    return sum(p.numel() + (0 if p.grad is None else p.grad.numel()) for p in net.parameters()) + state


@pytest.mark.parametrize(("share", "bound"), [(1 / 2, 1.02), (1 / 3.4, 0.6), (1 / 4, 0.51)])
def test_numbers_held_while_training(share, bound):
    """r (m + n + 1) in place of m n: for a square layer half the rank saves nothing, 0.29 of it leaves 0.6."""
    make = lambda: nn.Sequential(nn.Linear(60, 60, bias=False), nn.Linear(60, 60, bias=False))  # noqa: E731
    r = int(60 * share)
    ratio = held(deep.promote(make(), linfa.factored(linfa.bp(), r))) / held(make())
    assert ratio == pytest.approx(r * 121 / 3600)
    assert ratio <= bound
    broadcast = held(deep.promote(make(), linfa.svd_local(r), sample=torch.randn(2, 60))) / held(make())
    assert broadcast - ratio == pytest.approx(120 * r / (2 * 4 * 3600))  # Q and P of one edge, without gradients


def test_penalties_count_once_for_every_backward_pass():
    """As decay does: accumulated over k passes they are k times what the rule says."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4, dtype=torch.float64), nn.Linear(4, 3, dtype=torch.float64))
    x = torch.randn(6, 5, dtype=torch.float64)
    deep.promote(net, linfa.svd_local(2), sample=x)
    for _ in range(2):
        (0 * net(x).sum()).backward()
    twice = net[0].U.grad.clone()
    net.zero_grad()
    (0 * net(x).sum()).backward()
    torch.testing.assert_close(twice, 2 * net[0].U.grad)
    assert twice.abs().max() > 1e-3


def test_retraction_in_a_hook_of_the_optimiser():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6, dtype=torch.float64), nn.Tanh(), nn.Linear(6, 3, dtype=torch.float64))
    x = torch.randn(6, 5, dtype=torch.float64)
    deep.promote(net, linfa.svd_local(3, retraction="polar"), sample=x)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 0.1)
    optimizer.register_step_post_hook(lambda *_: deep.retract(net))
    start = net[0].U.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    for layer in (net[0], net[2]):
        for M in (layer.U, layer.V):
            torch.testing.assert_close(M.mT @ M, torch.eye(3, dtype=torch.float64))
    assert (net[0].U - start).abs().max() > 0.01
    free = deep.promote(deep.demote(net), linfa.svd_local(3), sample=x)
    before = [M.detach().clone() for M in free[0].stored()]
    assert all(torch.equal(a, b) for a, b in zip(before, deep.retract(free)[0].stored(), strict=True))


def test_a_frame_that_learns_is_followed():
    torch.manual_seed(0)
    rule = Rule(Direct(), SVDStructured(2), Oja(), parameterisation=Factored(2, (Alignment(0.5),)), name="mine")
    assert Run(rule, 3, seed=0).follow()[0] <= 1e-10


def test_feedback_shared_over_positions_is_the_frame_of_the_channels():
    _, net, x, losses = problem("conv")
    deep.promote(net, linfa.svd_local(2), sample=x, shared=True)
    Q = net.head.feedback[net.head.edges["b"]]["Q"]
    assert len(Q) == net.a.out_channels
    for column in range(3):
        torch.testing.assert_close(net.a.frame()[column::3] * 3**0.5, Q)
    losses(net(x)).mean().backward()
    assert net.a.U.grad.abs().max() > 0


def trained(rule, optimiser, steps=3):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(96, 9), nn.Tanh(), nn.Linear(9, 7), nn.Tanh(),
        nn.Linear(7, 3),
    ).double()  # fmt: skip
    x, y = torch.randn(8, 2, 4, 4, dtype=torch.float64), torch.arange(8) % 3
    deep.promote(net, rule, sample=x)
    optimizer = optimiser([p for p in net.parameters() if p.requires_grad])
    for _ in range(steps):
        step(net, optimizer, x, y)
    return net, optimizer, x, y


def step(net, optimizer, x, y):
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()


OPTIMISERS = {
    "adam": lambda p: torch.optim.AdamW(p, 0.02, amsgrad=True, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("rule", [linfa.svd_local(5), linfa.factored(linfa.ldfa(2, "oja"), 5)])
def test_a_step_after_shrinking_is_that_of_a_model_of_that_rank(rule, optimiser):
    net, optimizer, x, y = trained(rule, OPTIMISERS[optimiser])
    small = replace(rule.at_rank(2), feedback=rule.feedback) if isinstance(rule.route, Layerwise) else rule.at_rank(2)
    other, fresh, _, _ = trained(small, OPTIMISERS[optimiser], steps=1)  # a step, so that the optimiser has a state
    sizes = {path: layer.stored().rank for path, layer in factored_layers(net).items()}
    assert sizes == {"0": 5, "3": 5, "5": 5, "7": 3}
    keeps = {}
    for path, layer in factored_layers(net).items():
        strengths = [layer.U[:, j].norm() * layer.s[j].abs() * layer.V[:, j].norm() for j in range(sizes[path])]
        keeps[path] = sorted(sorted(range(sizes[path]), key=lambda j: -strengths[j])[:2])
    names = {id(p): name for name, p in net.named_parameters()}
    next_layer = {"3": "0", "5": "3", "7": "5"}  # the layer whose error an edge delivers

    def sliced(name, value):
        path, part = name.split(".")[0], name.split(".")[-1]
        if part in "UsV":
            return value[keeps[path]] if part == "s" else value[:, keeps[path]]
        if part in "QP" and isinstance(rule.route, Direct):
            keep = keeps[next_layer[name.split(".")[2]]]
            return value[keep] if part == "P" else value[:, keep]
        return value

    with torch.no_grad():
        for p, q in zip(net.parameters(), other.parameters(), strict=True):
            q.copy_(sliced(names[id(p)], p))
            for key, value in optimizer.state.get(p, {}).items():
                entry = sliced(names[id(p)], value) if torch.is_tensor(value) and value.dim() else value
                fresh.state[q][key] = entry.clone() if torch.is_tensor(entry) else entry
    alive = F.cross_entropy(net(x), y)  # a graph of the former sizes, such as the loss of the last step
    assert deep.shrink(net, 2, optimizer) == dict.fromkeys(keeps, 2)
    for _ in range(2):
        step(net, optimizer, x, y)
        step(other, fresh, x, y)
    assert alive.requires_grad
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        assert p.shape == q.shape
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14, msg=name)


@pytest.mark.parametrize("rule", [linfa.svd_local(4), linfa.factored(linfa.fa(), 4)])
def test_shrinking_is_truncation_of_the_core(rule):
    run = Run(rule, 3, seed=0)
    run.follow(steps=5)
    before = read(run.net, rule)
    assert deep.scheduled_ranks(run.net, schedule := RankSchedule(4, 2, 3, tau=0.9), 1) == dict(
        zip("012", schedule.ranks(1, before), strict=True)
    )
    deep.shrink(run.net, {"0": 2, "1": 3})
    core = truncate(rule, before, (2, 3, 4))
    for mine, theirs in zip(leaves(read(run.net, rule)), leaves(core), strict=True):
        assert mine.shape == theirs.shape
        assert (mine == theirs).all()


def test_groups_shrink_each_by_its_own_components():
    _, net, x, losses = problem("conv")
    deep.promote(net, linfa.factored(linfa.fa(), 4), sample=x)
    layer = net.b  # four groups
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    losses(net(x)).mean().backward()
    optimizer.step()
    U, s, V = factors(layer)
    moment = optimizer.state[layer.s]["exp_avg"].clone()
    want = [
        sorted((-(U[g].norm(dim=0) * s[g, :, 0] * V[g].norm(dim=0)).abs()).argsort()[:2].tolist()) for g in range(4)
    ]
    deep.shrink(net, {"b": 2}, optimizer)
    for g in range(4):
        assert torch.equal(layer.U[g], U[g][:, want[g]])
        assert torch.equal(layer.V[g], V[g][:, want[g]])
        assert torch.equal(layer.s[g], s[g][want[g]])
        assert torch.equal(optimizer.state[layer.s]["exp_avg"][g], moment[g][want[g]])
    losses(net(x)).mean().backward()
    optimizer.step()


def test_a_shrunk_state_dict_loads_into_a_shrunk_model():
    net, _, x, y = trained(linfa.svd_local(4), OPTIMISERS["adam"])
    ranks = deep.shrink(net, {"0": 3, "3": 2})
    other, *_ = trained(linfa.svd_local(4), OPTIMISERS["adam"], steps=0)
    with pytest.raises(RuntimeError, match=r"size mismatch for 0.U"):
        other.load_state_dict(net.state_dict())
    deep.shrink(other, ranks)
    other.load_state_dict(net.state_dict())
    twin = copy.deepcopy(net)
    for model in (net, other, twin):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
    for p, q, t in zip(net.parameters(), other.parameters(), twin.parameters(), strict=True):
        if p.grad is not None:
            assert torch.equal(p.grad, q.grad)
            assert torch.equal(p.grad, t.grad)


def test_what_cannot_shrink_raises():
    net, optimizer, _, _ = trained(linfa.svd_local(4), torch.optim.Adafactor)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(deep.Unsupported, match=r"Adafactor keeps .* not of the shape"):
        deep.shrink(net, 2, optimizer)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    for ranks in (0, {"0": 2, "4": 2}):
        with pytest.raises(ValueError, match="ranks are at least 1, of the layers 0, 3, 5, 7"):
            deep.shrink(net, ranks)
    with pytest.raises(ValueError, match="no layer of the model stores factors"):
        deep.shrink(nn.Linear(2, 2), 1)
    conv = deep.promote(ConvNet(), linfa.svd_local(3), sample=torch.randn(2, 3, 9, 8))
    with pytest.raises(deep.Unsupported, match="the groups of b share"):
        deep.shrink(conv, 2)


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.c(self.b(self.a(x)[..., :4]))


@pytest.mark.parametrize(
    ("make", "rule", "sample", "error", "message"),
    [
        (Wide, linfa.svd_local(2), torch.randn(3, 6), deep.Unsupported, "U of a, 8 outputs .* 4 units .* alignment=0"),
        (lambda: nn.Sequential(nn.Conv2d(9, 3, 3), nn.Flatten(), nn.Linear(3, 5), nn.Linear(5, 3)), linfa.svd_local(5),
         torch.randn(2, 9, 3, 3), deep.Unsupported, "U of 0, .* rank 3: .* smaller rank"),
        (lambda: nn.Sequential(nn.Linear(4, 4)), linfa.factored(linfa.bp(), 5), None, ValueError, "fit no layer"),
        (lambda: nn.Sequential(nn.Linear(4, 4)), linfa.svd_local(2), None, ValueError, "sample="),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),
         Rule(Layerwise(), SVDStructured(2), parameterisation=Factored(2)), None, ValueError, "order of the layers"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), linfa.factored(linfa.local(), 2), torch.randn(3, 4),
         deep.Unsupported, "factored weights on layerwise and direct routes"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), linfa.normalised(linfa.factored(linfa.fa(), 2)), None,
         deep.Unsupported, "factored weights .* plain activities"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),
         replace(linfa.factored(linfa.fa(), 2), geometry=LayerRates((1.0, 0.5))), None, deep.Unsupported,
         "factored weights .* Euclidean steps"),
        (lambda: deep.promote(nn.Sequential(nn.Linear(4, 4)), linfa.factored(linfa.bp(), 2)), linfa.bp(), None,
         deep.Unsupported, "promoted already"),
    ],
)  # fmt: skip
def test_what_does_not_fit_raises_before_anything_changes(make, rule, sample, error, message):
    net = make()
    kinds, keys = [type(m) for m in net.modules()], list(net.state_dict())
    with pytest.raises(error, match=message):
        deep.promote(net, rule, sample=sample)
    assert (kinds, keys) == ([type(m) for m in net.modules()], list(net.state_dict()))


def test_an_error_without_feedback_raises():
    net = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))
    deep.promote(net, linfa.factored(linfa.fa(), 2), sample=torch.randn(2, 4))
    net(torch.randn(2, 4)).sum().backward()
    with pytest.raises(RuntimeError, match="has no feedback"):
        net(torch.randn(2, 4, requires_grad=True)).sum().backward()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", ["fa", "bp", "svd-local"])
def test_forward_mode_and_per_sample_gradients(name):
    rule = (RULES | ALIGNED)[name]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(20, 6), nn.Linear(6, 4)).double()
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    deep.promote(net, rule, sample=x)
    plain = deep.demote(copy.deepcopy(net))
    v = torch.randn_like(x)
    _, mine = torch.func.jvp(lambda t: net(t), (x,), (v,))
    _, true = torch.func.jvp(lambda t: plain(t), (x,), (v,))
    torch.testing.assert_close(mine, true)
    if isinstance(rule.route, Direct):
        return
    learning = {n: p.detach() for n, p in net.named_parameters() if p.requires_grad}
    fixed = {n: p.detach() for n, p in net.named_parameters() if not p.requires_grad}

    def loss(p, t):
        return torch.func.functional_call(net, {**p, **fixed}, (t[None],)).square().sum()

    rows = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(learning, x)
    for i in range(3):
        net.zero_grad()
        net(x[i : i + 1]).square().sum().backward()
        for n, p in net.named_parameters():
            if p.requires_grad:
                torch.testing.assert_close(rows[n][i], p.grad)


def images():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, groups=2), nn.Tanh(), nn.Conv2d(6, 4, (3, 2), 2), nn.Flatten(), nn.Linear(16, 6),
        nn.Tanh(), nn.Linear(6, 3),
    )  # fmt: skip
    return net, torch.randn(6, 2, 5, 4), torch.arange(6) % 3


def filled(net, x, y):
    net.zero_grad()
    F.cross_entropy(net(x).float(), y).backward()
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rule", [linfa.factored(linfa.ldfa(2, "oja"), 2), linfa.svd_local(2, retraction="polar")])
def test_compiled_checkpointed_and_in_bfloat16(rule):
    net, x, y = images()
    exact = filled(deep.promote(net, rule, sample=x), x, y)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamo's own notices
        for name, got in filled(compiled, x, y).items():
            torch.testing.assert_close(got, exact[name.removeprefix("_orig_mod.")], rtol=1e-5, atol=1e-6)
    net.zero_grad()
    F.cross_entropy(net[5:](checkpoint(net[1:5], net[0](x), use_reentrant=False)), y).backward()
    for name, value in exact.items():
        torch.testing.assert_close(net.get_parameter(name).grad, value, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(x).dtype == torch.bfloat16
        low = filled(net, x, y)
    for name, value in exact.items():
        assert low[name].dtype == torch.float32
        assert (low[name] - value).norm() <= 0.1 * value.norm() + 1e-4, name


def test_unbatched_images():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding="same"), nn.Conv2d(4, 3, 2)).double()
    deep.promote(net, linfa.factored(linfa.fa(), 2))
    x = torch.randn(2, 5, 5, dtype=torch.float64, requires_grad=True)
    net(x).square().sum().backward()
    one, got = net[0].U.grad.clone(), x.grad.clone()
    net.zero_grad()
    x.grad = None
    net(x[None]).square().sum().backward()
    torch.testing.assert_close(net[0].U.grad, one)
    torch.testing.assert_close(x.grad, got)


def test_alignment_with_backprop_is_measured_on_the_factors():
    from deep.measure import alignment

    _, net, x, _ = problem("conv")
    y = torch.arange(5)
    deep.promote(net, linfa.factored(linfa.bp(), 3))
    assert all(v == pytest.approx(1) for v in alignment(net, x, y).values())
    deep.promote(deep.demote(net), linfa.factored(linfa.fa(), 3))
    cosines = alignment(net, x, y)
    assert cosines["head"] == pytest.approx(1)
    assert abs(cosines["a"]) < 0.9


def test_lbfgs_shrinks_before_its_first_step_alone():
    """It keeps all parameters as one vector, and the list of them."""
    net, x, y = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)), torch.randn(5, 6), torch.arange(5) % 4
    deep.promote(net, linfa.svd_local(4), sample=x)
    optimizer = torch.optim.LBFGS([p for p in net.parameters() if p.requires_grad])

    def closure():
        optimizer.zero_grad()
        value = F.cross_entropy(net(x), y)
        value.backward()
        return value

    deep.shrink(net, 3, optimizer)
    before = net[0].U.detach().clone()
    optimizer.step(closure)
    assert not torch.equal(net[0].U, before)
    shapes = {n: p.shape for n, p in net.named_parameters()}
    with pytest.raises(deep.Unsupported, match=r"LBFGS keeps .* shrink without it"):
        deep.shrink(net, 2, optimizer)
    assert shapes == {n: p.shape for n, p in net.named_parameters()}
