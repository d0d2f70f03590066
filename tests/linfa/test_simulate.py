"""Flow and descent against closed forms, another integrator, and themselves."""

import io
import itertools
import re
import sys

import numpy as np
import pytest
from hypothesis import given
from scipy.integrate import odeint
from scipy.linalg import expm

import linfa
from linfa.dynamics import velocity
from linfa.rules import named
from linfa.simulate import Diverged, _pack, _unpack
from linfa.testing import problems
from linfa.tree import leaves


def test_one_layer_is_a_matrix_exponential():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((4, 4))
    task = linfa.Task.teacher(rng.standard_normal((3, 4)), Sxx=root @ root.T / 4, noise=0.1)
    network = linfa.Network.small((4, 3), 1.0, seed=1)
    times = np.linspace(0, 3, 7)
    run = linfa.simulate(linfa.bp(), task, network, times, rtol=1e-12, atol=1e-14)
    for t, W in zip(times, run.weights[0], strict=True):
        exact = task.optimum + (network.weights[0] - task.optimum) @ expm(-task.Sxx * t)
        np.testing.assert_allclose(W, exact, atol=1e-10)


@pytest.mark.parametrize("name", ["bp", "fa", "ldfa(2, oja)", "ldfa(2, normative)", "kolen-pollack", "dfa"])
def test_flow_against_another_integrator(name):
    rule, task = named()[name], linfa.Task.from_spectrum([1.5, 1.0, 0.5], n_in=4, seed=3)
    network = linfa.Network.small((4, 5, 4, 3), 0.6, seed=2)
    run = linfa.simulate(rule, task, network, [0.0, 0.5, 1.5], seed=4, rtol=1e-11, atol=1e-13)
    state = run.at(0)
    path = odeint(
        lambda y, t: _pack(velocity(rule, _unpack(y, state), task.batch)),
        _pack(state),
        run.times,
        rtol=1e-10,
        atol=1e-12,
    )
    np.testing.assert_allclose(_pack(run.at(2)), path[2], atol=1e-7)


