"""The recorder: what it measures, that it leaves everything alone, its files, and how it goes on."""

import copy
import csv
import json

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import deep
import linfa
from deep.record import RANKS, figure, sketch

matplotlib.use("Agg")

X, Y = torch.randn(24, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 5


def net(rule=None, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(24, 10),
        nn.Tanh(), nn.Linear(10, 5),
    )  # fmt: skip
    return deep.promote(model, rule or linfa.fa(), sample=X)


def loop(model, recorder, steps, lr=0.1):
    optimizer = deep.optimizer(model, lr)
    for step in range(steps):
        part = slice(step % 3, None, 3)
        if recorder is not None:
            recorder(X[part], Y[part])
        optimizer.zero_grad()
        F.cross_entropy(model(X[part]), Y[part]).backward()
        optimizer.step()


@pytest.mark.parametrize(
    "rule",
    [linfa.sign_symmetry("brSF"), linfa.dfa(), linfa.directional_dfa(directions=1), linfa.svd_local(2)],
    ids=lambda rule: rule.name,
)
def test_training_does_not_feel_it(rule):
    """Not even dropout: the copy runs on a copy of the random numbers."""
    ends = []
    for every in (None, 1, 3):
        model = net(rule)
        torch.manual_seed(1)
        loop(model, None if every is None else deep.Recorder(model, every), 5)
        ends.append(model.state_dict())
    for end in ends[1:]:
        assert all(torch.equal(value, end[name]) for name, value in ends[0].items())


def test_rows_by_hand():
    model = net().double().eval()
    rows = deep.Recorder(model).measure(X.double(), Y)
    assert [row["layer"] for row in rows] == ["0", "5", "7"]
    errors, x = {}, X.double()
    for path in ("0", "5", "7"):
        x = nn.Sequential.forward(model[{"0": 0, "5": 1, "7": 6}[path] : int(path) + 1], x)
        x.retain_grad()
        errors[path] = x
    F.cross_entropy(x, Y).backward()
    for row in rows:
        error = errors[row["layer"]].grad
        error = error.movedim(1, -1).reshape(-1, 6) if error.dim() == 4 else error
        gradient = model.get_submodule(row["layer"]).weight.grad.flatten(1)
        for name, matrix in (("error", error), ("gradient", gradient)):
            s = torch.linalg.svdvals(matrix).numpy()
            p = s[s > 1e-12] / s.sum()
            assert row[f"{name}_effective_rank"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-5)
            assert row[f"{name}_participation_rank"] == pytest.approx((s**2).sum() ** 2 / (s**4).sum())
            assert row[f"{name}_stable_rank"] == pytest.approx((s**2).sum() / s[0] ** 2)
        assert row["trajectory_effective_rank"] == pytest.approx(1)
        ranks = [row[f"error_{kind}_rank"] for kind in RANKS]
        assert ranks == sorted(ranks, reverse=True)


def test_cosines_and_angles_by_hand():
    model = net(linfa.fa()).double().eval()
    rows = {row["layer"]: row for row in deep.Recorder(model).measure(X.double(), Y)}
    plain = deep.demote(copy.deepcopy(model))
    grads, errors = {}, {}
    for name, m in (("fa", model), ("bp", plain)):
        h = m[:6](X.double())
        h.retain_grad()
        F.cross_entropy(m[6:](h), Y).backward()
        grads[name], errors[name] = m[0].weight.grad.flatten(), h.grad.flatten()

    def cosine(pair):
        return float(pair["fa"] @ pair["bp"] / pair["fa"].norm() / pair["bp"].norm())

    assert rows["0"]["update_cosine"] == pytest.approx(cosine(grads))
    assert rows["5"]["error_cosine"] == pytest.approx(cosine(errors))
    W, B = model[7].weight.detach(), model[7].feedback["B"]
    angle = np.degrees(np.arccos(float((W * B.T).sum() / W.norm() / B.norm())))
    assert rows["7"]["feedback_angle"] == pytest.approx(angle)
    assert rows["0"]["feedback_angle"] is None  # its input needs no error
    assert rows["7"]["update_cosine"] == pytest.approx(1)
    with torch.no_grad():
        model[7].feedback["B"].copy_(W.T)
        model[5].feedback["B"].copy_(-2 * model[5].weight.T)
    again = {row["layer"]: row for row in deep.Recorder(model).measure(X.double(), Y)}
    assert again["5"]["error_cosine"] == pytest.approx(1)
    assert again["0"]["error_cosine"] == pytest.approx(-1)
    assert [again[path]["feedback_angle"] for path in ("5", "7")] == pytest.approx([180, 0], abs=1e-5)


def test_local_losses_are_recorded_too():
    model = net(linfa.muon(linfa.local())).eval()
    rows = {row["layer"]: row for row in deep.Recorder(model).measure(X, Y)}
    assert list(rows) == ["0", "5", "7"]
    assert rows["7"]["error_cosine"] == pytest.approx(1, abs=1e-6)
    assert abs(rows["0"]["error_cosine"]) < 0.9
    assert abs(rows["5"]["error_cosine"]) < 0.9
    deep.loss(model, X, Y).backward()
    mine = model[7].weight.grad.double()
    s = torch.linalg.svdvals(mine)
    assert rows["7"]["gradient_stable_rank"] == pytest.approx(float(s.square().sum() / s[0] ** 2), rel=1e-5)
    assert rows["7"]["feedback_angle"] is None


@pytest.mark.parametrize("rule", [linfa.svd_local(2), linfa.factored(linfa.fa(), 3)], ids=lambda rule: rule.name)
def test_factored_weights_are_recorded_too(rule):
    model = net(rule).eval()
    rows = {row["layer"]: row for row in deep.Recorder(model).measure(X, Y)}
    assert "gradient_stable_rank" not in rows["5"]
    assert rows["5"]["trajectory_stable_rank"] == pytest.approx(1)
    assert abs(rows["0"]["update_cosine"]) < 0.95
    assert 60 < rows["7"]["feedback_angle"] < 120
    loop(model, deep.Recorder(model, 1), 2)


def test_angles_of_kernels_and_factors():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(24, 3)).double()
    deep.promote(model, linfa.ldfa(2, "hebb"))
    W = model[1].weight.detach().reshape(2, 3, -1)
    Q, P = (model[1].feedback[name].detach() for name in "QP")
    B = torch.stack([Q[group] @ P[group] for group in range(2)])
    expected = np.degrees(np.arccos(float((B * W.mT).sum() / B.norm() / W.norm())))
    assert deep.measure.feedback_angles(model, X)["1"] == pytest.approx(expected)
    assert 0 < expected < 80  # it starts from the singular vectors of the weight
    deep.promote(deep.demote(model), linfa.bp())
    assert list(deep.measure.feedback_angles(model, X).values()) == pytest.approx([0, 0, 0], abs=1e-4)


