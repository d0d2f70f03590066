"""A record of how a promoted model learns: alignment with backpropagation, and the ranks of what it learns from."""

import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from deep import measure
from deep.data.loader import seed_of
from deep.log import write_rows
from linfa import observe

RANKS = {
    "effective": observe.effective_rank, "participation": observe.participation_ratio, "stable": observe.stable_rank,
}  # fmt: skip
"""The ranks that are recorded; for every matrix each is at least the next."""


def sketch(vector: torch.Tensor, size: int, seed: int = 0) -> torch.Tensor:
    """A vector of p entries in ``size`` numbers: every entry is added, with a random sign, to one of them.

    The count sketch (Charikar, Chen & Farach-Colton 2002): linear, so that ranks never rise, and inner products are
    unbiased with a standard deviation of at most sqrt(2 / size) |a| |b|.  A vector that is no longer than that stays as
    it is.

    >>> sketch(torch.arange(3.0), size=4).tolist()
    [0.0, 1.0, 2.0]
    """
    p = len(vector)
    if p <= size:
        return vector.clone()
    generator = torch.Generator(vector.device).manual_seed(seed)
    places = torch.randint(size, (p,), generator=generator, device=vector.device)
    signs = torch.randint(2, (p,), generator=generator, device=vector.device, dtype=torch.int8)
    return vector.new_zeros(size).index_add_(0, places, vector * (2 * signs - 1))


