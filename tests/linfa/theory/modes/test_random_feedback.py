"""The bound on what random feedback misses, against draws of the feedback."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfa.theory import best_mismatch, final_loss, random_feedback_bound

SPECTRA = st.lists(st.floats(0.05, 3.0), min_size=2, max_size=7)


@given(s=SPECTRA, rank=st.integers(1, 8), scale=st.floats(0.1, 3.0), seed=st.integers(0, 100))
def test_between_the_best_and_the_start(s, rank, scale, seed):
    bound = random_feedback_bound(s, rank)
    s = np.array(s)
    assert bound <= 0.5 * (s**2).sum() * (1 + 1e-12)
    assert bound >= best_mismatch(np.diag(s), rank) * (1 - 1e-12)
    assert random_feedback_bound(scale * s, rank) == pytest.approx(scale**2 * bound)
    assert random_feedback_bound(np.random.default_rng(seed).permutation(s), rank) == bound
    assert random_feedback_bound(s, rank + 1) <= bound * (1 + 1e-12)


@given(s=SPECTRA, rank=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_mean_over_draws(s, rank, seed):
    draws = np.random.default_rng(seed).standard_normal((100, rank, len(s)))
    mean = np.mean([final_loss(np.diag(s), P) for P in draws])
    assert mean <= random_feedback_bound(s, rank) * (1 + 1e-12) + 1e-12


def test_the_best_number_of_modes():
    assert random_feedback_bound([2.0, 1.0, 0.0], 1) == 2.5
    assert random_feedback_bound([2.0, 1.0, 0.5, 0.5], 3) == pytest.approx(0.5 * 2 * 1.5)
    assert random_feedback_bound([2.0, 1.0, 0.0], 2) == 0.0


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="at least 0; got -1"):
        random_feedback_bound([1.0, -1.0], 1)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        random_feedback_bound([1.0], 0)
