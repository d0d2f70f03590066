"""Figures of trajectories.  matplotlib is imported when the first figure is drawn."""

import contextlib
import textwrap
from pathlib import Path

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


def check_file(path: Path) -> None:
    """See that a figure can be written to a file, before the work that it is to show; its folder is made.

    Raises:
        ImportError: naming the command, if matplotlib is missing.
        ValueError: for a kind of file that matplotlib does not write.

    >>> check_file(Path("figure.xyz"))
    Traceback (most recent call last):
        ...
    ValueError: figure.xyz is no figure that can be written: take .png, .svg or .pdf
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'linfa-lab[plot]'") from error
    kind = path.suffix[1:].lower()
    if kind and kind not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"{path} is no figure that can be written: take .png, .svg or .pdf")
    path.parent.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def style():
    """A plain style: no box, light grid, readable type."""
    import matplotlib.pyplot as plt
    from cycler import cycler

    settings = {
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E6E6E6",
        "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.titlesize": 11, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.labelsize": 10, "legend.frameon": False, "legend.fontsize": 9,
        "lines.linewidth": 1.7, "font.size": 9.5, "figure.dpi": 110, "savefig.bbox": "tight",
    }  # fmt: skip
    with plt.rc_context(settings):
        yield


def _line(ax, times, values, **kw):
    """A line over time; an ensemble becomes its mean with a band from the smallest to the largest member."""
    flat = values.reshape(len(times), -1)
    (line,) = ax.plot(times, flat.mean(1), **kw)
    if flat.shape[1] > 1:
        ax.fill_between(times, flat.min(1), flat.max(1), color=line.get_color(), alpha=0.15, linewidth=0)
    return line


def _over_time(ax, run, **kw):
    """Title and labels; the axis ends where the run does."""
    ax.set(xlabel="time", **kw)
    if run.times[-1] > run.times[0]:
        ax.set_xlim(run.times[0], run.times[-1])


def _key(ax, entries):
    """A legend beside the axes, where it hides nothing; ``entries`` are (label, settings of a line) pairs."""
    lines = [ax.plot([], [], label=label, **look)[0] for label, look in entries]
    ax.legend(handles=lines, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.8)


def _shade(number):
    return PALETTE[number % len(PALETTE)]


def loss(ax, run, **kw):
    """Loss over time, logarithmic.

    Args:
        ax: matplotlib axes.
        run: a `Trajectory`.
        kw: settings of the line; by default it has the rule's colour.
    """
    import numpy as np
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    kw.setdefault("color", colour(run.rule.name))
    values = np.maximum(run.loss, 1e-16)
    _line(ax, run.times, values, **kw)
    _over_time(ax, run, title="Loss", ylabel=r"$\frac{1}{2}\,E\,|y - Wx|^2$", yscale="log")
    low, high = ax.get_ylim()
    ax.yaxis.set_minor_formatter(NullFormatter())
    if high < 100 * low:  # too few powers of ten to read values from
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def modes(ax, run):
    """Strength of each mode of the task; dashed, the singular value that it is to reach.  Modes of strength 0 are grey.

    Args:
        ax: matplotlib axes.
        run: a `Trajectory`.
    """
    import numpy as np

    values = np.linalg.svd(run.task.optimum, compute_uv=False)
    targets = values.reshape(-1, values.shape[-1]).mean(0)  # of an ensemble of tasks, as its strengths
    for i, target in reversed(list(enumerate(targets))):
        null = target <= 1e-10 * targets[0]
        shade = "#9A9A9A" if null else _shade(i)
        _line(ax, run.times, run.mode_strengths[..., i], color=shade)
        if not null:
            ax.axhline(target, color=shade, linestyle="--", linewidth=0.9)
    _over_time(ax, run, title="Mode strengths", ylabel="strength (dashed: task)")


def alignment(ax, run):
    """Cosine of every layer's update with backprop's, and of every edge's feedback with the weights it stands for.

    The feedback to h_l has the colour of W_(l+1), the lowest weight that it stands for.

    Args:
        ax: matplotlib axes.
        run: a `Trajectory`.
    """
    updates, carriers = run.update_alignment, run.feedback_alignment
    edges = run.rule.route.edges(len(run.weights))
    for place, edge in enumerate(edges):
        _line(ax, run.times, carriers[..., place], color=_shade(edge.activity), linestyle=":")
    for layer in range(updates.shape[-1]):
        _line(ax, run.times, updates[..., layer], color=_shade(layer))
    layers = [(f"$W_{{{layer + 1}}}$", {"color": _shade(layer)}) for layer in range(updates.shape[-1])]
    kinds = [("update", {"color": "#333333"}), ("feedback", {"color": "#333333", "linestyle": ":"})]
    _key(ax, [*layers, *kinds[: 2 if edges else 1]])
    _over_time(ax, run, title="Alignment with backprop", ylabel="cosine", ylim=(-1.05, 1.05))


def ranks(ax, run):
    """Effective rank of the error that reaches every layer, over the population.

    Args:
        ax: matplotlib axes.
        run: a `Trajectory`.
    """
    values = run.error_rank()
    for layer in range(values.shape[-1]):
        _line(ax, run.times, values[..., layer], color=_shade(layer))
    _key(ax, [(rf"$\delta_{{{layer + 1}}}$", {"color": _shade(layer)}) for layer in range(values.shape[-1])])
    _over_time(ax, run, title="Effective rank of the error", ylabel="effective rank", ylim=(0, None))


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
            figure, axes = plt.subplots(2, 2, figsize=(9.5, 6), layout="constrained")
            title = [*textwrap.wrap(repr(run.rule), 120), repr(run.task)]
            figure.suptitle("\n".join(title), fontsize=9, color="#555555")
        axes = np.ravel(axes)
        if len(axes) != 4:
            raise ValueError(f"a trajectory is drawn on four axes; got {len(axes)}")
        for ax, draw in zip(axes, (loss, modes, alignment, ranks), strict=True):
            draw(ax, run)
    return axes[0].figure
