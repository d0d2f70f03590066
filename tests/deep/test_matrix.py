"""The ecosystem matrix: no cell with a wrong gradient that nobody is told of.

By default every rule on every layer in every precision, and a covering of all pairs of choices; every cell in the
profile "thorough".
"""

import copy
import io
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import deep
import linfa
from deep.scaled import scaled
from linfa.rules import Dense, Direct, Euclidean, Layerwise, Local, Moments, Plain, Plasticity, Rule, named
from linfa.rules.space import PARTS

from . import matrix  # isort: skip
from . import product as runs  # isort: skip
from .matrix import AXES, RULES, WORLD, Cell, covering, data, eager, few, net, outcome, product, promoted, wrong  # isort: skip

THOROUGH = settings.get_current_profile_name() == "thorough"
CELLS = product() if THOROUGH else [*dict.fromkeys(eager() + covering() + few())]
BACKEND = "aot_eager" if THOROUGH else "eager"
ALONE = [cell for cell in CELLS if cell.ranks == "one"]
TOGETHER = [cell for cell in CELLS if cell.ranks != "one"]


def describe(cell):
    return " ".join(str(value) for value in cell if not isinstance(value, bool)) + cell.recompute * " recomputed"


@pytest.mark.parametrize("cell", ALONE, ids=describe)
def test_cell(cell):
    found = outcome(cell, BACKEND)
    assert not wrong(cell, found), found


def test_cells_of_two_ranks(tmp_path):
    """DDP and FSDP2, on processes that start once for all cells, and again after one cell that one rank alone wrote."""
    (tmp_path / "cells").write_text("".join(json.dumps(cell) + "\n" for cell in TOGETHER))
    (tmp_path / "two.0").write_text(json.dumps({"cell": TOGETHER[0], "found": "stopped", "seconds": 0}) + "\n")
    command = [sys.executable, "-m", "tests.deep.product", tmp_path, BACKEND]
    limit = None if THOROUGH else 600
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=limit)
    for rank in range(WORLD):
        rows = runs.read(tmp_path / f"two.{rank}")
        assert [Cell(*row["cell"]) for row in rows] == TOGETHER, ran.stderr
        bad = [
            f"{describe(c)}: {row['found']}" for c, row in zip(TOGETHER, rows, strict=True) if wrong(c, row["found"])
        ]
        assert not bad, "\n".join(bad)
    assert ran.returncode == 0, ran.stderr


def test_the_covering_holds_every_pair_and_little_more():
    cells, axes = covering(), list(AXES.values())
    for (i, a), (j, b) in itertools.combinations(enumerate(axes), 2):
        assert {(c[i], c[j]) for c in cells} == set(itertools.product(a, b))
    assert len(cells) <= 1.3 * len(AXES["rule"]) * len(AXES["layer"])
    assert cells == covering()
    assert {*cells} <= {*product()}


def test_the_oracle_tells_rules_apart():
    """A cell that silently fell back to backprop, or to feedback that stays, would be found."""
    x, y = data("conv")
    seen = {}
    for name, rule in RULES.items():
        cell = Cell(name, "conv", "float64", "eager", "one", False, "plain")
        grads = matrix.expected(cell, promoted(cell).state_dict(), x, y, seed=0)
        seen[name] = torch.cat([grads[n].flatten() for n in sorted(grads)])
        if rule != named()["bp"]:
            same = {n: g for n, g in grads.items() if "feedback" not in n}
            exact = matrix.expected(cell._replace(rule="bp"), promoted(cell._replace(rule="bp")).state_dict(), x, y, 0)
            gap = max(float((same[n] - exact[n]).norm() / exact[n].norm()) for n in same.keys() & exact.keys())
            assert gap > 0.05 or rule.route == named()["bp"].route, name
    for a, b in itertools.combinations([name for name in seen if RULES[name].geometry == Euclidean()], 2):
        assert seen[a].shape != seen[b].shape or (seen[a] - seen[b]).norm() > 1e-3 * seen[a].norm(), (a, b)


def whole_batch(rule):
    """Whether a rule is linear in the batch, so that parts of it, on one process or several, make up its gradient."""
    alike = "C" in rule.plasticity.reads or rule.feedback.clamp is not None or rule.activity != Plain()
    return not (alike or matrix.draws(rule) or rule.feedback.redrawn)


