"""How far long work is, on one line of the terminal."""

import contextlib
import types


def bar(shown: bool, **look) -> contextlib.AbstractContextManager:
    """A tqdm bar, silent without a terminal, and without tqdm, which is an extra of linfa.

    Args:
        shown: False for no bar at all.
        look: of tqdm: total, desc, unit ...

    >>> with bar(False, total=2) as shown:
    ...     shown.update(1)
    """
    try:
        from tqdm import tqdm
    except ImportError:
        return contextlib.nullcontext(types.SimpleNamespace(update=lambda number: None))
    return tqdm(disable=None if shown else True, **look)
