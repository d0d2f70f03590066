"""One feedback vector for two modes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from linfa.theory import final_loss, two_mode_loss

SIZES = st.floats(0.2, 3.0)
ANGLES = st.floats(-4.0, 4.0)


@given(s1=SIZES, s2=SIZES, angle=ANGLES)
def test_it_is_the_final_loss_of_two_modes(s1, s2, angle):
    B = np.array([[np.cos(angle), np.sin(angle)]])
    assert two_mode_loss(s1, s2, angle) == pytest.approx(final_loss(np.diag([s1, s2]), B), rel=1e-9)


@given(s1=SIZES, s2=SIZES, angle=ANGLES)
def test_it_is_the_best_map_in_the_row_that_is_seen(s1, s2, angle):
    row = np.array([s1 * np.cos(angle), s2 * np.sin(angle)])
    best = minimize(lambda w: 0.5 * ((np.diag([s1, s2]) - np.outer(w, row)) ** 2).sum(), np.zeros(2), tol=1e-12)
    assert two_mode_loss(s1, s2, angle) == pytest.approx(best.fun, rel=1e-6)


@given(s1=SIZES, s2=SIZES, angle=ANGLES, scale=SIZES)
def test_symmetries_and_bounds(s1, s2, angle, scale):
    loss = two_mode_loss(s1, s2, angle)
    low, high = sorted((s1**2 / 2, s2**2 / 2))
    assert low * (1 - 1e-12) <= loss <= high * (1 + 1e-12)
    assert two_mode_loss(s1, s2, -angle) == pytest.approx(loss)
    assert two_mode_loss(s2, s1, np.pi / 2 - angle) == pytest.approx(loss)
    assert two_mode_loss(scale * s1, scale * s2, angle) == pytest.approx(scale**2 * loss)
