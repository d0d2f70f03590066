"""The figures of a reproduced experiment."""


def accuracies(table: dict):
    """Test accuracy of every arm, every seed a dot, beside the published numbers, as a matplotlib figure.

    Args:
        table: of `deep.recipes.reproduce`.
    """
    import matplotlib.pyplot as plt

    from linfa import plot

    rows = {name: row for name, row in table["arms"].items() if row["runs"]}
    known = {place: row["published"] for place, row in enumerate(rows.values()) if row["published"] is not None}
    with plot.style():
        figure, ax = plt.subplots(figsize=(max(6.4, 1.8 + 0.75 * len(rows)), 3.8), layout="constrained")
        for place, row in enumerate(rows.values()):
            label = None if place else f"ours, {table['scale']:.3g} of the budget, mean ± std"
            ax.errorbar(place, row["mean"], row["std"] or 0, fmt="o", color=plot.PALETTE[0], capsize=4, label=label)
            ax.plot([place + 0.15] * len(row["runs"]), row["runs"], ".", color=plot.PALETTE[5], markersize=4)
        if known:
            places = [place - 0.15 for place in known]
            ax.plot(places, list(known.values()), "_", color=plot.PALETTE[1], markersize=14, label="published")
        ax.set_xticks(range(len(rows)), [name.replace(" ", "\n") for name in rows])
        ax.set(title=table["title"], ylabel="test accuracy, %")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def measures(table: dict):
    """What was recorded while every arm learned: means over the hidden layers and seeds, by step.

    Args:
        table: of `deep.recipes.reproduce`, of a recipe that records.
    """
    import matplotlib.pyplot as plt

    from linfa import plot

    rows = {name: row["recorded"] for name, row in table["arms"].items() if row.get("recorded")}
    keys = list(next(iter(rows.values())))
    with plot.style():
        figure, axes = plt.subplots(1, len(keys), figsize=(3.4 * len(keys), 3.4), layout="constrained")
        for ax, key in zip(axes, keys, strict=True):
            for number, (name, recorded) in enumerate(rows.items()):
                style = ("-", "--", ":")[number // len(plot.PALETTE)]
                points = zip(*recorded[key], strict=True)
                ax.plot(*points, style, color=plot.PALETTE[number % len(plot.PALETTE)], label=name)
            ax.set(title=key.replace("_", " "), xlabel="step", ylim=(min(0, ax.get_ylim()[0]), None))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure
