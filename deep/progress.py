"""How far a training run is, on one line of the terminal."""

from collections.abc import Callable

from tqdm import tqdm


class Progress:
    """A bar of steps with loss and accuracy of the epoch until now and images per second; silent without a terminal.

    Args:
        name: of the run.
        total: steps of the run.
        done: of them before.
        shown: False for no bar at all.
    """

    def __init__(self, name: str, total: int, done: int = 0, shown: bool = True):
        self.bar = tqdm(total=total, initial=done, desc=name, unit="step", disable=None if shown else True)

    def step(self, epoch: int, images: int, seen: Callable[[], dict]) -> None:
        """Count a step.

        Args:
            epoch: which one this is, from 1.
            images: that were in the step.
            seen: () -> train_loss and train_accuracy; asked only when something is shown, because on a GPU the answer
                waits for the device.
        """
        if self.bar.update():
            now, rate = seen(), self.bar.format_dict["rate"] or 0.0
            texts = {"loss": f"{now['train_loss']:.3f}", "accuracy": f"{now['train_accuracy']:.3f}"}
            self.bar.set_postfix(epoch=epoch, **texts, images=f"{rate * images:.0f}/s", refresh=False)

    def close(self) -> None:
        self.bar.close()
