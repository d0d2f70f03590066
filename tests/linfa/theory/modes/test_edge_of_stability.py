"""The sharpness of feedback alignment, along zero loss and under descent, from a recursion of its own."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import brentq

from linfa.theory import edge_is_stable, fa_rest_points, fa_sharpness, fa_sharpness_slope

NOT_ZERO = st.one_of(st.floats(-1.5, -0.4), st.floats(0.4, 1.5))


def _rest(s, b, c):
    w1 = brentq(lambda w: w * (c + w**2 / (2 * b)) - s, -50, 50, xtol=1e-15)
    return w1, c + w1**2 / (2 * b)


@given(b=NOT_ZERO, s=NOT_ZERO, c=st.floats(0.1, 4.0))
def test_slope_by_differences(b, s, c):
    c = np.sign(b) * c  # one rest point
    step = 1e-5
    above, below = (fa_sharpness(*_rest(s, b, c + sign * step), b) for sign in (1, -1))
    assert fa_sharpness_slope(*_rest(s, b, c), b) == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-5)


@given(b=NOT_ZERO, s=NOT_ZERO, c=st.floats(-2.0, 4.0))
def test_the_edge_is_stable_where_a_falling_bc_flattens(b, s, c):
    w1 = max(fa_rest_points(s, b, np.sign(b) * c), key=abs)
    w2 = s / w1
    assume(abs(b * w2 - 2 * w1**2) > 1e-6)
    assert edge_is_stable(w1, w2, b) == (fa_sharpness_slope(w1, w2, b) / b > 0)
    assert fa_sharpness_slope(-w1, -w2, -b) == pytest.approx(-fa_sharpness_slope(w1, w2, b))


@given(w1=st.floats(-2, 2), w2=st.floats(-2, 2), b=NOT_ZERO, s=NOT_ZERO, lr=st.floats(0.01, 1.0))
def test_a_step_lowers_bc(w1, w2, b, s, lr):
    error = s - w1 * w2
    a, g = w1 + lr * b * error, w2 + lr * error * w1
    assert b * (g - w2) - (a**2 - w1**2) / 2 == pytest.approx(-((lr * b * error) ** 2) / 2, abs=1e-11)


@pytest.mark.parametrize(("c", "factor", "ends"), [(0.0, 0.98, True), (0.0, 1.02, False), (4.0, 1.05, True)])
def test_descent_on_both_sides(c, factor, ends):
    w1, w2 = _rest(1.0, 1.0, c)
    lr, w1 = factor * 2 / fa_sharpness(w1, w2, 1.0), 1.01 * w1
    for _ in range(4000):
        error = 1 - w1 * w2
        if abs(error) > 1e6:
            break
        w1, w2 = w1 + lr * error, w2 + lr * error * w1
    assert (abs(error) < 1e-9) == ends
