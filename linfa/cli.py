"""The command line: linfa demo | derive | discover | simulate | verify | atlas | train."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

import linfa
from linfa.rules import Rule

try:
    import tyro
    from tyro.conf import Positional, arg, subcommand
except ImportError as error:  # pragma: no cover
    raise SystemExit("the command line needs tyro: pip install 'linfa-lab[cli]'") from error

Name = Literal["bp", "fa", "dfa", "uSF", "brSF", "frSF", "kolen-pollack", "ldfa", "drtp", "pepita", "local"]


@dataclass(frozen=True)
class Choice:
    """Which rule."""

    rule: Positional[Name]
    """Name of the rule."""
    rank: int = 4
    """Rank of the feedback (ldfa)."""
    plasticity: Literal["oja", "hebb", "normative", "kolen-pollack", "fixed"] = "oja"
    """How the feedback learns (ldfa)."""
    direct: bool = False
    """Broadcast the error instead of going layer by layer (ldfa)."""
    decay: float = 0.0
    """Decay of the weights and of feedback that learns (bp, kolen-pollack, ldfa)."""

    def build(self) -> Rule:
        """The rule object.

        Raises:
            ValueError: for a decay that the named rule does not have.
        """
        if self.decay and self.rule not in ("bp", "kolen-pollack", "ldfa"):
            raise ValueError(f"{self.rule} takes no decay")
        if self.rule == "ldfa":
            return linfa.ldfa(self.rank, self.plasticity, self.direct, self.decay)
        if self.rule in ("uSF", "brSF", "frSF"):
            return linfa.sign_symmetry(self.rule)
        if self.rule in ("bp", "kolen-pollack"):
            return {"bp": linfa.bp, "kolen-pollack": linfa.kolen_pollack}[self.rule](self.decay)
        plain = (linfa.fa, linfa.dfa, linfa.drtp, linfa.pepita, linfa.local)
        return {make.__name__: make for make in plain}[self.rule]()


Chosen = Annotated[Choice, arg(name="")]


@dataclass(frozen=True)
class DemoCommand:
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
        _needs_torch()
        from deep.demo import Demo, run

        try:
            print(f"The page is {run(Demo(self.out, self.data, self.epochs, self.seed)).resolve()}")
        except KeyboardInterrupt:
            print(f"\nInterrupted. What was finished is in {(self.out / 'index.html').resolve()}", file=sys.stderr)
            return 130
        return 0


@dataclass(frozen=True)
class DeriveCommand:
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
class SimulateCommand:
    """Integrate the gradient flow of a rule on a task with a given spectrum; prints and draws what happens."""

    choice: Chosen
    spectrum: tuple[float, ...] = (3.0, 2.0, 1.0)
    """Singular values of the task."""
    inputs: int = 6
    """Input dimension."""
    hidden: tuple[int, ...] = (10,)
    """Widths of the hidden layers."""
    scale: float = 0.1
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
        task = linfa.Task.from_spectrum(self.spectrum, n_in=self.inputs, noise=self.noise, seed=self.seed)
        network = linfa.Network.small((task.n_in, *self.hidden, task.n_out), self.scale, self.seed)
        if self.lr is None and not rule.feedback.redrawn:
            run = linfa.simulate(rule, task, network, self.time, seed=self.seed)
        else:
            lr = self.lr or 0.01
            run = linfa.descend(rule, task, network, lr, round(self.time / lr), seed=self.seed)
        drift = {
            name: max((float(np.abs(v - v[0]).max()) for v in values), default=0.0)
            for name, values in run.conserved.items()
        }
        summary = {
            "rule": repr(rule),
            "task": repr(task),
            "network": repr(network),
            "time": float(run.times[-1]),
            "loss": [float(run.loss[0]), float(run.loss[-1])],
            "mode strengths": run.mode_strengths[-1].tolist(),
            "update alignment": run.update_alignment[-1].tolist(),
            "feedback alignment": run.feedback_alignment[-1].tolist(),
            "change of conserved quantities": drift,
        }
        if self.json:
            print(json.dumps(summary, indent=1))
        else:
            width = max(map(len, summary))
            for key, value in summary.items():
                print(f"{key:<{width}}  {_short(value)}")
        if self.arrays:
            np.savez(self.arrays, **run.to_arrays())
        if self.figure:
            run.plot().savefig(self.figure)
        return 0


@dataclass(frozen=True)
class VerifyCommand(Choice):
    """Check every claim of a rule and print its certificate; the exit status says whether it passed.

    Without a rule every one of them is checked, and with --all every result of the catalogue of closed forms too.
    """

    rule: Positional[Literal["every", Name]] = "every"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Name of the rule."""
    rank: int = 2
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
class DiscoverCommand:
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
class AtlasCommand:
    """Draw the main results, closed forms beside simulations, on one HTML page."""

    out: Path = Path("linfa-atlas.html")
    """The page."""
    seed: int = 0
    """Seed of every task, network and feedback."""

    def run(self):
        from linfa.atlas import PLATES, atlas

        print(f"The page is {atlas(self.out, self.seed, _progress(PLATES, 'atlas')).resolve()}")
        return 0


