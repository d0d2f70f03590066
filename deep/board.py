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
    open_writer = functools.cache(
        lambda: SummaryWriter(folder / "tensorboard")
    )  # in a folder that is the run's by then

    def write(row):
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "epoch":
                open_writer().add_scalar(name, value, row["epoch"])
        open_writer().flush()

    return write
