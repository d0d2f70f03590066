"""Run a recipe over seeds, and put what came out beside what was published."""

import dataclasses
import functools
import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

import linfa
from deep import distributed
from deep.experiment import Experiment, run
from deep.log import write
from deep.recipes.figure import measures
from deep.recipes.recipe import Recipe
from deep.train import Diverged

MEASURES = ("update_cosine", "error_effective_rank", "gradient_effective_rank", "trajectory_effective_rank")
"""What a table keeps of a record: means over the hidden layers and seeds."""


def reproduce(
    recipe: Recipe,
    out: str | Path,
    data: Path | None = None,
    scale: float | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    arms: Iterable[str] | None = None,
    device: str = "cpu",
    trust: Sequence[str] = (),
    progress: bool = True,
) -> dict:
    """Train every arm of a recipe with every seed; runs that are whole are read, others go on where they were.

    The folder receives a run an arm and seed, and from all runs that are whole ``table.json``, ``table.md``,
    ``log.jsonl`` (every epoch of every run) and ``figure.png``, and ``measures.png`` where the recipe records.
    Started by ``torchrun`` all of its processes train every run together, see `deep.distributed`.

    Args:
        recipe: of `deep.recipes.RECIPES`, or one of your own.
        out: folder.
        data: folder of the official files.
        scale: share of the published budget; by default the recipe's own for a first look.
        seeds: of the runs.
        arms: names of some; None for all.
        device: where to train.
        trust: SHA-256 of images to accept although they are not all of the published ones.
        progress: show bars where the output is a terminal.

    Returns:
        The table: for every arm mean, standard deviation and every run's last and best test accuracy in %, the
        published one, and what was recorded over the steps.

    Raises:
        ValueError: for an unknown arm, a share outside (0, 1], a folder with runs of other settings, or as
            `deep.data.load`.
    """
    out = Path(out)
    scale = recipe.quick if scale is None else scale
    experiments = recipe.experiments(scale, data, trust)
    chosen = list(experiments) if arms is None else list(arms)
    unknown = [name for name in chosen if name not in experiments]
    if unknown:
        raise ValueError(f"unknown arm {', '.join(unknown)}: choose from {', '.join(experiments)}")
    with distributed.processes(device) as where:
        for seed in seeds:
            for name in chosen:
                _one(recipe, out, name, dataclasses.replace(experiments[name], seed=seed), where, progress)
        distributed.gathered(None)  # until the first has written the last result
        return collect(recipe.at(scale), out, scale, experiments, device)


@functools.cache
def _certificate(rule):
    return linfa.verify(rule)


def _one(recipe, out, name, experiment, device, progress):
    folder = out / f"{slug(name)}-{experiment.seed}"
    if any(distributed.gathered((folder / "result.json").exists() and _same(folder, experiment))):
        return
    certificate = _certificate(experiment.rule)
    try:
        run(
            experiment, folder, device=device, record_every=recipe.record_every, certificate=certificate,
            progress=progress,
        )  # fmt: skip
    except Diverged as error:  # which is a result, too
        about = json.loads((folder / "run.json").read_text())
        if distributed.rank() == 0:
            write(folder / "result.json", json.dumps({**about, "diverged": str(error)}, indent=1))


def _same(folder, experiment):
    return json.loads((folder / "result.json").read_text())["settings"] == experiment.describe()


def slug(name: str) -> str:
    """A name of a folder.

    >>> slug("direct r=1, all")
    'direct-r1-all'
    """
    return "".join(c for c in name.replace(" ", "-") if c.isalnum() or c in "-+.")


