"""What does the linear theory predict of a convolutional network, and where does it fail?

`linfa.theory` computes every prediction from the images and from the feedback matrices that the network happened to
draw; nothing is fitted but, in panel 5, one unit of time for each rule.  The network is LeNet-5 under cross-entropy,
beside it the same network without its nonlinearities.  What is measured is the squared error of the probabilities.

1. The spurious solution.  Feedback of rank r reaches the layers below the readout, which are exact otherwise.  The
   theory leaves what P does not see (`FinalMap`): all of the error at r = 0, nothing from r = K - 1 on, where K is the
   number of classes.  Measured in units of what r = 0, a readout on random features, has and r = K has not.
   Without nonlinearities the network follows.  With them it does not: one or two numbers for each image teach it most
   of what ten do.
2. Which modes are left over, given P: a weak order, and no more.
3. The knee, the rank at which a tenth is left: at 2 or 3, whether there are 5 classes or 10.
4. The modes of the task, the singular vectors of E[y x^T], are learned one after the other.
5. Strong modes come first under BP, FA and DFA, as the theory says (`depth_time`, `dfa_timescale`); times differ less
   than they should.  Under Muon weak modes should be first (`polar_arrival`): strong ones are.
6. Alignment of what the readout has learned with its feedback, by the share of the loss that is learned (`ZeroInitFA`):
   it stays between a third and a half of what the theory has from the start on.

The statistics are those of examples/records/theory-predicts-scale.

    python examples/theory_predicts_scale.py                     # Fashion-MNIST, in the package
    python examples/theory_predicts_scale.py --cifar100 FOLDER   # 20 classes as well

Runs are kept in the folder --out: a second call goes on where the first was interrupted.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import kendalltau
from torch import nn
from torch.nn.functional import one_hot

import linfa
from deep import models
from deep.data import Images, InOrder, Shuffled
from deep.data.load import load
from deep.demo import task_of
from deep.experiment import Data, Experiment, Optimizer, flushed_denormals
from deep.schedule import Schedule
from deep.train import train
from linfa import plot
from linfa.dynamics import State
from linfa.theory import ZeroInitFA, depth_time, dfa_timescale, final_loss, final_map, polar_arrival, power_clock

BODY = ("0", "3", "7", "9")
"""The layers of LeNet below its readout, "11"."""
RANKS = {3: (0, 1, 2, 3), 5: (0, 1, 2, 3, 4, 5), 10: (0, 1, 2, 3, 5, 7, 9, 10), 20: (0, 1, 2, 4, 8, 13, 19, 20)}
"""Classes -> ranks of the feedback."""
LEARNED = 0.9
"""Share of what feedback can do that is done at the knee."""
PROBE = 1000
"""Images on which modes are followed."""
DRAWS = 2000
"""Permutations and resamples of a statistic."""
ORDER = {
    "bp": (linfa.bp(), 0.01),
    "fa": (linfa.fa(), 0.01),
    "dfa": (linfa.dfa(), 0.001),
    "muon": (linfa.muon(linfa.bp()), 0.01),
}
"""Rules of which the order of learning is followed, with learning rates of SGD."""
TURNING = {"relu": 0.01, "linear": 0.002}
"""Learning rates of the runs of the alignment: without nonlinearities FA diverges at 0.01."""


@dataclass(frozen=True)
class Story:
    """What to run.

    Args:
        figure: where the figure goes.
        out: folder of the runs.
        cifar100: folder of the official files of CIFAR-100, for 20 classes; None for none.
        trust: SHA-256 of the images there, if they are not all of them.
        classes: numbers of classes of Fashion-MNIST: 3, 5 or 10.
        seeds: runs of everything.
        images: training images of a task.
        epochs: of the runs of the knee; other runs in proportion.
    """

    figure: Path = Path("theory_predicts_scale.png")
    out: Path = Path("theory-predicts-scale")
    cifar100: Path | None = None
    trust: str | None = None
    classes: tuple[int, ...] = (10, 5)
    seeds: int = 3
    images: int = 2500
    epochs: int = 10


# The network, with its nonlinearities or without, and a run.


def lenet(channels, size, classes, slope=0.0):
    """LeNet-5 with mean pooling as in the original; a map that is linear at slope 1 and has ReLU at slope 0."""
    layers = models.lenet(channels, classes, size)
    swaps = {nn.ReLU: lambda: nn.LeakyReLU(slope) if slope else nn.ReLU(), nn.MaxPool2d: lambda: nn.AvgPool2d(2)}
    return nn.Sequential(*(swaps.get(type(layer), lambda layer=layer: layer)() for layer in layers))


models.MODELS["mean-lenet"] = lenet
certificate = functools.cache(functools.partial(linfa.verify, depths=(2, 3)))


@functools.cache
def pictures(story: Story, classes: int, split: str) -> tuple[Images, Data]:
    """The images of a task, and how they are called."""
    data = Data("cifar100", story.cifar100) if classes > 10 else Data()
    images = load(data.name, data.folder, split, story.trust if split == "train" and classes > 10 else None)
    images = images.first_classes(classes)
    return images if split == "test" else images.subset(min(story.images, len(images))), data


def learn(story, name, rule, classes, seed, *, slope=0.0, body=True, exact=BODY, optimizer, schedule, epochs, every=0):
    """A promoted network after its run, and what `Watch` saw on the way.

    Args:
        body: whether the layers below the readout learn.
        exact: layers that are left on backpropagation.
        every: steps from one look of the watch to the next.
    """
    (training, data), (test, _) = (pictures(story, classes, split) for split in ("train", "test"))
    batches = Shuffled(training, 50, seed)
    experiment = Experiment(
        rule, "mean-lenet", {"slope": slope}, data, optimizer, schedule, epochs, 50, promotion={"exact": exact},
        seed=seed,
    )  # fmt: skip
    model = experiment.network(batches)
    for path in () if body else BODY:
        model.get_submodule(path).requires_grad_(False)
    watch = Watch(model, training, every, *modes(story, classes)) if every else None
    with flushed_denormals():
        train(
            model, rule, batches, InOrder(test), optimizer.build(model, rule), story.out / f"{name}-{classes}-{seed}",
            epochs=epochs, schedule=schedule, seed=seed, recorder=watch, certificate=certificate(rule),
            settings=experiment.describe() | {"body": body},
        )  # fmt: skip
    return model, watch


@functools.cache
def modes(story, classes):
    """U (K, K - 1), s and V^T of E[y x^T], centred pixels to centred labels."""
    images, _ = pictures(story, classes, "train")
    x = images.x.flatten(1).double().numpy() / 255
    y = one_hot(images.y, classes).double().numpy()
    U, s, Vt = np.linalg.svd((y - y.mean(0)).T @ (x - x.mean(0)) / len(x), full_matrices=False)
    return U[:, : classes - 1], s[: classes - 1], Vt[: classes - 1]


class Watch:
    """Follows what of the task's modes is in the probabilities, on a probe; called like `deep.Recorder`.

    A row holds the share u_k^T E[p x^T] v_k / u_k^T E[y x^T] v_k of every mode, 1/2 E|y - p|^2, and the cosine of what
    the readout has learned with its feedback.
    """

    def __init__(self, model, images, every, U, _, Vt):
        self.model, self.every, self.step, self.rows = model, every, 0, []
        part = images.subset(min(PROBE, len(images)))
        self.x, self.y, self.U = part.normalised(), one_hot(part.y, images.classes).double(), torch.as_tensor(U)
        pixels = part.x.flatten(1).double() / 255
        self.v = (pixels - pixels.mean(0)) @ torch.as_tensor(Vt.T)
        self.target = ((self.y @ self.U) * self.v).mean(0)
        self.drawn = model[-1].weight.detach().clone()
        self.feedback = getattr(model[-1], "feedback", None)

    def __call__(self, x, y):
        if self.step % self.every == 0:
            self.rows.append(self.look())
        self.step += 1

    @torch.no_grad()
    def look(self):
        p = self.model(self.x).softmax(1).double()
        learned = (self.model[-1].weight - self.drawn).T
        B = getattr(self.feedback, "B", None)
        cosine = None if B is None else float(nn.functional.cosine_similarity(learned.flatten(), B.flatten(), 0))
        shares = ((p @ self.U) * self.v).mean(0) / self.target
        return [shares.tolist(), float(0.5 * ((self.y - p) ** 2).sum(1).mean()), cosine]

    def state_dict(self):
        return {"step": self.step, "rows": self.rows}

    def load_state_dict(self, state):
        self.step, self.rows = state["step"], list(state["rows"])

    def close(self):
        pass


# Panels 1 to 3: where learning ends.


def errors(model, images):
    """E[(y - p)(y - p)^T] (K, K) of the probabilities p, over all images."""
    with torch.no_grad():
        p = torch.cat([model(x).softmax(1) for x, _ in InOrder(images).batches(0)]).double()
    gap = one_hot(images.y, images.classes) - p
    return (gap.T @ gap / len(gap)).numpy()


def spurious(story, classes, slope, seed):
    """What every rank leaves of the error, in all and mode by mode, with the theory's prediction from the P drawn."""
    images, _ = pictures(story, classes, "train")
    task, (U, _, _) = task_of(images), modes(story, classes)
    common = {"optimizer": Optimizer("adam", lr=2e-3), "schedule": Schedule("linear"), "slope": slope}
    common["epochs"] = story.epochs * (2 if classes > 10 else 1)  # a harder task
    kind = "linear" if slope else "relu"
    left, by_mode, rows = {}, {}, {}
    for rank in (*RANKS[classes], "bp"):
        exact_rule = rank in (0, "bp")
        rule, exact = (linfa.bp(), ()) if exact_rule else (linfa.ldfa(rank, "fixed"), BODY)
        name = f"{kind}-{rank}"
        model, _ = learn(story, name, rule, classes, seed, body=rank != 0, exact=exact, **common)
        C = errors(model, images)
        left[rank], by_mode[rank] = 0.5 * np.trace(C), np.einsum("ki,kl,li->i", U, C, U)
        rows[rank] = None if exact_rule else model[-1].feedback["P"].detach().double().numpy()

    def share(values, rank):
        return (values[rank] - values[classes]) / (values[0] - values[classes])

    whole = np.linalg.norm(U.T @ task.Syx, axis=1) ** 2
    table = []
    for rank in (*RANKS[classes], "bp"):
        row = {"classes": classes, "kind": kind, "seed": seed, "rank": rank, "loss": left[rank]}
        row |= {"left": share(left, rank), "modes": share(by_mode, rank).tolist()}
        if rank != "bp":
            P = np.zeros((1, classes)) if rank == 0 else rows[rank]
            row["predicted"] = final_loss(task.Syx, P) / (0.5 * (task.Syx**2).sum())
            gap = U.T @ (task.Syx - final_map(task.Syx, P))
            row["predicted_modes"] = ((gap**2).sum(1) / whole).tolist()
        table.append(row)
    return table


