"""Runs in bfloat16, compiled, in another layout, clipped, accumulated and averaged."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep.data import InOrder, Shuffled, flip
from deep.ops.plasticity import Covariance
from deep.precision import Precision
from deep.schedule import Schedule
from deep.step import Step
from deep.train import train

from .processes import IMAGES, certificate  # isort: skip

RULE = linfa.kolen_pollack(0.01)


def net(rule=RULE):
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)
    )  # fmt: skip
    return deep.promote(model, rule, sample=IMAGES.normalised(slice(0, 2)))


def learning(model):
    return [p for p in model.parameters() if p.requires_grad]


def small(rule=RULE):
    """What takes less time to compile."""
    torch.manual_seed(3)
    return deep.promote(nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3)), rule)


def run(folder, epochs, rule=RULE, make=net, **kw):
    model = make(rule)
    rows = train(
        model, rule, Shuffled(IMAGES, 16, 1, flip), InOrder(IMAGES), torch.optim.Adam(learning(model), 1e-2), folder,
        epochs=epochs, schedule=Schedule("constant"), seed=1, certificate=certificate(rule), progress=False, **kw,
    )  # fmt: skip
    return model, rows


def same(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


EAGER = pytest.mark.filterwarnings("ignore")  # dynamo's own
WAYS = {
    "bfloat16": {"precision": Precision("bfloat16", channels_last=True)}, "average": {"average": 0.8},
    "parts": {"clip": 0.5, "accumulate": 2},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_it_trains_and_resumes(tmp_path, way):
    whole, rows = run(tmp_path / "whole", 4, **WAYS[way])
    run(tmp_path / "parts", 1, **WAYS[way])
    resumed, again = run(tmp_path / "parts", 4, **WAYS[way])
    same(whole, resumed)
    assert rows == again
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]
    if way == "average":
        assert rows[-1]["ema_test_accuracy"] > 0.7
    with pytest.raises(ValueError, match="another"):
        run(tmp_path / "parts", 5)


def test_bfloat16_is_in_the_passes_alone(tmp_path):
    seen = set()

    def loss(out, y):
        seen.add(out.dtype)
        return F.cross_entropy(out.float(), y)

    model, _ = run(tmp_path, 1, precision=Precision("bfloat16"), loss=loss)
    assert seen == {torch.bfloat16}  # in evaluation, too
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_channels_last(tmp_path):
    seen = []
    model = net()
    model[0].register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    x = IMAGES.normalised(slice(0, 8)).repeat(1, 1, 1, 1)
    step = Step(model, torch.optim.SGD(learning(model), 0.1), precision=Precision(channels_last=True))
    step(x, IMAGES.y[:8])
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    plain = net()
    Step(plain, torch.optim.SGD(learning(plain), 0.1))(x, IMAGES.y[:8])
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def graphs():
    """How many were compiled."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@EAGER
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(tmp_path, backend):
    """The same numbers, under the same names."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model, rows = run(tmp_path / "compiled", 1, make=small, precision=Precision(compile=backend))
    assert graphs() > 0
    plain, others = run(tmp_path / "plain", 1, make=small)
    assert rows[0] == pytest.approx(others[0], rel=1e-5)
    for (name, p), (other, q) in zip(model.state_dict().items(), plain.state_dict().items(), strict=True):
        assert name == other
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


@EAGER
def test_parts_of_a_batch_are_compiled_once():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = small(linfa.ldfa(2))
    step = Step(model, torch.optim.SGD(learning(model), 0.1), precision=Precision(compile="eager"), accumulate=2)
    for _ in range(2):
        step(*next(Shuffled(IMAGES, 16).batches(0)))
    before = graphs()
    for _ in range(3):
        step(*next(Shuffled(IMAGES, 16).batches(0)))
    assert graphs() == before > 0


def test_local_losses_are_not_compiled(tmp_path):
    with pytest.raises(deep.Unsupported, match=r"sgr\(2\) takes gradients inside of the forward pass.*in place"):
        run(tmp_path, 1, linfa.sgr(2), precision=Precision(compile="eager"))
    assert not list(tmp_path.iterdir())


def gradients(rule, **kw):
    """What a step of SGD at rate 1 descends."""
    model = net(rule).eval()  # batch statistics would see the parts
    before = [p.detach().clone() for p in learning(model)]
    Step(model, torch.optim.SGD(learning(model), 1.0), **kw)(IMAGES.normalised(slice(0, 16)), IMAGES.y[:16])
    return [a - b.detach() for a, b in zip(before, learning(model), strict=True)]


@pytest.mark.parametrize("rule", [linfa.bp(decay=0.1), RULE, linfa.sgr(2), linfa.svd_local(2)], ids=lambda r: r.name)
def test_parts_of_a_batch_add_up(rule):
    """With decay and penalties, which do not come from the loss."""
    for a, b in zip(gradients(rule), gradients(rule, accumulate=4), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def norm(tensors):
    return float(torch.stack([t.norm() for t in tensors]).norm())


def test_clipping():
    plain = gradients(linfa.fa())
    assert norm(plain) > 0.1
    short = gradients(linfa.fa(), clip=0.1)
    assert norm(short) == pytest.approx(0.1, rel=1e-3)
    for a, b in zip(plain, short, strict=True):
        torch.testing.assert_close(b, a * 0.1 / norm(plain), rtol=1e-3, atol=1e-6)
    for a, b in zip(plain, gradients(linfa.fa(), clip=1e3), strict=True):
        torch.testing.assert_close(a, b)


def test_local_losses_are_clipped_module_by_module():
    model = net(linfa.sgr(2))
    sizes = [len(parameters) for parameters in deep.modules(model)]
    names = [id(p) for p in learning(model)]
    places = [[names.index(id(p)) for p in parameters] for parameters in deep.modules(model)]
    plain, short = gradients(linfa.sgr(2)), gradients(linfa.sgr(2), clip=0.01)
    assert sum(sizes) == len(plain)
    for module in places:
        assert norm([plain[i] for i in module]) > 0.01
        assert norm([short[i] for i in module]) == pytest.approx(0.01, rel=1e-2)


def test_the_average_is_that_of_the_weights(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(deep.step, "retract", lambda model: seen.append(model[4].weight.detach().clone()))
    run(tmp_path, 1, average=0.9)
    mean = seen[0]
    for weight in seen[1:]:
        mean = 0.9 * mean + 0.1 * weight
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.testing.assert_close(saved["average"]["module.4.weight"], mean)
    row = json.loads((tmp_path / "log.jsonl").read_text())
    assert row["ema_test_loss"] != row["test_loss"]


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="in float32 or bfloat16, not 'float16'"):
        Precision("float16")
    for wrong in ({"clip": 0.0}, {"accumulate": 0}):
        with pytest.raises(ValueError, match="clip and accumulate are positive"):
            run(tmp_path, 1, **wrong)
    with pytest.raises(ValueError, match="16 samples of a process make no 3 equal parts"):
        run(tmp_path / "parts", 1, accumulate=3)


@pytest.mark.parametrize(("dtype", "size"), [(torch.bfloat16, 0.2), (torch.float16, 0.05), (torch.float32, 0.02)])
def test_errors_that_vary_less_than_they_are_large_show_their_covariance(dtype, size):
    """Of errors 1 + size * noise, at most a twenty-fifth of the second moment: to a few roundings, by both ways."""
    draw = torch.Generator().manual_seed(0)
    exact = 1 + size * torch.randn(3, 5, 40, dtype=torch.float64, generator=draw)
    error = exact.to(dtype)
    columns = error.double().transpose(0, 1).flatten(1)
    wanted = 120**2 * torch.cov(columns, correction=0)
    P = torch.randn(2, 5, dtype=torch.float64, generator=draw).to(dtype)
    for found, right in ((P @ Covariance(error), P.double() @ wanted), (Covariance(error).matrix(), wanted)):
        assert found.dtype == dtype
        assert (found.double() - right).norm() < 8 * torch.finfo(dtype).eps * right.norm()
    assert Covariance(error).largest() > 0
    assert Covariance(error[:1, :, :1].expand(3, 5, 40)).largest() == 0
