"""The normative factors at the end of training, and the best approximation itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory import AssumptionError
from linfa.theory.dimension.eckart_young import EckartYoung, best_feedback, best_mismatch


@given(seed=st.integers(0, 10**6), rank=st.integers(1, 3))
def test_mismatch_in_the_end(seed, rank):
    rule = linfa.ldfa(rank, "normative")
    setup = EckartYoung.example(rule, seed)
    run = linfa.simulate(rule, setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11)
    end = run.at(-1)
    (Q, P), W = end.feedback[0], end.weights[1]
    (mismatch,) = EckartYoung(rule, setup.task, end).mismatch
    assert 0.5 * ((W.T - Q @ P) ** 2).sum() == pytest.approx(mismatch, rel=1e-8, abs=1e-12)
    assert run.loss[-1] < 1e-12


def test_three_layers():
    """Weights at rest at zero loss, factors on the move."""
    rule, network = linfa.ldfa(1, "normative"), linfa.Network.small((3, 4, 4, 3), scale=1.0, seed=3)
    task = linfa.Task.teacher(network.weights[2] @ network.weights[1] @ network.weights[0])
    rng = np.random.default_rng(0)
    feedback = tuple((rng.standard_normal((4, 1)), rng.standard_normal((1, size))) for size in (4, 3))
    run = linfa.simulate(rule, task, network, [0.0, 150.0], feedback=feedback, rtol=1e-11, atol=1e-13)
    closed = EckartYoung(rule, task, run.at(0))
    assert closed.error(run) <= 1e-8
    for limit, (Q, P) in zip(closed.predict(run.times), run.at(-1).feedback, strict=True):
        assert np.allclose(limit[-1], Q @ P, atol=1e-8)


@given(n=st.integers(1, 5), m=st.integers(1, 5), r=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_best_approximation(n, m, r, seed):
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((2, m, n))
    best = best_feedback(W, r)
    assert np.linalg.matrix_rank(best).max() <= r
    assert 0.5 * ((np.swapaxes(W, -1, -2) - best) ** 2).sum((-1, -2)) == pytest.approx(best_mismatch(W, r), abs=1e-10)
    other = rng.standard_normal((n, r)) @ rng.standard_normal((r, m))
    assert (0.5 * ((np.swapaxes(W, -1, -2) - other) ** 2).sum((-1, -2)) >= best_mismatch(W, r) - 1e-10).all()


def test_no_gap_at_the_end_is_refused():
    rule = linfa.ldfa(1, "normative")
    setup = EckartYoung.example(rule, 0)
    run = linfa.simulate(rule, setup.task, setup.network, [0.0], feedback=setup.feedback)
    closed = EckartYoung(rule, setup.task, run.at(0))
    run.weights[1][:] = np.eye(*run.weights[1].shape[1:]) if run.weights[1].shape[1] > 1 else 0
    with pytest.raises(AssumptionError, match="no spectral gap"):
        closed.error(run)