# Panels 4 to 6: on the way.


def order(story, name, seed):
    """When each mode has come to its half, and when the theory says that it would, up to the unit of time."""
    rule, lr = ORDER[name]
    _, watch = watched(story, name, rule, seed, lr, exact=())
    _, s, _ = modes(story, max(story.classes))
    shares, depth = np.array([row[0] for row in watch.rows]), len(BODY) + 1
    reached = shares >= 0.5
    steps = [int(n) * watch.every if any_ else None for n, any_ in zip(reached.argmax(0), reached.any(0), strict=True)]
    if name == "bp":
        start = min(float(np.sqrt(np.mean((shares[0] * s) ** 2))), s[-1] / 4)
        predicted = depth_time(s / 2, start, s, depth)
    elif name == "muon":
        predicted = np.array([polar_arrival(value / 2, np.zeros(depth)) for value in s])
    else:  # feedback that sees all directions alike, straight from the output or through the layers
        p = 2**depth - 1
        predicted = power_clock(0.5 ** (1 / p), p) * dfa_timescale([s**2] * (depth - 1))
    return {"rule": name, "seed": seed, "predicted": predicted.tolist(), "steps": steps, "shares": shares.tolist()}


def turning(story, slope, seed):
    """How far the readout turns to its feedback, against the share of the loss that is learned."""
    kind, classes = "linear" if slope else "relu", max(story.classes)
    model, watch = watched(story, f"align-{kind}", linfa.fa(), seed, TURNING[kind], exact=BODY, slope=slope)
    losses, cosines = (np.array([row[place] for row in watch.rows]) for place in (1, 2))
    task = task_of(pictures(story, classes, "train")[0])
    B = model[-1].feedback["B"].detach().double().numpy()
    zero = State((np.zeros((len(B), task.n_in)), np.zeros((classes, len(B)))), ((B,),))
    theory = ZeroInitFA(linfa.fa(), task, zero)
    times = np.geomspace(1e-2, 1e4, 400)
    expected = theory.loss(times) / theory.loss([0.0])
    learned = 1 - losses / watch.rows[0][1]
    predicted = np.interp(learned, 1 - expected, theory.alignment(times))
    return {"kind": kind, "seed": seed, "learned": learned.tolist(), "cosine": cosines.tolist(),
            "predicted": predicted.tolist()}  # fmt: skip