@given(problems(depth=2))
def test_pack_and_unpack_are_inverse(problem):
    state = problem.state
    again = _unpack(_pack(state), state)
    for a, b in zip(leaves(state), leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_ensembles_flow_like_their_members():
    rule, task = linfa.ldfa(2), linfa.Task.from_spectrum([1.5, 1.0, 0.5], seed=3)
    ensemble = linfa.Network.small((3, 4, 3), 0.5, seed=1, batch=(3,))
    together = linfa.simulate(rule, task, ensemble, [0.0, 1.0], seed=2)
    for k in range(3):
        network = linfa.Network(tuple(w[k] for w in ensemble.weights))
        feedback = tuple(tuple(m[0, k] for m in stored) for stored in together.feedback)
        alone = linfa.simulate(rule, task, network, [0.0, 1.0], feedback=feedback)
        np.testing.assert_allclose(together.map[-1, k], alone.map[-1], atol=1e-7)


def test_minibatches_are_seeded():
    task = linfa.Task.from_data(np.random.default_rng(0).standard_normal((50, 3)), np.arange(50) % 2)
    run = lambda seed: linfa.descend(  # noqa: E731
        linfa.bp(), task, linfa.Network.small((3, 4, 2), 0.5), 0.1, 20, batch_size=8, seed=seed
    ).map[-1]
    np.testing.assert_array_equal(run(1), run(1))
    assert np.abs(run(1) - run(2)).max() > 1e-3


def test_a_whole_batch_is_full_descent():
    x = np.random.default_rng(0).standard_normal((20, 3)) + 0.5
    task = linfa.Task.from_data(x, x[:, :2] ** 2)
    args = linfa.ldfa(2), task, linfa.Network.small((3, 4, 2), 0.5), 0.05, 30
    np.testing.assert_allclose(linfa.descend(*args, batch_size=20).map[-1], linfa.descend(*args).map[-1], atol=1e-12)


def test_small_batches_average_to_descent():
    task = linfa.Task.from_spectrum([1.0, 0.6], noise=0.2, seed=1)
    args = linfa.fa(), task, linfa.Network.small((2, 4, 2), 0.5), 0.002, 1000
    noisy = linfa.descend(*args, batch_size=32, seed=0, record=1000).map[-1]
    np.testing.assert_allclose(noisy, linfa.descend(*args, record=1000).map[-1], atol=0.02)


def test_feedback_is_redrawn_at_every_step():
    task, network = linfa.Task.from_spectrum([1.0, 0.5], seed=1), linfa.Network.small((2, 3, 2), 1.0, seed=3)
    (M,) = linfa.descend(linfa.sign_symmetry("brSF"), task, network, 0.01, 5, seed=1).feedback[0]
    assert all(np.abs(a - b).max() > 1e-3 for a, b in itertools.combinations(M, 2))
    (M,) = linfa.descend(linfa.sign_symmetry("frSF"), task, network, 0.01, 5, seed=1).feedback[0]
    assert all(np.array_equal(M[0], later) for later in M)


def test_record_keeps_every_so_many_and_the_last():
    task = linfa.Task.from_spectrum([1.0])
    run = linfa.descend(linfa.bp(), task, linfa.Network.small((1, 1, 1), 0.5), 0.1, 25, record=10)
    np.testing.assert_allclose(run.times, [0, 1, 2, 2.5])


def test_redrawn_feedback_averages_to_its_mean():
    """brSF with small steps is uSF with the mean magnitude sqrt(2/pi)."""
    task, network = linfa.Task.from_spectrum([1.0, 0.5], seed=1), linfa.Network.small((2, 3, 2), 1.0, seed=3)
    steps, lr = 4000, 2.5e-4
    run = linfa.descend(linfa.sign_symmetry("brSF"), task, network, lr, steps, seed=1, record=steps)
    mean = (np.full((3, 2), np.sqrt(2 / np.pi) * 3**-0.5),)
    flow = linfa.simulate(linfa.sign_symmetry("uSF"), task, network, [0.0, 1.0], feedback=(mean,))
    np.testing.assert_allclose(run.map[-1], flow.map[-1], atol=0.02)
    assert np.abs(run.map[-1] - run.map[0]).max() > 0.2


def test_torch_networks_descend_in_torch():
    torch = pytest.importorskip("torch")
    task = linfa.Task.from_spectrum([1.0, 0.5], n_in=3, noise=0.1)
    plain = linfa.Network.small((3, 4, 2), 0.5, batch=(2,))
    tensors = linfa.Network(tuple(torch.as_tensor(w) for w in plain.weights))
    a, b = (linfa.descend(linfa.ldfa(2), task, network, 0.05, 40, seed=3) for network in (plain, tensors))
    np.testing.assert_allclose(a.map, b.map, atol=1e-12)
    with pytest.raises(TypeError, match=r"linfa\.descend"):
        linfa.simulate(linfa.ldfa(2), task, tensors, 1.0)


TASK = linfa.Task.from_spectrum([1.0, 0.5])
NET = linfa.Network.small((2, 3, 2), 0.5)


@pytest.mark.parametrize("time", [-1.0, [0.0, 2.0, 1.0], [-1.0, 1.0], float("nan"), [], [[0.0, 1.0]]])
def test_bad_times(time):
    with pytest.raises(ValueError, match="time is a number >= 0"):
        linfa.simulate(linfa.bp(), TASK, NET, time)


def test_time_zero_is_the_start():
    run = linfa.simulate(linfa.bp(), TASK, NET, 0.0)
    np.testing.assert_array_equal(run.weights[0][-1], NET.weights[0])


def test_bad_input():
    with pytest.raises(ValueError, match="the task maps 2 inputs to 2 outputs, the network 3 to 2"):
        linfa.simulate(linfa.bp(), TASK, linfa.Network.small((3, 3, 2)), 1.0)
    with pytest.raises(ValueError, match="1 edges at depth 2; got feedback for 2"):
        linfa.simulate(linfa.fa(), TASK, NET, 1.0, feedback=(np.eye(3), np.eye(3)))
    with pytest.raises(ValueError, match=r"edge to cut 1 stores B of shapes \(\(3, 2\),\); got \(\(2, 3\),\)"):
        linfa.simulate(linfa.fa(), TASK, NET, 1.0, feedback=(np.zeros((2, 3)),))
    with pytest.raises(ValueError, match="uSF"):
        linfa.simulate(linfa.sign_symmetry("brSF"), TASK, NET, 1.0)
    for lr in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="lr is a positive number"):
            linfa.descend(linfa.bp(), TASK, NET, lr, 10)
    with pytest.raises(ValueError, match="steps is at least 0"):
        linfa.descend(linfa.bp(), TASK, NET, 0.1, -1)
    with pytest.raises(ValueError, match="rank 3 fits no edge"):
        linfa.simulate(linfa.ldfa(3), TASK, NET, 1.0)


def test_divergence_names_the_step():
    with pytest.raises(Diverged, match=r"diverged at step \d+ with lr=5"):
        linfa.descend(linfa.fa(), TASK, NET, 5.0, 500)


def test_given_feedback_is_used():
    B = np.arange(6.0).reshape(3, 2)
    run = linfa.simulate(linfa.fa(), TASK, NET, 0.1, feedback=(B,))
    np.testing.assert_array_equal(run.feedback[0][0][-1], B)


def test_cubic_growth_diverges_without_warnings():
    task = linfa.Task.from_spectrum([50.0, 20.0])
    for lr in (0.5, 50.0, 1e8):
        with pytest.raises(Diverged):
            linfa.descend(linfa.fa(), task, linfa.Network.small((2, 5, 2), 5.0), lr, 50)


def test_every_time_is_as_exact_as_the_last():
    """Interpolation between the integrator's long steps is off by 6e-7 here."""
    task, network = linfa.Task.from_spectrum([3.0, 2.0, 1.0], n_in=6), linfa.Network.small((6, 10, 3), 0.1)
    run = linfa.simulate(linfa.fa(), task, network, 20.0)
    exact = linfa.simulate(linfa.fa(), task, network, 20.0, rtol=1e-13, atol=1e-15)
    for mine, theirs in zip(run.weights, exact.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-9)


def test_long_flows_show_how_far_they_are(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    task, network = linfa.Task.from_spectrum([1.0]), linfa.Network.small((1, 1, 1), 0.5)
    linfa.simulate(linfa.fa(), task, network, 20.0)
    assert not sys.stderr.getvalue()
    linfa.simulate(linfa.fa(), task, network, 20.0, progress=True)
    assert re.search(r"fa: .*100%.*20\.0/20\.0", sys.stderr.getvalue())
