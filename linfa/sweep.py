"""Sweeps: every combination of rules, ranks, tasks, shapes, scales, learning rates and seeds, a network each.

Networks of one rule, one task and one shape learn as one array, in blocks that any `concurrent.futures` executor
spreads over processes or a cluster.  What a network has come to is a row, and on disk as soon as it is known.

    sweep = Sweep((linfa.fa(), linfa.ldfa(1)), ranks=(1, 2, 4), scales=(0.01, 0.1, 1.0), seeds=range(20))
    rows = run(sweep, "runs/ranks", executor=ProcessPoolExecutor())
    linfa.phase.figure(rows).savefig("phase.png")
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from linfa import log, observe
from linfa.dynamics import State, like, start, to_numpy
from linfa.network import Network
from linfa.progress import bar
from linfa.rules import Rule
from linfa.simulate import batch_like, descent
from linfa.task import Task
from linfa.theory.base import AssumptionError
from linfa.tree import leaves, tree_map

MEASURES = 200
"""How often the loss is measured on the way, at most; times are known to a step in so many."""

CACHE = 2**16
"""Numbers in the largest weight of a block, half a MiB.

In larger blocks the arrays of a step leave the processor's cache, in smaller ones the interpreter is what takes time:
measured at widths 8 to 32, in blocks of half or twice that size a step takes up to a tenth longer.
"""


@dataclass(frozen=True)
class Sweep:
    """Every combination of rules, ranks, tasks, shapes, scales, learning rates and seeds.

    The network of a seed s is what ``linfa.descend(rule, Task.from_spectrum(spectrum, seed=s),
    Network.small(widths, scale, seed=s), lr, steps, seed=s)`` makes.

    Args:
        rules: what to compare.
        ranks: those that have a rank are taken at each of these; by default at their own.
        tasks: singular values, whose singular vectors are drawn with every seed; or a `Task`, the same for all seeds.
        inputs, outputs: dimensions of the tasks that are drawn; by default the number of singular values.
        noise: standard deviation of the label noise of the tasks that are drawn.
        depths: numbers of weights.
        widths: of all hidden layers.
        scales: of the weights at the start, in units of a layer of unit gain.
        lrs: learning rates.
        seeds: of task, weights, feedback and all that is drawn on the way.
        steps: of descent.
        batch_size: samples drawn for each step; None for the exact moments of the task.
        fraction: of the loss above the least one, at the start; the time at which it is reached is measured.

    Raises:
        ValueError: for an axis without values, or values that make no network.

    >>> import linfa
    >>> sweep = Sweep((linfa.fa(), linfa.ldfa(1)), ranks=(1, 2), lrs=(0.01, 0.1), seeds=range(5))
    >>> len(sweep), [(ensemble.name, len(ensemble.members)) for ensemble in sweep.ensembles()]
    (30, [('fa', 10), ('ldfa(r, oja)', 10), ('ldfa(r, oja)', 10)])
    """

    rules: tuple[Rule, ...]
    ranks: tuple[int, ...] = ()
    tasks: tuple[tuple[float, ...] | Task, ...] = ((3.0, 2.0, 1.0),)
    inputs: int | None = None
    outputs: int | None = None
    noise: float = 0.0
    depths: tuple[int, ...] = (3,)
    widths: tuple[int, ...] = (10,)
    scales: tuple[float, ...] = (0.1,)
    lrs: tuple[float, ...] = (0.03,)
    seeds: tuple[int, ...] = tuple(range(10))
    steps: int = 1000
    batch_size: int | None = None
    fraction: float = 0.01

    def __post_init__(self):
        kinds = {"rules": None, "tasks": _task, "ranks": int, "depths": int, "widths": int, "scales": float,
                 "lrs": float, "seeds": int}  # fmt: skip
        for name, kind in kinds.items():
            values = tuple(map(kind, getattr(self, name))) if kind else tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if not values and name != "ranks":
                raise ValueError(f"a sweep needs at least one of {name}")
            if kind in (int, float) and len(set(values)) < len(values):
                raise ValueError(f"{name} are all different; got {values}")
        for name, least in (("ranks", 1), ("depths", 1), ("widths", 1), ("seeds", 0)):
            if min(getattr(self, name), default=least) < least:
                raise ValueError(f"{name} are at least {least}; got {getattr(self, name)}")
        if not all(lr > 0 and np.isfinite(lr) for lr in self.lrs):
            raise ValueError(f"lrs are positive numbers; got {self.lrs}")
        if self.steps < 1 or not 0 < self.fraction < 1:
            raise ValueError(f"steps is at least 1 and fraction in (0, 1); got {self.steps} and {self.fraction}")
        kinds = [(name, at.rank) for rule in self.rules for name, at in self._versions(rule)]
        twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
        if twice:
            raise ValueError(f"two rules are called {twice[0]}: dataclasses.replace(rule, name=...) tells them apart")
        for ensemble in self.ensembles():  # what makes no network is said before any of them runs
            try:
                start(ensemble.rule, Network.zero(ensemble.shape))
            except ValueError as error:
                raise ValueError(f"{ensemble.rule.name} does not fit widths {ensemble.shape}: {error}") from error

    def __len__(self):
        return sum(len(ensemble.members) for ensemble in self.ensembles())

    def ensembles(self) -> tuple["Ensemble", ...]:
        """One for each rule, rank, task and shape; every scale, learning rate and seed is a member of it."""
        count = itertools.count()
        inside = tuple(itertools.product(self.scales, self.lrs, self.seeds))
        versions = [(name, rule) for rule in self.rules for name, rule in self._versions(rule)]
        return tuple(
            Ensemble(self, name, rule, task, depth, width, tuple(Member(next(count), *values) for values in inside))
            for (name, rule), task, depth, width in itertools.product(versions, self.tasks, self.depths, self.widths)
        )

    def _versions(self, rule):
        if not rule.has_rank:
            return [(rule.name, rule)]
        name = rule.name.replace(f"({rule.rank}", "(r")
        ranked = [(rank, rule.at_rank(rank)) for rank in self.ranks or (rule.rank,)]
        return [(name, dataclasses.replace(at, name=name.replace("(r", f"({rank}"))) for rank, at in ranked]

    def settings(self) -> dict:
        """What makes the sweep what it is, as JSON has it: rules with fingerprints, tasks with digests."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["rules"] = [f"{rule!r} {rule.fingerprint}" for rule in self.rules]
        values["tasks"] = [_label(task, digest=True) for task in self.tasks]
        return json.loads(json.dumps(values))


def _task(task):
    return task if isinstance(task, Task) else tuple(map(float, task))


def _label(task, digest=False) -> str:
    """A task in a table: its spectrum, or what it prints as."""
    if not isinstance(task, Task):
        return " ".join(f"{s:g}" for s in task)
    parts = (task.Sxx, task.Syx, task.Syy, task.mean_x, task.mean_y, task.inputs, task.targets)
    seen = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts if part is not None))
    return f"{task!r} {seen.hexdigest()[:16]}" if digest else repr(task)


class Member(NamedTuple):
    """A network of an ensemble: its place in the sweep, and what it does not share."""

    number: int
    scale: float
    lr: float
    seed: int


@dataclass(frozen=True)
class Ensemble:
    """Networks of one rule, one task and one shape, which learn as one array.

    Args:
        sweep: what it is a part of.
        name: of the rule, the same at all ranks.
        rule: at its rank.
        spectrum: singular values, or a `Task`.
        depth, width: of the networks.
        members: scale, learning rate and seed of each.
    """

    sweep: Sweep
    name: str
    rule: Rule
    spectrum: tuple[float, ...] | Task
    depth: int
    width: int
    members: tuple[Member, ...]

    def task(self, seed) -> Task:
        """The task of a seed; of an array of seeds an ensemble of them, unless all seeds have the same."""
        if isinstance(self.spectrum, Task):
            return self.spectrum
        sweep = self.sweep
        return Task.from_spectrum(self.spectrum, sweep.inputs, sweep.outputs, noise=sweep.noise, seed=seed)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Widths n_0 .. n_L."""
        task = self.task(0)
        return (task.n_in, *[self.width] * (self.depth - 1), task.n_out)

    @property
    def rank(self) -> int | None:
        """Of the rule."""
        return self.rule.rank if self.rule.has_rank else None

    def without(self, numbers) -> "Ensemble":
        """The ensemble of the other members."""
        return dataclasses.replace(self, members=tuple(m for m in self.members if m.number not in numbers))

    def blocks(self, size: int | None = None) -> Iterator["Ensemble"]:
        """The ensemble in parts of so many members; by default of as many as the `CACHE` holds."""
        size = size or max(1, CACHE // max(a * b for a, b in itertools.pairwise(self.shape)))
        for first in range(0, len(self.members), size):
            yield dataclasses.replace(self, members=self.members[first : first + size])


def measure(ensemble: Ensemble, device: str | None = None) -> list[dict]:
    """Train the networks of an ensemble and measure what becomes of them.

    Args:
        ensemble: what to train.
        device: None for numpy, or a device of torch.

    Returns:
        For each member number, rule, rank, task, depth, width, scale, lr, seed, and

        - ``diverged``: whether a weight has left the finite numbers; what is measured at the end is then None;
        - ``start_loss``, ``loss``: 1/2 E|y - y_hat|^2 before the first step and after the last, label noise included;
        - ``best_loss``: the least loss of any map of its rank, that of the rule or the least width (`Task.least_loss`);
        - ``reach_time``: lr x step at which the loss above the least of all maps was first found to be
          ``sweep.fraction`` of what it was at the start; None if it never was;
        - ``update_alignment``, ``feedback_alignment``: cosines of `linfa.observe` at the end, means over layers and
          over edges; None without any;
        - ``effective_rank``: of the network's map at the end;
        - ``zero_start_loss``, ``max_lr``: of the closed forms in `foreseen`.
    """
    sweep, rule = ensemble.sweep, ensemble.rule
    scales, lrs, seeds = (np.array(values) for values in list(zip(*ensemble.members, strict=True))[1:])
    task = ensemble.task(seeds)
    begin = start(rule, Network.small(ensemble.shape, scales, seeds), seeds)
    steps, losses, end = _train(ensemble, task, begin if device is None else _onto(device, begin), lrs, seeds)
    finite = np.logical_and.reduce([(abs(w) < 1e150).all((-1, -2)) for w in leaves(end.weights)])
    finite &= np.isfinite(losses[-1])
    end = tree_map(lambda last, first: np.where(finite[:, None, None], last, first), end, begin)
    least, rank = task.least_loss(), min(ensemble.shape + ((ensemble.rank,) if ensemble.rank else ()))
    reached = losses - least <= sweep.fraction * (losses[0] - least)
    with np.errstate(over="ignore", invalid="ignore"):  # of what is about to diverge
        at_end = {
            "loss": losses[-1],
            "reach_time": np.where(reached.any(0), lrs * steps[reached.argmax(0)], np.nan),
            "update_alignment": observe.update_alignment(rule, end, task).mean(-1),
            "feedback_alignment": _mean(observe.feedback_alignment(rule, end, task)),
            "effective_rank": observe.effective_rank(observe.singular_values(rule, end, task)),
        }
    always = {"start_loss": losses[0], "best_loss": np.broadcast_to(task.least_loss(rank), finite.shape)}
    shared = {"rule": ensemble.name, "rank": ensemble.rank, "task": _label(ensemble.spectrum), "depth": ensemble.depth,
              "width": ensemble.width}  # fmt: skip
    theory = _theory(ensemble, begin, seeds.tolist())
    return [
        {"number": member.number, **shared, "scale": member.scale, "lr": member.lr, "seed": member.seed}
        | {"diverged": not finite[place]}
        | {name: _number(values[place]) for name, values in always.items()}
        | {name: _number(values[place]) if finite[place] else None for name, values in at_end.items()}
        | theory[member.seed]
        for place, member in enumerate(ensemble.members)
    ]


def _train(ensemble, task, state, lrs, seeds) -> tuple[np.ndarray, np.ndarray, State]:
    """Steps (t,) and losses (t, members) along descent, and the state at its end, in numpy."""
    sweep, rule = ensemble.sweep, ensemble.rule
    batch, every = batch_like(state, task.batch), max(1, sweep.steps // MEASURES)
    lr = like(leaves(state)[0], lrs[:, None, None])
    path = descent(rule, task, state, lr, sweep.batch_size, seeds)
    steps, losses = [0], [observe.batch_loss(rule, state, batch)]
    for step, state in enumerate(itertools.islice(path, sweep.steps), 1):
        if step % every == 0 or step == sweep.steps:
            steps.append(step)
            with np.errstate(over="ignore", invalid="ignore"):
                losses.append(observe.batch_loss(rule, state, batch))
    return np.array(steps), np.stack([to_numpy(loss) for loss in losses]), tree_map(to_numpy, state)


def _onto(device, state) -> State:
    """The state as torch tensors on a device."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError(f"the device {device} needs torch: pip install 'linfa-lab[deep]'") from error
    try:
        return tree_map(lambda x: torch.as_tensor(x, device=device), state)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"the device {device} cannot be used: {error}") from error


