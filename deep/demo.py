"""The demonstration: one rule derived, simulated, verified and promoted, on real images, as one HTML page.

Every stage adds its section to the page as soon as it is finished, so that an interrupted run leaves what it has.
"""

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import linfa
from deep.data import Images, InOrder, Shuffled, cifar10, fashion_mnist_subset
from deep.measure import alignment, error_ranks
from deep.models import cnn
from deep.promote import promote
from deep.schedule import Schedule
from deep.train import train
from linfa import plot
from linfa.page import Page, equations, figure, table
from linfa.rules import named
from linfa.theory import ZeroInitFA
from linfa.theory.dimension.final_map import final_loss

INPUTS, HIDDEN = 20, 20
PLASTICITIES = ("fixed", "kolen-pollack", "oja", "hebb", "normative")
LABELS = {
    "fixed": "fixed $Q, P$", "kolen-pollack": "only $Q$ learns", "oja": "Oja", "hebb": "Hebb", "normative": "normative",
}  # fmt: skip


@dataclass(frozen=True)
class Demo:
    """What to demonstrate and where to write it.

    Args:
        out: folder for the page and the training logs.
        data: a folder with the official CIFAR-10 files; by default the Fashion-MNIST images in this package.
        epochs: of each training run.
        seed: of everything.
        progress: show progress bars where the output is a terminal.
    """

    out: Path = Path("linfa-demo")
    data: Path | None = None
    epochs: int = 8
    seed: int = 0
    progress: bool = True

    @functools.cached_property
    def certificate(self):
        """Rule -> its certificate, made when it is first asked for."""
        return functools.cache(functools.partial(linfa.verify, seed=self.seed))


def run(demo: Demo) -> Path:
    """Run all stages; returns the path of the page.

    Raises:
        FileNotFoundError, CorruptData, UnknownData: for a data folder that is not CIFAR-10.
    """
    from tqdm import tqdm

    begin = time.perf_counter()
    train_images, test_images = _images(demo)
    demo.out.mkdir(parents=True, exist_ok=True)
    page = Page(demo.out / "index.html", "linfa: learning without backpropagation", _introduction(train_images))
    stages = (_derive, _simulate, _spurious, _verify, _promote)
    bar = tqdm(total=len(stages), desc="demo", unit="stage", disable=None if demo.progress else True)
    try:
        for stage in stages:
            bar.set_postfix_str(stage.__doc__.split(".")[0].lower())
            stage(page, demo, train_images, test_images)
            bar.update()
        page.close(f"Finished in {time.perf_counter() - begin:.0f} seconds on {os.cpu_count()} CPU cores.")
    except KeyboardInterrupt:
        page.close("Interrupted: the sections above are the ones that were finished.")
        raise
    finally:
        bar.close()
    return page.path


def _images(demo) -> tuple[Images, Images]:
    if demo.data is None:
        return fashion_mnist_subset("train"), fashion_mnist_subset("test")
    return cifar10(demo.data, "train").subset(5000), cifar10(demo.data, "test").subset(2000)


def _introduction(images):
    return (
        "A learning rule is written once, as matrix algebra. On this page that one object is derived, simulated, "
        f"checked against theory and promoted to a convolutional network. Data: {images.source}."
    )


def task_of(images: Images, inputs: int = INPUTS) -> linfa.Task:
    """Classification as linear regression: whitened leading principal components to centred one-hot labels.

    The labels are scaled such that the strongest mode has singular value 1, and what the components do not explain of
    them is left out (no label noise).

    Args:
        images: N of them.
        inputs: number of principal components.
    """
    x = images.x.flatten(1).double().numpy() / 255
    x = x - x.mean(0)
    _, s, Vt = np.linalg.svd(x / np.sqrt(len(x)), full_matrices=False)
    white = x @ Vt[:inputs].T / s[:inputs]
    y = np.eye(images.classes)[images.y.numpy()]
    Syx = (y - y.mean(0)).T @ white / len(x)
    return linfa.Task(np.eye(inputs), Syx / np.linalg.norm(Syx, 2))


def _derive(page, demo, images, _):
    """Derive. The equations of motion, from the rule object."""
    parts = []
    for rule in (linfa.ldfa(2, "oja"), linfa.ldfa(2, "normative"), linfa.fa(), linfa.bp()):
        derived = linfa.derive(rule, depth=2)
        parts.append(f"<h3>{rule.name.replace('(2, ', '(r, ')}</h3>{equations(derived.latex_lines())}")
        proofs = [str(derived.prove(claim)) for claim in rule.conserved()]
        parts += [f'<p class="note">{text}</p>' for text in proofs]
    page.add(
        "Derive",
        "The vector field that numpy integrates and torch descends, evaluated on matrix symbols. "
        "B = QP is feedback of rank r; a hat is a covariance divided by its largest variance.",
        *parts,
    )


def _simulate(page, demo, images, _):
    """Simulate. Rank r = 1 .. d against theory."""
    import matplotlib.pyplot as plt

    task = task_of(images)
    d = task.n_out - 1
    times = np.geomspace(0.05, 60, 60)
    worst, rows = 0.0, []
    with plot.style():
        fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
        shades = plt.get_cmap("viridis")(np.linspace(0, 0.92, d))
        for r, shade in zip(range(1, d + 1), shades, strict=True):
            rule = linfa.ldfa(r, "fixed")
            network = linfa.Network.zero((INPUTS, HIDDEN, task.n_out))
            run = linfa.simulate(rule, task, network, np.r_[0, times], seed=demo.seed, rtol=1e-11, atol=1e-13)
            theory = ZeroInitFA(rule, task, run.at(0))
            worst = max(worst, theory.error(run))
            left.plot(times, theory.loss(times), color=shade, label=f"r = {r}")
            left.plot(times[::4], run.loss[1::4], "o", markersize=3, color=shade)
            aligned = theory.alignment(times)
            right.plot(times, aligned, color=shade)
            right.plot(times[::4], run.feedback_alignment[1::4, 0], "o", markersize=3, color=shade)
            rows.append((r, f"{run.loss[-1]:.4f}", f"{theory.loss(run.times)[-1]:.4f}", f"{theory.error(run):.1e}"))
        left.set(title="Loss of two layers from zero weights", xlabel="time", xscale="log")
        right.set(title=r"Alignment of $W_2^\top$ with the feedback", xlabel="time", xscale="log", ylabel="cosine")
        left.legend(ncols=2)
    page.add(
        "Simulate",
        f"A two-layer network learns the linear part of the classification ({task!r}) through fixed random feedback of "
        f"rank r. Lines: the closed form (derived here), dots: the simulated flow. Largest relative error {worst:.1e}.",
        figure(fig),
        table(("r", "simulated loss", "closed form", "error"), rows),
    )


def _spurious(page, demo, images, _):
    """Cure. The spurious solution of fixed feedback and what each plasticity makes of it."""
    import matplotlib.pyplot as plt
    from tqdm import tqdm

    task = task_of(images)
    s = np.linalg.svd(task.Syx, compute_uv=False)
    d = task.n_out - 1
    network = linfa.Network.small((INPUTS, HIDDEN, task.n_out), scale=1e-2, seed=demo.seed + 1)
    ends = {kind: [] for kind in PLASTICITIES}
    spurious = []
    grid = [(r, kind) for r in range(1, d + 1) for kind in PLASTICITIES]
    for r, kind in tqdm(grid, desc="plasticities", leave=False, disable=None if demo.progress else True):
        run = linfa.descend(linfa.ldfa(r, kind), task, network, lr=0.02, steps=5000, seed=demo.seed, record=5000)
        ends[kind].append(float(run.loss[-1]))
        if kind == "fixed":
            Q, P = run.at(0).feedback[0]
            spurious.append(final_loss(task.Syx, Q @ P))
    ranks = range(1, d + 1)
    best = [0.5 * float((s[r:] ** 2).sum()) for r in ranks]
    with plot.style():
        fig, ax = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        ax.plot(ranks, spurious, color="black", linewidth=1, label="theory: spurious solution")
        ax.plot(ranks, best, color="black", linewidth=1, linestyle="--", label="theory: best map of rank r")
        for kind, marker, shade in zip(PLASTICITIES, "osD^v", plot.PALETTE, strict=False):
            size = 9 if kind == "fixed" else 5
            face = "none" if kind == "fixed" else shade
            ax.plot(
                ranks, ends[kind], marker, color=shade, markerfacecolor=face, markersize=size,
                linestyle=":", linewidth=0.9, label=LABELS[kind],
            )  # fmt: skip
        top = 1.25 * spurious[0]
        ax.set(title="Loss after training, time 100", xlabel="rank r of the feedback", ylim=(-0.03 * top, top))
        ax.legend()
    rows = [
        (r, f"{a:.4f}", f"{b:.4f}", *(f"{ends[kind][r - 1]:.4f}" for kind in PLASTICITIES))
        for r, a, b in zip(ranks, spurious, best, strict=True)
    ]
    gap = max(abs(a - b) for a, b in zip(spurious, ends["fixed"], strict=True))
    page.add(
        "The spurious solution, and its cure",
        "With fixed Q and P, training ends where P times the error vanishes: a solution that is not the best of its "
        f"rank, predicted in closed form (largest difference here {gap:.3f}: the weights start small, not at zero, and "
        "escape slowly). Learning Q alone does not help. The Hebbian rule comes near the best map of rank r, the "
        "normative rule goes on to the full map. Oja's rule follows the largest error that is left; once several are "
        "equal its direction keeps changing, and its end depends on the step: a point above the axis left the stable "
        "region.",
        figure(fig),
        table(("r", "spurious", "best of rank r", *PLASTICITIES), rows),
    )


def _verify(page, demo, images, _):
    """Verify. Every claim of every rule, in every reading."""
    from tqdm import tqdm

    rules = named().values()
    rows, details = [], []
    for rule in tqdm(rules, desc="certificates", leave=False, disable=None if demo.progress else True):
        certificate = demo.certificate(rule)
        worst = {}
        for check in certificate.checks:
            kind = "order" if "order" in check.claim else check.reading
            worst[kind] = max(worst.get(kind, 0.0), check.error)
        proved = sum(c.reading == "symbolic" for c in certificate.checks)
        rows.append(
            (
                rule.name, "passed" if certificate.passed else "FAILED", len(certificate.checks), proved or "",
                *(f"{worst[reading]:.0e}" if reading in worst else "" for reading in ("simulated", "promoted")),
                certificate.fingerprint,
            )
        )  # fmt: skip
        details.append(str(certificate))
    page.add(
        "Verify",
        "Each rule claims what is conserved, which closed forms hold, how its errors scale. Each claim is proved by "
        "substitution, measured in simulation and measured in the promoted network, at depths 1 to 6. Where a cell is "
        "empty the rule has no such reading; its details say why.",
        table(("rule", "verdict", "checks", "proofs", "worst simulated", "worst promoted", "fingerprint"), rows),
        page.details("All checks", "\n\n".join(details)),
    )


def _promote(page, demo, images, test):
    """Promote. The same rules on a convolutional network."""
    import matplotlib.pyplot as plt

    size = images.x.shape[-1]
    ranks = (1, 2, 4, 8)
    rules = [linfa.bp(), linfa.fa(), linfa.dfa(), *(linfa.ldfa(r, "oja") for r in ranks), linfa.ldfa(4, "normative")]
    rules.append(linfa.ldfa(4, "fixed"))
    probe = images.normalised(slice(0, 256)), images.y[:256]
    logs = {}
    for rule in rules:
        torch.manual_seed(demo.seed)
        model = cnn(images.x.shape[1], images.classes, width=8 if size < 32 else 6)
        promote(model, rule, sample=probe[0][:2], seed=demo.seed)
        learning = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(learning, lr=3e-3, weight_decay=4e-4)
        folder = demo.out / "runs" / f"{rule.fingerprint}-{len(images)}-{size}-{demo.epochs}-{demo.seed}"
        logs[rule.name] = train(
            model, rule, Shuffled(images, 64, demo.seed), InOrder(test), optimizer, folder, epochs=demo.epochs,
            schedule=Schedule("linear"), seed=demo.seed, monitor=lambda model, epoch: _monitor(model, *probe),
            certificate=demo.certificate(rule), progress=demo.progress,
            settings={"model": "cnn", "epochs": demo.epochs, "adam": {"lr": 3e-3, "weight_decay": 4e-4}},
        )  # fmt: skip
    with plot.style():
        fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
        for number, (name, rows) in enumerate(logs.items()):
            look = {"color": plot.PALETTE[number % len(plot.PALETTE)], "label": name, "marker": "o", "markersize": 3}
            epochs = [row["epoch"] for row in rows]
            left.plot(epochs, [100 * row["test_accuracy"] for row in rows], **look)
            middle.plot(epochs, [row["alignment"] for row in rows], **look)
            right.plot(epochs, [row["error rank"] for row in rows], **look)
        left.set(title="Test accuracy, %", xlabel="epoch")
        middle.set(title="Alignment of updates with backprop", xlabel="epoch", ylabel="mean cosine, hidden layers")
        right.set(title="Effective rank of hidden errors", xlabel="epoch", ylim=(0, None))
        fig.legend(*left.get_legend_handles_labels(), loc="outside right upper")
        for ax in (left, middle, right):
            ax.xaxis.get_major_locator().set_params(integer=True)
    rows = [
        (name, f"{100 * r[-1]['test_accuracy']:.1f}", f"{r[-1]['alignment']:.2f}", f"{r[-1]['error rank']:.1f}")
        for name, r in logs.items()
    ]
    page.add(
        "Promote",
        f"The same rule objects on a six-layer CNN, {len(images):,} training and {len(test):,} test images, "
        f"{demo.epochs} epochs, one seed: a demonstration, not a benchmark. The error of a layer is taken at its "
        "output, behind the exact derivative of the nonlinearity, as a matrix of samples and positions by channels.",
        figure(fig),
        table(("rule", "test accuracy, %", "alignment", "error rank"), rows),
    )


def _monitor(model, x, y):
    """Mean alignment of the hidden layers and mean effective rank of their errors."""
    cosines, ranks = list(alignment(model, x, y).values()), list(error_ranks(model, x, y).values())
    return {"alignment": float(np.mean(cosines[:-1])), "error rank": float(np.mean(ranks[:-1]))}
