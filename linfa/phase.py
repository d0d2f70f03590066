"""Phase diagrams of sweeps: what the networks of a rule come to, over two of the axes of the sweep.

Colour is the median over the networks that did not diverge; where half of them did, the place is hatched.  Theory is
on top: the learning rate up to which descent is stable, and below a diagram of ranks where fixed feedback ends from
zero weights, and the loss of the best map of each rank.
"""

import numpy as np

from linfa import plot

AXES = {
    "rank": "rank r", "task": "singular values of the task", "depth": "depth L", "width": "width of the hidden layers",
    "scale": "scale of the weights at the start", "lr": "learning rate",
}  # fmt: skip
"""What rows can be spread over, with the label in a figure; of two the first is drawn to the right, the other up."""

VALUES = {
    "loss": "final loss", "reach_time": "time to a small loss", "update_alignment": "alignment of the updates",
    "feedback_alignment": "alignment of the feedback", "effective_rank": "effective rank of the map",
    "diverged": "share that diverged",
}  # fmt: skip
"""What can be drawn, with its label."""

LOGARITHMIC = ("loss", "reach_time")
DECADES = 6
"""How far below the largest value a logarithmic scale goes."""
SPURIOUS = {"zero start": "zero_start_loss", "best map": "best_loss"}
"""Theory for the loss at each rank: the solution that fixed feedback reaches from zero, and the best that there is."""
BOUND = "#D55E00"
"""Colour of the learning rate up to which descent is stable."""


def varying(rows: list[dict]) -> tuple[str, ...]:
    """The axes along which rows have several values, those with most of them first.

    >>> varying([{"rank": r, "scale": s} for r in (1, None) for s in (0.1, 1.0)])
    ('scale',)
    """
    sizes = {axis: len({row.get(axis) for row in rows} - {None}) for axis in AXES}
    return tuple(sorted((axis for axis, size in sizes.items() if size > 1), key=lambda axis: -sizes[axis]))


def groups(rows: list[dict], axes) -> dict[tuple, list[dict]]:
    """The rows by their rule and their values on some axes, in the order in which they appear.

    >>> groups([{"rule": "fa", "lr": 0.1, "seed": 0}, {"rule": "fa", "lr": 0.1, "seed": 1}], ["lr"]).keys()
    dict_keys([('fa', 0.1)])
    """
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        found.setdefault((row["rule"], *(row[axis] for axis in axes)), []).append(row)
    return found


def middle(rows: list[dict], value: str, share: float = 0.5) -> float:
    """A quantile, by default the median, of what rows have of a value; nan if none has any."""
    known = [row[value] for row in rows if row[value] is not None]
    return float(np.mean(known) if value == "diverged" else np.quantile(known, share)) if known else np.nan


def table(rows: list[dict]) -> list[dict]:
    """A line for each rule and each place on the `varying` axes: how many diverged, and medians of the others.

    >>> import tempfile
    >>> from linfa import bp, sweep
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = sweep.run(sweep.Sweep((bp(),), lrs=(0.01, 10.0), scales=(0.5,), steps=10), folder)
    >>> [(line["lr"], line["diverged"]) for line in table(rows)]
    [(0.01, '0 of 10'), (10.0, '10 of 10')]
    """
    rows = _plain(rows)
    axes = [axis for axis in AXES if axis in varying(rows)]
    lines = []
    for (rule, *places), mine in groups(rows, axes).items():
        lost = sum(row["diverged"] for row in mine)
        line = {"rule": rule, **dict(zip(axes, places, strict=True)), "diverged": f"{lost} of {len(mine)}"}
        for name in ("loss", "best_loss", "reach_time", "update_alignment", "effective_rank"):
            seen = middle(mine, name)
            line[name] = None if np.isnan(seen) else seen
        lines.append(line)
    return lines


def check(axes, value: str = "loss") -> None:
    """See that a diagram of a value can be drawn over one or two axes; () is for those that vary.

    Raises:
        ValueError: for an unknown name, or more than two axes.
    """
    for name, known in ((value, VALUES), *((axis, AXES) for axis in axes)):
        if name not in known:
            raise ValueError(f"{name!r} cannot be drawn: choose one of {', '.join(known)}")
    if len(set(axes)) > 2:
        raise ValueError(f"a diagram has one or two axes; got {', '.join(axes)}")