def collect(recipe: Recipe, out: Path, scale: float, experiments: Mapping[str, Experiment], device: str) -> dict:
    """The table of all runs in a folder that are whole; the first process writes its files.

    Raises:
        FileNotFoundError: if none is.
        ValueError: for a run of other settings than the arm's, which belongs to another table.
    """
    rows, log, settings = {}, [], {}
    for name, experiment in experiments.items():
        runs = sorted(out.glob(f"{slug(name)}-[0-9]*"), key=lambda folder: int(folder.name.rsplit("-", 1)[1]))
        runs = [folder for folder in runs if folder.name.rsplit("-", 1)[0] == slug(name)]
        runs = [folder for folder in runs if (folder / "result.json").exists()]
        for folder in runs:
            about = json.loads((folder / "run.json").read_text())
            if not _same(folder, dataclasses.replace(experiment, seed=about["seed"])):
                raise ValueError(f"{folder} holds a run of {name} with other settings: choose another folder")
            log += [{"arm": name, "seed": about["seed"], **row} for row in _lines(folder / "log.jsonl")]
            settings[name] = {"data": about["data"], **about["settings"]}
        if runs:
            rows[name] = _row(runs) | {"published": recipe.published.get(name)}
    if not rows:
        raise FileNotFoundError(f"{out} holds no whole run of {recipe.title}")
    table = {
        "title": recipe.title, "source": recipe.source, "scale": scale, "hardware": hardware(device), "arms": rows,
        "settings": settings,
    }  # fmt: skip
    if distributed.rank() > 0:
        return table
    write(out / "table.json", json.dumps(table, indent=1))
    write(out / "table.md", markdown(table))
    write(out / "log.jsonl", "\n".join(map(json.dumps, log)))
    recipe.figure(table).savefig(out / "figure.png", dpi=150)
    if any(row["recorded"] for row in rows.values()):
        measures(table).savefig(out / "measures.png", dpi=150)
    return table


def _row(runs):
    last, best, diverged = [], [], 0
    for folder in runs:
        result = json.loads((folder / "result.json").read_text())
        if "diverged" in result:  # and what it had reached before is not what it ended with
            diverged += 1
            continue
        accuracy = [100 * row["test_accuracy"] for row in _lines(folder / "log.jsonl")]
        if accuracy:
            last.append(accuracy[-1])
            best.append(max(accuracy))
    row = {"mean": _mean(last), "std": _std(last), "runs": last, "best": _mean(best), "diverged": diverged}
    return row | {"recorded": _recorded(runs)}


def _recorded(runs):
    """For every measure the means over hidden layers and seeds, [step, mean] by step."""
    found: dict[str, dict[int, list]] = {}
    for folder in runs:
        rows = _lines(folder / "record.jsonl")
        head = rows[-1]["layer"] if rows else None
        for row in rows:
            for key in MEASURES:
                if row["layer"] != head and row.get(key) is not None:
                    found.setdefault(key, {}).setdefault(row["step"], []).append(row[key])
    return {key: [[step, _mean(values)] for step, values in steps.items()] for key, steps in found.items()}


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def _mean(values):
    return statistics.mean(values) if values else None


def _std(values):
    return statistics.stdev(values) if len(values) > 1 else None


def hardware(device: str) -> dict:
    """The machine on which a table is made, which is that of its runs if they are."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{os.cpu_count()} CPU cores"
    return {"device": name, "machine": platform.machine(), "torch": torch.__version__}


def _final(row, key):
    return row["recorded"][key][-1][1] if key in row["recorded"] else None


def markdown(table: dict) -> str:
    """The table as Markdown: test accuracy in %, ours and the published."""

    def number(value, digits=2):
        return "" if value is None else f"{value:.{digits}f}"

    keys = [key for key in MEASURES if any(key in row["recorded"] for row in table["arms"].values())]
    titles = ["", "test accuracy, %", "best epoch", "runs", "published", *(key.replace("_", " ") for key in keys)]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for name, row in table["arms"].items():
        spread = "" if row["std"] is None else f" ± {row['std']:.2f}"
        failed = f" ({row['diverged']} diverged)" if row["diverged"] else ""
        cells = [name, f"{number(row['mean'])}{spread}", number(row["best"]), f"{len(row['runs'])}{failed}"]
        cells += [number(row["published"]), *(number(_final(row, key)) for key in keys)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
