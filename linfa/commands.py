"""Commands of ``linfa`` that need no torch, and the demonstration."""

import dataclasses
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from tyro.conf import Positional, arg

import linfa
from linfa.choice import Choice, Chosen, Command, Name, needs_torch
from linfa.rules.catalogue import CATALOGUE


@dataclass(frozen=True)
class DemoCommand(Command):
    """Derive, simulate, verify and promote on real images; writes one HTML page and prints where it is."""

    out: Path = Path("linfa-demo")
    """Folder for the page and the logs."""
    data: Path | None = None
    """Folder with the official CIFAR-10 files; by default the Fashion-MNIST images in the package."""
    epochs: int = 8
    """Epochs of each training run."""
    seed: int = 0
    """Seed of everything."""

    def run(self):
        needs_torch()
        from deep.demo import Demo, run

        print(f"The page is {run(Demo(self.out, self.data, self.epochs, self.seed)).resolve()}")
        return 0

    def interrupted(self):
        return f"Interrupted. What was finished is in {(self.out / 'index.html').resolve()}"


@dataclass(frozen=True)
class DeriveCommand(Command):
    """Print the matrix differential equations of a rule, and prove what it conserves."""

    choice: Chosen
    depth: int = 2
    """Number of weights."""
    format: Literal["text", "latex", "modes", "json"] = "text"
    """How to print: text, LaTeX, the scalar equations of one mode, or all of it as JSON."""

    def run(self):
        derived = linfa.derive(self.choice.build(), self.depth)
        proofs = [derived.prove(claim) for claim in derived.rule.conserved()]
        modes = {str(x): str(v) for x, v in derived.modes().items()}
        if self.format == "latex":
            print(derived.latex())
        elif self.format == "modes":
            print("\n".join(f"d{x}/dt = {v}" for x, v in modes.items()))
        elif self.format == "json":
            pairs = {str(x): str(v) for x, v in derived.pairs}
            about = {"rule": repr(derived.rule), "E": str(derived.residual_definition), "equations": pairs}
            print(json.dumps({**about, "modes": modes, "proofs": list(map(str, proofs))}, indent=1))
        else:
            print(derived)
            for proof in proofs:
                print(f"  {proof}")
        return 0 if all(proofs) else 1


