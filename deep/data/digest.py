"""Checksums of what a file holds, independent of its format."""

import hashlib
from collections.abc import Collection

import numpy as np

from deep.data.images import UnknownData


def check(name: str, images: np.ndarray, known: dict[str, str], trust: str | Collection[str] | None) -> str:
    """Find decoded images among the known ones; returns the sentence that says where they come from.

    Args:
        name: of the data set and split, for the error.
        images: (N, H, W, C) or (N, H, W), uint8.
        known: SHA-256 -> sentence.
        trust: a SHA-256, or several, that the caller accepts as well.

    Raises:
        UnknownData: for any other images; the error says how to accept them.
    """
    digest = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
    if digest in known:
        return known[digest]
    if digest in ((trust,) if isinstance(trust, str) else trust or ()):
        return f"{name}, unofficial copy, SHA-256 {digest[:16]}"
    raise UnknownData(
        f"the images of {name} are not the published ones: SHA-256 of the decoded array is {digest}; "
        f"if you trust them, say so with trust={digest!r}"
    )