def watched(story, name, rule, seed, lr, exact, slope=0.0):
    """A run of SGD of which the modes are followed."""
    optimizer = Optimizer("sgd", lr=lr, momentum=0.9, geometry_lr=0.003, geometry_momentum=0.0)
    return learn(
        story, f"order-{name}", rule, max(story.classes), seed, exact=exact, slope=slope, optimizer=optimizer,
        schedule=Schedule("constant"), epochs=max(1, round(1.6 * story.epochs)), every=10,
    )  # fmt: skip


def measure(story):
    """All runs, seed by seed; what is measured is in ``table.json`` and ``log.jsonl`` after each."""
    table, seeds = {"spurious": [], "order": [], "alignment": []}, range(story.seeds)

    def add(kind, rows):
        table[kind] += rows
        (story.out / "table.json").write_text(json.dumps(table))
        logs = [(log.parent.name, log.read_text().splitlines()) for log in sorted(story.out.glob("*/log.jsonl"))]
        lines = [json.dumps({"run": run, **json.loads(row)}) for run, rows in logs for row in rows]
        (story.out / "log.jsonl").write_text("\n".join(lines) + "\n")

    for seed in seeds:
        for classes in story.classes:
            for slope in (0.0, 1.0)[: 2 if classes == max(story.classes) else 1]:
                add("spurious", spurious(story, classes, slope, seed))
        add("order", [order(story, name, seed) for name in ORDER])
        add("alignment", [turning(story, slope, seed) for slope in (0.0, 1.0)])
    for seed in seeds if story.cifar100 else ():
        add("spurious", spurious(story, 20, 0.0, seed))
    return table


