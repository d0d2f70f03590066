"""Loss and accuracy of a training run."""


def curves(rows: list[dict], name: str):
    """Loss and accuracy by epoch, as a matplotlib figure.

    Args:
        rows: of the log of `deep.train.train`.
        name: of the rule, which has the colour and the title.
    """
    import matplotlib.pyplot as plt

    from linfa import plot

    with plot.style():
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
        epochs = [row["epoch"] for row in rows]
        for ax, key, title in zip(axes, ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
            for part, dash in (("train", ":"), ("test", "-")):
                values = [row[f"{part}_{key}"] for row in rows]
                ax.plot(epochs, values, dash, marker="o", markersize=3, color=plot.colour(name), label=part)
            ax.set(title=title, xlabel="epoch")
        axes[0].legend(title=name)
    return figure