def test_the_update_is_the_direction_of_the_geometry():
    rows = [deep.Recorder(net(rule).eval()).measure(X, Y)[1] for rule in (linfa.bp(), linfa.muon(linfa.bp()))]
    assert rows[0]["update_cosine"] == pytest.approx(1, abs=1e-6)
    model = net(linfa.bp()).eval()
    F.cross_entropy(model(X), Y).backward()
    s = torch.linalg.svdvals(model[5].weight.grad.double())
    s = s[s > 1e-3 * s[0]]
    assert rows[1]["update_cosine"] == pytest.approx(float(s.sum() / (len(s) ** 0.5 * s.norm())), rel=1e-3)
    assert rows[1]["error_cosine"] == pytest.approx(1, abs=1e-6)


def test_rank_of_a_trajectory_in_sketches():
    """Gradients of 2,000 entries in a space of 3 dimensions keep their rank and nearly their angles."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(3, 2000, generator=generator, dtype=torch.float64)
    vectors = torch.randn(12, 3, generator=generator, dtype=torch.float64) @ basis
    kept = torch.stack([sketch(v, 512, seed=1) for v in vectors])
    s = deep.measure.singular_values(kept)
    assert (s > 1e-7 * s[0]).sum() == 3
    true = torch.linalg.svdvals(vectors).numpy()
    assert s[:3] == pytest.approx(true[:3], rel=0.15)
    a, b = vectors[0].abs(), vectors[1].abs()  # without signs, their means would give them away
    inner = np.array([float(sketch(a, 512, seed) @ sketch(b, 512, seed)) for seed in range(400)])
    spread = (2 / 512) ** 0.5 * float(a.norm() * b.norm())
    assert inner.mean() == pytest.approx(float(a @ b), abs=4 * spread / 20)
    assert inner.std() < 1.1 * spread
    torch.testing.assert_close(sketch(a + 2 * b, 512), sketch(a, 512) + 2 * sketch(b, 512))


def test_every_window_and_trajectory():
    model = net().eval()
    recorder = deep.Recorder(model, every=2, window=3, size=64)
    loop(model, recorder, 9, lr=0.0)
    assert sorted({row["step"] for row in recorder.rows}) == [0, 2, 4, 6, 8]
    assert all(len(kept) == 3 and kept[0].numel() <= 64 for kept in recorder.trajectories.values())
    assert recorder.trajectories["0"][0].numel() == 54  # no sketch where there is nothing to gain
    ranks = [row["trajectory_stable_rank"] for row in recorder.rows if row["layer"] == "7"]
    assert ranks[0] == pytest.approx(1)
    assert 1 < ranks[-1] < 3


def test_files(tmp_path):
    model = net()
    with deep.Recorder(model, 2, tmp_path / "a") as recorder:
        loop(model, recorder, 3)
        lines = (tmp_path / "a/record.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == recorder.rows  # it grows while it runs
        assert len(lines) == 6
    with (tmp_path / "a/record.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["update_cosine"]) for row in table] == [row["update_cosine"] for row in recorder.rows]
    assert table[0]["feedback_angle"] == ""
    with deep.Recorder(model, 2, tmp_path / "a") as again:
        again(X, Y)
        assert len((tmp_path / "a/record.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("rule", [linfa.fa(), linfa.dfa()], ids=lambda rule: rule.name)
@pytest.mark.parametrize("in_a_file", [True, False])
def test_going_on(tmp_path, rule, in_a_file):
    folder = tmp_path if in_a_file else None
    first = deep.Recorder(net(rule).eval(), 1, folder, size=32)
    loop(first.model, first, 4)
    state = first.state_dict()
    torch.save(state, tmp_path / "state.pt")
    loop(first.model, first, 2)  # which the state does not know
    other = deep.Recorder(first.model, 1, folder, size=32)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.rows == first.rows[:12]
    first.load_state_dict(state)
    rows = other.measure(X, Y)
    assert rows == first.measure(X, Y)
    assert rows[0]["step"] == 4
    assert rows[0]["trajectory_stable_rank"] != pytest.approx(1)  # it knows the gradients before
    other(X, Y)
    assert len(other.rows) == 15
    if in_a_file:
        assert state["rows"] == 12  # rows do not travel
        lines = (tmp_path / "record.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == other.rows


def test_each_step_draws_its_own_outputs():
    recorder, angles = deep.Recorder(net(linfa.dfa()).eval()), []
    for recorder.step in (0, 0, 1, 2, 3):
        angles.append(recorder.measure(X, Y)[1]["feedback_angle"])
    assert angles[0] == angles[1]
    assert len(set(angles)) > 2
    other = deep.Recorder(recorder.model, seed=1)
    for other.step in (0, 1, 2, 3):
        angles.append(other.measure(X, Y)[1]["feedback_angle"])
    assert angles[1:5] != angles[5:]


def test_a_record_that_is_not_there_cannot_go_on(tmp_path):
    first = deep.Recorder(net(), 1, tmp_path)
    loop(first.model, first, 3)
    state = first.state_dict()
    lines = (tmp_path / "record.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "record.jsonl").write_text("".join(lines[:5]))
    other = deep.Recorder(first.model, 1, tmp_path)
    with pytest.raises(ValueError, match=r"a record of 9 rows, and .*record.jsonl has 5: give it the folder"):
        other.load_state_dict(state)
    assert (other.step, other.rows) == (0, [])
    with pytest.raises(ValueError, match=r"9 rows, and .*elsewhere.record.jsonl has 0"):
        deep.Recorder(first.model, 1, tmp_path / "elsewhere").load_state_dict(state)
    with pytest.raises(ValueError, match=r"9 rows, and this recorder has 0"):
        deep.Recorder(first.model, 1).load_state_dict(state)
    assert (tmp_path / "record.jsonl").read_text() == "".join(lines[:5])


def test_a_training_run_keeps_its_record(tmp_path):
    from deep.data import Images, InOrder, Shuffled
    from deep.train import train

    labels = torch.arange(40) % 3
    x = torch.randint(0, 255, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    images = Images(x.to(torch.uint8), labels, 3, (0.5,), (0.3,), "noise")
    rule, certificate = linfa.fa(), linfa.verify(linfa.fa(), promoted=False, depths=(2,))

    def run(folder, epochs):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
        deep.promote(model, rule)
        recorder = deep.Recorder(model, 3, folder)
        train(model, rule, Shuffled(images, 10), InOrder(images), deep.optimizer(model, 0.02), folder, epochs=epochs,
              certificate=certificate, progress=False, recorder=recorder)  # fmt: skip
        return recorder.rows

    rows = run(tmp_path / "whole", 3)
    assert [row["step"] for row in rows] == [0, 0, 3, 3, 6, 6, 9, 9]
    run(tmp_path / "parts", 1)
    assert run(tmp_path / "parts", 3) == rows
    for name in ("record.jsonl", "record.csv"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "parts" / name).read_text()


def test_figure():
    import matplotlib.pyplot as plt

    model = net(linfa.dfa())
    recorder = deep.Recorder(model, 1)
    loop(model, recorder, 3)
    drawn = recorder.figure("stable")
    counts = [len(ax.lines) for ax in drawn.axes]
    assert counts == [3, 3, 2, 3, 3, 3]  # to the input of the first layer nothing is broadcast
    steps, values = drawn.axes[3].lines[1].get_data()
    assert list(steps) == [0, 1, 2]
    assert list(values) == [row["error_stable_rank"] for row in recorder.rows if row["layer"] == "5"]
    plt.close(drawn)
    recorder = deep.Recorder(net(linfa.local()), 1)
    recorder(X, Y)
    drawn = recorder.figure()
    assert not drawn.axes[2].lines
    assert drawn.axes[2].texts[0].get_text() == "nothing was measured"
    plt.close(drawn)


def test_refusals():
    with pytest.raises(ValueError, match="every, size, window and passes are at least 1; got 0, 1024, 200, 1"):
        deep.Recorder(net(), every=0)
    with pytest.raises(ValueError, match="got 100, 1024, 200, 0"):
        deep.Recorder(net(), passes=0)
    with pytest.raises(ValueError, match="nothing to draw of 0 rows"):
        deep.Recorder(net()).figure()
    with pytest.raises(ValueError, match="rank 'numerical': choose one of effective, participation, stable"):
        figure([{"step": 0, "layer": "0"}], "numerical")


@pytest.mark.parametrize("how", ["prune", "weight_norm", "spectral_norm"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*weight_norm.* is deprecated")  # torch's own
def test_weights_that_a_hook_makes_are_recorded_too(how):
    """What is no parameter and no leaf; the rows are those of the parameters that it is made of."""
    make = {
        "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        "weight_norm": nn.utils.weight_norm,
        "spectral_norm": nn.utils.spectral_norm,
    }[how]
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), make(nn.Linear(6, 5)), nn.Linear(5, 3))
    x, y = torch.randn(8, 4), torch.arange(8) % 3
    deep.promote(model, linfa.fa())
    F.cross_entropy(model(x), y).backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    gradient = torch.cat([g.flatten() for n, g in grads.items() if n.startswith("2.weight")])
    rows = {row["layer"]: row for row in deep.Recorder(model).measure(x, y)}
    assert list(rows) == ["0", "2", "3"]
    if how != "spectral_norm":  # which takes a step in every pass
        found = deep.measure.gradients(model, x, y)["2"]
        torch.testing.assert_close(found.flatten(), gradient)
    assert all(torch.equal(p.grad, grads[n]) for n, p in model.named_parameters() if n in grads)