# Agreement, and the figure.


def determination(predicted, measured):
    """R^2 on the identity line: 1 for equality, 0 for the accuracy of the measurements' mean, below that worse."""
    predicted, measured = np.asarray(predicted), np.asarray(measured)
    return 1 - ((measured - predicted) ** 2).sum() / ((measured - measured.mean()) ** 2).sum()


def tau(predicted, measured):
    """Kendall's tau; what was not reached ties, after all else, and a tie of all is no order."""
    return np.nan_to_num(
        kendalltau(predicted, np.where(np.isfinite(measured), measured, np.finfo(float).max)).statistic
    )


def knee(ranks, left):
    """The rank at which a tenth of what feedback can do is left to do, between ranks linearly."""
    below = int(np.argmax(np.asarray(left) <= 1 - LEARNED))
    return float(np.interp(1 - LEARNED, [left[below], left[below - 1]], [ranks[below], ranks[below - 1]]))


def curves(table, classes, kind):
    """Ranks, and by seed and rank what is left, measured and predicted; what BP leaves."""
    rows = [row for row in table["spurious"] if (row["classes"], row["kind"]) == (classes, kind)]
    ranks = [rank for rank in RANKS[classes] if any(row["rank"] == rank for row in rows)]
    left, predicted = (np.array([[row[key] for row in rows if row["rank"] == rank] for rank in ranks]).T
                       for key in ("left", "predicted"))  # fmt: skip
    return ranks, left, predicted, np.array([row["left"] for row in rows if row["rank"] == "bp"])


