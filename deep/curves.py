"""Figures of a run: loss, accuracy and learning rate."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deep.record import Recorder


def curves(rows: Sequence[Mapping], name: str, rates: Mapping[str, tuple[Sequence, Sequence]] | None = None):
    """Loss and accuracy by epoch, and beside them learning rates, as a matplotlib figure.

    Args:
        rows: of the log.
        name: of the rule.
        rates: what is learned at a rate -> (times in epochs, learning rates); None for no such panel.
    """
    import matplotlib.pyplot as plt

    from linfa import plot

    with plot.style():
        panels = 3 if rates else 2
        figure, axes = plt.subplots(1, panels, figsize=(4 * panels, 3.2), layout="constrained")
        epochs = [row["epoch"] for row in rows]
        for ax, key in zip(axes, ("loss", "accuracy"), strict=False):
            for part, dash in (("train", ":"), ("test", "-")):
                values = [row[f"{part}_{key}"] for row in rows]
                ax.plot(epochs, values, dash, marker="o", markersize=3, color=plot.colour(name), label=part)
            ax.set(title=key.capitalize(), xlabel="epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
        axes[0].legend(title=name)
        if rates:
            for (label, (times, values)), shade in zip(rates.items(), plot.PALETTE, strict=False):
                axes[2].plot(times, values, color=shade, label=label)
            axes[2].set(title="Learning rate", xlabel="epoch", ylim=(0, None))
            axes[2].legend()
    return figure


def draw(folder: Path, rows: Sequence[Mapping], name: str, rates: Mapping, recorder: Recorder | None = None) -> None:
    """Write ``curves.png``, and ``record.png`` if something was recorded; without matplotlib say that none are drawn.

    Args:
        folder: of the run.
        rows, name, rates: as for `curves`.
        recorder: of the run, if there was one.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print(f"no figures in {folder}: they need matplotlib, pip install 'linfa-lab[plot]'", file=sys.stderr)
        return
    figures = {"curves": curves(rows, name, rates)}
    if recorder is not None and recorder.rows:
        figures["record"] = recorder.figure()
    for title, figure in figures.items():
        figure.savefig(folder / f"{title}.png")
        plt.close(figure)
