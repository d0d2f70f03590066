"""The rank of feedback against the number of classes: is the error's dimension, K - 1, where accuracy ends to rise?"""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.recipe import Recipe
from deep.schedule import Schedule

BP = Experiment(
    linfa.bp(),
    model="mlp",
    sizes={"hidden": (256, 256, 256)},
    data=Data("cifar100", augment=("flip",)),
    optimizer=Optimizer("adam", lr=1e-3),
    schedule=Schedule("linear"),
    batch_size=64,
)
CLASSES = (5, 10, 20, 50, 100)
RANKS = (1, 2, 4, 9, 19, 49, 99)


def arms():
    """For every number of classes backpropagation, and the ranks up to a little more than the classes."""
    out = {}
    for K in CLASSES:
        task = replace(BP, data=replace(BP.data, classes=K), epochs=2000 // K)  # as many steps for every K
        out[f"K={K} BP"] = task
        ranks = [rank for rank in RANKS if rank < 2.5 * K]
        out |= {f"K={K} r={rank}": replace(task, rule=linfa.ldfa(rank)) for rank in ranks}
    return out


def knees(table: dict):
    """Test accuracy in units of backpropagation's, above chance, over the rank and over the error's dimension K - 1."""
    import matplotlib.pyplot as plt

    from linfa import plot

    rows = table["arms"]
    with plot.style():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
        for K, colour in zip(CLASSES, plot.PALETTE, strict=False):
            best = rows.get(f"K={K} BP")
            found = {rank: rows[name] for rank in RANKS if (name := f"K={K} r={rank}") in rows}
            if best is None or not found:
                continue
            chance, whole = 100 / K, best["mean"]
            share = [(row["mean"] - chance) / (whole - chance) for row in found.values()]
            spread = [(row["std"] or 0) / (whole - chance) for row in found.values()]
            for ax, unit in zip(axes, (1, K - 1), strict=True):
                ranks = [rank / unit for rank in found]
                ax.errorbar(ranks, share, spread, marker="o", capsize=3, color=colour, label=f"K = {K}")
        axes[1].axvline(1, color="#7F7F7F", linestyle=":")
        axes[0].set(xscale="log", xlabel="rank r", title=table["title"], ylabel="accuracy above chance, of BP's")
        axes[1].set(xscale="log", xlabel="r / (K - 1)")
        axes[0].legend()
    return figure


RECIPE = Recipe(
    title="Rank against classes, CIFAR-100",
    source="Ours: the first K classes of CIFAR-100 in a network 3072-256-256-256-K.",
    arms=arms(),
    quick=0.05,
    figure=knees,
)
