"""Local losses in torch: gradients against an oracle, their telescoping, memory, and the loop that stays the user's."""

import copy
import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import deep
import linfa
from deep.chain import ends
from deep.local import LocalModel
from deep.models import ViT, cnn, lenet, mlp, resnet20
from linfa.rules import Dense, Fixed, KolenPollack, Local, RandomFactors, Rule, SVDFactors

from .oracles import local_gradients  # isort: skip


def losses(y):
    return lambda logits: F.cross_entropy(logits, y, reduction="none")


def chain():
    """A plain chain of convolutions and linear layers, with every sample for itself."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.Tanh(), nn.Conv2d(6, 8, 3, stride=2), nn.GELU(),
        nn.Flatten(), nn.Linear(72, 9), nn.Softplus(), nn.Linear(9, 4),
    )  # fmt: skip


def normed():
    """The same with batch normalisation."""
    net = chain()
    net[1] = nn.BatchNorm2d(6)
    return net


class Residual(nn.Module):
    """Functional activations, skips inside of blocks, and a branch: nothing that nn.Sequential says."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.a, self.b = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.gate = nn.Linear(6, 6)
        self.joined = nn.Tanh()
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        x = self.joined(x + F.gelu(self.a(x)) * self.gate(x.mean((2, 3)))[..., None, None].sigmoid())
        x = x + torch.tanh(self.b(x))
        return self.head(x.mean((2, 3)))


def vit():
    return ViT(image=8, patch=4, dim=8, depth=3, heads=2, classes=4, channels=2)


def embedded(net):
    x = net.patch_embed
    return lambda image: net.blocks[0](x(image).flatten(2).transpose(1, 2) + net.position(torch.arange(4)))


NETS = {  # a net, the ends of its two first modules of three, and those modules
    "chain": (chain, ("2", "5"), lambda n: [n[:3], n[3:6], n[6:]]),
    "batch norm": (normed, ("2", "5"), lambda n: [n[:3], n[3:6], n[6:]]),
    "vit": (vit, ("blocks.0", "blocks.1"), lambda n: [
        embedded(n), n.blocks[1], lambda x: n.head(n.norm(n.blocks[2](x)).mean(1))]),
}  # fmt: skip


def batch(n=6, channels=2, size=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, channels, size, size, generator=generator, dtype=dtype), torch.arange(n) % 4


def made(kind, rule, seed=0):
    """A promoted net, the modules of an untouched copy, and the heads C."""
    make, stages, cut = NETS[kind]
    torch.manual_seed(seed)
    net = make().double()
    plain = copy.deepcopy(net)
    deep.promote(net, rule, sample=batch(2)[0], stages=stages, seed=3)
    stored = [[net.get_parameter(name).detach() for name in net.local.heads(number)] for number in (1, 2)]
    return net, plain, cut(plain), [torch.linalg.multi_dot([*s, torch.eye(4).double()]).mT for s in stored]


def assert_same(mine, theirs, tolerance=1e-10):
    assert (mine - theirs).abs().max() <= tolerance * theirs.abs().max() + 1e-15


X, Y = batch(size=7)


@pytest.mark.parametrize("lam", [0.0, 0.4])
@pytest.mark.parametrize("kind", NETS)
def test_gradients_equal_the_oracle(kind, lam):
    x, y = batch() if kind == "vit" else (X, Y)
    make, stages, cut = NETS[kind]
    torch.manual_seed(0)
    net = make().double()
    plain = copy.deepcopy(net)
    deep.promote(net, linfa.sgr(modules=3, lam=lam), sample=x[:2], stages=stages)
    value = deep.loss(net, x, y)
    value.backward()
    heads = [net.feedback_1_B.detach().T, net.feedback_2_B.detach().T]
    with sdpa_kernel(SDPBackend.MATH):
        slopes, g, h = local_gradients(cut(plain), heads, x, losses(y), lam)
    for name, p in plain.named_parameters():
        assert_same(net.get_parameter(name).grad, p.grad)
    for number, slope in enumerate(slopes, 1):
        assert_same(net.get_parameter(f"feedback_{number}_B").grad.T, slope)
    for name, buffer in plain.named_buffers():  # of batch normalisation, moved once
        torch.testing.assert_close(net.get_buffer(name), buffer)
    assert h[0] is None
    assert len(g) == 3