def _mean(values):
    return values.mean(-1) if values.shape[-1] else np.full(values.shape[:-1], np.nan)


def _number(x):
    return float(x) if np.isfinite(x) else None


def foreseen(rule, depth: int) -> dict[str, Callable[[Task, State], float]]:
    """The closed forms that speak of a rule in networks of a depth, as functions of a task and a state of zero weights.

    ``zero_start_loss`` is where fixed feedback ends from zero weights (`linfa.theory.FinalMap`), ``max_lr`` up to which
    learning rate descent converges from there (`linfa.theory.ZeroInitFA`) or, under backprop, anywhere
    (`linfa.theory.bp_end_max_lr`).

    >>> import linfa
    >>> [list(foreseen(rule, 3)) for rule in (linfa.fa(), linfa.bp())], list(foreseen(linfa.fa(), 2))
    ([[], ['max_lr']], ['zero_start_loss', 'max_lr'])
    """
    from linfa.theory import assumptions
    from linfa.theory.alignment.zero_init_fa import ZeroInitFA
    from linfa.theory.backprop.end_rates import bp_end_max_lr
    from linfa.theory.dimension.final_map import FinalMap

    forms: dict[str, Callable[[Task, State], float]] = {}
    with contextlib.suppress(AssumptionError):
        assumptions.backprop(rule)
        forms["max_lr"] = lambda task, zero: bp_end_max_lr(rule, task, depth)
    with contextlib.suppress(AssumptionError):
        assumptions.fixed_feedback(rule)
        if depth == 2:
            forms["zero_start_loss"] = lambda task, zero: FinalMap(rule, task, zero).loss
            forms["max_lr"] = lambda task, zero: ZeroInitFA(rule, task, zero).max_lr
    return forms


