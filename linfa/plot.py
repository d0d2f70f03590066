"""Figures of trajectories.  matplotlib is imported when the first figure is drawn."""

import contextlib

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B", "#7F7F7F")
"""Okabe and Ito's colours for all kinds of colour vision, in the order in which they are taken."""

FAMILIES = ("bp", "fa", "dfa", "ldfa", "kolen-pollack", "uSF", "frSF", "brSF")


def colour(name: str) -> str:
    """The colour of a rule, the same in every figure; members of a family share it.

    >>> colour("ldfa(4, oja)") == colour("ldfa(2, hebb)") != colour("bp")
    True
    """
    family = name.split("(")[0]
    place = FAMILIES.index(family) if family in FAMILIES else sum(map(ord, family))
    return PALETTE[place % len(PALETTE)]


@contextlib.contextmanager
def style():
    """A plain style: no box, light grid, readable type."""
    import matplotlib.pyplot as plt

    settings = {
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E6E6E6",
        "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.titlesize": 11, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.labelsize": 10, "legend.frameon": False, "legend.fontsize": 8.5,
        "lines.linewidth": 1.7, "font.size": 9.5, "figure.dpi": 110, "savefig.bbox": "tight", "mathtext.fontset": "cm",
    }  # fmt: skip
    with plt.rc_context(settings):
        yield


def _line(ax, times, values, **kw):
    """A line over time; an ensemble becomes its mean with a band from the smallest to the largest member."""
    flat = values.reshape(len(times), -1)
    (line,) = ax.plot(times, flat.mean(1), **kw)
    if flat.shape[1] > 1:
        ax.fill_between(times, flat.min(1), flat.max(1), color=line.get_color(), alpha=0.2, linewidth=0)
    return line


def loss(ax, run, **kw):
    """Loss over time, logarithmic."""
    import numpy as np

    kw.setdefault("color", colour(run.rule.name))
    _line(ax, run.times, np.maximum(run.loss, 1e-16), **kw)
    ax.set(title="Loss", xlabel="time", yscale="log")


def modes(ax, run):
    """Strength of each mode of the task; dashed, what it is to become."""
    import numpy as np

    targets = np.linalg.svd(run.task.optimum, compute_uv=False)
    for i, target in enumerate(targets):
        shade = PALETTE[i % len(PALETTE)]
        _line(ax, run.times, run.mode_strengths[..., i], color=shade)
        ax.axhline(target, color=shade, linestyle="--", linewidth=0.8)
    ax.set(title="Mode strengths", xlabel="time")


def alignment(ax, run):
    """Cosine of every layer's update with backprop's, and of every edge's feedback with the weights it stands for."""
    for layer in range(run.update_alignment.shape[-1]):
        shade = PALETTE[layer % len(PALETTE)]
        _line(ax, run.times, run.update_alignment[..., layer], color=shade, label=f"update of $W_{layer + 1}$")
    for edge in range(run.feedback_alignment.shape[-1]):
        shade = PALETTE[edge % len(PALETTE)]
        _line(
            ax, run.times, run.feedback_alignment[..., edge], color=shade, linestyle=":",
            label=f"feedback to $h_{edge + 1}$",
        )  # fmt: skip
    ax.set(title="Alignment with backprop", xlabel="time", ylabel="cosine", ylim=(-1.05, 1.05))
    ax.legend()


def ranks(ax, run):
    """Effective rank of the error that reaches every layer."""
    values = run.error_rank()
    for layer in range(values.shape[-1]):
        _line(ax, run.times, values[..., layer], color=PALETTE[layer % len(PALETTE)], label=rf"$\delta_{layer + 1}$")
    ax.set(title="Effective rank of the error", xlabel="time", ylim=(0, None))
    ax.legend()


def trajectory(run, axes=None):
    """Loss, mode strengths, alignment and error rank of one run.

    Args:
        run: a `Trajectory`.
        axes: four axes to draw on; by default those of a new figure.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    with style():
        if axes is None:
            figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
            figure.suptitle(f"{run.rule!r}, {run.task!r}", fontsize=9)
        axes = np.ravel(axes)
        if len(axes) != 4:
            raise ValueError(f"a trajectory is drawn on four axes; got {len(axes)}")
        for ax, draw in zip(axes, (loss, modes, alignment, ranks), strict=True):
            draw(ax, run)
    return axes[0].figure
