"""Scalar chains: polynomials, limits and rest points, against an integrator of its own."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from linfa.theory import chain_limit, chain_polynomial, chain_weights, fa_rest_points

VALUES = st.floats(-1.5, 1.5)
NOT_ZERO = st.one_of(st.floats(-1.5, -0.3), st.floats(0.3, 1.5))


def _flow(feedback, start, s, time):
    def field(_, w):
        error = s - w.prod()
        return [beta * error * w[:i].prod() for i, beta in enumerate((*feedback, 1.0))]

    return solve_ivp(field, (0, time), start, rtol=1e-10, atol=1e-12).y[:, -1]


@given(feedback=st.lists(NOT_ZERO, min_size=0, max_size=3), data=st.data(), s=VALUES, time=st.floats(0.0, 3.0))
def test_weights_are_on_their_polynomials(feedback, data, s, time):
    start = data.draw(st.lists(VALUES, min_size=len(feedback) + 1, max_size=len(feedback) + 1))
    end = _flow(feedback, start, s, time)
    alpha = (end[0] - start[0]) / (*feedback, 1)[0]
    curves = chain_weights(feedback, start)
    assert [len(c) for c in curves] == [2 ** (i) + 1 for i in range(len(start))]
    assert [np.polyval(c[::-1], alpha) for c in curves] == pytest.approx(end.tolist(), abs=1e-7)
    assert np.polyval(chain_polynomial(feedback, start, s)[::-1], alpha) == pytest.approx(s - end.prod(), abs=1e-7)


@given(feedback=st.lists(NOT_ZERO, min_size=0, max_size=3), data=st.data(), s=VALUES)
def test_the_limit_has_no_loss_and_is_the_first(feedback, data, s):
    start = data.draw(st.lists(VALUES, min_size=len(feedback) + 1, max_size=len(feedback) + 1))
    p = np.array(chain_polynomial(feedback, start, s))[::-1]
    assume(abs(p[-1]) > 1e-6)
    alpha = (chain_limit(feedback, start, s)[0] - start[0]) / (*feedback, 1)[0]
    assume(abs(np.polyval(np.polyder(p), alpha)) > 1e-2)
    assert np.prod(chain_limit(feedback, start, s)) == pytest.approx(s, abs=1e-7)
    way = np.polyval(p, np.linspace(0, alpha, 2000)[:-1])
    assume(np.abs(way).min() > 1e-6 * abs(p[-1]) or (np.sign(way) == np.sign(p[-1])).all())
    assert (np.sign(way) == np.sign(p[-1])).all()


@pytest.mark.parametrize("begin", [-4.0, -1.0, 0.1, 3.0])
def test_the_first_of_several_roots(begin):
    """Three rest points: a flow from outside stops at the first it meets, and none stops at the middle one."""
    start = (begin, -2 + begin**2 / 2)
    assert len(fa_rest_points(0.4, 1.0, -2.0)) == 3
    assert chain_limit([1.0], start, 0.4)[0] == pytest.approx(_flow([1.0], start, 0.4, 30.0)[0], abs=1e-7)


@given(b=NOT_ZERO, c=st.floats(-2, 2), s=NOT_ZERO, begin=st.floats(-2, 2))
def test_rest_points_and_the_side_of_the_middle_one(b, c, s, begin):
    criterion = -8 * b * c**3 - 27 * s**2
    assume(abs(criterion) > 0.3)
    points = fa_rest_points(s, b, c)
    grid = np.linspace(-6, 6, 20001)
    assert (
        (np.diff(np.sign(grid**3 / 2 + b * c * grid - b * s)) != 0).sum() == len(points) == (3 if criterion > 0 else 1)
    )
    assume(np.abs(points - begin).min() > 0.05)
    end = chain_limit([b], [begin, c + begin**2 / (2 * b)], s)[0]
    wanted = points[-1] if len(points) == 1 or begin > points[1] else points[0]
    assert end == pytest.approx(wanted, abs=1e-9)


@given(b=NOT_ZERO, start=st.tuples(VALUES, VALUES), s=VALUES)
def test_turning_the_hidden_unit_around(b, start, s):
    turned = chain_polynomial([-b], [-w for w in start], s)
    assert np.allclose(chain_polynomial([b], start, s), turned, atol=1e-12)


def test_the_same_body_under_sympy():
    b, w, s = sp.symbols("b w s")
    assert [sp.expand(c) for c in chain_polynomial([b], [0, w], s)] == [s, -b * w, 0, -(b**2) / 2]


def test_a_start_at_rest_stays():
    assert chain_limit([1.0], [1.0, 2.0], 2.0) == (1.0, 2.0)
    assert chain_limit([], [0.3], 2.0) == (2.0,)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="got 2 and 2"):
        chain_weights([1.0, 1.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="feedback is not zero"):
        chain_limit([0.0], [0.0, 0.0], 1.0)
    with pytest.raises(ValueError, match="b = 0"):
        fa_rest_points(1.0, 0.0, 1.0)
