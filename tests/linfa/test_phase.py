"""Phase diagrams: what is drawn where."""

import itertools

import numpy as np
import pytest

import linfa
from linfa import phase
from linfa.phase import figure, groups, middle, table, varying
from linfa.sweep import Sweep, measure

plt = pytest.importorskip("matplotlib.pyplot")


def rows(**settings):
    return [row for ensemble in Sweep(**settings).ensembles() for row in measure(ensemble)]


@pytest.fixture(scope="module")
def ranks():
    return rows(rules=(linfa.fa(), linfa.ldfa(1, "fixed")), ranks=(1, 2, 3), depths=(2,), scales=(0.1, 1.0),
                seeds=(0, 1, 2), steps=30)  # fmt: skip


@pytest.fixture(scope="module")
def rates():
    return rows(rules=(linfa.bp(),), tasks=((2.0, 1.0),), depths=(2, 3), lrs=(0.01, 0.1, 1.0, 100.0), scales=(0.5,),
                seeds=(0, 1, 2), steps=60)  # fmt: skip


def panels(drawn):
    return {ax.get_title(loc="left"): ax for ax in drawn.axes if ax.get_title(loc="left")}


def meshes(ax):
    return [mesh.get_array() for mesh in ax.collections if hasattr(mesh, "get_coordinates")]


def test_axes_that_vary(ranks, rates):
    assert varying(ranks) == ("rank", "scale")
    assert varying(rates) == ("lr", "depth")
    assert varying(ranks[:1]) == ()


def test_groups_and_quantiles(ranks):
    found = groups(ranks, ["rank"])
    assert list(found) == [("fa", None), *(("ldfa(r, fixed)", r) for r in (1, 2, 3))]
    assert all(len(mine) == 6 for mine in found.values())
    values = [{"loss": 3.0}, {"loss": 1.0}, {"loss": None}, {"loss": 2.0}]
    assert middle(values, "loss") == 2.0
    assert middle(values, "loss", 0.25) == 1.5
    assert np.isnan(middle([{"loss": None}], "loss"))
    assert middle([{"diverged": True}, {"diverged": False}], "diverged") == 0.5


def test_a_map_has_the_medians_and_theory_below(ranks, tmp_path):
    drawn = figure(ranks)
    found = panels(drawn)
    assert list(found) == ["fa", "ldfa(r, fixed)"]
    *grid, zero, best = meshes(found["ldfa(r, fixed)"])
    for (line, scale), (column, rank) in itertools.product(enumerate((0.1, 1.0)), enumerate((1, 2, 3))):
        cell = [row["loss"] for row in ranks if (row["rank"], row["scale"]) == (rank, scale)]
        assert grid[line].ravel()[column] == np.median(cell)
        assert zero.ravel()[column] == np.median([row["zero_start_loss"] for row in ranks if row["rank"] == rank])
        assert best.ravel()[column] == [2.5, 0.5, 0.0][column] or rank == 3
    labels = [tick.get_text() for tick in found["fa"].get_yticklabels()]
    assert labels == ["0.1", "1", "theory: zero start", "theory: best map"]
    assert [tick.get_text() for tick in found["fa"].get_xticklabels()] == ["full"]
    assert drawn.get_suptitle() == "median over seed"
    drawn.savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 10_000
    plt.close(drawn)


def test_what_diverged_is_hatched_and_theory_says_where(rates):
    drawn = figure(rates)
    ax = panels(drawn)["bp"]
    hatched = {(patch.get_x() + 0.5, patch.get_y() + 0.5) for patch in ax.patches if patch.get_hatch()}
    lost = {key: middle(mine, "diverged") for key, mine in groups(rates, ["depth", "lr"]).items()}
    assert hatched == {
        (i, j) for (i, depth), (j, lr) in itertools.product(enumerate((2, 3)), enumerate((0.01, 0.1, 1.0, 100.0)))
        if lost["bp", depth, lr] >= 0.5
    }  # fmt: skip
    assert (0, 3) in hatched
    assert (0, 0) not in hatched
    lines = [line for line in ax.lines if line.get_color() == phase.BOUND]
    heights = [float(line.get_ydata()[0]) for line in lines]
    bounds = [2 / (2 * 2.0), 2 / (3 * 2.0 ** (4 / 3))]
    np.testing.assert_allclose(heights, [np.log10(bound) + 2 for bound in bounds], atol=1e-9)
    assert "hatched: half diverged" in drawn.get_suptitle()
    assert "orange: stable below" in drawn.get_suptitle()
    plt.close(drawn)


def test_one_axis_makes_curves(ranks, rates):
    drawn = figure(ranks, ["rank"])
    (ax,) = drawn.axes
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert {"fa", "ldfa(r, fixed)", "theory: zero start", "theory: best map"} == set(lines)
    for place, rank in enumerate((1, 2, 3)):
        assert lines["ldfa(r, fixed)"][place] == np.median([row["loss"] for row in ranks if row["rank"] == rank])
    assert len(set(lines["fa"])) == 1
    assert drawn.get_suptitle() == "median over scale, seed"
    plt.close(drawn)
    drawn = figure([row for row in rates if row["depth"] == 2])
    (bound,) = [line for line in drawn.axes[0].lines if line.get_label() == "theory: bp stable"]
    assert bound.get_xdata()[0] == pytest.approx(np.log10(0.5) + 2)
    plt.close(drawn)


@pytest.mark.parametrize("value", list(phase.VALUES))
def test_every_value_is_drawn(ranks, rates, value):
    for seen in (ranks, rates, ranks[:1], [{**row, value: 0.0} for row in ranks]):
        drawn = figure(seen, value=value)
        drawn.canvas.draw()
        plt.close(drawn)


def test_nothing_that_learned_is_drawn_too():
    lost = rows(rules=(linfa.bp(),), lrs=(1e3, 1e4), scales=(1.0,), seeds=(0, 1), steps=40)
    assert all(row["diverged"] for row in lost)
    for axes in (["lr"], ["lr", "scale"]):
        drawn = figure(lost, axes)
        drawn.canvas.draw()
        plt.close(drawn)
    assert table(lost)[0] == {"rule": "bp", "lr": 1e3, "diverged": "2 of 2", "loss": None, "best_loss": 0.0,
                              "reach_time": None, "update_alignment": None, "effective_rank": None}  # fmt: skip


def test_bad_diagrams(ranks):
    with pytest.raises(ValueError, match="no rows to draw"):
        figure([])
    with pytest.raises(ValueError, match="'speed' cannot be drawn: choose one of loss, reach_time"):
        figure(ranks, value="speed")
    with pytest.raises(ValueError, match="'seed' cannot be drawn: choose one of rank, task"):
        figure(ranks, ["seed"])
    with pytest.raises(ValueError, match="one or two axes; got rank, scale, lr"):
        figure(ranks, ["rank", "scale", "lr"])


def test_rows_of_a_data_frame_have_nan_for_none(ranks):
    frame = [{key: np.nan if x is None else x for key, x in row.items()} for row in ranks]
    assert frame != ranks
    assert table(frame) == table(ranks)
    one, other = ([mesh for ax in figure(rows).axes for mesh in meshes(ax)] for rows in (frame, ranks))
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_single_place_is_seen():
    (row,) = measured = measure(Sweep((linfa.fa(),), scales=(0.5,), seeds=(0,), steps=5).ensembles()[0])
    (ax,) = figure(measured).axes
    (line,) = ax.lines
    assert line.get_marker() == "o"
    assert line.get_ydata() == [row["loss"]]
