"""What is read off a promoted model."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep.bridge import linear_net
from deep.measure import alignment, broadcasts, error_ranks, feedback_angles, gradients
from deep.models import ViT
from linfa import observe
from linfa.rules import Dense, Direct, Fixed, RandomFactors, Rule

from .oracles import arrival  # isort: skip


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 12), nn.Linear(12, 8),
        nn.Linear(8, 5),
    )  # fmt: skip


X, Y = torch.randn(20, 2, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 5


def count(singular):
    return (singular > 1e-5 * singular[..., :1]).sum(-1)


def test_alignment():
    assert all(v == pytest.approx(1, abs=1e-5) for v in alignment(deep.promote(net(), linfa.bp()), X, Y).values())
    cosines = alignment(deep.promote(net(), linfa.fa()), X, Y)
    assert list(cosines) == ["0", "3", "4", "5"]
    assert cosines["5"] == pytest.approx(1, abs=1e-5)
    assert all(abs(cosines[k]) < 0.9 for k in ("0", "3"))


def test_nothing_is_left_behind():
    model = deep.promote(net(), linfa.dfa(), sample=X).train()
    state = copy.deepcopy(model.state_dict())
    before = torch.get_rng_state()
    for measure in (gradients, alignment, error_ranks, lambda model, x, y: feedback_angles(model, x)):
        measure(model, X, Y)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert list(feedback_angles(model, X)) == ["3", "4", "5"]  # and the edges are where they were


def test_layers_come_in_the_order_of_the_model():
    model = deep.promote(net(), linfa.dfa(), sample=X)
    for measure in (gradients, alignment, error_ranks):
        assert list(measure(model, X, Y)) == ["0", "3", "4", "5"]


def test_gradients_are_those_of_the_loss():
    model = deep.promote(net(), linfa.ldfa(3))
    got = gradients(model, X, Y)
    F.cross_entropy(model(X), Y).backward()
    for path, gradient in got.items():
        torch.testing.assert_close(gradient, model.get_submodule(path).weight.grad)


def test_ranks_of_errors_that_crossed_low_rank_feedback():
    ranks = error_ranks(deep.promote(net(), linfa.ldfa(2)), X, Y, kind=count)
    assert ranks["4"] == 2
    assert ranks["3"] == 2
    assert ranks["5"] == 4  # five classes, and the errors of softmax sum to zero


def test_kinds_agree_with_numpy():
    model = deep.promote(net(), linfa.bp())
    got = error_ranks(model, X, Y)
    h = model[:5](X).detach()
    error = (F.softmax(model[5](h), 1) - F.one_hot(Y, 5)) @ model[5].weight
    s = np.linalg.svd(error.detach().double().numpy(), compute_uv=False)
    p = s / s.sum()
    assert got["4"] == pytest.approx(np.exp(-(p[p > 0] * np.log(p[p > 0])).sum()), rel=1e-4)


def test_alignment_is_the_cosine_of_the_two_gradients():
    model = deep.promote(net(), linfa.dfa(), sample=X)
    plain = net()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if ".feedback." not in k})
    for m in (model, plain):
        F.cross_entropy(m(X), Y).backward()
    for path, cosine in alignment(model, X, Y).items():
        a, b = (m.get_submodule(path).weight.grad.double().numpy().ravel() for m in (model, plain))
        assert cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)


def test_dropout_drops_the_same_units_in_both_gradients():
    def dropping():
        return nn.Sequential(nn.Flatten(), nn.Linear(32, 30), nn.Dropout(0.5), nn.Linear(30, 20), nn.Linear(20, 5))

    cosines = alignment(deep.promote(dropping(), linfa.bp()), X, Y)
    assert all(v == pytest.approx(1, abs=1e-5) for v in cosines.values())
    cosines = alignment(deep.promote(dropping(), linfa.fa()), X, Y)
    assert cosines["4"] == pytest.approx(1, abs=1e-5)
    assert cosines["1"] < 0.9
    model = deep.promote(dropping(), linfa.sign_symmetry("brSF"))
    before = torch.get_rng_state()
    alignment(model, X, Y)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mode", [True, False])
def test_gradients_in_waiting_survive(mode):
    model = deep.promote(net(), linfa.kolen_pollack()).train(mode)
    F.cross_entropy(model(X), Y).backward()
    kept = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert any("feedback" in name for name in kept)
    for measure in (gradients, alignment, error_ranks):
        measure(model, X, Y)
    assert all(torch.equal(p.grad, kept[name]) for name, p in model.named_parameters() if name in kept)
    assert all(m.training is mode for m in model.modules())


@pytest.mark.parametrize("kind", [observe.effective_rank, observe.participation_ratio, observe.stable_rank])
def test_errors_of_a_convolution_are_positions_by_channels(kind):
    model = deep.promote(net(), linfa.fa()).double()
    got = error_ranks(model, X.double(), Y, kind=kind)["0"]
    out = model[0](X.double())
    out.retain_grad()
    F.cross_entropy(model[1:](out), Y).backward()
    rows = [out.grad[n, :, i, j].numpy() for n in range(20) for i in range(4) for j in range(4)]
    assert got == pytest.approx(float(kind(np.linalg.svd(np.array(rows), compute_uv=False))), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("direct", [False, True])
def test_no_delivered_error_has_more_than_the_rank(rank, direct):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 12), nn.Linear(12, 9), nn.Linear(9, 8), nn.Linear(8, 5)).double()
    x = X.double()
    deep.promote(model, linfa.ldfa(rank, direct=direct), sample=x)
    ranks = error_ranks(model, x, Y, kind=count)
    assert list(ranks) == ["1", "2", "3", "4"]
    assert ranks["4"] == 4
    assert ranks["1"] == ranks["2"] == rank
    assert ranks["3"] == (4 if direct else rank)  # the direct rule backpropagates exactly through the last layer


DIRECT = {
    "dfa": linfa.dfa(),
    "rank 2": Rule(Direct(), RandomFactors(2), Fixed(), name="rank 2"),
    "one exact layer": Rule(Direct(exact_top=1), Dense(), Fixed(), name="one exact layer"),
    "two exact layers": Rule(Direct(exact_top=2), Dense(), Fixed(), name="two exact layers"),
}


class Skipping(nn.Module):
    """Groups, pooling, a skip beside a layer, and an activation that overwrites its input."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.c = nn.Conv2d(4, 3, 2, stride=2, bias=False)
        self.head = nn.Linear(12, 5)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = F.max_pool2d(self.relu(self.a(x)), 2)
        x = self.relu(x + F.gelu(self.b(x)))
        return self.head(torch.tanh(self.c(x)).flatten(1))


class Tokens(nn.Module):
    """Attention between tokens, each with an error of its own."""

    def __init__(self):
        super().__init__()
        self.embed, self.attention = nn.Linear(6, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.a, self.head = nn.Linear(8, 7), nn.Linear(7, 4)

    def forward(self, x):
        x = self.embed(x)
        return self.head(torch.tanh(self.a(x + self.attention(x, x, x, need_weights=False)[0])))


def reading():
    """A head on all tokens."""
    return nn.Sequential(Tokens(), nn.Flatten(), nn.Linear(20, 3))


def normalising():
    """Statistics of the batch between cut and output."""
    hidden = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU()
    return nn.Sequential(*hidden, nn.Linear(6, 3))


NETS = {"convolutions": (Skipping, (4, 2, 8, 8)), "transformer": (lambda: ViT(8, 4, 8, 2, 2, 2, 5), (3, 3, 8, 8))}


def broadcasting(make, shape, rule, **options):
    """A promoted net, its plain twin, a batch, and the feedback B (n_h, n_e) by path of its cut."""
    torch.manual_seed(0)
    plain, x = make().double(), torch.randn(shape, dtype=torch.float64)
    model = deep.promote(copy.deepcopy(plain), rule, sample=x, seed=3, **options)
    (source,) = [module for module in model.modules() if getattr(module, "edges", None)]
    stored = {path: {n: B.detach() for n, B in source.feedback[key].items()} for path, key in source.edges.items()}
    feedback = {path: s["B"] if "B" in s else s["Q"] @ s["P"] for path, s in stored.items()}
    return model, plain, x, feedback, source


def jacobian(net, x, path, source, exact_top):
    """That of every sample of its own by its own input of a layer (N, n_e, n_h), sample by sample."""
    live, each = [], []
    handle = net.get_submodule(path).register_forward_pre_hook(lambda module, inputs: live.append(inputs[0]))
    net(x)
    handle.remove()
    for number, h in enumerate(live[0].detach()):
        run = arrival(net, x[number : number + 1], [path], source, exact_top > 0)
        J = torch.autograd.functional.jacobian(lambda d, run=run: run({path: d}), torch.zeros_like(h)[None])
        each.append(J.reshape(-1, h.numel()))
    return torch.stack(each)


def angle(B, J):
    return np.degrees(np.arccos(float((B * J.mT).sum() / B.norm() / J.norm())))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in NETS for name in DIRECT if (kind, name) != ("transformer", "two exact layers")],
)  # where tokens have an error each, attention mixes them
def test_the_angle_of_a_broadcast_is_that_with_the_mean_of_jacobians_of_single_samples(kind, name, shared):
    model, plain, x, feedback, source = broadcasting(*NETS[kind], DIRECT[name], shared=shared)
    angles = feedback_angles(model, x, passes=1000)
    assert set(angles) == set(feedback)
    for path, B in feedback.items():
        J = jacobian(plain, x, path, source.path, DIRECT[name].route.exact_top).mean(0)
        if len(B) < J.shape[1]:
            J = J.unflatten(1, (len(B), -1)).mean(-1)  # a matrix of channels
        assert angles[path] == pytest.approx(angle(B, J), abs=1e-9)
        assert 1 < angles[path] < 179