def agreement(table):
    """Every statistic that is quoted, with an explicit seed for its permutations and resamples."""
    rng, found, draws = np.random.default_rng(0), {}, DRAWS
    arms = sorted({(row["classes"], row["kind"]) for row in table["spurious"]})
    for classes, kind in arms:
        ranks, left, predicted, bp = curves(table, classes, kind)
        inner = [place for place, rank in enumerate(ranks) if 0 < rank < classes]
        resampled = [knee(ranks, left[rng.integers(0, len(left), len(left))].mean(0)) for _ in range(draws)]
        found[f"knee {classes} {kind}"] = {
            "measured": knee(ranks, left.mean(0)), "low": float(np.quantile(resampled, 0.025)),
            "high": float(np.quantile(resampled, 0.975)), "predicted": knee(ranks, predicted.mean(0)),
            "R2 of what is left": determination(predicted[:, inner], left[:, inner]), "bp": float(bp.mean()),
            "seeds": len(left),
        }  # fmt: skip
        found[f"directions {classes} {kind}"] = directions(table, classes, kind, rng, draws)
    for name in dict.fromkeys(row["rule"] for row in table["order"]):
        rows = [row for row in table["order"] if row["rule"] == name]
        predicted = np.array([row["predicted"] for row in rows])
        steps = np.array([row["steps"] for row in rows], float)

        def mean(order, predicted=predicted, steps=steps):
            return np.mean([tau(p[order], t) for p, t in zip(predicted, steps, strict=True)])

        size = predicted.shape[1]
        null = [mean(rng.permutation(size)) for _ in range(draws)]
        reached = np.isfinite(steps) & (steps > 0)
        unit = float(np.exp(np.median(np.log(steps[reached] / predicted[reached])))) if reached.any() else None
        found[f"order {name}"] = {
            "tau": mean(np.arange(size)), "p": tail(mean(np.arange(size)), null), "unit": unit,
            "not reached": int((~reached).sum()), "of": int(reached.size),
            "R2 of log time": determination(np.log(unit * predicted[reached]), np.log(steps[reached]))
            if reached.sum() > 1 else None,
        }  # fmt: skip
    for kind in dict.fromkeys(row["kind"] for row in table["alignment"]):
        rows = [row for row in table["alignment"] if row["kind"] == kind]
        learned, cosine, predicted = (
            np.concatenate([row[key] for row in rows]) for key in ("learned", "cosine", "predicted")
        )
        under_way = learned > 0.05
        found[f"alignment {kind}"] = {
            "R2": determination(predicted[under_way], cosine[under_way]) if under_way.sum() > 1 else None,
            "last measured": float(np.mean([row["cosine"][-1] for row in rows])),
            "last predicted": float(np.mean([row["predicted"][-1] for row in rows])),
        }
    return found


def tail(value, null):
    """Two-sided p of a statistic among its permutations."""
    return (1 + int((np.abs(null) >= abs(value) - 1e-12).sum())) / (1 + len(null))


def directions(table, classes, kind, rng, draws):
    """Mean over runs of tau between predicted and measured shares of the modes, against two kinds of chance.

    Modes exchanged within every run; and predictions exchanged between the seeds of a rank, which leaves all that is
    known of a mode without knowing P.
    """
    ranks = [rank for rank in RANKS[classes] if 0 < rank < classes - 1]
    runs = {rank: [row for row in table["spurious"] if (row["classes"], row["kind"], row["rank"]) ==
                   (classes, kind, rank)] for rank in ranks}  # fmt: skip
    predicted, measured = (np.array([[row[key] for row in runs[rank]] for rank in ranks])
                           for key in ("predicted_modes", "modes"))  # fmt: skip

    def mean(predicted):
        return np.mean([kendalltau(p, m).statistic for p, m in zip(flat(predicted), flat(measured), strict=True)])

    def flat(x):
        return x.reshape(-1, x.shape[-1])

    value = mean(predicted)
    by_mode = [mean(rng.permuted(predicted, axis=2)) for _ in range(draws)]
    by_draw = [mean(np.array([p[rng.permutation(len(p))] for p in predicted])) for _ in range(draws)]
    return {"tau": value, "p of modes": tail(value, by_mode), "p of draws": tail(value, by_draw),
            "tau without the draw": float(np.mean(by_draw)), "runs": len(flat(predicted)),
            "R2": determination(predicted, measured)}  # fmt: skip


