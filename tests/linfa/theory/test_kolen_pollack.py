"""KolenPollackDecay on drawn networks of several depths, with one matrix and with two factors."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.theory.learned.kolen_pollack import KolenPollackDecay


@given(
    widths=st.lists(st.integers(2, 5), min_size=3, max_size=5),
    decay=st.floats(0, 1),
    factors=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_flow_and_descent(widths, decay, factors, seed):
    rule = linfa.ldfa(2, "kolen-pollack", decay=decay) if factors else linfa.kolen_pollack(decay)
    task = linfa.Task.from_spectrum([1.0, 0.5], n_in=widths[0], n_out=widths[-1], seed=seed)
    network = linfa.Network.small(widths, scale=0.5, seed=seed)
    run = linfa.simulate(rule, task, network, np.linspace(0, 3, 7), seed=seed, rtol=1e-11, atol=1e-13)
    closed = KolenPollackDecay(rule, task, run.at(0))
    assert closed.error(run) <= 1e-8
    batches = linfa.descend(rule, task, network, 0.002, 50, batch_size=7, seed=seed)
    assert closed.discrete_error(batches) <= 1e-11