class Recorder:
    """Measures a promoted model every so many steps, and does nothing in between.

    A row for each linear map and measured step has

    - ``update_cosine``: between the update of the weight (the gradient, or the direction that the rule's geometry makes
      of it) and its gradient under backpropagation;
    - ``error_cosine``: between the error at the output of the map and the exact one;
    - ``feedback_angle``: degrees between the feedback that arrives at the input of the map and the transpose of what it
      spans, the weight, or the mean Jacobian of a broadcast edge (`measure.broadcasts`); None where none arrives;
    - ``error_*``, ``gradient_*`` and ``trajectory_*``: effective rank, participation ratio and stable rank of the error
      (samples and positions x units), of the gradient (n_out x n_in; not of factored weights) and of the last
      ``window`` measured gradients (steps x parameters), each in a `sketch` of ``size`` numbers; they start anew where
      the rank of factored weights falls.  No trajectory has a higher rank than the gradients in it.

    Measuring takes a pass under the rule and one under backpropagation on a copy of the model, for broadcast edges one
    more forward and ``passes`` back, and leaves weights, gradients, statistics and random numbers alone.  Give a part
    of a large batch, ``recorder(x[:64], y[:64])``, to make it cheaper; under DDP record on one process, the model
    inside.

    Args:
        model: a promoted model, not compiled.
        every: steps from one measurement to the next.
        folder: where ``record.jsonl`` grows and, at the end of the with block, ``record.csv`` is written; None for rows
            in memory only.  A record that is there already is overwritten, unless `load_state_dict` goes on with it.
        loss: (logits, labels) -> scalar.
        size: numbers kept of each gradient.
        window: measured gradients that are kept.
        seed: of the sketches and, with the step, of what `measure.broadcasts` draws.
        passes: of broadcast edges, by which their angle is estimated; as many as outputs make it exact.

    Raises:
        ValueError: for numbers below 1.

    >>> import deep, linfa
    >>> model = deep.promote(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), linfa.fa())
    >>> with Recorder(model, every=2) as recorder:
    ...     for _ in range(5):
    ...         recorder(torch.randn(8, 4), torch.arange(8) % 3)  # then loss.backward(), optimizer.step()
    >>> [(row["step"], row["layer"]) for row in recorder.rows]
    [(0, '0'), (0, '2'), (2, '0'), (2, '2'), (4, '0'), (4, '2')]
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 100,
        folder: str | Path | None = None,
        loss: Callable = F.cross_entropy,
        size: int = 1024,
        window: int = 200,
        seed: int = 0,
        passes: int = 1,
    ):
        if min(every, size, window, passes) < 1:
            raise ValueError(f"every, size, window and passes are at least 1; got {every}, {size}, {window}, {passes}")
        self.model, self.every, self.loss, self.size, self.window, self.seed = model, every, loss, size, window, seed
        self.passes = passes
        self.folder = None if folder is None else Path(folder)
        self.step, self.rows, self.trajectories, self.sizes = 0, [], {}, {}

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()

    def close(self) -> None:
        """Write all rows once more, as JSON lines and as a table."""
        if self.folder is not None and self.rows:
            write_rows(self.folder, "record", self.rows)

    def __call__(self, x, y) -> None:
        """Count a step on this batch, and measure it if it is its turn."""
        if self.step % self.every == 0:
            self._append(self.measure(x, y))
        self.step += 1

    def measure(self, x, y) -> list[dict]:
        """The rows of this step; the gradients join the trajectories."""
        mine, exact = (run(self.model, x, y, self.loss) for run in (measure.one_pass, measure.exact_pass))
        updates = measure.cosines(measure.updates(self.model, mine.gradients), exact.gradients)
        errors = measure.cosines(mine.errors, exact.errors)
        angles = measure.feedback_angles(self.model, x, self.passes, seed_of(self.seed, self.step))
        rows = []
        for path, gradient in mine.gradients.items():
            trajectory = self.trajectories.setdefault(path, deque(maxlen=self.window))
            if self.sizes.setdefault(path, gradient.numel()) != gradient.numel():  # of weights whose rank has fallen
                self.sizes[path] = gradient.numel()
                trajectory.clear()
            trajectory.append(sketch(gradient.flatten(), self.size, self.seed).cpu())
            row = {"step": self.step, "layer": path, "update_cosine": updates[path], "error_cosine": errors.get(path),
                   "feedback_angle": angles.get(path)}  # fmt: skip
            matrices = {"error": mine.errors[path]} if path in mine.errors else {}
            matrices |= {"gradient": gradient.flatten(1)} if gradient.dim() > 1 else {}
            matrices["trajectory"] = torch.stack(tuple(trajectory))
            for name, matrix in matrices.items():
                s = measure.singular_values(matrix)
                row |= {f"{name}_{kind}_rank": float(rank(s)) for kind, rank in RANKS.items()}
            rows.append(row)
        return rows

    def _append(self, rows):
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._file.open("a" if self.rows else "w") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
                file.flush()
                os.fsync(file.fileno())  # a state counts these rows
        self.rows += rows

    def state_dict(self) -> dict:
        """What `load_state_dict` needs to go on; plain numbers and tensors.

        Rows are in it only where there is no folder: those in a file are counted.
        """
        kept = {path: torch.stack(tuple(vectors)) for path, vectors in self.trajectories.items()}
        rows = list(self.rows) if self.folder is None else len(self.rows)
        return {"step": self.step, "rows": rows, "trajectories": kept, "sizes": dict(self.sizes)}

    def load_state_dict(self, state: dict) -> None:
        """Go on from another recorder of the same settings and folder; the files become what they were then.

        Raises:
            ValueError: where the folder's record is shorter than it was then; nothing is changed.
        """
        rows = state["rows"]
        self.rows = self._written(rows) if isinstance(rows, int) else list(rows)
        self.step, self.sizes = state["step"], dict(state["sizes"])
        self.trajectories = {
            path: deque(vectors.cpu().unbind(), maxlen=self.window) for path, vectors in state["trajectories"].items()
        }
        self.close()

    def _written(self, count):
        """The first rows of the file."""
        there = self.folder is not None and self._file.exists()
        lines = self._file.read_text().splitlines()[:count] if there else []
        if len(lines) < count:
            raise ValueError(
                f"the state continues a record of {count} rows, and {self._file if self.folder else 'this recorder'} "
                f"has {len(lines)}: give it the folder of that record, or go on without a recorder"
            )
        return [json.loads(line) for line in lines]

    @property
    def _file(self):
        return self.folder / "record.jsonl"

    def figure(self, rank: str = "effective"):
        """What was recorded over steps, a line for each layer, as a matplotlib figure.

        Args:
            rank: "effective", "participation" or "stable".
        """
        return figure(self.rows, rank)


PANELS = (
    ("update_cosine", "Update", "cosine with backpropagation", 1.05),
    ("error_cosine", "Error", "cosine with backpropagation", 1.05),
    ("feedback_angle", "Feedback", "degrees from the forward map", None),
    ("error_{}_rank", "Rank of errors", "{} rank", None),
    ("gradient_{}_rank", "Rank of gradients", "{} rank", None),
    ("trajectory_{}_rank", "Rank of the trajectory", "{} rank", None),
)
"""Key in a row, title, label and upper end of the axis."""


def figure(rows: list[dict], rank: str = "effective"):
    """The figure of a record, see `Recorder.figure`: from the first layer, dark, to the last, bright.

    Raises:
        ValueError: for no rows, or an unknown rank.
    """
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.lines import Line2D

    from linfa import plot

    if not rows or rank not in RANKS:
        raise ValueError(f"nothing to draw of {len(rows)} rows and rank {rank!r}: choose one of {', '.join(RANKS)}")
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    shades = dict(zip(layers, plt.get_cmap("viridis")(np.linspace(0, 0.9, len(layers))), strict=True))
    with plot.style():
        drawn, axes = plt.subplots(2, 3, figsize=(11, 5.6), layout="constrained")
        for ax, (key, title, label, top) in zip(axes.flat, PANELS, strict=True):
            key = key.format(rank)
            for layer, shade in shades.items():
                points = [(row["step"], row[key]) for row in rows if row["layer"] == layer and row.get(key) is not None]
                if points:
                    ax.plot(*zip(*points, strict=True), color=shade, marker="o", markersize=3)
            if not ax.lines:
                ax.text(0.5, 0.5, "nothing was measured", ha="center", transform=ax.transAxes, color="#7F7F7F")
            ax.set(title=title, ylabel=label.format(rank), xlabel="step")
            ax.set_ylim(min(0, ax.get_ylim()[0]), top)
        handles = [Line2D([], [], color=shade, label=layer) for layer, shade in shades.items()]
        drawn.legend(handles=handles, title="layer", loc="outside right upper", ncols=1 + len(handles) // 24)
    return drawn
