"""Side-by-side timing: every arm steps once in every round, in rotated order, and ratios are taken within a round."""

import statistics
import time

import torch

from deep.memory import keep_memory


def seconds(step, device, clock=time.perf_counter) -> float:
    """Time of one call of ``step``, to its end on the device."""
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    wait()
    begin = clock()
    step()
    wait()
    return clock() - begin


def interleaved(steps: dict, rounds: int, device, clock=time.perf_counter) -> dict[str, list[float]]:
    """Times of every step in every round, by name.

    Args:
        steps: what to time.
        rounds: how often.
        device: where it runs.
        clock: ``time.process_time`` leaves out what other processes take, where one thread does the work.
    """
    keep_memory()  # as commands do, and as a GPU does
    times = {name: [] for name in steps}
    for turn in range(rounds):
        order = list(steps)[turn % len(steps) :] + list(steps)[: turn % len(steps)]
        for name in order:
            times[name].append(seconds(steps[name], device, clock))
    return times


def ratios(times: list[float], plain: list[float]) -> dict:
    """Median and quartiles of the ratios within a round, and the ratio of the fastest."""
    low, middle, high = statistics.quantiles((a / b for a, b in zip(times, plain, strict=True)), n=4)
    return {
        "time": {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]},
        "fastest": round(min(times) / min(plain), 3),
        "step ms": round(1e3 * statistics.median(times), 2),
    }
