"""The log of a run for TensorBoard, which is optional."""

import functools
from collections.abc import Callable
from pathlib import Path


def board(folder: Path) -> Callable[[dict], None]:
    """What `deep.train.train` calls with every row of the log: its numbers become scalars in ``folder/tensorboard``.

    Raises:
        ImportError: naming the command, if tensorboard is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("TensorBoard is not installed: pip install tensorboard") from None

    @functools.cache
    def writer():  # at the first row, when the folder is known to be the run's
        return SummaryWriter(folder / "tensorboard")

    def write(row):
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "epoch":
                writer().add_scalar(name, value, row["epoch"])
        writer().flush()

    return write