@dataclass(frozen=True)
class TrainCommand:
    """Train a promoted model on images; the folder can be resumed with the same command."""

    choice: Chosen
    model: str = "cnn"
    """Which network, by a name that `deep.models.build` knows: mlp, cnn, lenet, resnet20, vit ..."""
    data: Path | None = None
    """Folder with the official CIFAR-10 files; by default the Fashion-MNIST images in the package."""
    out: Path = Path("runs/latest")
    """Folder of the run: logs, checkpoint, certificate."""
    epochs: int = 5
    """How many in all."""
    batch_size: int = 128
    """Samples a step."""
    lr: float = 1e-3
    """Learning rate of Adam, falling linearly to zero."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    seed: int = 0
    """Seed of weights, feedback and data order."""
    threads: int | None = None
    """CPU threads."""
    device: str = "cpu"
    """cpu or cuda."""
    unverified: bool = False
    """Train even if the certificate of the rule does not pass."""
    figure: Path | None = None
    """Write a figure of loss and accuracy."""
    json: bool = False
    """Print the log as JSON lines."""

    def run(self):
        _needs_torch()
        import torch

        from deep.curves import curves
        from deep.experiment import Data, Experiment, Optimizer, run

        if self.threads:
            torch.set_num_threads(self.threads)
        experiment = Experiment(
            self.choice.build(), self.model, epochs=self.epochs, batch_size=self.batch_size, seed=self.seed,
            data=Data() if self.data is None else Data("cifar10", self.data, ("flip", "crop")),
            optimizer=Optimizer("adamw", self.lr, self.weight_decay),
        )  # fmt: skip
        rows = run(experiment, self.out, device=self.device, unverified=self.unverified, progress=not self.json)
        if self.figure:
            curves(rows, experiment.rule.name).savefig(self.figure)
        last = rows[-1]
        if self.json:
            print("\n".join(map(json.dumps, rows)))
        else:
            print(f"epoch {last['epoch']}: test accuracy {100 * last['test_accuracy']:.2f} %, log in {self.out}")
        return 0


def _short(value):
    if isinstance(value, list):
        return ", ".join(f"{v:.4g}" for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:.1e}" for k, v in value.items()) or "none"
    return value


def _progress(items, name, total=None):
    from tqdm import tqdm

    return tqdm(items, desc=name, total=total, disable=None, leave=False)


def _needs_torch():
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise SystemExit("this command needs torch: pip install 'linfa-lab[deep,plot]'")


Command = (
    Annotated[DemoCommand, subcommand("demo")]
    | Annotated[DeriveCommand, subcommand("derive")]
    | Annotated[SimulateCommand, subcommand("simulate")]
    | Annotated[VerifyCommand, subcommand("verify")]
    | Annotated[DiscoverCommand, subcommand("discover")]
    | Annotated[AtlasCommand, subcommand("atlas")]
    | Annotated[TrainCommand, subcommand("train")]
)


def main(args: list[str] | None = None) -> None:
    """Entry point of the ``linfa`` command.

    A wrong input ends with one line on stderr and status 2; a failed certificate with status 1.
    """
    command = tyro.cli(Command, args=args, prog="linfa", description="Learning without backpropagation.")
    try:
        sys.exit(command.run())
    except (ValueError, FileNotFoundError, FloatingPointError, TypeError, RuntimeError) as error:
        print(f"linfa: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
