"""The atlas draws what it says."""

import re

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from linfa import atlas  # noqa: E402


@pytest.mark.parametrize(
    "plate", [atlas.spurious, atlas.angles, atlas.order, atlas.decay, atlas.layers], ids=lambda p: p.__name__
)
def test_dots_lie_on_lines(plate):
    figure = plate(seed=1)
    lines = [line for ax in figure.axes for line in ax.lines]
    curves = [line for line in lines if line.get_marker() == "None" and len(line.get_xdata()) > 100]
    curves = [line for line in curves if line.get_linestyle() == "-"]
    assert len(curves) >= 4
    for curve in curves:
        same = [dots for dots in lines if dots.axes is curve.axes and dots.get_marker() == "o"
                and dots.get_color() is curve.get_color() and len(dots.get_xdata()) > 5]  # fmt: skip
        if not same:
            same = [dots for dots in lines if dots.axes is curve.axes and dots.get_marker() == "o"
                    and np.array_equal(dots.get_color(), curve.get_color()) and len(dots.get_xdata()) > 5]  # fmt: skip
        x, y = (np.asarray(v, float) for v in (same[0].get_xdata(), same[0].get_ydata()))
        inside = (x >= curve.get_xdata()[0]) & (x <= curve.get_xdata()[-1])
        drawn = np.interp(x[inside], curve.get_xdata(), curve.get_ydata())
        np.testing.assert_allclose(drawn, y[inside], atol=0.02)
    plt.close(figure)


def test_the_edge_is_where_theory_puts_it():
    figure = atlas.edge(seed=2)
    (ax,) = figure.axes
    for line in ax.lines[:-1]:
        x, y = line.get_xdata(), line.get_ydata()
        if line.get_marker() == "x":
            assert min(x) > 1
        else:
            assert max(y[np.asarray(x) < 0.99], default=0) < 1e-3
    plt.close(figure)


def test_the_page(tmp_path):
    path = atlas.atlas(tmp_path / "sub" / "a.html", plates=[atlas.portrait, atlas.layers])
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Two weights: backprop has a saddle, feedback alignment has none", "Depth makes learning a step",
    ]  # fmt: skip
    assert text.count("data:image/png") == 2
    assert "2 plates, seed 0" in text