KINDS = {"relu": ("LeNet", plot.PALETTE[0], "o"), "linear": ("LeNet without nonlinearities", plot.PALETTE[1], "s")}
TASKS = {5: plot.PALETTE[2], 10: plot.PALETTE[0], 20: plot.PALETTE[3]}
LABELS = {"bp": "BP", "fa": "FA", "dfa": "DFA", "muon": "BP + Muon"}
SHADES = {"bp": plot.colour("bp"), "fa": plot.colour("fa"), "dfa": plot.colour("dfa"), "muon": plot.PALETTE[4]}


def draw(table, found, figure):
    """Six panels: black is what the theory says, coloured is what the network did."""
    with plot.style():
        fig, axes = plt.subplots(2, 3, figsize=(12.5, 7.8), layout="constrained")
        _spurious(axes[0, 0], table, found)
        _directions(axes[0, 1], table, found)
        _knees(axes[0, 2], found)
        _order(axes[1, 0], table)
        _times(axes[1, 1], table, found)
        _alignment(axes[1, 2], table, found)
        fig.suptitle("black: the linear theory      coloured: the network on real images", fontsize=9, color="#555555")
        fig.savefig(figure, dpi=150)
    plt.close(fig)


def below(ax, columns=2, **look):
    """A legend under a panel, where it covers nothing."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=columns, fontsize=8, **look)


def _spurious(ax, table, found):
    classes = max(row["classes"] for row in table["spurious"] if row["kind"] == "linear")
    for kind, (label, shade, marker) in KINDS.items():
        ranks, left, predicted, bp = curves(table, classes, kind)
        value = found[f"knee {classes} {kind}"]["R2 of what is left"]
        ax.errorbar(ranks, left.mean(0), left.std(0), color=shade, marker=marker, markersize=5, linewidth=1, capsize=2,
                    label=f"{label}, $R^2$ = {value:.2f}")  # fmt: skip
        ax.plot(classes + 1, bp.mean(), marker, color=shade, markersize=5, markerfacecolor="none")
    ax.plot(ranks, predicted.mean(0), color="black", label="final map of rank r")
    ax.axvline(classes - 1, color="black", linewidth=0.8, linestyle=":")
    ticks = [rank for rank in ranks if rank != classes - 1] + [classes + 1]
    ax.set_xticks(ticks, [*map(str, ticks[:-1]), "BP"])
    ax.set(title=f"The spurious solution, {classes} classes", xlabel="rank r of the feedback",
           ylabel="error left, of what feedback takes")  # fmt: skip
    below(ax, 1)


def _directions(ax, table, found):
    values = []
    for classes, kind in sorted({(row["classes"], row["kind"]) for row in table["spurious"]}, reverse=True):
        rows = [row for row in table["spurious"] if (row["classes"], row["kind"]) == (classes, kind)
                and row["rank"] != "bp" and 0 < row["rank"] < classes - 1]  # fmt: skip
        x, y = (np.concatenate([row[key] for row in rows]) for key in ("predicted_modes", "modes"))
        values.append(y)
        stat, (_, shade, marker) = found[f"directions {classes} {kind}"], KINDS[kind]
        look = {"color": TASKS.get(classes, "grey")} if kind == "relu" else {"color": shade, "markerfacecolor": "none"}
        label = f"{classes} classes{', linear' * (kind == 'linear')}, "
        ax.plot(x, np.clip(y, *WINDOW), marker, linestyle="", markersize=3, alpha=0.6, **look,
                label=rf"{label}$\tau$ = {stat['tau']:.2f}")  # fmt: skip
    values = np.concatenate(values)
    outside = int(((values < WINDOW[0]) | (values > WINDOW[1])).sum())
    ax.plot([0, 1], [0, 1], color="black")
    edge = f" ({outside} of {values.size} at the edge)" if outside else ""
    ax.set(title="Which modes are left over", xlabel="share left, predicted from the P drawn",
           ylabel=f"measured{edge}", ylim=WINDOW)  # fmt: skip
    below(ax)


WINDOW = (-0.5, 2.2)
"""Measured shares beyond these are drawn at the edge."""


def _knees(ax, found):
    arms = {tuple(name.split()[1:]): value for name, value in found.items() if name.startswith("knee")}
    sizes = sorted({int(classes) for classes, _ in arms})
    ax.plot([0, max(sizes)], [0, max(sizes)], color="black", linestyle=":", linewidth=0.9, label="r = K - 1")
    predicted = [arms[str(size), "relu"]["predicted"] for size in sizes]
    ax.plot([size - 1 for size in sizes], predicted, "_-", color="black", markersize=14, label="final map")
    for kind, (label, shade, marker) in KINDS.items():
        mine = {int(classes) - 1: value for (classes, other), value in arms.items() if other == kind}
        middle = [value["measured"] for value in mine.values()]
        errors = [[v["measured"] - v["low"] for v in mine.values()], [v["high"] - v["measured"] for v in mine.values()]]
        ax.errorbar(list(mine), middle, np.maximum(errors, 0), fmt=marker, color=shade, capsize=3, label=label)
    ax.set_xticks([size - 1 for size in sizes])
    ax.set(title="The knee", xlabel="dimensions of the error, K - 1", ylabel="rank at which a tenth is left",
           xlim=(0, None), ylim=(0, None))  # fmt: skip
    below(ax)


def _order(ax, table):
    rows = [row for row in table["order"] if row["rule"] == "bp"]
    shares = np.mean([row["shares"] for row in rows], axis=0)
    steps = 10 * np.arange(len(shares))
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, shares.shape[1]))
    for k, shade in enumerate(colours):
        ax.plot(steps, shares[:, k], color=shade, label=f"{k + 1}", linewidth=1.3)
    ax.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    ax.set(title="The modes under BP, strongest to weakest", xlabel="step", ylabel="share that is learned",
           ylim=(-0.1, 1.15))  # fmt: skip
    below(ax, 9, handlelength=0.8, columnspacing=0.9)


def _times(ax, table, found):
    seen = []
    for name, shade in SHADES.items():
        stat = found[f"order {name}"]
        for row in table["order"]:
            if row["rule"] == name and stat["unit"] is not None:
                steps = np.array(row["steps"], float)
                ax.plot(stat["unit"] * np.array(row["predicted"]), steps, ".", color=shade, markersize=7, alpha=0.7)
                seen += steps[np.isfinite(steps)].tolist()
        ax.plot([], [], ".", color=shade, label=rf"{LABELS[name]}, $\tau$ = {stat['tau']:.2f}")
    if seen:
        ax.plot([min(seen), max(seen)], [min(seen), max(seen)], color="black")
        ax.set(xscale="log", yscale="log")
    ax.set(title="When a mode is half learned", xlabel="predicted, up to the unit of time",
           ylabel="measured, steps")  # fmt: skip
    below(ax)


def _alignment(ax, table, found):
    for kind, (label, shade, _) in KINDS.items():
        rows = [row for row in table["alignment"] if row["kind"] == kind]
        for row in rows:
            ax.plot(row["learned"], row["cosine"], color=shade, linewidth=1.2, alpha=0.8)
        ax.plot([], [], color=shade, label=label)
        learned = np.concatenate([row["learned"] for row in rows])
        predicted = np.concatenate([row["predicted"] for row in rows])
        place = np.argsort(learned)
        ax.plot(learned[place], predicted[place], color="black")
    ax.set(title="Alignment of the readout under FA", xlabel="share of the loss that is learned", ylabel="cosine",
           xlim=(0, None), ylim=(-0.05, 1.02))  # fmt: skip
    below(ax)


def main(story):
    """Run, print and draw; returns what was measured and how well it agrees."""
    table = measure(story)
    found = agreement(table)
    (story.out / "agreement.json").write_text(json.dumps(found, indent=1))
    for name, values in found.items():
        numbers = (f"{key} {v:.3g}" if v is not None else f"{key} -" for key, v in values.items())
        print(f"{name:<24}", ", ".join(numbers))
    draw(table, found, story.figure)
    return table, found


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Story))
