"""Error-modulated Hebb: its curve against the two equations, its end, its symmetry, and growing networks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from linfa.theory.wide import wide_hebb as file
from linfa.theory.wide.finite_size import WIDTHS, mean_error
from linfa.theory.wide.wide_hebb import hebb_end, hebb_growth, wide_hebb

TARGETS, RICHNESS = st.floats(0.1, 2.0), st.floats(0.05, 3.0)


@given(ys=st.lists(TARGETS | TARGETS.map(lambda y: -y), min_size=1, max_size=4), gamma=RICHNESS)
def test_the_equations(ys, gamma):
    y, times = np.array(ys), np.linspace(0, 5, 6)

    def field(_, u):
        Delta, H = np.split(u, 2)
        return np.concatenate([-(H + gamma * Delta * (y - Delta)) * Delta, 2 * gamma * Delta**2 * H])

    flow = solve_ivp(field, (0, 5), [*y, *np.ones_like(y)], "DOP853", times, rtol=1e-12, atol=1e-14).y.T
    assert np.allclose(np.hstack(wide_hebb(times, y, gamma)), flow, rtol=1e-8, atol=1e-9)


@given(q=st.floats(-1.5, 1.5), y=TARGETS, gamma=RICHNESS)
def test_growth_by_quadrature(q, y, gamma):
    """The solution of dm/dq = gamma (y - q m) with an integrating factor."""
    integral, _ = quad(lambda u: np.exp(gamma * u**2 / 2), 0, q, epsabs=1e-13)
    assert hebb_growth(q, y, gamma) == pytest.approx(np.exp(-gamma * q**2 / 2) * (1 + gamma * y * integral), rel=1e-10)


@given(y=TARGETS, gamma=RICHNESS)
def test_the_end(y, gamma):
    """After a long time; the same for -y; more for larger targets and richer learning."""
    _, H = wide_hebb([0.0, 60.0], [y, -y], gamma)
    assert H[1] == pytest.approx([hebb_end(y, gamma)] * 2, rel=1e-8)
    assert hebb_end(1.1 * y, gamma) > hebb_end(y, gamma) > 1
    assert hebb_end(y, 1.1 * gamma) > hebb_end(y, gamma)


@given(y=TARGETS)
def test_the_lazy_limit(y):
    """gamma -> 0: Delta = y e^(-t), H = 1 + gamma y^2 (1 - e^(-2t))."""
    gamma, times = 1e-5, np.linspace(0, 4, 5)
    Delta, H = wide_hebb(times, [y], gamma)
    assert Delta[:, 0] == pytest.approx(y * np.exp(-times), rel=1e-3)
    assert (H[:, 0] - 1) / gamma == pytest.approx(-(y**2) * np.expm1(-2 * times), rel=1e-3, abs=1e-6)


def test_errors_halve_when_networks_are_four_times_as_wide():
    narrow, wide = (np.mean([mean_error(file._error, k, seed) for seed in range(8)]) for k in WIDTHS)
    assert narrow / wide == pytest.approx(2, abs=0.5)


def test_richness_is_positive():
    with pytest.raises(ValueError, match=r"gamma is positive; got -0\.5"):
        wide_hebb([0.0, 1.0], [1.0], -0.5)
    with pytest.raises(ValueError, match="gamma is positive; got 0"):
        hebb_end(1.0, 0)
