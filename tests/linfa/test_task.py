"""Tasks: moments, batches, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.task import Task


def covariance(batch):
    Z = np.concatenate([batch.X, batch.Y])
    return Z @ Z.T


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 999), st.booleans())
def test_population_batch_has_exactly_the_moments(n, m, seed, noisy):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n, n))
    task = Task.teacher(rng.standard_normal((m, n)), Sxx=root @ root.T, noise=0.5 * noisy)
    S = np.block([[task.Sxx, task.Syx.T], [task.Syx, task.Syy]])
    np.testing.assert_allclose(covariance(task.batch), S, atol=1e-9 * max(1, np.abs(S).max()))


@given(st.integers(1, 4), st.integers(1, 3), st.integers(2, 20), st.integers(0, 999))
def test_data_moments_and_means(n, m, N, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((N, n)) + 1, rng.standard_normal((N, m)) - 2
    task = Task.from_data(x, y)
    Z = np.concatenate([x, y], axis=1)
    np.testing.assert_allclose(covariance(task.batch), Z.T @ Z / N, atol=1e-7)
    means = np.concatenate([task.batch.X, task.batch.Y]) @ task.batch.one
    np.testing.assert_allclose(means[:, 0], Z.mean(0), atol=1e-6)


def test_spectrum():
    task = Task.from_spectrum([3.0, 1.0], n_in=5, n_out=4, seed=2)
    np.testing.assert_allclose(np.linalg.svd(task.Syx, compute_uv=False)[:3], [3, 1, 0], atol=1e-12)
    assert task.whiteness_violation == 0
    assert repr(task) == "Task(5 -> 4, white, singular values 3, 1)"


def test_label_noise_adds_its_variance():
    weight, Sxx = np.array([[1.0, -2.0], [0.5, 0.0]]), np.array([[2.0, 0.3], [0.3, 1.0]])
    task = Task.teacher(weight, Sxx=Sxx, noise=0.3)
    np.testing.assert_allclose(task.Syx, weight @ Sxx)
    np.testing.assert_allclose(task.Syy, weight @ Sxx @ weight.T + 0.09 * np.eye(2))
    np.testing.assert_allclose(Task.from_spectrum([1.0], noise=0.5).Syy, [[1.25]])


def test_optimum_is_least_squares():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    np.testing.assert_allclose(Task.from_data(x, y).optimum.T, np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-10)


def test_rank_deficient_data():
    x = np.random.default_rng(0).standard_normal((30, 2)) @ np.ones((2, 4))
    task = Task.from_data(x, x[:, :1])
    np.testing.assert_allclose(covariance(task.batch)[:4, :4], x.T @ x / 30, atol=1e-9)


def test_classes_become_one_hot_and_centring_removes_means():
    x = np.random.default_rng(0).standard_normal((30, 3)) + 4
    task = Task.from_data(x, np.arange(30) % 3, center=True)
    assert task.targets.shape == (30, 3)
    assert task.batch.one is None or np.abs(task.batch.X @ task.batch.one).max() < 1e-12
    np.testing.assert_allclose(task.inputs, x - x.mean(0))
    np.testing.assert_allclose(task.targets, np.eye(3)[np.arange(30) % 3] - 1 / 3, atol=1e-15)


def test_minibatches_of_data_are_its_rows():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, 3)), rng.standard_normal((10, 2))
    batch = Task.from_data(x, y).sample(4, rng)
    rows = {tuple(row) for row in np.concatenate([x, y], 1).round(9)}
    drawn = np.concatenate([batch.X, batch.Y]).T * 2
    assert all(tuple(row.round(9)) in rows for row in drawn)
    assert len({tuple(row) for row in drawn}) == 4
    np.testing.assert_allclose(batch.one, 0.5)


def test_minibatches_reach_every_row_equally():
    task, rng = Task.from_data(np.eye(5), np.eye(5)), np.random.default_rng(0)
    often = sum((np.sqrt(2) * task.sample(2, rng).X).sum(1) for _ in range(2000))
    np.testing.assert_allclose(often, 800, rtol=0.1)


def test_drawn_populations_have_the_moments():
    data = np.random.default_rng(1).standard_normal((50, 3)) + 0.7
    for whole in (
        Task.teacher(np.array([[1.0, -2.0, 0.5]]), noise=0.3),
        Task(*(getattr(Task.from_data(data, data[:, :1]), k) for k in ("Sxx", "Syx", "Syy", "mean_x", "mean_y"))),
    ):
        batch = whole.sample(200_000, np.random.default_rng(0))
        np.testing.assert_allclose(covariance(batch)[:3, :3], whole.Sxx, atol=0.03)
        np.testing.assert_allclose((batch.Y @ batch.X.T), whole.Syx, atol=0.03)
        np.testing.assert_allclose((batch.X @ batch.one)[:, 0], whole.mean_x, atol=0.02)


I2 = np.eye(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task([[1, np.nan], [np.nan, 1]], I2), "Sxx has entries that are not finite"),
        (lambda: Task(I2, [[np.inf, 0]]), "Syx has entries that are not finite"),
        (lambda: Task([[1, 0.5], [0.1, 1]], I2), "Sxx is not symmetric: entries differ by up to 0.4"),
        (lambda: Task([[1, 0], [0, -1]], I2), "negative eigenvalue -1"),
        (lambda: Task(np.eye(3), I2), r"Sxx is \(2, 2\); got shape \(3, 3\)"),
        (lambda: Task(I2, np.ones(2)), r"Syx is a matrix"),
        (lambda: Task(I2, I2, 0.5 * I2), "Syy is too small"),
        (lambda: Task([[1, 0], [0, 0]], I2), "directions in which Sxx has no variance"),
        (lambda: Task(I2, I2, mean_x=np.ones(3)), r"mean_x is \(2,\); got shape \(3,\)"),
        (lambda: Task.from_spectrum([1.0, -1.0]), "not negative"),
        (lambda: Task.from_spectrum([1.0, 1.0], n_in=1), "2 singular values do not fit a map from 1 inputs"),
        (lambda: Task.teacher(I2, noise=-1.0), "at least 0"),
        (lambda: Task.from_data(np.ones((3, 2)), np.ones((4, 1))), r"same N > 0; got \(3, 2\), \(4, 1\)"),
        (lambda: Task.from_data(np.full((3, 2), np.nan), np.ones((3, 1))), "data have entries"),
        (lambda: Task.from_data(np.ones((3, 2)), np.ones((3, 1))).sample(4, np.random.default_rng(0)), "batch of 4"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_task_is_exported():
    assert linfa.Task is Task
