"""Figures."""

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
