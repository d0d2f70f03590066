"""The Marchenko-Pastur law and the mean loss of Gaussian feedback, against quadrature and random matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import roots_jacobi

from linfa.theory import fa_mode, gaussian_feedback_loss, marchenko_pastur

RATIOS = st.floats(0.1, 4.0)


@given(ratio=RATIOS)
def test_moments(ratio):
    values, weights = marchenko_pastur(ratio)
    moments = [weights @ values**power for power in range(4)]
    assert moments == pytest.approx([1, 1, 1 + ratio, 1 + 3 * ratio + ratio**2], rel=1e-9)
    assert weights[-1] == pytest.approx(max(1 - 1 / ratio, 0), abs=1e-9 + np.exp(-400 * abs(np.log(ratio))))


@given(ratio=st.floats(0.1, 0.9), t=st.floats(0.0, 10.0))
def test_the_density_in_the_usual_variable(ratio, t):
    """sqrt((high - mu)(mu - low)) / (2 pi ratio mu), the root taken care of by a Gauss-Jacobi rule."""
    x, w = roots_jacobi(200, 0.5, 0.5)
    mu = 1 + ratio + 2 * np.sqrt(ratio) * x
    expected = w @ ((1 - fa_mode(t, 1.0, mu)) ** 2 * 4 * ratio / (2 * np.pi * ratio * mu))
    assert gaussian_feedback_loss([t], 1.0, ratio)[0] == pytest.approx(expected, abs=1e-9)


@given(ratio=RATIOS, s=st.floats(0.3, 3.0), variance=st.floats(0.3, 3.0))
def test_units_start_end_and_slope(ratio, s, variance):
    times = np.linspace(0, 5, 12)
    loss = gaussian_feedback_loss(times, s, ratio, variance)
    assert loss[0] == pytest.approx(1)
    assert (np.diff(loss) <= 1e-14).all()
    faster = s ** (2 / 3) * variance ** (1 / 3)
    assert loss == pytest.approx(gaussian_feedback_loss(faster * times, 1.0, ratio))
    if abs(ratio - 1) > 0.2:
        end = gaussian_feedback_loss([1e4 / faster], s, ratio, variance)[0]
        assert end == pytest.approx(max(1 - 1 / ratio, 0), abs=1e-6)


def test_random_matrices():
    rng = np.random.default_rng(0)
    B = rng.standard_normal((800, 400)) / np.sqrt(800)
    left = (1 - fa_mode(2.0, 1.0, np.linalg.eigvalsh(B.T @ B))) ** 2
    assert gaussian_feedback_loss([2.0], 1.0, 0.5)[0] == pytest.approx(left.mean(), abs=2e-3)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="a ratio of widths is positive; got 0"):
        marchenko_pastur(0.0)
    with pytest.raises(ValueError, match="a variance is positive; got -1"):
        gaussian_feedback_loss([1.0], 1.0, 1.0, -1.0)