@pytest.mark.parametrize("kind", ["chain", "batch norm", "vit"])
def test_the_value_is_the_sum_of_all_losses(kind):
    x, y = batch() if kind == "vit" else (X, Y)
    make, stages, cut = NETS[kind]
    net = make().double()
    plain = copy.deepcopy(net)
    deep.promote(net, linfa.sgr(modules=3, lam=0.3), sample=x, stages=stages)
    heads = [net.feedback_1_B.detach().T, net.feedback_2_B.detach().T]
    with sdpa_kernel(SDPBackend.MATH):
        _, g, h = local_gradients(cut(plain), heads, x, losses(y), 0.3)
    seen = []

    def criterion(logits, y):
        seen.append(F.cross_entropy(logits, y))
        return seen[-1]

    value = deep.loss(net, x, y, criterion)
    apart = sum(((h[k] - g[k - 1]) ** 2).flatten(1).sum(1).mean() for k in (1, 2))
    torch.testing.assert_close(value, sum(seen) + 0.3 * apart)
    assert len(seen) == 3
    if kind != "batch norm":  # whose running statistics have moved
        torch.testing.assert_close(seen[-1], F.cross_entropy(plain(x), y))


def test_local_gradients_telescope_to_those_of_backprop():
    """g_k - p_k = sum_j A_(k+1)^T .. A_j^T d_j with d_j = g_j - h_(j+1), on a nonlinear net, seen at the weights."""
    x, y = X, Y
    net, plain, parts, _ = made("chain", linfa.sgr(modules=3, lam=0.0))
    deep.loss(net, x, y).backward()
    heads = [net.feedback_1_B.detach().T, net.feedback_2_B.detach().T]
    _, g, h = local_gradients(parts, heads, x, losses(y), 0.0)
    plain.zero_grad()
    losses(y)(plain(x)).mean().backward()
    for number in (0, 1):
        inputs = x
        for module in parts[:number]:
            inputs = module(inputs)
        ends_ = [parts[number](inputs.detach())]
        for module in parts[number + 1 :]:
            ends_.append(module(ends_[-1]))
        gap = sum(
            torch.autograd.grad(end, ends_[0], g[j] - h[j + 1], retain_graph=True)[0]
            for j, end in zip(range(number, 2), ends_, strict=False)
        )
        names = [name for name, p in plain.named_parameters() if any(p is q for q in parts[number].parameters())]
        slopes = torch.autograd.grad(ends_[0], [plain.get_parameter(name) for name in names], gap / len(x))
        for name, slope in zip(names, slopes, strict=True):
            assert_same(net.get_parameter(name).grad - plain.get_parameter(name).grad, slope)


def test_heads_that_agree_make_backprop():
    """C_k that follow the linear net above have no discord: the gradients are those of backprop for any lam."""
    torch.manual_seed(0)
    above = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4, bias=False)
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Tanh(), *above).double()
    plain = copy.deepcopy(net)
    deep.promote(net, linfa.sgr(modules=2, lam=0.7), sample=X, stages=("1",))
    with torch.no_grad():
        net.feedback_1_B.copy_(net[4].weight.T)
    F.cross_entropy(plain(X), Y).backward()
    deep.loss(net, X, Y).backward()
    for name, p in plain.named_parameters():
        assert_same(net.get_parameter(name).grad, p.grad)


class Live:
    """Bytes that autograd graphs keep alive, and the most there were; parameters left out."""

    def __init__(self, model):
        self.own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.held, self.now, self.peak = {}, 0, 0

    def pack(self, tensor):
        return Kept(self, tensor)


class Kept:
    def __init__(self, live, tensor):
        self.live, self.tensor, self.key = live, tensor, tensor.untyped_storage().data_ptr()
        live.held[self.key] = live.held.get(self.key, 0) + 1
        if live.held[self.key] == 1 and self.key not in live.own:
            live.now += tensor.untyped_storage().nbytes()
            live.peak = max(live.peak, live.now)

    def __del__(self):
        self.live.held[self.key] -= 1
        if not self.live.held[self.key] and self.key not in self.live.own:
            self.live.now -= self.tensor.untyped_storage().nbytes()


