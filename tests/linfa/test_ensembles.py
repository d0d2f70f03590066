"""Ensembles: arrays of seeds give every member what it has alone, in tasks, networks, feedback and descent."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.algebra import svd_frames
from linfa.dynamics import moves, start, velocity
from linfa.optimizer import Adam
from linfa.rules import named
from linfa.simulate import Diverged, descent
from linfa.streams import Streams, stream
from linfa.task import Task
from linfa.tree import leaves, tree_map

SEEDS = st.lists(st.integers(0, 2**40), min_size=1, max_size=4)


@given(SEEDS, st.integers(0, 9), st.integers(1, 3))
def test_streams_are_those_of_the_seeds(seeds, path, draws):
    together, singles = stream(seeds, path), [np.random.default_rng((seed, path)) for seed in seeds]
    for _ in range(draws):
        z, rows = together.standard_normal((len(seeds), 2, 3)), together.choice(7, 4, replace=False)
        for k, rng in enumerate(singles):
            np.testing.assert_array_equal(z[k], rng.standard_normal((2, 3)))
            np.testing.assert_array_equal(rows[k], rng.choice(7, 4, replace=False))


def test_streams_of_a_grid():
    drawn = Streams([[1, 2], [3, 4]], 5).standard_normal((2, 2, 3))
    np.testing.assert_array_equal(drawn[1, 0], np.random.default_rng((3, 5)).standard_normal(3))


@pytest.mark.parametrize("seeds", [[], [0.5], [-1], [None]])
def test_seeds_are_whole_numbers(seeds):
    with pytest.raises(ValueError, match="seeds are whole numbers, at least 0"):
        Streams(seeds)


def test_seeds_fit_the_ensemble():
    with pytest.raises(ValueError, match=r"\(3,\) seeds do not fit an ensemble of shape \(2, 4\)"):
        Streams([1, 2, 3]).standard_normal((2, 4))


MOMENT = np.array([[1.0, 0.3, 0.0], [0.3, 0.8, 0.1], [0.0, 0.1, 0.2]])


@given(SEEDS, st.sampled_from([None, MOMENT]), st.sampled_from([0.0, 0.4]))
def test_tasks_of_an_ensemble_are_those_of_the_seeds(seeds, Sxx, noise):
    def make(seed):
        return Task.from_spectrum([2.0, 0.5], n_in=3, n_out=2, Sxx=Sxx, noise=noise, seed=seed)

    together = make(seeds)
    assert together.ensemble == (len(seeds),)
    assert (together.n_in, together.n_out) == (3, 2)
    for k, single in enumerate(map(make, seeds)):
        for name in ("Sxx", "Syx", "Syy", "optimum", "mean_x"):
            np.testing.assert_array_equal(getattr(together, name)[k], getattr(single, name), err_msg=name)
        for mine, theirs in zip(together.batch[:2], single.batch[:2], strict=True):
            np.testing.assert_allclose(mine[k], theirs, atol=1e-13)
        for rank in (None, 1):
            assert together.least_loss(rank)[k] == pytest.approx(float(single.least_loss(rank)), abs=1e-12)
        assert together.whiteness_violation == single.whiteness_violation


@pytest.mark.parametrize("means", [False, True])
def test_samples_of_an_ensemble_are_those_of_its_members(means):
    rng = np.random.default_rng(0)
    mean = 0.3 * rng.standard_normal((2, 5)) * means
    centred = [Task.teacher(rng.standard_normal((2, 3)), noise=0.5) for _ in range(2)]
    singles = [
        Task(t.Sxx + np.outer(x, x), t.Syx + np.outer(y, x), t.Syy + np.outer(y, y), x, y)
        for t, (x, y) in zip(centred, ((m[:3], m[3:]) for m in mean), strict=True)
    ]
    names = ("Sxx", "Syx", "Syy", "mean_x", "mean_y")
    together = Task(*(np.stack([getattr(t, name) for t in singles]) for name in names))
    drawn = together.sample(6, Streams([8, 9]))
    for k, (single, seed) in enumerate(zip(singles, (8, 9), strict=True)):
        alone = single.sample(6, np.random.default_rng(seed))
        for name in ("X", "Y"):
            np.testing.assert_allclose(getattr(drawn, name)[k], getattr(alone, name), atol=1e-12)
        one, theirs = together.batch.with_unit_constant(), single.batch.with_unit_constant()
        if means:
            S = one.X[k] @ one.one[k]
            np.testing.assert_allclose(S, theirs.X @ theirs.one, atol=1e-12)
            assert float((one.one[k] ** 2).sum()) == pytest.approx(1.0)


def test_rank_deficient_members_keep_their_own_directions():
    Sxx = np.stack([np.eye(2), np.diag([1.0, 0.0]), 1e-30 * np.eye(2)])
    task = Task(Sxx, np.zeros((3, 2, 2)))
    np.testing.assert_allclose(task.batch.X @ np.swapaxes(task.batch.X, -1, -2), Sxx, rtol=1e-12)
    assert repr(task) == "Task(2 -> 2, not white, ensemble 3)"


def test_bad_ensembles_of_tasks():
    two = np.zeros((2, 2, 2))
    with pytest.raises(ValueError, match=r"Sxx has the leading axes of Syx, \(2,\), or none; got shape \(3, 2, 2\)"):
        Task(np.stack([np.eye(2)] * 3), two)
    with pytest.raises(ValueError, match="samples belong to a single task"):
        Task(np.eye(2), two, inputs=np.zeros((4, 2)), targets=np.zeros((4, 2)))
    with pytest.raises(ValueError, match="negative eigenvalue -1"):
        Task(np.stack([np.eye(2), np.diag([1.0, -1.0])]), two)
    with pytest.raises(ValueError, match=r"axes of the networks, \(3,\); got \(2,\)"):
        linfa.descend(linfa.bp(), Task(np.eye(2), two), linfa.Network.small((2, 2), batch=(3,)), 0.1, 1)
    state = start(linfa.bp(), linfa.Network.small((2, 2)))
    with pytest.raises(ValueError, match=r"axes of the networks, \(\); got \(2,\)"):
        linfa.descend(linfa.bp(), Task(np.eye(2), two), state, 0.1, 1)
    with pytest.raises(
        linfa.theory.base.AssumptionError, match=r"the task is not a single one: it is an ensemble of \(2,\)"
    ):
        linfa.theory.FinalMap(linfa.fa(), Task(np.eye(2), two), start(linfa.fa(), linfa.Network.zero((2, 2, 2))))


@given(SEEDS)
def test_networks_of_an_ensemble_are_those_of_the_seeds(seeds):
    scales, widths = np.linspace(0.1, 1, len(seeds)), (3, 4, 2)
    small, even = linfa.Network.small(widths, scales, seeds), linfa.Network.balanced(widths, 0.5, seeds)
    assert small.batch == (len(seeds),)
    for k, (seed, scale) in enumerate(zip(seeds, scales, strict=True)):
        for a, b in zip(small.weights, linfa.Network.small(widths, scale, seed).weights, strict=True):
            np.testing.assert_array_equal(a[k], b)
        for a, b in zip(even.weights, linfa.Network.balanced(widths, 0.5, seed).weights, strict=True):
            np.testing.assert_allclose(a[k], b, atol=1e-13)
    assert linfa.Network.small(widths, 0.1, seeds, batch=(5,)).batch == (len(seeds), 5)


def test_aligned_networks_of_an_ensemble_of_tasks():
    together = linfa.Network.aligned(Task.from_spectrum([2.0, 1.0], seed=[3, 4]), [3], [0.5, 0.2], seed=[1, 2])
    for k, (task, seed) in enumerate(((3, 1), (4, 2))):
        alone = linfa.Network.aligned(Task.from_spectrum([2.0, 1.0], seed=task), [3], [0.5, 0.2], seed=seed)
        for a, b in zip(together.weights, alone.weights, strict=True):
            np.testing.assert_allclose(a[k], b, atol=1e-13)


@pytest.mark.parametrize("rule", named().values(), ids=str)
def test_the_start_of_a_member_is_that_of_its_seed(rule):
    seeds, widths = [7, 3], (4, 5, 3)
    together = start(rule, linfa.Network.small(widths, 0.5, seeds), seeds)
    for k, seed in enumerate(seeds):
        single = start(rule, linfa.Network.small(widths, 0.5, seed), seed)
        for a, b in zip(leaves(together), leaves(single), strict=True):
            np.testing.assert_allclose(a[k], b, atol=1e-13)


@pytest.mark.parametrize("rule", named().values(), ids=str)
def test_members_that_diverge_leave_the_others_as_they_are(rule):
    seeds, lr = [1, 2, 3], np.array([0.01, 1e300, 0.02])[:, None, None]
    task = Task.from_spectrum([1.0, 0.5, 0.2], n_in=4, noise=0.1, seed=seeds)
    state = start(rule, linfa.Network.small((4, 4, 4, 3), 0.5, seeds), seeds)
    *_, last = itertools.islice(descent(rule, task, state, lr, seed=seeds), 6)
    for k in (0, 2):
        alone = Task.from_spectrum([1.0, 0.5, 0.2], n_in=4, noise=0.1, seed=seeds[k])
        *_, single = itertools.islice(
            descent(rule, alone, tree_map(lambda x, k=k: x[k], state), float(lr[k, 0, 0]), seed=seeds[k]), 6
        )
        for a, b in zip(leaves(last), leaves(single), strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-11, atol=1e-13)
    assert not all(np.isfinite(w[1]).all() and (abs(w[1]) < 1e150).all() for w in leaves(last.weights))


def test_a_matrix_that_is_not_finite_has_no_svd():
    A = np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32)
    A[1, 0, 0], A[2, 2, 1] = np.nan, np.inf
    for part, alone in zip(svd_frames(A), svd_frames(A[0]), strict=True):
        assert part.dtype == np.float32
        assert np.isnan(part).reshape(4, -1).any(1).tolist() == [False, True, True, False]
        np.testing.assert_array_equal(part[0], alone)
    torch = pytest.importorskip("torch")
    for part, mine in zip(svd_frames(torch.as_tensor(A)), svd_frames(A), strict=True):
        assert part.dtype == torch.float32
        np.testing.assert_array_equal(np.isnan(part.numpy()), np.isnan(mine))


@pytest.mark.parametrize("rule", named().values(), ids=str)
def test_what_does_not_move_has_no_velocity(rule):
    task, state = Task.from_spectrum([1.0, 0.5]), start(rule, linfa.Network.small((2, 4, 4, 2), 0.5))
    part, full = moves(rule, state, task.batch), velocity(rule, state, task.batch)
    still = [[dB is None for dB in edge] for edge in part.feedback]
    assert still == [[not learns for learns in rule.plasticity.learns(len(edge))] for edge in state.feedback]
    for down, v in zip(leaves(part.weights), leaves(full.weights), strict=True):
        np.testing.assert_array_equal(-down, v)
    for a, b, B in zip(leaves(part.feedback), leaves(full.feedback), leaves(state.feedback), strict=True):
        np.testing.assert_array_equal(0 * B if a is None else a, b)


def test_adam_leaves_alone_what_does_not_move():
    rule, task = linfa.ldfa(2, "kolen-pollack"), Task.from_spectrum([1.0, 0.5])
    run = linfa.descend(rule, task, linfa.Network.small((2, 4, 4, 2), 0.5), 0.01, 20, optimizer=Adam())
    for Q, P in run.feedback:
        np.testing.assert_array_equal(P[0], P[-1])
        assert np.abs(Q[0] - Q[-1]).max() > 0.01


def test_one_member_that_diverges_stops_descend():
    network = linfa.Network.small((2, 3, 2), np.array([0.1, 1e3]), seed=0)
    with pytest.raises(Diverged, match="bp diverged at step"):
        linfa.descend(linfa.bp(), Task.from_spectrum([1.0, 0.5]), network, 0.1, 50)


def test_an_ensemble_of_tasks_has_modes_of_its_own():
    seeds = [0, 1, 2]
    task, network = Task.from_spectrum([2.0, 1.0], seed=seeds), linfa.Network.small((2, 4, 2), 0.1, seeds)
    together = linfa.simulate(linfa.fa(), task, network, [0.0, 2.0, 30.0], seed=seeds)
    np.testing.assert_allclose(together.mode_strengths[-1], [[2.0, 1.0]] * 3, atol=1e-4)
    for k in seeds:
        alone = Task.from_spectrum([2.0, 1.0], seed=k)
        single = linfa.simulate(linfa.fa(), alone, linfa.Network.small((2, 4, 2), 0.1, k), [0.0, 2.0, 30.0], seed=k)
        np.testing.assert_allclose(together.mode_strengths[:, k], single.mode_strengths, atol=1e-6)
        np.testing.assert_allclose(together.loss[:, k], single.loss, atol=1e-6)
    pytest.importorskip("matplotlib.pyplot").close(together.plot())


def test_the_least_loss_of_a_rank_is_reached_by_no_other_map():
    rng = np.random.default_rng(0)
    task = Task.teacher(rng.standard_normal((3, 4)), np.diag([2.0, 1.0, 0.5, 0.1]), noise=0.2)
    root = np.sqrt(np.diag(task.Sxx))
    U, s, Vt = np.linalg.svd(task.optimum * root)

    def loss(W):
        return 0.5 * np.trace(task.Syy - 2 * W @ task.Syx.T + W @ task.Sxx @ W.T)

    for rank in (1, 2, 3):
        best = (U[:, :rank] * s[:rank]) @ Vt[:rank] / root
        assert task.least_loss(rank) == pytest.approx(loss(best), rel=1e-12)
        other = best + 1e-3 * (best @ rng.standard_normal((4, 4)))
        assert loss(other) > task.least_loss(rank)
    assert task.least_loss() == task.least_loss(3) == pytest.approx(0.5 * 3 * 0.2**2)


def test_ranks_of_rules():
    ranked = {name for name, rule in named().items() if rule.has_rank}
    assert {"ldfa(2, oja)", "svd-local(2)", "bp + factored(2)"} < ranked
    assert not ranked & {"fa", "bp", "sgr(2)"}
    assert dataclasses.replace(linfa.ldfa(2)).at_rank(3).rank == 3