def _theory(ensemble, begin, seeds) -> dict[int, dict[str, float | None]]:
    """What closed forms say of each seed, whose task and feedback are the same at all scales and learning rates."""
    forms, nothing = foreseen(ensemble.rule, ensemble.depth), {"zero_start_loss": None, "max_lr": None}
    known = {seed: dict(nothing) for seed in seeds}
    for seed, place in dict(zip(seeds, itertools.count(), strict=False)).items() if forms else ():
        task, (weights, feedback) = ensemble.task(seed), tree_map(lambda x, place=place: x[place], begin)
        for name, form in forms.items():
            with contextlib.suppress(AssumptionError):
                known[seed][name] = _number(form(task, State(tree_map(lambda W: 0 * W, weights), feedback)))
    return known


def run(
    sweep: Sweep,
    folder: str | Path,
    executor: concurrent.futures.Executor | None = None,
    device: str | None = None,
    size: int | None = None,
    progress: bool = True,
) -> list[dict]:
    """Train every network of a sweep, or those that are still missing in the folder.

    The folder receives ``sweep.json`` (what the sweep is), ``rows.jsonl``, which grows by the rows of each block as it
    is done, and at the end ``sweep.csv``.  Where it was stopped, at any point, the same call goes on; with how many
    processes, in which blocks and on which device does not matter.

    Args:
        sweep: what to train.
        folder: where the rows live.
        executor: runs the blocks, in any processes that can import linfa: a ``ProcessPoolExecutor``, that of a Dask
            cluster (``distributed.Client(...).get_executor()``), of MPI, of loky; None for one after another, here.
        device: None for numpy, which is the faster one on a CPU; "cuda" or another device of torch.
        size: members of a block, by default as many as `CACHE` holds; a GPU takes thousands.
        progress: show a bar where the output is a terminal.

    Returns:
        The rows of `measure`, in the order of their numbers.

    Raises:
        ValueError: if the folder holds another sweep, which stays as it is.

    >>> import linfa, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = run(Sweep((linfa.bp(),), lrs=(0.02, 5.0), seeds=(0, 1)), folder)
    ...     files = sorted(path.name for path in Path(folder).iterdir())
    >>> files, [row["diverged"] for row in rows]
    (['rows.jsonl', 'sweep.csv', 'sweep.json'], [False, False, True, True])
    """
    folder = Path(folder)
    log.claim(folder, "sweep.json", sweep.settings())
    rows = _rows(folder / "rows.jsonl")
    blocks = [block for ensemble in sweep.ensembles() for block in ensemble.without(rows).blocks(size)]
    look = {"total": len(sweep), "initial": len(rows), "desc": "sweep", "unit": "network"}
    with (folder / "rows.jsonl").open("a") as file, bar(progress, **look) as shown:
        for done in _done(functools.partial(measure, device=device), blocks, executor):
            file.write("".join(json.dumps(row) + "\n" for row in done))
            file.flush()
            rows |= {row["number"]: row for row in done}
            shown.update(len(done))
    ordered = [rows[number] for number in sorted(rows)]
    log.write_csv(folder / "sweep.csv", ordered)
    return ordered


def _rows(path) -> dict[int, dict]:
    """The rows of a file by their numbers; a last line that was cut off when the run was killed is removed from it."""
    if not path.exists():
        return {}
    whole, _, _ = path.read_text().rpartition("\n")
    rows = {}
    for place, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            rows[row["number"]] = row
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged in line {place} ({error}): remove the line, to train what it was of "
                             "again") from error  # fmt: skip
    path.write_text("") if not rows else log.write(path, whole)
    return rows


def _done(work, blocks, executor) -> Iterator[list[dict]]:
    """The rows of the blocks, as they are done."""
    if executor is None:
        yield from map(work, blocks)
        return
    futures = [executor.submit(work, block) for block in blocks]
    try:
        for future in concurrent.futures.as_completed(futures):
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def write_parquet(rows: Iterable[dict], path: str | Path) -> None:
    """Write rows as a Parquet file.

    Raises:
        ImportError: without pyarrow.
    """
    pyarrow = parquet_library()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def parquet_library():
    """pyarrow, with its Parquet part.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise ImportError("Parquet files need pyarrow: pip install pyarrow") from error