def deep_cnn(layers=16, width=8):
    body = [m for n in range(layers) for m in (nn.Conv2d(2 if n == 0 else width, width, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))


@pytest.mark.parametrize(("modules", "lam", "share"), [(4, 0.0, 0.35), (4, 0.1, 0.65), (8, 0.0, 0.21), (8, 0.1, 0.4)])
def test_memory_is_that_of_the_largest_module(modules, lam, share):
    """Of 16 layers with one kept activity each: 5 in the first of 4 modules; reconciliation keeps the errors, too."""
    x, y = batch(8, size=16, dtype=torch.float32)
    peak = {}
    for name, rule in (("bp", None), ("local", linfa.sgr(modules, lam))):
        model = deep_cnn()
        if rule is not None:
            deep.promote(model, rule, sample=x[:1])
        live = Live(model)
        with torch.autograd.graph.saved_tensors_hooks(live.pack, lambda kept: kept.tensor):
            value = deep.loss(model, x, y)
            value.backward()
        del value
        peak[name] = live.peak
        assert live.now == 0
    assert peak["local"] <= share * peak["bp"]


def test_between_forward_and_backward_only_gradients_are_kept():
    x, y = batch(8, size=16, dtype=torch.float32)
    model = deep.promote(deep_cnn(), linfa.local(), sample=x[:1])
    live = Live(model)
    with torch.autograd.graph.saved_tensors_hooks(live.pack, lambda kept: kept.tensor):
        value = deep.loss(model, x, y)
        assert live.now == sum(p.numel() * p.element_size() for p in model.parameters())
        value.backward()


def filled(model, x=X, y=Y, factor=1.0):
    model.zero_grad()
    (factor * deep.loss(model, x, y)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


RULES = {
    "local": linfa.local(),
    "sgr(2)": linfa.sgr(2, lam=0.2),
    "decay": linfa.sgr(lam=0.1, decay=0.05),
    "rank 2": Rule(Local(2, 0.1), RandomFactors(2), KolenPollack(), name="rank 2"),
    "fixed": Rule(Local(3, 0.1), Dense(), Fixed(), name="fixed"),
}


def promoted(rule, make=chain, seed=0, **kw):
    torch.manual_seed(seed)
    return deep.promote(make().double(), rule, sample=X, **kw)


@pytest.mark.parametrize("name", RULES)
def test_forward_and_parameters_stay(name):
    torch.manual_seed(0)
    net = normed().double().eval()
    before, out = dict(net.named_parameters()), net(X)
    assert deep.promote(net, RULES[name], sample=X) is net
    assert not net.training
    assert all(net.get_parameter(key) is p for key, p in before.items())
    assert torch.equal(net(X), out)
    assert f"rule={RULES[name].name}" in repr(net)


@pytest.mark.parametrize("name", RULES)
def test_copies_files_and_states(name):
    net, other = promoted(RULES[name]), promoted(RULES[name], seed=1)
    other.load_state_dict(net.state_dict())
    mine = filled(net)
    for again in (other, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(again, LocalModel)
        assert type(again) is type(net)
        for key, gradient in filled(again).items():
            assert torch.equal(gradient, mine[key]), key


@pytest.mark.parametrize("name", RULES)
def test_demote_gives_backprop_back(name):
    torch.manual_seed(0)
    plain = chain().double()
    net = deep.promote(copy.deepcopy(plain), RULES[name], sample=X)
    filled(net)
    deep.demote(net)
    assert type(net) is nn.Sequential
    assert vars(net).keys() == vars(plain).keys()
    assert list(net.state_dict()) == list(plain.state_dict())
    for key, gradient in filled(net).items():
        assert torch.equal(gradient, filled(plain)[key])
    deep.promote(net, RULES[name], sample=X)


def test_the_loss_of_other_rules_is_the_criterion():
    torch.manual_seed(0)
    net = deep.promote(chain().double(), linfa.fa())
    assert torch.equal(deep.loss(net, X, Y), F.cross_entropy(net(X), Y))
    assert torch.equal(deep.loss(net, (X,), Y), F.cross_entropy(net(X), Y))


def test_plain_backprop_is_refused():
    net = promoted(linfa.sgr(2))
    with pytest.raises(RuntimeError, match=r"deep\.loss\(model, x, y, criterion\)"):
        F.cross_entropy(net(X), Y).backward()
    with pytest.raises(RuntimeError, match="local losses"):
        net[:3](X).sum().backward()
    with torch.no_grad():
        assert not net(X).requires_grad


def test_scaling_accumulation_and_hooks():
    net = promoted(linfa.sgr(3, lam=0.3))
    once = filled(net)
    for key, gradient in filled(net, factor=3.0).items():
        torch.testing.assert_close(gradient, 3 * once[key])
    net.zero_grad()
    seen = []
    net[0].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p))
    (deep.loss(net, X, Y) + 2 * deep.loss(net, X, Y)).backward()
    for key, p in net.named_parameters():
        torch.testing.assert_close(p.grad, 3 * once[key])
    assert len(seen) == 1


def test_decay_is_added_once_whatever_the_scale():
    net, free = promoted(linfa.sgr(3, lam=0.3, decay=0.5)), promoted(linfa.sgr(3, lam=0.3))
    decayed, plain = filled(net, factor=3.0), filled(free, factor=3.0)
    for key, p in net.named_parameters():
        fades = key.endswith("B") or (key.endswith("weight") and p.dim() > 1)
        torch.testing.assert_close(decayed[key], plain[key] + 0.5 * fades * p.detach())


def test_double_use_raises():
    net = promoted(linfa.sgr(2))
    value = deep.loss(net, X, Y)
    value.backward()
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()
    with pytest.raises(RuntimeError, match="no second derivative"):
        deep.loss(net, X, Y).backward(create_graph=True)


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_no_grad_gives_the_value_alone(lam):
    net = promoted(linfa.sgr(2, lam)).eval()
    with torch.no_grad():
        value = deep.loss(net, X, Y)
    assert not value.requires_grad
    torch.testing.assert_close(value, deep.loss(net, X, Y).detach())


def test_frozen_parameters_stay_out():
    net = promoted(linfa.sgr(3, lam=0.3))
    all_ = filled(net)
    for p in net[:3].parameters():
        p.requires_grad_(False)
    some = filled(net)
    assert sorted(set(all_) - set(some)) == ["0.bias", "0.weight", "1.bias", "1.weight"]
    assert all(torch.equal(gradient, all_[key]) for key, gradient in some.items())
    for p in net.parameters():
        p.requires_grad_(False)
    assert not deep.loss(net, X, Y).requires_grad


def test_dropout_draws_once():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Dropout(0.5), nn.Tanh(), nn.Flatten(), nn.Linear(150, 4)).double()
    parts = copy.deepcopy(net)
    deep.promote(net, linfa.sgr(2, lam=0.4), sample=X, stages=("2",))
    torch.manual_seed(7)
    mine = filled(net)
    torch.manual_seed(7)
    local_gradients([parts[:3], parts[3:]], [net.feedback_1_B.detach().T], X, losses(Y), 0.4)
    for key, p in parts.named_parameters():
        assert_same(mine[key], p.grad)


@pytest.mark.parametrize("lam", [0.0, 0.2])
def test_bfloat16_autocast(lam):
    net = promoted(linfa.sgr(3, lam), normed).float()
    exact = filled(net, X.float())
    net.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            net(X.float())  # casts its weights without a graph
        value = deep.loss(net, X.float(), Y) + deep.loss(net, X.float(), Y)
    value.backward()
    assert value.dtype == torch.float32
    for key, p in net.named_parameters():
        assert p.grad.dtype == torch.float32
        assert (p.grad / 2 - exact[key]).norm() < 0.1 * exact[key].norm() + 1e-3, key


def test_float16_autocast_raises():
    net = promoted(linfa.local()).float()
    with torch.autocast("cpu", dtype=torch.float16), pytest.raises(RuntimeError, match="bfloat16"):
        deep.loss(net, X.float(), Y)


def test_an_input_that_needs_a_gradient_raises():
    with pytest.raises(RuntimeError, match="detach it"):
        deep.loss(promoted(linfa.local()), X.clone().requires_grad_(), Y)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, 4)
        self.outer = False

    def forward(self, x):
        if self.outer:
            x = checkpoint(lambda x: torch.tanh(self.b(torch.tanh(self.a(x)))), x, use_reentrant=False)
        else:
            x = checkpoint(lambda x: torch.tanh(self.a(x)), x, use_reentrant=False)
            x = torch.tanh(self.b(x))
        return self.head(x.mean((2, 3)))