def test_an_angle_knows_which_way_feedback_points():
    model, plain, x, feedback, source = broadcasting(*NETS["convolutions"], linfa.dfa())
    for number, (path, B) in enumerate(feedback.items()):
        B.copy_((-2) ** number * jacobian(plain, x, path, source.path, 0).mean(0).mT)
    assert list(feedback_angles(model, x, passes=5).values()) == pytest.approx([0, 180, 0], abs=1e-5)


@pytest.mark.parametrize("name", ["dfa", "one exact layer"])
def test_attention_is_one_cut_and_what_it_projects_another(name):
    """A displacement of what is projected displaces the output of attention by its projection."""
    rule, exact = DIRECT[name], ("0.embed", "0.head")
    model, plain, x, feedback, _ = broadcasting(reading, (4, 5, 6), rule, exact=exact)
    top, path = rule.route.exact_top, "0.attention.out_proj"
    assert list(feedback) == ["0.attention", path, "0.a", "2"][: 4 - top]
    attention, below = plain[0].attention, plain[: 3 - top]

    def run(d, sample):
        handle = attention.register_forward_hook(lambda module, inputs, out: (out[0] + d, out[1]))
        out = below(sample[None])
        handle.remove()
        return out[0]

    zero = torch.zeros(5, 8, dtype=torch.float64)
    each = [torch.autograd.functional.jacobian(partial(run, sample=sample), zero) for sample in x]
    J = (torch.stack(each).mean(0) @ attention.out_proj.weight.detach()).flatten(1)
    assert feedback_angles(model, x, passes=1000)[path] == pytest.approx(angle(feedback[path], J), abs=1e-9)


@pytest.mark.parametrize("kind", ["tokens", "batch statistics"])
def test_what_samples_do_to_each_other_is_no_part_of_a_jacobian(kind):
    """It is noise of mean zero: the mean over many seeds is the Jacobian of each by its own."""
    if kind == "tokens":
        model, plain, x, *_ = broadcasting(Tokens, (3, 5, 6), linfa.dfa(), exact=("embed",))
        path, lead = "attention", 2
    else:
        model, plain, x, *_ = broadcasting(normalising, (8, 4), linfa.dfa())
        path, lead = "3", 1

    def run(d):
        hook = lambda module, inputs: tuple(h + d for h in inputs)  # noqa: E731
        handle = plain.get_submodule(path).register_forward_pre_hook(hook)
        out = plain(x).flatten(0, lead - 1)
        handle.remove()
        return out

    n_h = broadcasts(model, x, 9)[path].jacobian.shape[1]
    J = torch.autograd.functional.jacobian(run, torch.zeros(*x.shape[:lead], n_h, dtype=torch.float64))
    J = J.flatten(2, 1 + lead)  # (N, n_e, N, n_h)
    own, all_of_them = J.diagonal(dim1=0, dim2=2).mean(-1), J.sum(0).mean(1)
    drawn = torch.stack([broadcasts(model, x, 9, seed)[path].jacobian for seed in range(400)])
    error = drawn.std(0) / 400**0.5
    assert (error > 0).any()
    assert ((drawn.mean(0) - own).abs() < 5 * error + 1e-12).all()
    assert not ((drawn.mean(0) - all_of_them).abs() < 5 * error + 1e-12).all()