@pytest.mark.parametrize("name", RULES)
def test_parts_of_a_batch_make_up_its_gradient(name):
    """What accumulates over two parts, and what the oracle means over two ranks with two parts each; or neither."""
    cell = Cell(name, "linear", "float64", "eager", "one", False, "accumulate")
    state, (x, y) = promoted(cell).state_dict(), data("linear")
    whole = matrix.expected(cell, state, x, y, seed=0)
    parts = [matrix.expected(cell, state, x[k : k + 2], y[k : k + 2], seed=k) for k in range(0, 8, 2)]
    for made in (matrix.run(cell, BACKEND)[0], {n: sum(part[n] for part in parts) / 4 for n in whole}):
        gap = max(float((made[n] - g).norm() / g.norm()) for n, g in whole.items() if g.norm() > 0)
        assert gap < 1e-10 if whole_batch(RULES[name]) else gap > 1e-6


def test_a_product_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    cells, ran, ends = product()[:3], [], iter(("equal", "nan", "refused: x"))
    assert sorted(runs.shuffled()) == sorted(product())
    monkeypatch.setattr(runs, "outcome", lambda cell, backend: ran.append(cell) or next(ends))
    file = tmp_path / "cells"
    runs.run(file, cells[:1])
    file.write_text(file.read_text() + '{"cell": ["bp", "lin')  # killed while it wrote
    rows = runs.run(file, cells)
    assert ran == cells
    assert runs.run(file, cells) == rows == runs.read(file)
    assert runs.summary(rows).startswith("1 equal, 1 refused, 1 wrong\n")
    assert str(cells[1]) in runs.summary(rows)


PLACES = [(name, layer) for name in RULES for layer in AXES["layer"]]


def place(name, layer, **kw):
    cell = Cell(name, layer, "float64", "eager", "one", False, "plain")
    try:
        return promoted(cell, **kw), *data(layer)
    except deep.Unsupported as refused:
        pytest.skip(str(refused))


def backward(model, x, y):
    model.zero_grad()
    torch.manual_seed(5)
    deep.loss(model, x, y).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_equal(mine, theirs):
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(g, theirs[n]) for n, g in mine.items())


@pytest.mark.parametrize(("name", "layer"), PLACES)
def test_a_saved_state_brings_back_the_gradients(name, layer):
    """torch.save without pickle, into a model that was promoted with another seed; and a deep copy."""
    model, x, y = place(name, layer)
    before = backward(model, x, y)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = deep.promote(net(layer).double(), RULES[name], sample=x, seed=7)
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert_equal(backward(fresh, x, y), before)
    assert_equal(backward(copy.deepcopy(model), x, y), before)


@pytest.mark.parametrize(("name", "layer"), PLACES)
def test_demote_is_plain_backprop_bit_for_bit(name, layer):
    model, x, y = place(name, layer)
    backward(deep.set_loss_scale(model, 4.0), x, y)
    deep.demote(model)
    plain = net(layer).double()
    plain.load_state_dict(model.state_dict())
    assert_equal(backward(model, x, y), backward(plain, x, y))
    kinds = [{k: type(v) for k, v in vars(m).items()} for m in model.modules()]
    assert kinds == [{k: type(v) for k, v in vars(m).items()} for m in plain.modules()]


@pytest.mark.parametrize(("name", "layer"), PLACES)
def test_evaluation_keeps_nothing(name, layer):
    """Neither tensors for a backward pass nor a graph, and the output is that of a pass with gradients, bit for bit."""
    model, x, _ = place(name, layer)
    plain, kept = model.eval()(x).detach(), []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                out = model(x)
            assert out.grad_fn is None
            assert torch.equal(out, plain)
    assert not kept
    assert not any(m.cuts for m in model.modules() if hasattr(m, "cuts"))