def figure(rows: list[dict], axes=(), value: str = "loss"):
    """Draw rows of `linfa.sweep.measure` over one or two axes.

    Args:
        rows: of one sweep; also out of a data frame, with nan for what there is not.
        axes: one or two of `AXES`; by default the two `varying` ones with most values.  Over all others, and over the
            seeds, the median is taken; the title says which.
        value: one of `VALUES`.

    Returns:
        The matplotlib figure: a map for each rule, or with one axis a curve for each.

    Raises:
        ValueError: without rows, for more than two axes, or an unknown name.
    """
    import matplotlib.pyplot as plt

    if not rows:
        raise ValueError("there are no rows to draw")
    rows = _plain(rows)
    axes = tuple(axes) or varying(rows)[:2] or ("rank",)
    check(axes, value)
    axes = [axis for axis in AXES if axis in axes]
    pooled = [axis for axis in varying(rows) if axis not in axes] + ["seed"]
    with plot.style():
        drawn = (_maps if len(axes) == 2 else _curves)(plt, rows, axes, value)
        notes = [f"{'mean' if value == 'diverged' else 'median'} over {', '.join(pooled)}"]
        if any(middle(cell, "diverged") >= 0.5 for cell in groups(rows, axes).values()):
            notes.append("hatched: half diverged")
        if axes[-1:] == ["lr"] and len(axes) == 2 and any(row["max_lr"] is not None for row in rows):
            notes.append("orange: stable below, in theory")
        drawn.suptitle("    ".join(notes), fontsize=9, color="#555555")
    return drawn


def _plain(rows):
    """The rows with None for what is not a number, as a data frame says that there is none."""
    return [{key: None if isinstance(x, float) and np.isnan(x) else x for key, x in row.items()} for row in rows]


def _range(rows, value) -> tuple[float, float]:
    """The least and the largest value that is drawn."""
    known = [row[value] for row in rows if row[value] is not None] or [1.0]
    low, high = (0.0, 1.0) if value == "diverged" else (float(min(known)), float(max(known)))
    if value not in LOGARITHMIC:
        return low, high
    high = high or 1.0  # all are zero
    return max(low, high * 10.0**-DECADES), high


def _norm(rows, value):
    from matplotlib.colors import LogNorm, Normalize

    return (LogNorm if value in LOGARITHMIC else Normalize)(*_range(rows, value), clip=True)


def _values(rows, axis):
    """The values on an axis: tasks as they come, numbers by their size, and at the end None of rules that have none."""
    found = dict.fromkeys(row[axis] for row in rows)
    return list(found) if axis == "task" else sorted(found, key=lambda x: (x is None, x))