def wide(classes):
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, classes))


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_few_passes_estimate_a_jacobian_and_its_length_without_bias(passes):
    """Here of the whole J: what was not shown counts as zero, and what was as so much more."""
    model, _, x, *_ = broadcasting(partial(wide, 5), (7, 4), linfa.dfa())
    whole = broadcasts(model, x, passes=5)["2"]
    assert whole.square == pytest.approx(float(whole.jacobian.square().sum()))
    drawn = [broadcasts(model, x, passes, seed)["2"] for seed in range(600)]
    share = (3 if passes == 1 else 5) / 5  # of 7 rows every output is shown twice
    rows = torch.zeros(600, 5, 6, dtype=torch.float64)
    for number, some in enumerate(drawn):
        assert len(some.outputs) == 5 * share
        rows[number, some.outputs] = some.jacobian / share
    error = rows.std(0) / 600**0.5
    assert ((rows.mean(0) - whole.jacobian).abs() < 5 * error + 1e-12).all()
    squares, naive = (
        np.array([value(some) for some in drawn]) / share
        for value in (lambda some: some.square, lambda some: float(some.jacobian.square().sum()))
    )
    error = squares.std() / 600**0.5
    assert squares.mean() == pytest.approx(whole.square, abs=4 * error)
    assert naive.mean() > whole.square + 5 * error


def test_of_many_outputs_some_are_taken_each_as_often_as_any_other():
    model, _, x, feedback, _ = broadcasting(partial(wide, 40), (32, 4), linfa.dfa())
    counts = np.zeros(40)
    for seed in range(300):
        some = broadcasts(model, x, seed=seed)["4"]
        assert some.outputs.tolist() == sorted(set(some.outputs.tolist()))
        assert len(some.outputs) == 16
        torch.testing.assert_close(some.jacobian, model[4].weight.detach()[some.outputs])  # alike for all samples
        torch.testing.assert_close(some.feedback, feedback["4"][:, some.outputs])
        assert some.square == pytest.approx(float(some.jacobian.square().sum()))
        counts[some.outputs] += 1
    assert (np.abs(counts - 120) < 5 * (300 * 0.24) ** 0.5).all()
    expected = angle(some.feedback, some.jacobian)
    assert feedback_angles(model, x, seed=299)["4"] == pytest.approx(expected, abs=1e-9)
    for samples, m in ((1, 1), (2, 1), (7, 3), (31, 15)):  # every output is shown twice, if there are two samples
        assert len(broadcasts(model, x[:samples])["4"].outputs) == m
    assert len(broadcasts(model, x[:1], passes=1000)["2"].outputs) == 40