@pytest.mark.parametrize(("name", "layer"), PLACES)
def test_per_sample_gradients(name, layer):
    model, x, y = place(name, layer)
    model.eval()  # what draws its feedback would draw one for each sample
    if matrix.draws(RULES[name]):
        pytest.skip("directions are drawn for a batch")
    learning = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    fixed = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}

    def loss(p, xi, yi):
        return F.cross_entropy(torch.func.functional_call(model, {**p, **fixed}, (xi[None],)), yi[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    if isinstance(RULES[name].route, Local):
        with sdpa_kernel(SDPBackend.MATH), pytest.raises(RuntimeError, match=r"use deep\.loss"):
            each(learning, x, y)
        return
    with sdpa_kernel(SDPBackend.MATH):  # torch has no batching rule of the fused attention
        together = each(learning, x, y)
    for i in range(0, len(x), 3):
        for n, g in backward(model, x[i : i + 1], y[i : i + 1]).items():
            torch.testing.assert_close(together[n][i], g, rtol=1e-9, atol=1e-14)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own
@pytest.mark.parametrize(("name", "layer"), PLACES)
def test_forward_mode_is_the_change_of_the_output(name, layer):
    """With respect to the input and to the parameters, beside a difference quotient: feedback has no part in it."""
    model, x, _ = place(name, layer)
    rule = RULES[name]
    model.train(rule.activity == Plain() and not matrix.draws(rule))  # in training these are for backward passes alone
    torch.manual_seed(1)
    values = {n: p.detach() for n, p in model.named_parameters()}
    tangent = torch.randn_like(x)
    directions = {n: torch.randn_like(p) for n, p in values.items()}

    def f(x, p):
        return torch.func.functional_call(model, p, (x,))

    def shifted(h):
        with torch.no_grad():
            return f(x + h * tangent, {n: p + h * directions[n] for n, p in values.items()})

    with sdpa_kernel(SDPBackend.MATH):  # torch has no forward mode of the fused attention
        mine = torch.func.jvp(f, (x, values), (tangent, directions))[1]
    torch.testing.assert_close(mine, (shifted(1e-6) - shifted(-1e-6)) / 2e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore")  # dynamo's own
def test_a_compiled_layer_redraws_its_magnitudes():
    """Compiled by AOT autograd the signs are those of the weight, the magnitudes normal ones, one set a pass."""
    torch.manual_seed(0)
    model = deep.promote(nn.Sequential(nn.Linear(4, 3).double()), linfa.sign_symmetry("brSF"))
    torch._dynamo.reset()
    compiled, e = torch.compile(model, backend="aot_eager", fullgraph=True), torch.randn(8, 3, dtype=torch.float64)
    seen = []
    for seed in range(2):
        x = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(seed)
        compiled(x).backward(e)
        B = torch.linalg.lstsq(e, x.grad).solution
        torch.testing.assert_close(e @ B, x.grad)
        assert torch.equal(B.sign(), model[0].weight.sign())
        torch.manual_seed(seed)
        drawn = torch.randn(4, 3, dtype=torch.float64).abs() * model[0].spread
        torch.testing.assert_close(B.abs(), drawn.T)
        seen.append(B)
    assert not torch.allclose(*seen)


@pytest.mark.parametrize("mode", AXES["mode"])
@pytest.mark.parametrize("layer", ["linear", "block"])
@pytest.mark.filterwarnings("ignore")  # dynamo's own
def test_errors_that_do_not_vary_show_oja_no_direction(layer, mode):
    """One sample, or tokens that are averaged: a covariance of 0, and not rounding errors divided by the largest."""
    model, x, y = place("ldfa(2, oja)", layer)
    torch._dynamo.reset()
    run = torch.compile(model, backend="eager", fullgraph=True) if mode == "compiled" else model
    F.cross_entropy(run(x[:1]), y[:1]).backward()
    last = model[2] if layer == "linear" else model[2][1]
    above = [last] if layer == "linear" else [last, model[1].inner[0].fc2]
    for module in above:
        assert module.feedback["P"].grad.abs().max() < 1e-12
        assert module.feedback["Q"].grad.abs().max() > 1e-6


def needs_scale(rule):
    others = rule.decay or rule.parameterisation.penalties or rule.feedback.clamp
    return bool(others or {"C", "J"} & {*rule.plasticity.reads})


@pytest.mark.parametrize("name", RULES)
def test_float16_wants_to_know_the_scale_of_the_loss(name):
    model, x, y = place(name, "linear", dtype=torch.float32)
    autocast = torch.autocast("cpu", dtype=torch.float16)
    if isinstance(RULES[name].route, Local):
        with autocast, pytest.raises(RuntimeError, match="autocast to bfloat16"):
            deep.loss(model, x.float(), y)
        return
    if needs_scale(RULES[name]):
        with autocast, pytest.raises(RuntimeError, match=r"call deep\.set_loss_scale"):
            model(x.float())
        deep.set_loss_scale(model, 1.0)
    with autocast:
        deep.loss(model, x.float(), y).backward()


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if needs_scale(rule)])
def test_an_undeclared_scale_is_a_wrong_gradient(name):
    """What `deep.set_loss_scale` is for; and what it says can be said again."""
    model, x, y = place(name, "linear")

    def scaled(factor):
        model.zero_grad()
        torch.manual_seed(0)
        (factor * deep.loss(model, x, y)).backward()
        return {n: p.grad / factor for n, p in model.named_parameters() if p.grad is not None}

    right = scaled(1.0)
    gaps = [float((g - right[n]).norm() / right[n].norm()) for n, g in scaled(1024.0).items()]
    assert max(gaps) > 0.01
    for factor in (1024.0, 0.25, 1.0):
        deep.set_loss_scale(model, factor)
        for n, g in scaled(factor).items():
            torch.testing.assert_close(g, right[n], rtol=1e-9, atol=1e-14)


class Reader(Plasticity):
    """A plasticity of degree 0, 1 and 2 in the error, all at once."""

    reads = ("G", "C", "J")

    def velocity(self, stored, moments):
        return (moments.G.mT @ moments.C + 2 * moments.G.mT + 3 * moments.J.mT + stored[0], None)

    def learns(self, stored):
        return (True, False)

    def claims(self, rule):
        return ()


def test_a_plasticity_of_any_degree_follows_the_scale():
    G, C, J, B = (torch.randn(3, 3, dtype=torch.float64) for _ in range(4))
    rule = scaled(replace(linfa.ldfa(2), plasticity=Reader(), decay=0.5), 8.0)
    assert rule.decay == 4.0
    assert rule.plasticity.reads == Reader.reads
    assert rule.plasticity.learns(2) == (True, False)
    grown, none = rule.plasticity.velocity((B, B), Moments(8 * G, 64 * C, J))
    assert none is None
    torch.testing.assert_close(grown, 8 * Reader().velocity((B, B), Moments(G, C, J))[0])
    assert scaled(rule, 1) is rule
    svd = scaled(linfa.svd_local(2), 8.0)
    assert [p.weight for p in svd.parameterisation.penalties] == [0.8, 0.8]


class Bounded(Plasticity):
    """A plasticity that reads G alone, and not in proportion."""

    reads = ("G",)

    def velocity(self, stored, moments):
        return (-moments.G.mT.sign(),)

    learns = staticmethod(lambda stored: (True,))
    claims = staticmethod(lambda rule: ())


def test_a_plasticity_that_is_not_proportional_wants_to_know_the_scale():
    x, y = data("linear")
    model = deep.promote(net("linear"), Rule(Layerwise(), Dense(), Bounded()), sample=x.float())
    with torch.autocast("cpu", dtype=torch.float16):
        with pytest.raises(RuntimeError, match=r"call deep\.set_loss_scale"):
            model(x.float())
        deep.set_loss_scale(model, 4.0)
        (4.0 * deep.loss(model, x.float(), y)).backward()
    taught = [p.grad for n, p in model.named_parameters() if "feedback" in n and p.grad is not None]
    assert len(taught) == 3
    assert all(set(g.unique().tolist()) <= {-4.0, 0.0, 4.0} for g in taught)


@pytest.mark.parametrize("plasticity", [*PARTS["plasticity"], Bounded()], ids=lambda part: type(part).__name__)
def test_what_is_proportional_says_so(plasticity):
    torch.manual_seed(0)
    G, J, C = torch.randn(4, 5), torch.randn(4, 5), torch.diag(torch.tensor([3.0, 1.0, 2.0, 1.0]))
    stored = (torch.randn(5, 4),) if plasticity.factors[0] == 1 else (torch.randn(5, 2), torch.randn(2, 4))
    once, twice = (plasticity.velocity(stored, Moments(G=c * G, C=c**2 * C, J=J)) for c in (1.0, 2.0))
    grows = all(v is None or torch.allclose(w, 2 * v) for v, w in zip(once, twice, strict=True))
    assert plasticity.proportional == grows


def test_scales_that_make_no_sense():
    with pytest.raises(ValueError, match="the scale of a loss is positive; got 0"):
        deep.set_loss_scale(deep.promote(net("linear"), linfa.fa()), 0)
    with pytest.raises(TypeError, match="Sequential is not promoted"):
        deep.set_loss_scale(net("linear"), 2.0)


def test_a_direct_rule_in_a_compiled_checkpoint_is_refused():
    rule = next(name for name, rule in RULES.items() if isinstance(rule.route, Direct))
    cell = Cell(rule, "linear", "float32", "compiled", "one", True, "plain")
    assert "Mutating a variable from outside the scope" in outcome(cell, "eager")


def test_parts_that_were_wrapped_are_named():
    model, x, y = place("sgr", "linear")
    model[2] = nn.Sequential(model[2])
    with pytest.raises(RuntimeError, match=r"no parameter 2\.weight any more: wrap the whole model"):
        deep.loss(model, x, y)