def _ticks(values, axis, most=12) -> tuple[list, list]:
    """Places and labels of ticks, where there are many of every second or third value."""
    every = -(-len(values) // most)
    text = ["full" if x is None else x if axis == "task" else f"{x:.2g}" for x in values]
    return list(range(0, len(values), every)), text[::every]


def _maps(plt, rows, axes, value):
    x, y = axes
    rules, ups, norm = groups(rows, ()), _values(rows, y), _norm(rows, value)
    sizes = [len(_values(mine, x)) for mine in rules.values()]
    drawn, panels = plt.subplots(
        1, len(rules), figsize=(2.8 + 0.5 * sum(sizes) + 0.3 * len(sizes), 3.8), sharey=True, squeeze=False,
        layout="constrained", width_ratios=sizes,
    )  # fmt: skip
    theory = {}
    if value == "loss" and x == "rank":
        theory = {name: column for name, column in SPURIOUS.items() if any(row[column] is not None for row in rows)}
    for ax, ((rule,), mine) in zip(panels[0], rules.items(), strict=True):
        colours = _map(ax, mine, axes, ups, value, norm, theory)
        ax.set_title(rule)
    panels[0][0].set_ylabel(AXES[y])
    drawn.supxlabel(AXES[x], fontsize=10)
    drawn.colorbar(colours, ax=panels[0], label=VALUES[value], extend="min" if value in LOGARITHMIC else "neither")
    return drawn


def _map(ax, rows, axes, ups, value, norm, theory):
    """One rule's map, below it a line for each column of ``theory``, and the learning rates that theory allows."""
    (x, y), rights = axes, _values(rows, axes[0])
    columns = [[row for row in rows if row[x] == right] for right in rights]
    cells = [[[row for row in column if row[y] == up] for column in columns] for up in ups]
    edges = np.arange(len(rights) + 1) - 0.5

    def line(bottom, values):
        return ax.pcolormesh(edges, [bottom, bottom + 1], np.array([values]), norm=norm, cmap="viridis")

    for place, here in enumerate(cells):
        seen = [middle(cell, value) for cell in here]
        colours = line(place - 0.5, seen)
        for left, cell, known in zip(edges, here, seen, strict=False):
            if middle(cell, "diverged") >= 0.5:
                _hatch(ax, left, place - 0.5, "white" if np.isfinite(known) else "#555555")
    places, labels = _ticks(ups, y)
    for place, (name, column) in enumerate(theory.items(), 1):
        line(-0.8 - 1.15 * place, [middle(rows, column) for rows in columns])
        places.append(-0.3 - 1.15 * place)
        labels.append(f"theory: {name}")
    ax.set_yticks(places, labels)
    if y == "lr":
        for left, column in zip(edges, columns, strict=False):
            _bound(ax, [left, left + 1], middle(column, "max_lr"), ups)
    ax.set_xticks(*_ticks(rights, x))
    ax.set_facecolor("#DDDDDD")
    ax.grid(False)
    return colours


def _hatch(ax, left, bottom, colour):
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((left, bottom), 1, 1, fill=False, hatch="////", edgecolor=colour, linewidth=0))


def _bound(ax, where, bound, lrs):
    """A line at the learning rate up to which descent is stable, if there is one among those on the axis."""
    if lrs[0] <= bound <= lrs[-1]:
        height = np.interp(np.log(bound), np.log(lrs), np.arange(len(lrs)))
        for colour, width in (("white", 4.5), (BOUND, 2.5)):
            ax.plot(where, [height, height], color=colour, linewidth=width, solid_capstyle="butt")


def _curves(plt, rows, axes, value):
    (x,), (least, most) = axes, _range(rows, value)
    rights = [right for right in _values(rows, x) if right is not None] or [None]
    drawn, ax = plt.subplots(figsize=(6.8, 3.8), layout="constrained")
    for (rule,), mine in groups(rows, ()).items():
        cells = [[row for row in mine if row[x] in (right, None)] for right in rights]
        low, mid, high = (
            np.clip([middle(cell, value, share) for cell in cells], least, None) for share in (0.25, 0.5, 0.75)
        )
        colour, flat = plot.colour(rule), mine[0][x] is None
        ax.plot(mid, "--" if flat and len(rights) > 1 else "o-", markersize=4, color=colour, label=rule)
        ax.fill_between(range(len(rights)), low, high, color=colour, alpha=0.15, linewidth=0)
        for place, cell in enumerate(cells):
            if middle(cell, "diverged") >= 0.5:
                ax.axvspan(place - 0.5, place + 0.5, fill=False, hatch="////", edgecolor=colour, linewidth=0, alpha=0.5)
        if value == "loss" and x == "rank" and not flat:
            for (name, column), mark in zip(SPURIOUS.items(), "x_", strict=True):
                points = np.clip([middle(cell, column) for cell in cells], least, None)
                if np.isfinite(points).any():
                    ax.plot(points, mark, color="#333333", markersize=11, label=f"theory: {name}")
        bound = middle(mine, "max_lr")
        if x == "lr" and rights[0] <= bound <= rights[-1]:
            place = np.interp(np.log(bound), np.log(rights), np.arange(len(rights)))
            ax.axvline(place, color=colour, linestyle=":", label=f"theory: {rule} stable")
    if value in LOGARITHMIC:
        ax.set(yscale="log", ylim=(0.6 * least, 1.7 * most))
    ax.set(xlabel=AXES[x], ylabel=VALUES[value], xlim=(-0.5, len(rights) - 0.5))
    ax.set_xticks(*_ticks(rights, x, most=8))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn
