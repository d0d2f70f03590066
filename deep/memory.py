"""Memory of large tensors on a CPU, which the C library need not fetch from the system again and again."""

import ctypes

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""Of mallopt(3): how many blocks come from the system one by one, and how many free bytes are given back to it."""


def keep_memory() -> bool:
    """Let this process keep what it has freed, for good; returns whether the C library can (glibc).

    By itself glibc gives blocks above 32 MB back at once, and the system fills the pages of the next one with zeros: a
    quarter of a training step where activities are that large.  The process stays as large as it has ever been.

    >>> keep_memory() in (True, False)
    True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):  # another library, another system
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, 2**31 - 1))
