"""What does the linear theory predict of a convolutional network, and where does it fail?

Every prediction below is computed by `linfa.theory` from the images and, where it says so, from the feedback matrices
that the network happened to draw.  Nothing is fitted to the measurement but what a panel states.  The network is
LeNet-5 on real images under cross-entropy.

1. The knee.  Feedback of rank r reaches the layers below the readout, which are exact otherwise.  With K classes errors
   have K - 1 dimensions: the theory leaves a spurious solution below rank K - 1 and nothing above (`FinalMap`).
   Measured is the squared error of the probabilities, in units of what the two ends leave: no feedback at all, that
   is a readout on random features, and feedback of rank K.  The same network without its nonlinearities beside it.
2. Which directions.  The feedback's rows P say for every mode of the task how much of it is left in the end.
3. The knees of three tasks, as the rank at which a tenth of the error that feedback can take is left.
4. The order of learning.  Under BP, FA and DFA strong modes come first, and under Muon all grow at one speed, so that
   the weak ones, which have less to go, come first (`depth_time`, `dfa_timescale`, `polar_arrival`).
5. The same as times, with one fitted number for each rule, the unit of time.
6. Alignment.  How far the readout has turned to the feedback by the time that a share of the loss is learned
   (`ZeroInitFA`); of the readout, what it has learned and not what it was drawn as.

    python examples/theory_predicts_scale.py                     # Fashion-MNIST, in the package
    python examples/theory_predicts_scale.py --cifar100 FOLDER   # 20 classes as well

Runs are kept in the folder --out: a second call goes on where the first was interrupted.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
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
from linfa.dynamics import State
from linfa.theory import ZeroInitFA, depth_time, dfa_timescale, final_loss, final_map, polar_arrival, power_clock

BODY = ("0", "3", "7", "9")
"""The layers of LeNet below its readout, "11"."""
RANKS = {5: (0, 1, 2, 3, 4, 5), 10: (0, 1, 2, 3, 5, 7, 9, 10), 20: (0, 1, 2, 4, 8, 13, 19, 20)}
"""Classes -> ranks of the feedback."""
LEARNED = 0.9
"""Share of what feedback can do that is done at the knee."""
PROBE = 1000
"""Images on which modes are followed."""
ORDER = {
    "bp": (linfa.bp(), 0.01), "fa": (linfa.fa(), 0.01), "dfa": (linfa.dfa(), 0.001), "muon": (linfa.muon(linfa.bp()), 0.01)
}  # fmt: skip
"""Rules of which the order of learning is followed, with learning rates of SGD."""


@dataclass(frozen=True)
class Story:
    """What to run.

    Args:
        figure: where the figure goes.
        out: folder of the runs.
        cifar100: folder of the official files of CIFAR-100, for 20 classes; None for none.
        trust: SHA-256 of the images there, if they are not all of them.
        classes: numbers of classes of Fashion-MNIST.
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
certificate = functools.cache(linfa.verify)


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
    model, watch = watched(story, f"align-{kind}", linfa.fa(), seed, 0.01, exact=BODY, slope=slope)
    losses, cosines = (np.array([row[place] for row in watch.rows[1:]]) for place in (1, 2))
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
    """All runs, seed by seed; what is measured is in ``table.json`` after each."""
    table, seeds = {"spurious": [], "order": [], "alignment": []}, range(story.seeds)

    def add(kind, rows):
        table[kind] += rows
        (story.out / "table.json").write_text(json.dumps(table))

    for seed in seeds:
        for classes in story.classes:
            for slope in (0.0, 1.0)[: 2 if classes == max(story.classes) else 1]:
                add("spurious", spurious(story, classes, slope, seed))
        add("order", [order(story, name, seed) for name in ORDER])
        add("alignment", [turning(story, slope, seed) for slope in (0.0, 1.0)])
    for seed in seeds if story.cifar100 else ():
        add("spurious", spurious(story, 20, 0.0, seed))
    return table


def main(story):
    """Run, draw, and return the table."""
    return measure(story)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Story))
