"""Weights that layers share, weights that are computed from others, and ranks that differ between layers."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import deep
import linfa
from deep import layers, maps
from linfa.rules import Direct, Full, KolenPollack, Plain, RandomFactors, Rule, named

from .covered import promotable  # isort: skip
from .oracles import feedback_matrix, surrogate  # isort: skip

LAYERWISE = {
    n: r for n, r in promotable().items()
    if r.route.single_layer and r.parameterisation == Full() and r.activity == Plain()
}  # fmt: skip


class Language(nn.Module):
    """Next-token prediction; the head's weight is the embedding's, and two inner layers share one as well."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(7, 6)
        self.up, self.again = nn.Linear(6, 6), nn.Linear(6, 6)
        self.again.weight = self.up.weight
        self.lm_head = nn.Linear(6, 7, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        return self.lm_head(torch.tanh(self.again(torch.tanh(self.up(self.wte(tokens))))))


TOKENS = torch.tensor([[0, 3, 2, 6], [1, 1, 5, 4]])


def language(seed=0):
    torch.manual_seed(seed)
    return Language().double()


def language_loss(model):
    return F.cross_entropy(model(TOKENS[:, :-1]).flatten(0, 1), TOKENS[:, 1:].flatten())


@pytest.mark.parametrize("name", [n for n, r in LAYERWISE.items() if not isinstance(r.plasticity, KolenPollack)])
def test_each_use_of_a_weight_is_an_edge_of_its_own(name):
    """Against surrogates whose weights are apart: what is shared receives the sum, and decays once."""
    model, rule = language(), LAYERWISE[name]
    model = deep.promote(model, rule, seed=1)
    language_loss(model).backward()
    assert model.lm_head.weight is model.wte.weight
    apart = {n: getattr(model, n).weight.detach().clone().requires_grad_() for n in ("wte", "up", "again", "lm_head")}
    bias = {n: getattr(model, n).bias.detach() for n in ("up", "again")}

    def mapped(n, x):
        return surrogate(x, apart[n], bias.get(n), feedback_matrix(getattr(model, n).feedback, apart[n].detach()).mT)

    x = F.embedding(TOKENS[:, :-1], apart["wte"])
    out = mapped("lm_head", torch.tanh(mapped("again", torch.tanh(mapped("up", x)))))
    F.cross_entropy(out.flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    for one, other in (("wte", "lm_head"), ("up", "again")):
        expected = apart[one].grad + apart[other].grad + rule.decay * apart[one].detach()
        torch.testing.assert_close(getattr(model, one).weight.grad, expected, rtol=1e-10, atol=1e-13)
    if name == "fa":
        assert not torch.equal(model.up.feedback["B"], model.again.feedback["B"])


def test_shared_weights_decay_once():
    model, plain = language(), language()
    deep.promote(model, linfa.bp(decay=0.3))
    language_loss(model).backward()
    language_loss(plain).backward()
    for n, p in plain.named_parameters():
        decay = 0.3 * p.detach() if n.endswith("weight") else 0
        torch.testing.assert_close(model.get_parameter(n).grad, p.grad + decay)


@pytest.mark.parametrize("rule", [linfa.fa(), linfa.ldfa(2), linfa.ldfa(2, "oja", direct=True)], ids=lambda r: r.name)
def test_shared_weights_stay_shared(rule):
    sample = (TOKENS[:, :-1],)
    model, fresh = (deep.promote(language(s), rule, sample=sample, seed=s) for s in (0, 1))
    twin = copy.deepcopy(model)
    assert twin.lm_head.weight is twin.wte.weight
    fresh.load_state_dict(model.state_dict(), strict=True)
    for m in (model, twin, fresh):
        language_loss(m).backward()
    for n, p in model.named_parameters():
        for m in (twin, fresh):
            assert p.grad is None or torch.equal(m.get_parameter(n).grad, p.grad)
    deep.demote(model)
    assert "decays" not in vars(model.again)
    assert set(model.state_dict()) == set(language().state_dict())


@pytest.mark.parametrize("rule", [linfa.kolen_pollack(), linfa.ldfa(2, "kolen-pollack")], ids=lambda r: r.name)
def test_kolen_pollack_refuses_weights_that_others_move(rule):
    with pytest.raises(deep.Unsupported, match=r"up shares its weight .* exact=\('up',\)"):
        deep.promote(language(), rule)
    with pytest.raises(deep.Unsupported, match=r"lm_head shares its weight"):
        deep.promote(language(), rule, exact=("up", "again"))
    for make in (parametrizations.weight_norm, nn.utils.weight_norm):
        with pytest.warns(FutureWarning) if make is nn.utils.weight_norm else _nothing():
            layer = make(nn.Linear(4, 4))
        with pytest.raises(deep.Unsupported, match="computed from parameters"):
            deep.promote(nn.Sequential(layer), rule)
    deep.promote(language(), linfa.dkp(), sample=(TOKENS,))  # whose feedback follows no weight


class _nothing:
    __enter__ = __exit__ = lambda *_: None


def computed(how, seed=0):
    torch.manual_seed(seed)
    make = {
        "weight_norm": parametrizations.weight_norm, "spectral_norm": parametrizations.spectral_norm,
        "orthogonal": parametrizations.orthogonal,
    }[how]  # fmt: skip
    net = nn.Sequential(
        make(nn.Conv1d(2, 4, 3)), nn.Tanh(), make(nn.ConvTranspose1d(4, 4, 2)), nn.Flatten(), make(nn.Linear(20, 6)),
        nn.LayerNorm(6), nn.Linear(6, 3),
    )  # fmt: skip
    parametrize.register_parametrization(net[5], "weight", Softplus())
    return net.double()


class Softplus(nn.Module):
    """With a parameter of its own, which has to stay exact."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(1, 1, bias=False)

    def forward(self, x):
        return F.softplus(x) * self.scale.weight[0, 0]


X = torch.randn(5, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 1, 0])


@pytest.mark.parametrize("how", ["weight_norm", "spectral_norm", "orthogonal"])
@pytest.mark.parametrize("name", ["bp", "fa", "ldfa(2, oja)", "ldfa(2, normative)", "dfa"])
def test_gradients_of_a_computed_weight_flow_on(name, how):
    """The rule's gradient of the effective weight, taken from a net of plain weights, through the parametrization."""
    rule = named()[name]
    net, state = computed(how), torch.random.get_rng_state()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    deep.promote(net, rule, sample=X, seed=3)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())  # no step of a power iteration
    net.train()
    torch.random.set_rng_state(state)
    F.cross_entropy(net(X), Y).backward()

    copied = computed(how)
    copied.load_state_dict(before)
    copied.train()
    effective = {}
    for i in (0, 2, 4, 5, 6):
        effective[i] = copied[i].weight  # one access, as in a forward pass
    plain = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Tanh(), nn.ConvTranspose1d(4, 4, 2), nn.Flatten(), nn.Linear(20, 6),
                          nn.LayerNorm(6), nn.Linear(6, 3)).double()  # fmt: skip
    with torch.no_grad():
        for i, w in effective.items():
            plain[i].weight.copy_(w)
            plain[i].bias.copy_(net[i].bias)
    deep.promote(plain, rule, sample=X, seed=3)
    with torch.no_grad():  # feedback may start from the weight of eval mode
        for n, p in plain.named_parameters():
            if "feedback" in n:
                p.copy_(net.get_parameter(n))
    F.cross_entropy(plain(X), Y).backward()
    torch.autograd.backward(list(effective.values()), [plain[i].weight.grad for i in effective])
    for n, p in copied.named_parameters():
        expected = plain.get_parameter(n).grad if p.grad is None else p.grad
        torch.testing.assert_close(net.get_parameter(n).grad, expected, rtol=1e-9, atol=1e-12)
    for n, p in plain.named_parameters():
        if "feedback" in n and p.grad is not None:
            torch.testing.assert_close(net.get_parameter(n).grad, p.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_parametrized_layers_keep_their_ways(name):
    net = deep.promote(computed("weight_norm"), named()[name], sample=X)
    plain = computed("weight_norm")
    assert torch.equal(net(X), plain(X))
    assert isinstance(net[4], layers.EdgeLinear if name == "fa" else layers.CutLinear)
    assert type(net[4]).__name__ == "ParametrizedLinear"
    twin, fresh = copy.deepcopy(net), deep.promote(computed("weight_norm", 1), named()[name], sample=X, seed=1)
    fresh.load_state_dict(net.state_dict())
    torch._dynamo.reset()
    warnings.filterwarnings("ignore", ".*should not be instantiated", DeprecationWarning)  # dynamo's own
    for m in (net, twin, fresh, torch.compile(copy.deepcopy(net), fullgraph=True, backend="eager")):
        F.cross_entropy(m(X), Y).backward()
        for p, q in zip(m.parameters(), net.parameters(), strict=True):
            assert p.grad is None or torch.allclose(p.grad, q.grad, rtol=1e-10)
    parametrize.remove_parametrizations(fresh[4], "weight")
    assert type(fresh[4]) is (layers.EdgeLinear if name == "fa" else layers.CutLinear)
    deep.demote(net)
    assert [maps.plain_type(m) for m in net.modules()] == [maps.plain_type(m) for m in plain.modules()]
    assert isinstance(net[4], nn.Linear)
    assert parametrize.is_parametrized(net[4], "weight")
    assert torch.equal(net(X), plain(X))


def blocks():
    torch.manual_seed(0)
    block = lambda: nn.ModuleDict({"qkv": nn.Linear(6, 18), "proj": nn.Linear(18, 6)})  # noqa: E731
    model = nn.ModuleDict({"0": block(), "1": block(), "head": nn.Linear(6, 4)})
    model.forward = lambda x: model["head"](
        model["1"]["proj"](model["1"]["qkv"](model["0"]["proj"](model["0"]["qkv"](x))))
    )
    return model


@pytest.mark.parametrize("direct", [False, True])
def test_ranks_by_pattern(direct):
    """The first pattern that matches sets the rank; the rest stays at the rule's."""
    rule = linfa.ldfa(2, "fixed", direct=direct)
    model = deep.promote(blocks(), rule, sample=torch.randn(3, 6), ranks={"1.qkv": 1, "*.qkv": 6, "1.*": 4})
    if direct:
        found = {path: model["head"].feedback[key] for path, key in model["head"].edges.items()}
    else:
        found = {path: m.feedback for path, m in model.named_modules() if isinstance(m, layers.Promoted)}
    ranks = {path: stored["P"].shape[0] for path, stored in found.items() if stored}
    expected = {"0.qkv": 6, "0.proj": 2, "1.qkv": 1, "1.proj": 4, "head": 2}
    assert ranks == {path: r for path, r in expected.items() if path in ranks}
    assert {"0.proj", "1.qkv", "1.proj"} <= set(ranks)
    model(torch.randn(3, 6)).sum().backward()


def test_ranks_equal_layers_promoted_one_by_one():
    """A net at two ranks has the gradients of a net whose layers were promoted one by one."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4)).double()
    single = copy.deepcopy(model)
    deep.promote(model, linfa.ldfa(2), ranks={"2": 5})
    for i, rank in ((0, 2), (2, 5), (4, 2)):
        deep.promote(single[i], linfa.ldfa(rank))
    single.load_state_dict(model.state_dict())
    x = torch.randn(9, 5, dtype=torch.float64)
    for m in (model, single):
        F.cross_entropy(m(x), torch.arange(9) % 4).backward()
    for p, q in zip(model.parameters(), single.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_ranks_that_set_nothing_raise():
    rule = linfa.ldfa(2)
    with pytest.raises(ValueError, match=r"'\*\.kqv' sets the rank of no layer; the layers are 0.qkv, 0.proj"):
        deep.promote(blocks(), rule, ranks={"*.kqv": 3})
    with pytest.raises(ValueError, match=r"'0.qkv' sets the rank of no layer"):
        deep.promote(blocks(), rule, ranks={"*": 3, "0.qkv": 2})
    with pytest.raises(ValueError, match=r"ranks sets the rank of feedback, and Dense\(scale=1.0\) has none"):
        deep.promote(blocks(), linfa.fa(), ranks={"*": 3})
    with pytest.raises(ValueError, match="largest possible rank here is 6"):
        deep.promote(blocks(), rule, ranks={"*.qkv": 7})
    with pytest.raises(ValueError, match="at least 1; got 0"):
        deep.promote(blocks(), rule, ranks={"*.qkv": 0})


def test_direct_rules_need_the_same_leading_axes():
    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.b(self.a(x).transpose(0, 1)).transpose(0, 1))

    with pytest.raises(deep.Unsupported, match=r"b has an input of shape \(5, 3, 4\), .* samples \(3, 5\)"):
        deep.promote(Swapped(), Rule(Direct(), RandomFactors(1)), sample=torch.randn(3, 5, 4))