@dataclass(frozen=True)
class SimulateCommand(Command):
    """Integrate the gradient flow of a rule on a task with a given spectrum; prints and draws what happens."""

    choice: Chosen
    spectrum: tuple[float, ...] = (3.0, 2.0, 1.0)
    """Singular values of the task."""
    inputs: int = 6
    """Input dimension."""
    hidden: tuple[int, ...] = (10,)
    """Widths of the hidden layers."""
    initial_scale: float = 0.1
    """Size of the weights at the start, in units of a layer of unit gain."""
    noise: float = 0.0
    """Standard deviation of the label noise."""
    time: float = 20.0
    """End of the simulation."""
    lr: float | None = None
    """Learning rate: run discrete descent instead of the flow."""
    seed: int = 0
    """Seed of the task, the weights and the feedback."""
    figure: Path | None = None
    """Write a figure (png, svg, pdf)."""
    arrays: Path | None = None
    """Write times, weights, feedback and observables (npz)."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self):
        rule = self.choice.build()
        _ready(self.figure, self.arrays)
        task = linfa.Task.from_spectrum(self.spectrum, n_in=self.inputs, noise=self.noise, seed=self.seed)
        network = linfa.Network.small((task.n_in, *self.hidden, task.n_out), self.initial_scale, self.seed)
        if self.lr is None and not rule.feedback.redrawn:
            run = linfa.simulate(rule, task, network, self.time, seed=self.seed, progress=True)
        else:
            lr = self.lr or 0.01
            run = linfa.descend(rule, task, network, lr, round(self.time / lr), seed=self.seed)
        drift = {}
        for claim in rule.conserved():
            law = np.exp(-claim.rate * rule.decay * run.times)[:, None, None]
            values = run.conserved[claim.quantity.__name__]
            drift[claim] = max((float(np.abs(v - law * v[0]).max()) for v in values), default=0.0)
        summary = {
            "rule": repr(rule),
            "task": repr(task),
            "network": repr(network),
            "time": float(run.times[-1]),
            "loss": [float(run.loss[0]), float(run.loss[-1])],
            "mode strengths": run.mode_strengths[-1].tolist(),
            "update alignment": run.update_alignment[-1].tolist(),
            "feedback alignment": run.feedback_alignment[-1].tolist(),
        }
        if self.json:
            named = {claim.quantity.__name__: change for claim, change in drift.items()}
            print(json.dumps({**summary, "change of conserved quantities": named}, indent=1))
        else:
            summary["loss, first and last"] = summary.pop("loss")
            width = max(map(len, summary))
            for key, value in summary.items():
                print(f"{key:<{width}}  {_short(value)}")
            for claim, change in drift.items():
                print(f"{claim}: to {change:.1e}")
        if self.arrays:
            np.savez(self.arrays, **run.to_arrays())
        if self.figure:
            run.plot().savefig(self.figure)
        return 0

    def interrupted(self):
        return "Interrupted. A flow that stiffens takes ever smaller steps; --lr takes steps of one size."


Measured = Literal["loss", "reach_time", "update_alignment", "feedback_alignment", "effective_rank", "diverged"]


@dataclass(frozen=True)
class SweepCommand(Command):
    """Train ensembles of linear networks over rules, ranks, shapes, scales, learning rates and seeds.

    Prints medians over the seeds and draws a phase diagram.  The folder has a row for every network, and the same
    command goes on where it was stopped.
    """

    rules: Annotated[Positional[tuple[Name, ...]], arg(help_behavior_hint="(at least one)")]
    """Names of the rules."""
    ranks: tuple[int, ...] = ()
    """Ranks of the feedback (ldfa); by default 1."""
    plasticity: Literal["oja", "hebb", "normative", "kolen-pollack", "fixed"] = "oja"
    """How the feedback learns (ldfa)."""
    direct: bool = False
    """Broadcast the error instead of going layer by layer (ldfa)."""
    spectrum: tuple[float, ...] = (3.0, 2.0, 1.0)
    """Singular values of the tasks, whose singular vectors are drawn with every seed."""
    inputs: int | None = None
    """Input dimension, by default the number of singular values."""
    outputs: int | None = None
    """Output dimension, by default the number of singular values."""
    noise: float = 0.0
    """Standard deviation of the label noise."""
    depths: tuple[int, ...] = (3,)
    """Numbers of weights."""
    widths: tuple[int, ...] = (10,)
    """Widths of all hidden layers."""
    scales: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    """Sizes of the weights at the start, in units of a layer of unit gain."""
    lrs: tuple[float, ...] = (0.03,)
    """Learning rates."""
    seeds: int = 10
    """How many networks of each kind."""
    seed: int = 0
    """The first of their seeds."""
    steps: int = 1000
    """Steps of descent."""
    batch_size: int | None = None
    """Samples a step; by default the exact moments of the task."""
    out: Path = Path("linfa-sweep")
    """Folder of the rows."""
    workers: int = 1
    """Processes; for clusters see linfa.sweep.run."""
    device: str | None = None
    """Run in torch on this device (cpu, cuda) instead of numpy."""
    figure: Path | None = None
    """Write a phase diagram (png, svg, pdf)."""
    axes: tuple[Literal["rank", "task", "depth", "width", "scale", "lr"], ...] = ()
    """One or two axes of the diagram; by default the two with most values."""
    value: Measured = "loss"
    """What the diagram shows."""
    parquet: Path | None = None
    """Write the rows as a Parquet file too (needs pyarrow)."""
    json: bool = False
    """Print the table as JSON."""

    def run(self):
        from linfa import phase, sweep

        phase.check(self.axes, self.value)
        if self.parquet:
            sweep.parquet_library()
        _ready(self.figure, self.parquet)
        taken = {key for name in self.rules for key in inspect.signature(CATALOGUE[name]).parameters}
        given = {"rank": self.ranks, "plasticity": self.plasticity != "oja", "direct": self.direct}
        idle = [key for key, value in given.items() if value and key not in taken]
        if idle:
            raise ValueError(f"no rule of {', '.join(self.rules)} has a {' or '.join(idle)}: leave it out")
        plan = sweep.Sweep(
            tuple(map(self._rule, self.rules)),
            ranks=self.ranks, tasks=(self.spectrum,), inputs=self.inputs, outputs=self.outputs, noise=self.noise,
            depths=self.depths, widths=self.widths, scales=self.scales, lrs=self.lrs,
            seeds=range(self.seed, self.seed + self.seeds), steps=self.steps, batch_size=self.batch_size,
        )  # fmt: skip
        rows = self._rows(plan)
        table = phase.table(rows)
        if self.json:
            print(json.dumps(table, indent=1))
        else:
            print(_columns(table))
            print(f"{len(rows)} networks, one a row: {self.out / 'sweep.csv'}")
        if self.parquet:
            sweep.write_parquet(rows, self.parquet)
        if self.figure:
            phase.figure(rows, self.axes, self.value).savefig(self.figure)
        return 0

    def interrupted(self):
        return f"Interrupted. The same command goes on with the rows in {self.out.resolve()}"

    def _rule(self, name):
        make = CATALOGUE[name]
        takes = inspect.signature(make).parameters
        given = {"rank": self.ranks[0] if self.ranks else 1, "plasticity": self.plasticity, "direct": self.direct}
        if not self.ranks and "rank" in takes and takes["rank"].default is not inspect.Parameter.empty:
            del given["rank"]  # which is the rule's own
        return make(**{key: value for key, value in given.items() if key in takes})

    def _rows(self, plan):
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        from linfa.sweep import run

        if self.workers == 1:
            return run(plan, self.out, device=self.device)
        with ProcessPoolExecutor(self.workers, mp_context=get_context("spawn")) as pool:
            return run(plan, self.out, pool, self.device)


def _columns(table: list[dict]) -> str:
    """A table of rows with the same keys, as aligned text."""
    cells = [list(table[0])] + [[_cell(value) for value in row.values()] for row in table]
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(f"{text:>{size}}" for text, size in zip(line, sizes, strict=True)) for line in cells)


def _cell(value):
    return "-" if value is None else value if isinstance(value, str) else f"{value:.3g}"


@dataclass(frozen=True)
class VerifyCommand(Choice, Command):
    """Check every claim of a rule and print its certificate; the exit status says whether it passed.

    Without a rule every one of them is checked, and with --all every result of the catalogue of closed forms too.
    """

    rule: Positional[Literal["every", Name]] = "every"  # pyright: ignore
    """Name of the rule."""
    all: bool = False
    """Every rule and every result of the catalogue, on all processors."""
    seed: int = 0
    """Seed of the random problems."""
    json: bool = False
    """Print the certificates as JSON."""

    def run(self):
        found = []
        for outcome in self._outcomes():
            found.append(outcome)
            if not self.json:
                print(outcome, flush=True)
        if self.json:
            print(json.dumps([_plain(outcome) for outcome in found], indent=1))
        elif self.all:
            print(f"{sum(outcome.passed for outcome in found)} of {len(found)} rules and results passed")
        return 0 if all(outcome.passed for outcome in found) else 1

    def _outcomes(self):
        if self.all:
            from linfa import survey, theory

            return _progress(survey.survey(self.seed), "verify", len(linfa.rules.named()) + len(theory.results()))
        rules = list(linfa.rules.named().values()) if self.rule == "every" else [self.build()]
        return (linfa.verify(rule, seed=self.seed) for rule in _progress(rules, "verify"))


def _plain(outcome):
    if isinstance(outcome, linfa.Certificate):
        return json.loads(outcome.to_json())
    return {**dataclasses.asdict(outcome), "passed": outcome.passed}


@dataclass(frozen=True)
class DiscoverCommand(Command):
    """Find every polynomial of degree 1 and 2 that the flow of a rule conserves, and prove it."""

    choice: Chosen
    widths: tuple[int, ...] = (2, 3, 2)
    """Widths n_0 .. n_L, small."""
    degree: Literal[1, 2] = 2
    """Largest degree."""
    seed: int = 0
    """Seed of the random states."""
    json: bool = False
    """Print JSON."""

    def run(self):
        found = linfa.discover(self.choice.build(), self.widths, self.degree, seed=self.seed)
        if self.json:
            about = {"rule": repr(found.rule), "widths": found.widths, "explained": found.explained}
            about |= {"matrices": list(map(str, found.matrices)), "polynomials": list(map(str, found.polynomials))}
            print(json.dumps({**about, "proved": found.proved}, indent=1))
        else:
            print(found)
        return 1 if found.proved is False else 0


@dataclass(frozen=True)
class AtlasCommand(Command):
    """Draw the main results, closed forms beside simulations, on one HTML page."""

    out: Path = Path("linfa-atlas.html")
    """The page."""
    seed: int = 0
    """Seed of every task, network and feedback."""

    def run(self):
        from linfa.atlas import PLATES, atlas

        print(f"The page is {atlas(self.out, self.seed, _progress(PLATES, 'atlas')).resolve()}")
        return 0


def _short(value):
    return (", ".join(f"{v:.4g}" for v in value) or "none") if isinstance(value, list) else value


def _ready(figure, *others):
    """See that files can be written before the work, which would be lost."""
    from linfa import plot

    if figure is not None:
        plot.check_file(figure)
    for path in filter(None, others):
        path.parent.mkdir(parents=True, exist_ok=True)


def _progress(items, name, total=None):
    from tqdm import tqdm

    return tqdm(items, desc=name, total=total, disable=None, leave=False)


COMMANDS = {
    "demo": DemoCommand,
    "derive": DeriveCommand,
    "simulate": SimulateCommand,
    "sweep": SweepCommand,
    "verify": VerifyCommand,
    "discover": DiscoverCommand,
    "atlas": AtlasCommand,
}