@pytest.mark.parametrize("name", DIRECT)
def test_on_a_linear_net_it_is_the_angle_of_the_core(name):
    rule = DIRECT[name]
    task = linfa.Task.from_spectrum([3.0, 2.0, 1.0], n_in=6)
    run = linfa.simulate(rule, task, linfa.Network.small((6, 7, 5, 4, 3), 0.5), time=6)
    x, cosines = torch.randn(12, 6, dtype=torch.float64), run.feedback_alignment
    assert np.ptp(cosines, axis=0).min() > 0.01
    for time in (0, len(run.times) // 2, -1):
        net = deep.promote(linear_net([W[time] for W in run.weights]), rule, sample=x)
        (source,) = [module for module in net if module.edges]
        with torch.no_grad():
            for edge, stored in zip(rule.route.edges(4), run.feedback, strict=True):
                mine = source.feedback[str(edge.activity)]
                for key, matrix in zip(rule.feedback.names, stored, strict=True):
                    mine[key].copy_(torch.as_tensor(matrix[time]))
        angles = list(feedback_angles(net, x).values())
        assert angles == pytest.approx(np.degrees(np.arccos(cosines[time])), abs=1e-10)


def test_feedback_that_follows_random_directions_comes_to_the_angle_zero():
    """Directional feedback of a network at rest goes where the exact Jacobian says, batch statistics and all."""
    model, *_, source = broadcasting(normalising, (64, 4), linfa.directional_dfa(rate=1.0, directions=1))
    x = torch.randn(64, 4, dtype=torch.float64)
    assert list(feedback_angles(model, x).values()) == pytest.approx([90, 90])  # it starts from zero
    learning = [B for stored in source.feedback.values() for B in stored.values()]
    for step in range(1, 400):
        model.zero_grad()
        model(x).sum().backward()
        for B in learning:  # the mean of all estimates so far
            B.data -= B.grad / step
    assert all(value < 4 for value in feedback_angles(model, x, passes=3).values())


@pytest.mark.parametrize("name", ["dfa", "one exact layer"])
def test_factored_weights_span_what_they_stand_for(name):
    torch.manual_seed(0)
    rule, x = DIRECT[name], torch.randn(5, 2, 8, 8, dtype=torch.float64)
    model = deep.promote(Skipping().double(), linfa.factored(rule, 2), sample=x)
    angles = feedback_angles(model, x, passes=1000)
    (source,) = [module for module in model.modules() if getattr(module, "edges", None)]
    feedback = {path: source.feedback[key]["B"].detach() for path, key in source.edges.items()}
    assert list(angles) == list(feedback)
    plain = deep.demote(model)
    for path, B in feedback.items():
        J = jacobian(plain, x, path, "head", rule.route.exact_top).mean(0)
        assert angles[path] == pytest.approx(angle(B, J), abs=1e-9)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 5)

    def forward(self, x, z):
        return self.c(torch.tanh(self.a(x) + self.b(z)))


def test_several_inputs():
    torch.manual_seed(0)
    x = torch.randn(20, 3), torch.randn(20, 2)
    model = deep.promote(Two(), linfa.dfa(), sample=x)
    (row,) = [row for row in deep.Recorder(model).measure(x, Y) if row["layer"] == "c"]
    W, B = model.c.weight.detach(), model.c.feedback["c"]["B"].detach()
    assert row["feedback_angle"] == pytest.approx(angle(B, W), rel=1e-5)
    assert row["update_cosine"] == pytest.approx(1, abs=1e-6)


def test_frozen_layers_below_a_cut_hide_no_angle():
    model, _, x, feedback, _ = broadcasting(*NETS["convolutions"], linfa.dfa())
    expected = feedback_angles(model, x)
    for path in ("a", "b"):
        model.get_submodule(path).requires_grad_(False)
    assert feedback_angles(model, x) == expected
    assert list(expected) == list(feedback)


def test_a_jacobian_that_is_zero_has_no_angle():
    model, _, x, *_ = broadcasting(partial(wide, 5), (20, 4), linfa.dfa())
    nn.init.zeros_(model[4].weight)
    assert feedback_angles(model, x) == {}
    rows = {row["layer"]: row["feedback_angle"] for row in deep.Recorder(model).measure(x, Y)}
    assert rows == {"0": None, "2": None, "4": None}


@pytest.mark.parametrize(
    "rule", [linfa.kolen_pollack(0.1), linfa.svd_local(2), linfa.sgr(2, decay=0.1)], ids=lambda rule: rule.name
)
def test_a_scaled_loss_changes_no_measurement(rule):
    """A measurement has a loss of its own, which no scaler multiplies."""
    x, y = torch.randn(6, 5), torch.arange(6) % 3
    model = deep.promote(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3)), rule, sample=x)
    before = gradients(model, x, y), deep.Recorder(model).measure(x, y)
    deep.set_loss_scale(model, 1024.0)
    after = gradients(model, x, y), deep.Recorder(model).measure(x, y)
    assert all(torch.equal(g, after[0][path]) for path, g in before[0].items())
    assert after[1] == before[1]
