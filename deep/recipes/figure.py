"""The figure of a reproduced experiment."""


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
