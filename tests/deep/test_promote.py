"""What promotion keeps, what it refuses, and how it behaves in the torch ecosystem."""

import ast
import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import deep
import linfa
from deep import layers
from linfa.rules import Dense, Direct, Full, Layerwise, Local, Plain, Rule, SVDFactors, named

from .covered import promotable  # isort: skip


COVERED = list(promotable())
GLOBAL = [name for name in COVERED if not isinstance(named()[name].route, Local)]  # the others have test_local.py
FULL = [name for name in COVERED if named()[name].parameterisation == Full()]  # the others store something else


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.Tanh(),
        nn.Linear(8, 3),
    )  # fmt: skip


X, Y = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])


def backward(model, x=X, y=Y):
    deep.loss(model, x, y).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", FULL)
def test_promotion_keeps_model_and_parameters(name):
    model = net()
    before, out = dict(model.named_parameters()), model.eval()(X)
    keys = set(model.state_dict())
    promoted = deep.promote(model, named()[name], sample=X)
    assert promoted is model
    assert not model.training
    assert all(dict(model.named_parameters())[n] is p for n, p in before.items())
    assert keys <= set(model.state_dict())
    assert torch.equal(model(X), out)


@pytest.mark.parametrize("name", sorted({*named()} - {*COVERED}))
def test_other_rules_are_refused(name):
    with pytest.raises(deep.Unsupported, match="promot"):
        deep.promote(net(), named()[name], sample=X)


@pytest.mark.parametrize("name", COVERED)
def test_demote_gives_back_backprop_bit_for_bit(name):
    plain = net()
    model = copy.deepcopy(plain)
    deep.promote(model, named()[name], sample=X)
    backward(model)
    model.zero_grad()
    deep.demote(model)
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert set(model.state_dict()) == set(plain.state_dict())
    fresh = copy.deepcopy(plain)
    fresh.load_state_dict(model.state_dict())
    for (n, g), (m, h) in zip(backward(model).items(), backward(fresh).items(), strict=True):
        assert n == m
        assert torch.equal(g, h)
    assert {k: type(v) for k, v in vars(model[4]).items()} == {k: type(v) for k, v in vars(plain[4]).items()}


@pytest.mark.parametrize("name", COVERED)
def test_state_dict_round_trip_and_deepcopy(name):
    model, other = net(0), net(1)
    deep.promote(model, named()[name], sample=X, seed=0)
    deep.promote(other, named()[name], sample=X, seed=1)
    other.load_state_dict(model.state_dict())
    twin = copy.deepcopy(model)
    redrawn = named()[name].feedback.redrawn
    if redrawn:
        torch.manual_seed(5)
    mine = backward(model)
    for again in (other, twin):
        if redrawn:
            torch.manual_seed(5)
        for n, g in backward(again).items():
            assert torch.equal(g, mine[n]), n


@pytest.mark.parametrize("name", GLOBAL)
def test_compile_fullgraph(name):
    model = deep.promote(net(), named()[name], sample=X)
    redrawn = model[4].rule.feedback.redrawn
    eager = backward(model)
    model.zero_grad()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamo's own notices
        got = backward(compiled)
    assert {n.removeprefix("_orig_mod.") for n in got} == set(eager)
    for n, g in got.items():
        if not redrawn:
            torch.testing.assert_close(g, eager[n.removeprefix("_orig_mod.")], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [n for n in GLOBAL if n != "brSF"])
def test_bf16_autocast_is_close_and_fills_float_gradients(name):
    model = deep.promote(net(), named()[name], sample=X)
    exact = backward(model)
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(X)
    assert out.dtype == torch.bfloat16
    F.cross_entropy(out.float(), Y).backward()
    for n, p in model.named_parameters():
        if n in exact and exact[n].norm() > 1e-5:
            assert p.grad.dtype == torch.float32
            assert (p.grad - exact[n]).norm() < 0.15 * exact[n].norm(), n


@pytest.mark.parametrize("name", [n for n in GLOBAL if n != "brSF"])
def test_checkpointing_without_reentry(name):
    model = deep.promote(net().double(), named()[name], sample=X.double())
    exact = backward(model, X.double())
    model.zero_grad()
    h = model[:3](X.double())
    h = checkpoint(model[3:6], h, use_reentrant=False)
    F.cross_entropy(model[6](h), Y).backward()
    for n, p in model.named_parameters():
        if n in exact and not n.startswith("1."):
            torch.testing.assert_close(p.grad, exact[n], rtol=1e-9, atol=1e-12)


def test_reentrant_checkpointing_of_a_direct_rule_raises():
    model = deep.promote(net(), linfa.dfa(), sample=X)
    h = model[:3](X)
    h = checkpoint(model[3:6], h, use_reentrant=True)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        model[6](h)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", ["bp", "fa", "dfa", "ldfa(2, oja)"])
def test_forward_mode_uses_the_true_weight(name):
    model = net().double().eval()
    plain = copy.deepcopy(model)
    deep.promote(model, named()[name], sample=X.double())
    direction = torch.randn(X.shape, dtype=torch.float64)
    _, mine = torch.func.jvp(lambda x: model(x), (X.double(),), (direction,))
    _, true = torch.func.jvp(lambda x: plain(x), (X.double(),), (direction,))
    torch.testing.assert_close(mine, true)


@pytest.mark.parametrize("name", ["bp", "fa", "ldfa(2, fixed)"])
def test_per_sample_gradients(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    deep.promote(model, named()[name])
    x, y = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    learning = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    fixed = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}

    def loss(p, xi, yi):
        return F.cross_entropy(torch.func.functional_call(model, {**p, **fixed}, (xi[None],)), yi[None])

    rows = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(learning, x, y)
    for i in range(5):
        model.zero_grad()
        one = backward(model, x[i : i + 1], y[i : i + 1])
        for n, g in one.items():
            torch.testing.assert_close(rows[n][i], g)


def test_gradient_accumulation_adds_up():
    model = deep.promote(net().eval(), linfa.fa())
    whole = backward(model)
    model.zero_grad()
    for half in (slice(0, 3), slice(3, 6)):
        (F.cross_entropy(model(X[half]), Y[half]) / 2).backward()
    for n, p in model.named_parameters():
        if n in whole:
            torch.testing.assert_close(p.grad, whole[n], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", COVERED)
def test_eval_and_no_grad_leave_nothing_behind(name):
    model = deep.promote(net(), named()[name], sample=X).eval()
    with torch.no_grad():
        model(X)
    assert all(not layer.cuts for layer in model.modules() if isinstance(layer, layers.Cut))
    backward(model)
    assert all(not layer.cuts for layer in model.modules() if isinstance(layer, layers.Cut))


def test_seeds_are_explicit():
    a, b, c = (deep.promote(net(), linfa.fa(), seed=s)[4].feedback["B"] for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_feedback_has_the_spread_of_the_weights():
    model = net()
    deep.promote(model, linfa.fa(scale=2.0))
    weight, B = model[4].weight, model[4].feedback["B"]
    assert B.std().item() == pytest.approx(2 * weight.square().mean().sqrt().item(), rel=0.1)


def test_redrawn_feedback_changes_in_training_only():
    model = deep.promote(net(), linfa.sign_symmetry("brSF"))
    before = model[4].feedback["M"].clone()
    backward(model.eval())
    assert torch.equal(model[4].feedback["M"], before)
    backward(model.train())
    assert not torch.equal(model[4].feedback["M"], before)


def test_first_layers_get_no_feedback_with_a_sample():
    model = deep.promote(net(), linfa.fa(), sample=X)
    assert not model[0].feedback
    with pytest.raises(RuntimeError, match="has no feedback"):
        backward(model, X.clone().requires_grad_())


def test_head_carries_no_more_than_it_can():
    model = deep.promote(net(), linfa.ldfa(rank=8))
    assert model[6].feedback["P"].shape == (3, 3)
    assert model[4].feedback["P"].shape == (8, 8)


def test_exact_by_path_and_by_type():
    model = deep.promote(net(), linfa.fa(), exact=("4", nn.Conv2d))
    assert type(model[4]) is nn.Linear
    assert type(model[0]) is nn.Conv2d
    assert isinstance(model[6], layers.EdgeLinear)


class Loose(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x) * self.scale


class Own(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.Sequential(nn.Linear(4, 4), nn.Bilinear(4, 4, 1)),
            r"1 is a .*Bilinear .* exact=\('1.weight', '1.bias'\)",
        ),
        (lambda: nn.Sequential(Own(4, 4)), "Own"),
        (lambda: nn.LSTM(4, 4), "LSTM"),
        (Loose, r"exact=\('scale',\)"),
        (lambda: nn.Sequential(nn.ReLU()), "no nn.Linear"),
        (lambda: nn.Sequential(nn.LazyLinear(4)), r"0\.weight has no shape yet: run the model once"),
        (lambda: nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64)), "complex64"),
        (lambda: deep.promote(nn.Sequential(nn.Linear(4, 4)), linfa.fa()), "promoted already"),
    ],
)
def test_what_cannot_be_promoted_raises(make, message):
    model = make()
    kinds = [type(m) for m in model.modules()]
    with pytest.raises(deep.Unsupported, match=message):
        deep.promote(model, linfa.fa())
    assert kinds == [type(m) for m in model.modules()]


def test_loose_parameters_can_be_named():
    model = deep.promote(Loose(), linfa.fa(), exact=("scale",))
    assert isinstance(model.fc, layers.EdgeLinear)


def test_bad_calls():
    with pytest.raises(ValueError, match="sample="):
        deep.promote(net(), linfa.dfa())
    with pytest.raises(ValueError, match="exact names no module"):
        deep.promote(net(), linfa.fa(), exact=("fc9",))
    with pytest.raises(ValueError, match="largest possible rank here is 8"):
        deep.promote(net(), linfa.ldfa(rank=9))
    with pytest.raises(deep.Unsupported, match="direct edge has none"):
        deep.promote(net(), Rule(Direct(), SVDFactors(2)), sample=X)
    with pytest.raises(deep.Unsupported, match="backpropagates 3 layers exactly"):
        deep.promote(net(), Rule(Direct(exact_top=3), Dense()), sample=X)
    model = net()
    model.idle = nn.Linear(2, 2)
    model.forward = lambda x: nn.Sequential.forward(model[:7], x)
    with pytest.raises(deep.Unsupported, match="did not run"):
        deep.promote(model, linfa.fa(), sample=X)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.c(self.b(self.b(self.a(x)).tanh()).tanh())


def test_a_cut_layer_that_runs_twice_raises():
    model = Twice()
    x = torch.randn(3, 4)
    deep.promote(model, linfa.dfa(), sample=x)
    with pytest.raises(RuntimeError, match="b ran twice"):
        model(x)


def test_a_layerwise_layer_may_run_twice():
    model = Twice().double()
    x, y = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 1, 1])
    plain = copy.deepcopy(model)
    exact = backward(plain, x, y)
    for n, g in backward(deep.promote(model, linfa.bp()), x, y).items():
        torch.testing.assert_close(g, exact[n])


def test_a_failed_forward_pass_does_not_poison_the_next():
    model = deep.promote(net(), linfa.dfa(), sample=X)
    fine = backward(copy.deepcopy(model))
    with pytest.raises(RuntimeError):
        model[5:](model[4](model[:4](X)).repeat(1, 3))
    for n, g in backward(model).items():
        if not n.startswith("1."):
            torch.testing.assert_close(g, fine[n])


def test_no_silent_mixture_of_batches():
    model = deep.promote(net(), linfa.dfa(), sample=X)
    h = model[:4](X)
    with pytest.raises(RuntimeError, match="comes for samples"):
        model[6](torch.cat([model[5](model[4](h))] * 2))


def test_layerwise_fa_trains():
    torch.manual_seed(0)
    model = deep.promote(net(), linfa.ldfa(3))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        value = F.cross_entropy(model(X), Y)
        value.backward()
        optimizer.step()
    assert value < 0.1


def test_repr_names_the_rule():
    assert "rule=fa" in repr(deep.promote(net(), linfa.fa()))
    assert isinstance(linfa.fa().route, Layerwise)


@pytest.mark.parametrize("rule", [linfa.fa(), linfa.dfa(), linfa.ldfa(2)], ids=lambda rule: rule.name)
def test_compiled_without_gradients_is_the_plain_forward(rule):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)), torch.randn(2, 2, 6, 6)
    with torch.no_grad():
        plain = net(x)
        promoted = torch.compile(deep.promote(net, rule, sample=x), fullgraph=True, backend="eager")
        torch.testing.assert_close(promoted(x), plain, rtol=0, atol=0)


@pytest.mark.parametrize(
    "rule",
    [linfa.fa(), linfa.factored(linfa.fa(), 2), linfa.svd_local(2), linfa.dfa(), linfa.directional_dfa(directions=1)],
    ids=lambda rule: rule.name,
)
def test_activations_in_place(rule):
    """Behind every layer, the last one too."""
    x = torch.randn(4, 1, 6, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    found = []
    for inplace in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(inplace), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(inplace), nn.Linear(8, 3),
            nn.ELU(inplace=inplace),
        ).double()  # fmt: skip
        deep.promote(net, rule, sample=x)
        torch.manual_seed(1)
        net(x).square().sum().backward()
        found.append([p.grad for p in net.parameters()])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)


def small(device=None):
    return nn.Sequential(nn.Linear(6, 8, device=device), nn.ReLU(), nn.Linear(8, 3, device=device))


@pytest.mark.parametrize("rule", [linfa.fa(), linfa.dfa(), linfa.sgr(2)], ids=lambda rule: rule.name)
def test_parameters_without_numbers_are_refused(rule):
    """Feedback would have none either, and nobody would load any."""
    model = small("meta")
    with pytest.raises(deep.Unsupported, match=r"0\.weight is on the meta device, without numbers.*to_empty"):
        deep.promote(model, rule, sample=torch.zeros(2, 6, device="meta"))
    assert type(model[0]) is nn.Linear
    with pytest.raises(deep.Unsupported, match=r"0\.weight has no shape yet: run the model once"):
        deep.promote(nn.Sequential(nn.LazyLinear(3)), rule, sample=torch.zeros(2, 6))


@pytest.mark.parametrize("rule", ["fa", linfa.fa])
def test_no_rule(rule):
    with pytest.raises(TypeError, match=r"a rule is a linfa\.Rule, such as linfa\.fa\(\) with its parentheses; got "):
        deep.promote(small(), rule)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"exact": "rnn"}, r"exact is a sequence: exact=\('rnn',\)"),
        ({"exact": nn.LSTM}, r"exact is a sequence: exact=\(LSTM,\)"),
        ({"stages": "0"}, r"stages is a sequence: stages=\('0',\)"),
    ],
)
def test_one_path_is_no_sequence(given, message):
    with pytest.raises(ValueError, match=message):
        deep.promote(small(), linfa.sgr(2), sample=torch.zeros(2, 6), **given)


def test_all_layers_that_a_broadcast_does_not_reach_are_named():
    """The way out that the error shows is one."""
    inputs = torch.randn(2, 5, 8), torch.randn(2, 4, 8)
    model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    with pytest.raises(deep.Unsupported, match=r"comes for samples.*attends from one input to another") as refused:
        deep.promote(model, linfa.dfa(), sample=inputs)
    exact = ast.literal_eval(str(refused.value).partition("exact=")[2].partition(")")[0] + ")")
    assert "decoder.layers.0.multihead_attn" in exact
    deep.promote(model, linfa.dfa(), sample=inputs, exact=exact)(*inputs).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("rule", [linfa.fa(), linfa.dfa(), linfa.svd_local(2)], ids=lambda rule: rule.name)
def test_torchscript_is_refused_with_a_way_out(rule):
    x = torch.randn(4, 6)
    model = deep.promote(small(), rule, sample=x)
    with pytest.raises(deep.Unsupported, match=r"TorchScript knows no \w+, whose backward is Python: take a copy"):
        torch.jit.script(model)
    with pytest.raises(deep.Unsupported, match=r"no room for the backward of \w+: .*trace under torch.no_grad\(\)"):
        torch.jit.trace(model, x)
    with torch.no_grad():
        assert torch.equal(torch.jit.trace(model, x)(x), model(x))


@pytest.mark.parametrize("rule", [linfa.fa(), linfa.dfa(), linfa.svd_local(2)], ids=lambda rule: rule.name)
@pytest.mark.parametrize("frozen", [slice(0, 1), slice(0, 4)], ids=["first", "most"])
def test_layers_that_learn_later_do_not_learn_by_backpropagation(rule, frozen):
    """Feedback is made for what learns on the sample; what has none by then asks for another promotion."""
    x = torch.randn(5, 6)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 4))
    model[frozen].requires_grad_(False)
    deep.promote(model, rule, sample=x)
    learning = [p for p in model.parameters() if p.requires_grad]
    model(x).sum().backward()
    assert all(p.grad is not None for p in learning)
    model[frozen].requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"asked for at the input of .* on the sample given to promote"):
        model(x).sum().backward()
    deep.promote(deep.demote(model).requires_grad_(True), rule, sample=x)(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


class Named(nn.Module):
    """Layers of any names in a row."""

    def __init__(self, *paths):
        super().__init__()
        self.paths = ("first", *paths, "head")
        for path in self.paths:
            *outer, name = path.split(".")
            for part in outer:
                setattr(self, part, nn.Module())
            (self.get_submodule(".".join(outer)) if outer else self).register_module(name, nn.Linear(4, 4))

    def forward(self, x):
        for path in self.paths:
            x = self.get_submodule(path)(x)
        return x


def test_every_broadcast_edge_has_feedback_of_its_own_whatever_its_layer_is_called():
    x = torch.randn(2, 4)
    model = deep.promote(Named("a.b", "a_b", "keys", "values"), linfa.dfa(), sample=x)
    assert model.head.edges == {"a.b": "a_b", "a_b": "a_b_", "keys": "keys_", "values": "values_", "head": "head"}
    assert len({tuple(B.flatten().tolist()) for B in model.head.feedback.parameters()}) == 5
    bare = deep.promote(nn.Linear(4, 2), linfa.dfa(), sample=x.requires_grad_())
    bare(x).sum().backward()
    torch.testing.assert_close(x.grad, bare.feedback["_"]["B"].sum(1).expand(2, 4))


def test_layers_that_run_twice_decay_once_or_not_at_all():
    x = torch.randn(3, 4)
    with pytest.raises(deep.Unsupported, match=r"b ran more than once .* the decay .* exact=\('b',\)"):
        deep.promote(Twice(), linfa.kolen_pollack(), sample=x)
    deep.promote(Twice(), linfa.kolen_pollack(), sample=x, exact=("b",))
    deep.promote(Twice(), linfa.fa(), sample=x)


@pytest.mark.parametrize("rule", [linfa.fa(), linfa.dfa(), linfa.svd_local(2)], ids=lambda rule: rule.name)
def test_programs_that_know_no_rule_are_refused(rule):
    """What is exported, or traced to a graph, is trained by backpropagation."""
    x = torch.randn(4, 6)
    model = deep.promote(small(), rule, sample=x)
    for write in (lambda: torch.export.export(model, (x,), strict=False), lambda: make_fx(model)(x)):
        with pytest.raises(deep.Unsupported, match=r"no room for the backward of \w+: .*trace under torch.no_grad\(\)"):
            write()
    with torch.no_grad():
        assert torch.equal(torch.export.export(model, (x,), strict=False).module()(x), model(x))
        assert torch.equal(make_fx(model)(x)(x), model(x))


def test_data_parallel_copies_would_mix_up_their_cuts():
    """Torch calls this on every layer for every device."""
    model = deep.promote(small(), linfa.dfa(), sample=torch.zeros(2, 6))
    with pytest.raises(deep.Unsupported, match=r"DataParallel makes of 2 .* use DistributedDataParallel"):
        model[2]._replicate_for_data_parallel()


@pytest.mark.parametrize("name", [n for n in COVERED if named()[n].activity == Plain()])
def test_an_empty_batch_teaches_nothing(name):
    """A process may have no sample, an expert no token."""
    rule = named()[name]
    model = deep.promote(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(16, 3)), rule,
                         sample=X)  # fmt: skip
    deep.loss(model, X[:0], Y[:0], lambda out, y: F.cross_entropy(out, y, reduction="sum")).backward()
    learned = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert learned["0.bias"].abs().max() == 0
    assert all(g.isfinite().all() for g in learned.values())


@pytest.mark.parametrize(
    "rule", [linfa.normalised(linfa.fa()), linfa.normalised(linfa.dfa()), linfa.factored(linfa.bp(), 2)],
    ids=lambda rule: rule.name,
)  # fmt: skip
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype:UserWarning")
def test_evaluation_takes_no_fast_path_past_what_a_layer_became(rule, padded):
    """`nn.TransformerEncoderLayer` reads the weights of its linear layers itself, without gradients."""
    x, settings = torch.randn(3, 5, 8), {"src_key_padding_mask": torch.arange(5) > torch.tensor([[4], [2], [3]])}
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    plain = copy.deepcopy(model)
    deep.promote(model, rule, sample=x, exact=(nn.MultiheadAttention,))
    model(x)
    model.eval()
    settings = settings if padded else {}
    slow = model(x, **settings)
    if padded and rule.activity != Plain():
        with torch.no_grad(), pytest.raises(RuntimeError, match=r"no nested tensors, .*enable_nested_tensor=False"):
            model(x, **settings)
        model.use_nested_tensor = False
    with torch.no_grad():
        fast = model(x, **settings)
    there = ~settings["src_key_padding_mask"] if padded else slice(None)
    torch.testing.assert_close(fast[there], slow[there])
    deep.demote(model)
    assert [len(m._forward_pre_hooks) for m in model.modules()] == [0 for _ in plain.modules()]


class Past(nn.Module):
    """A head that is a function of a weight, of the embedding or of a layer."""

    def __init__(self, how):
        super().__init__()
        self.how, self.e, self.f = how, nn.Embedding(7, 6), nn.Linear(6, 6)

    def forward(self, tokens):
        x = self.f(self.e(tokens)).tanh()
        W = self.f.weight if "f" in self.how else self.e.weight
        if "sum" in self.how:
            return torch.einsum("bte,ve->btv", x, W)
        return F.linear(x, W) if "linear" in self.how else x @ W.T


@pytest.mark.parametrize("how", ["e, linear", "e, @", "e, sum", "f, linear", "f, @"])
def test_products_past_a_layer_are_found_on_a_sample(how):
    sample, name = torch.zeros(2, 3, dtype=torch.long), how[0]
    model = Past(how)
    with pytest.raises(deep.Unsupported, match=rf"takes the weight of {name}, past the layer .*exact=\('{name}',\)"):
        deep.promote(model, linfa.fa(), sample=sample)
    assert not model.f._forward_hooks
    deep.promote(Past(how), linfa.fa())  # a sample shows it
    if name == "e":
        deep.promote(model, linfa.fa(), sample=sample, exact=("e",))


@pytest.mark.parametrize("shared", [False, True])
def test_inputs_of_another_size_than_broadcast_feedback_knows(shared):
    """Where positions share feedback there may be more of them."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    )
    deep.promote(model, linfa.dfa(), sample=torch.zeros(1, 2, 8, 8), shared=shared)
    larger = torch.randn(2, 2, 9, 9)
    if shared:
        model(larger).sum().backward()
        assert model[0].weight.grad.abs().max() > 0
        return
    with pytest.raises(RuntimeError, match=r"input of 1 has shape \(2, 4, 7, 7\), but its feedback is for 144 units"):
        model(larger)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", [n for n in GLOBAL if named()[n].activity == Plain()])
def test_transforms_of_the_input_alone(name):
    """What a rule adds to a gradient stands in the forward pass, too, on parameters that no transform touches."""
    x = torch.randn(3, 6, dtype=torch.float64)
    model = deep.promote(small().double(), named()[name], sample=x).eval()
    plain = deep.demote(copy.deepcopy(model))
    torch.testing.assert_close(torch.func.vmap(model)(x), plain(x))
    true = torch.func.jacfwd(plain)(x[0])
    torch.testing.assert_close(torch.func.jacfwd(model)(x[0]), true)
    rows = torch.func.vmap(torch.func.jacfwd(model))(x)
    torch.testing.assert_close(rows[0], true)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_weight_is_not_exact_by_itself(name):
    """Its layer is, or takes the rule."""
    with pytest.raises(ValueError, match=rf"exact names 2\.{name} of layers that take the rule: .*exact=\('2',\)"):
        deep.promote(small(), linfa.fa(), exact=(f"2.{name}",))
    deep.promote(small(), linfa.fa(), exact=(f"2.{name}", "2"))


@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning", "ignore:.*quantize:UserWarning")  # torch's own
@pytest.mark.parametrize("rule", [linfa.fa(), linfa.dfa()], ids=lambda rule: rule.name)
def test_quantised_layers_are_refused(rule):
    """They have no parameters, and what is below them would learn nothing."""
    quantised = pytest.importorskip("torch.ao.nn.quantized.dynamic", reason="this torch has no quantised layers")
    model = nn.Sequential(nn.Linear(6, 8), quantised.Linear(8, 8), nn.Linear(8, 3))
    with pytest.raises(deep.Unsupported, match=r"1 is quantised and lets no error pass: .* exact=\('1',\)"):
        deep.promote(model, rule, sample=torch.zeros(2, 6))
    deep.promote(model, rule, exact=("1",), sample=torch.zeros(2, 6))


def test_a_sample_has_an_order():
    with pytest.raises(TypeError, match="a tuple in the order of the model's arguments; got dict of input_ids, mask"):
        deep.promote(small(), linfa.fa(), sample={"input_ids": torch.zeros(2, 6), "mask": None})
