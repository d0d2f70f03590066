"""SaxeMode against the flow, and the laws of its formula."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory.backprop.saxe import SaxeMode, bp_mode

POSITIVE = st.floats(0.05, 3.0)


@given(
    n=st.integers(1, 5), m=st.integers(1, 5), extra=st.integers(0, 2), equal=st.booleans(), seed=st.integers(0, 10**6)
)
def test_flow(n, m, extra, equal, seed):
    rng = np.random.default_rng(seed)
    s = rng.uniform(0.0, 2.0, min(n, m))
    task = linfa.Task.from_spectrum(np.full_like(s, s[0]) if equal else s, n_in=n, n_out=m, seed=seed)
    network = linfa.Network.aligned(task, [min(n, m) + extra], rng.uniform(0, 2.0, len(s)), seed=seed)
    run = linfa.simulate(linfa.bp(), task, network, np.linspace(0, 4, 9), rtol=1e-11, atol=1e-13)
    assert SaxeMode(linfa.bp(), task, run.at(0)).error(run) <= 1e-8


@given(n=st.integers(2, 5), seed=st.integers(0, 10**6))
def test_degenerate_tasks_follow_the_start(n, seed):
    """With Sigma orthogonal every rotation of its singular vectors is one: the start decides."""
    rng = np.random.default_rng(seed)
    U, V, R = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(3))
    root = np.sqrt(rng.uniform(0.01, 1.0, n))
    task = linfa.Task.teacher(1.5 * U @ V.T)
    network = linfa.Network(((R * root) @ V.T, (U * root) @ R.T))
    run = linfa.simulate(linfa.bp(), task, network, 3.0, rtol=1e-11, atol=1e-13)
    assert SaxeMode(linfa.bp(), task, run.at(0)).error(run) <= 1e-8


@given(t1=POSITIVE, t2=POSITIVE, s=st.floats(0, 3), u0=POSITIVE)
def test_group_law(t1, t2, s, u0):
    assert bp_mode(t1 + t2, s, u0) == pytest.approx(bp_mode(t2, s, bp_mode(t1, s, u0)), rel=1e-12)


def test_limits_of_the_formula():
    assert bp_mode(3.0, 0.0, 2.0) == pytest.approx(2 / (1 + 2 * 3 * 2))
    for tiny in (1e-18, 1e-160, 5e-324):
        assert bp_mode(3.0, tiny, 2.0) == pytest.approx(bp_mode(3.0, 0.0, 2.0), rel=1e-12)
    assert bp_mode(3.0, 2.0, 0.0) == 0
    assert bp_mode(500.0, 2.0, 0.1) == 2.0
    assert bp_mode(0.0, 2.0, 0.1) == pytest.approx(0.1)


def test_the_same_body_under_sympy():
    t, s, u0 = sp.symbols("t s u_0", positive=True)
    at = {t: sp.Rational(1, 3), s: 2, u0: sp.Rational(1, 7)}
    assert float(bp_mode(t, s, u0).subs(at)) == pytest.approx(bp_mode(1 / 3, 2.0, 1 / 7), rel=1e-14)


def test_an_opposite_start_is_refused():
    task = linfa.Task.teacher(np.eye(2))
    network = linfa.Network((np.eye(2), -np.eye(2)))
    with pytest.raises(linfa.theory.AssumptionError, match=r"its lowest strength there is -1"):
        SaxeMode(linfa.bp(), task, linfa.dynamics.State(network.weights, ((),)))
