"""Figures."""

import numpy as np
import pytest

import linfa
from linfa import plot

pytest.importorskip("matplotlib")
TASK = linfa.Task.from_spectrum([2.0, 1.0])


@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_trajectory_draws_itself(tmp_path, batch):
    import matplotlib.pyplot as plt

    run = linfa.simulate(linfa.ldfa(2), TASK, linfa.Network.small((2, 4, 2), 0.5, batch=batch), 2.0)
    figure = run.plot()
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["Loss", "Mode strengths", "Alignment with backprop", "Effective rank of the error"]
    assert all(ax.lines for ax in figure.axes)
    bands = len(figure.axes[0].collections)
    assert bands == len(batch)
    figure.savefig(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 10_000
    plt.close(figure)


def test_given_axes_are_used():
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2)
    run = linfa.simulate(linfa.bp(), TASK, linfa.Network.small((2, 4, 2), 0.5), 2.0)
    assert run.plot(axes) is figure
    with pytest.raises(ValueError, match="four axes; got 2"):
        run.plot(axes[0])
    plt.close(figure)


def test_colours_belong_to_families():
    assert plot.colour("ldfa(3, oja)") == plot.colour("ldfa(8, hebb, direct)")
    assert len({plot.colour(n) for n in plot.FAMILIES}) == len(plot.FAMILIES)
    assert plot.colour("mine") in plot.PALETTE


@pytest.fixture
def ax():
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def simulated(rule, batch=()):
    return linfa.simulate(rule, TASK_OF_THREE, linfa.Network.small((4, 5, 6, 3), 0.5, batch=batch), 2.0)


TASK_OF_THREE = linfa.Task.from_spectrum([2.0, 1.0], n_in=4, n_out=3, noise=0.1)


def test_loss(ax):
    run = simulated(linfa.fa(), batch=(4,))
    plot.loss(ax, run)
    (line,), (band,) = ax.lines, ax.collections
    assert line.get_color() == plot.colour("fa")
    assert ax.get_yscale() == "log"
    assert ax.get_xlim() == (0, 2)
    np.testing.assert_allclose(line.get_ydata(), run.loss.mean(1))
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    np.testing.assert_allclose((low, high), (run.loss.min(), run.loss.max()))
    plot.loss(ax, run, color="black")
    assert ax.lines[-1].get_color() == "black"


def test_modes(ax):
    run = simulated(linfa.fa())
    plot.modes(ax, run)
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose([line.get_ydata() for line in solid[::-1]], run.mode_strengths.T)
    np.testing.assert_allclose(sorted(line.get_ydata()[0] for line in dashed), [1, 2])
    assert {line.get_color() for line in dashed} == {line.get_color() for line in solid[1:]}


def test_alignment(ax):
    run = simulated(linfa.dfa())
    plot.alignment(ax, run)
    drawn = {(line.get_linestyle(), line.get_color()): line.get_ydata() for line in ax.lines if len(line.get_ydata())}
    for layer in range(3):
        np.testing.assert_allclose(drawn["-", plot.PALETTE[layer]], run.update_alignment[:, layer])
    for edge in range(2):
        np.testing.assert_allclose(drawn[":", plot.PALETTE[edge + 1]], run.feedback_alignment[:, edge])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "$W_{1}$", "$W_{2}$", "$W_{3}$", "update", "feedback",
    ]  # fmt: skip


def test_ranks(ax):
    run = simulated(linfa.ldfa(1))
    plot.ranks(ax, run)
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_ydata())]
    np.testing.assert_allclose(drawn, run.error_rank().T)
    np.testing.assert_allclose(drawn[0], 1)
    assert ax.get_ylim()[0] == 0


def test_a_run_without_duration_and_without_feedback_draws():
    import matplotlib.pyplot as plt

    run = linfa.simulate(linfa.bp(), TASK, linfa.Network.small((2, 2), 0.5), 0.0)
    figure = run.plot()
    assert [text.get_text() for text in figure.axes[2].get_legend().get_texts()] == ["$W_{1}$", "update"]
    figure.canvas.draw()
    plt.close(figure)


@pytest.mark.parametrize("rule", [linfa.fa(), linfa.svd_local(2)], ids=lambda rule: rule.name)
def test_the_title_stays_in_the_figure(rule):
    run = linfa.simulate(rule, linfa.Task.from_spectrum([1.0, 0.5]), linfa.Network.small((2, 3, 2), 0.5), 1.0)
    figure = run.plot()
    figure.draw_without_rendering()
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
