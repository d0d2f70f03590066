"""The whole survey: a certificate for every rule, and the error of every result of the catalogue."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from linfa.rules import named
from linfa.verify import Certificate, verify


@dataclass(frozen=True)
class Row:
    """One result of the catalogue, measured; prints as a line.

    Args:
        key, statement, source, tolerance: of the `Result`.
        error: the largest over the seeds.
    """

    key: str
    statement: str
    source: str
    tolerance: float
    error: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return bool(self.error <= self.tolerance)

    def __str__(self):
        mark = "ok  " if self.passed else "FAIL"
        return f"  {mark} {self.key:<5} {self.error:8.1e} <= {self.tolerance:7.0e}  {self.statement}  [{self.source}]"


def measured(key: str, seed: int = 0) -> Row:
    """Measure one result of the catalogue.

    Raises:
        ValueError: for an unknown key.

    >>> measured("X1").passed
    True
    """
    from linfa import theory

    found = {result.key: result for result in theory.results()}
    if key not in found:
        raise ValueError(f"no result is called {key!r}: choose one of {', '.join(found)}")
    result = found[key]
    return Row(key, result.statement, result.source, result.tolerance, float(result.measure(seed)))


def survey(seed: int = 0, processes: int | None = None) -> Iterator[Certificate | Row]:
    """Verify every rule and measure every result, in that order, several at a time.

    Args:
        seed: of the random problems.
        processes: how many at a time; by default one for each processor.
    """
    from linfa import theory

    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(verify, rule, seed) for rule in named().values()]
        jobs += [pool.submit(measured, result.key, seed) for result in theory.results()]
        for job in jobs:
            yield job.result()