def test_activation_checkpointing_around_an_end_raises():
    torch.manual_seed(0)
    net = deep.promote(Checkpointed().double(), linfa.local(), sample=X)
    net.outer = True
    with pytest.raises(RuntimeError, match="take activation checkpointing away"):
        filled(net)


def test_activation_checkpointing_inside_of_a_module():
    class Inside(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(2, 6, 3)

        def forward(self, x):
            return checkpoint(lambda x: torch.tanh(self.layer(x)), x, use_reentrant=False)

    torch.manual_seed(0)
    net = nn.Sequential(Inside(), nn.Flatten(), nn.Linear(150, 4)).double()
    plain = nn.Sequential(nn.Sequential(net[0].layer, nn.Tanh()), *net[1:])
    deep.promote(plain, linfa.sgr(2, lam=0.3), sample=X, stages=("0",))
    expected = filled(plain)
    deep.demote(plain)
    deep.promote(net, linfa.sgr(2, lam=0.3), sample=X, stages=("0",))
    for key, gradient in filled(net).items():
        torch.testing.assert_close(gradient, expected[key.replace("layer", "0")])


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(2, 6, 3)

    def forward(self, x):
        return torch.tanh(self.layer(x))


def test_compiled_modules_and_a_compiled_whole():
    torch.manual_seed(0)
    net = nn.Sequential(Inner(), nn.Flatten(), nn.Linear(150, 4)).double()
    deep.promote(net, linfa.local(), sample=X)
    exact, graphs = filled(net), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamo's own notices
        torch._dynamo.reset()
        whole = torch.compile(net, backend=backend)
        for key, gradient in filled(whole).items():
            assert torch.equal(gradient, exact[key.removeprefix("_orig_mod.")])
        with torch.no_grad():
            torch.testing.assert_close(whole(X), net(X))
        with pytest.raises(RuntimeError, match="local losses"):
            whole(X).sum().backward()
        graphs.clear()
        net[0].compile(backend=backend)
        for key, gradient in filled(net).items():
            torch.testing.assert_close(gradient, exact[key])
    assert len(graphs) == 1


def test_an_end_that_does_not_run_raises():
    net = promoted(linfa.local(), Residual)
    net.forward = lambda example: LocalModel.forward(net, example)
    net.plain = lambda x: net.head(net.stem(x).mean((2, 3)))
    with pytest.raises(RuntimeError, match="joined did not run"):
        filled(net)
    net.plain = lambda x: net.head(net.joined(net.joined(net.a(net.stem(x)))).mean((2, 3)))
    with pytest.raises(RuntimeError, match="joined ran out of turn, after 2 of 3"):
        filled(net)


def test_data_parallel_training_reduces_every_gradient(tmp_path):
    net = promoted(linfa.sgr(3, lam=0.2))
    exact = filled(net)
    net.zero_grad()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped, reduced = DistributedDataParallel(net), []

        def hook(state, bucket):
            reduced.extend(bucket.parameters())
            future = torch.futures.Future()
            future.set_result(2 * bucket.buffer())
            return future

        wrapped.register_comm_hook(None, hook)
        for _ in range(2):  # the second pass shows whether the first one left the reducer ready
            net.zero_grad()
            deep.loss(wrapped, X, Y).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert len(reduced) == 2 * len(exact)
    for key, p in net.named_parameters():
        torch.testing.assert_close(p.grad, 2 * exact[key])


def test_parameters_module_by_module():
    net = promoted(linfa.sgr(3))
    groups = deep.modules(net)
    names = {id(p): name for name, p in net.named_parameters()}
    assert [[names[id(p)] for p in group] for group in groups] == [
        ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias", "feedback_1_B"],
        ["6.weight", "6.bias", "feedback_2_B"],
        ["8.weight", "8.bias"],
    ]
    filled(net)
    for group in groups:
        nn.utils.clip_grad_norm_(group, 1e-3)
        assert torch.stack([p.grad.norm() for p in group]).norm() <= 1.001e-3
    with pytest.raises(TypeError, match=r"promote it with linfa\.sgr"):
        deep.modules(chain())


@pytest.mark.parametrize(
    ("make", "size", "found"),
    [
        (chain, 7, ("2", "5", "7")),
        (Residual, 7, ("stem", "joined")),
        (lambda: cnn(2, 4, 4), 16, ("2", "6", "9", "13", "16", "21")),
        (lambda: lenet(2, 4, 28), 28, ("2", "6", "8", "10")),
        (lambda: mlp((98, 5, 5, 4)), 7, ("3", "6")),
        (vit, 8, ("patch_embed", "blocks.0", "blocks.1", "norm")),
        (lambda: resnet20(4, 2), 8, ("norm", *(f"blocks.{n}" for n in range(9)))),
    ],
)
def test_stages_are_found(make, size, found):
    net = make()
    x = torch.randn(2, 2, size, size)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    assert ends(net, x) == found
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    deep.promote(net, linfa.local(), sample=x)
    y = torch.tensor([0, 1])
    deep.loss(net, x, y).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_division_is_that_of_the_core():
    net = promoted(linfa.sgr(2))
    assert [part.end for part in net.local.parts] == ["5", None]
    net = promoted(linfa.sgr(9))
    assert [part.end for part in net.local.parts] == ["2", "5", "7", None]
    net = promoted(linfa.sgr(2), stages=("5", "7"))
    assert [part.end for part in net.local.parts] == ["7", None]


def test_a_module_without_parameters_has_a_head():
    net = promoted(linfa.sgr(4, lam=0.1), stages=("2", "6", "7"))
    assert net.local.parts[2].names == ()
    assert "feedback_3_B" in filled(net)


def test_one_stage_is_backprop():
    net = nn.Sequential(nn.Flatten(), nn.Linear(98, 4)).double()
    plain = copy.deepcopy(net)
    deep.promote(net, linfa.sgr(2), sample=X)
    for key, gradient in filled(net).items():
        assert torch.equal(gradient, filled(plain)[key])


class Skip(nn.Module):
    """The first activity is read again by the head."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(98, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.a(x.flatten(1))
        return self.c(x + self.b(x))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(98, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.a(x.flatten(1))
        return self.c(self.b(torch.tanh(self.b(x))) @ self.c.weight.new_ones(6, 6))


class Tied(Skip):
    def forward(self, x):
        return self.c(F.linear(self.b(self.a(x.flatten(1))), self.b.weight))


class Again(Skip):
    """The input is read again by the head."""

    def forward(self, x):
        return self.c(self.b(self.a(x.flatten(1))) + x.flatten(1)[:, :6])


class Beside(Skip):
    """What comes after b does not read it."""

    def forward(self, x):
        self.b(self.a(x.flatten(1)))
        return self.c(x.flatten(1)[:, :6])


class Pair(Skip):
    def forward(self, x):
        return super().forward(x), x


def idle():
    net = chain()
    net.idle = nn.Linear(2, 2)
    net.forward = lambda x: nn.Sequential.forward(net[:9], x)
    return net


class Flat(Skip):
    def forward(self, x):
        return super().forward(x).sum(1)


@pytest.mark.parametrize(
    ("make", "stages", "message"),
    [
        (Skip, ("b",), "b does not read what is before it through its output alone"),
        (Again, ("b",), "b does not read what is before it"),
        (Beside, ("b",), "an output that is not used"),
        (Tied, ("b",), "b does not read .* a shared weight"),
        (Shared, ("b",), r"b ran after b, out of turn: .* stages=\('layer1', 'layer2', ...\)"),
        (chain, ("5", "2"), "2 ran first, out of turn"),
        (Pair, None, r"Pair gives no \(N, outputs\)"),
        (Flat, None, r"Flat gives no \(N, outputs\)"),
        (idle, ("2", "idle"), "idle did not run on the sample"),
    ],
)
def test_models_that_are_no_chain(make, stages, message):
    net = make().double()
    kind, keys = type(net), list(net.state_dict())
    with pytest.raises(deep.Unsupported, match=message):
        deep.promote(net, linfa.local(), sample=X, stages=stages)
    assert type(net) is kind
    assert list(net.state_dict()) == keys
    assert all(p.requires_grad for p in net.parameters())


def test_around_a_skip_there_are_stages():
    assert ends(Skip().double(), X) == ("a",)
    assert ends(Tied().double(), X) == ("a",)


def test_an_end_without_features_is_refused():
    class Sums(nn.Module):
        def forward(self, x):
            return x.sum(1)

    net = nn.Sequential(nn.Flatten(), nn.Linear(98, 6), Sums(), nn.Unflatten(0, (-1, 1)), nn.Linear(1, 4)).double()
    with pytest.raises(deep.Unsupported, match="2 gives no tensor of samples and features"):
        deep.promote(net, linfa.local(), sample=X, stages=("2",))


def test_bad_calls():
    with pytest.raises(ValueError, match="sample="):
        deep.promote(chain(), linfa.local())
    with pytest.raises(ValueError, match="exact has no use"):
        deep.promote(chain(), linfa.local(), sample=X, exact=("0",))
    with pytest.raises(ValueError, match="stages names no module of the model: layer7"):
        deep.promote(chain(), linfa.local(), sample=X, stages=("layer7",))
    with pytest.raises(ValueError, match="stages divide a model for rules with local losses"):
        deep.promote(chain(), linfa.fa(), stages=("2",))
    with pytest.raises(deep.Unsupported, match="clamps its gradient"):
        deep.promote(chain(), Rule(Local(), RandomFactors(2, clamp=1.0), KolenPollack()), sample=X)
    with pytest.raises(deep.Unsupported, match="a local head has none"):
        deep.promote(chain().double(), Rule(Local(), SVDFactors(2), KolenPollack()), sample=X)
    for first, second in ((linfa.local(), linfa.fa()), (linfa.fa(), linfa.local()), (linfa.local(), linfa.sgr())):
        net = deep.promote(chain().double(), first, sample=X)
        with pytest.raises(deep.Unsupported, match=rf"promoted already \({first.name}\)"):
            deep.promote(net, second, sample=X)


def test_parameters_that_no_loss_reaches_raise():
    net = promoted(linfa.local())
    net.plain = lambda x: torch.func.functional_call(
        nn.Sequential(*net), {name: p.detach().clone() for name, p in nn.Sequential(*net).named_parameters()}, (x,)
    )
    with pytest.raises(RuntimeError, match="are they sharded"):
        filled(net)


@pytest.mark.parametrize("rule", [linfa.local(), linfa.sgr(2, lam=0.1)], ids=lambda rule: rule.name)
def test_it_learns(rule):
    net = promoted(rule, normed)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        deep.loss(net, X, Y).backward()
        optimizer.step()
    assert F.cross_entropy(net(X), Y) < 0.05


class Attending(nn.Module):
    """Self-attention beside its input."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return x + self.attention(x, x, x, need_weights=False)[0]


def test_attention_in_a_module_learns_and_decays():
    """Its projections are one parameter, which is no ``weight``."""
    torch.manual_seed(0)
    x, y = torch.randn(5, 3, 6, dtype=torch.float64), torch.arange(5) % 4
    net = nn.Sequential(nn.Linear(6, 8), Attending(), Attending(), nn.Flatten(), nn.Linear(24, 4)).double()
    plain = copy.deepcopy(net)
    with sdpa_kernel(SDPBackend.MATH):  # which has a second derivative
        deep.promote(net, linfa.sgr(2, lam=0.2, decay=0.5), sample=x, stages=("1",))
        deep.loss(net, x, y).backward()
        heads = [net.feedback_1_B.detach().T]
        (head,), _, _ = local_gradients([plain[:2], plain[2:]], heads, x, losses(y), 0.2)
    torch.testing.assert_close(net.feedback_1_B.grad, head.T + 0.5 * net.feedback_1_B.detach())
    for name, p in plain.named_parameters():
        fades = 0.5 * (p.dim() > 1)
        torch.testing.assert_close(net.get_parameter(name).grad, p.grad + fades * p.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", [linfa.sgr(), linfa.local()], ids=lambda rule: rule.name)
def test_activations_in_place(rule):
    """They belong to the module whose output they change."""
    x, y = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.arange(4) % 3
    found = []
    for inplace in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(6, 8), nn.ReLU(inplace), nn.Dropout(0), nn.Linear(8, 5), nn.ReLU(inplace), nn.Linear(5, 3)
        )
        deep.promote(net, rule, sample=x)
        deep.loss(net, x, y).backward()
        found.append(([part.end for part in net.local.parts], [p.grad for p in net.parameters()]))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[1][1], found[0][1], rtol=0, atol=0)
