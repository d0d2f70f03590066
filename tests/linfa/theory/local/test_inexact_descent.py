"""The bound on inexact descent: where it is met, how it composes, what it asks for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfa.theory import AssumptionError, inexact_descent_bound

CURVATURES = st.floats(0.1, 2)


@given(mu=CURVATURES, error=st.floats(0.01, 2), rate=st.floats(0.05, 1))
def test_a_constant_error_in_one_dimension_ends_on_the_bound(mu, error, rate):
    w, lr = 0.0, rate / mu
    for _ in range(int(np.ceil(20 / rate))):
        w -= lr * (mu * w - np.sqrt(error))
    assert mu * w**2 / 2 == pytest.approx(inexact_descent_bound(10**6, 1.0, lr, mu, mu, error), rel=1e-6)


@given(mu=CURVATURES, beta=CURVATURES, seed=st.integers(0, 10**6), rate=st.floats(0.1, 1))
def test_a_quadratic_with_random_errors_stays_below(mu, beta, seed, rate):
    mu, beta = sorted((mu, beta))
    rng, lr = np.random.default_rng(seed), rate / beta
    curvature, w, errors = np.array([mu, (mu + beta) / 2, beta]), rng.standard_normal(3), []
    losses = [(curvature * w**2).sum() / 2]
    for _ in range(60):
        wrong = 0.3 * rng.standard_normal(3)
        errors.append((wrong**2).sum())
        w = w - lr * (curvature * w + wrong)
        losses.append((curvature * w**2).sum() / 2)
    bound = inexact_descent_bound(np.arange(61), losses[0], lr, mu, beta, max(errors))
    assert (np.array(losses) <= bound + 1e-12).all()


@given(a=st.integers(0, 30), b=st.integers(0, 30))
def test_without_errors_steps_compose(a, b):
    def bound(steps, begin):
        return inexact_descent_bound(steps, begin, 0.2, 0.5, 2.0, 0.0)

    assert bound(a + b, 1.0) == pytest.approx(bound(b, bound(a, 1.0)))


@pytest.mark.parametrize(
    ("constants", "text"),
    [
        ({"lr": 0.6, "mu": 1.0, "beta": 2.0}, r"not 0 < lr <= 1 / beta: lr is 0\.6, 1 / beta 0\.5"),
        ({"lr": -0.1, "mu": 1.0, "beta": 2.0}, "not 0 < lr"),
        ({"lr": 0.1, "mu": 0.0, "beta": 2.0}, "not 0 < mu <= beta: mu is 0"),
        ({"lr": 0.1, "mu": 3.0, "beta": 2.0}, "mu is 3, beta 2"),
    ],
)
def test_other_constants_are_refused(constants, text):
    with pytest.raises(AssumptionError, match=text):
        inexact_descent_bound(10, 1.0, error=0.0, **constants)
