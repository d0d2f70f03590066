"""The Riccati solution against the flow, against many digits, and by its laws."""

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.linalg import expm

import linfa
from linfa.dynamics import State
from linfa.theory import AssumptionError
from linfa.theory.backprop.riccati import Riccati, lambda_balanced_network, layer_imbalance, riccati_qqt
from linfa.theory.backprop.saxe import SaxeMode, bp_mode
from linfa.theory.backprop.unbalanced import bp_mode_weights

SIZES, SEEDS, TIMES = st.integers(1, 5), st.integers(0, 10**6), st.floats(0, 3)


@st.composite
def problems(draw):
    """W_1, W_2 and Sigma of any widths, with every lambda that they allow."""
    n, k, m = draw(SIZES), draw(SIZES), draw(SIZES)
    signs = [0, *([1] if k <= m else []), *([-1] if k <= n else [])]
    imbalance = draw(st.sampled_from(signs)) * draw(st.floats(0.01, 3))
    network = lambda_balanced_network((n, k, m), imbalance, draw(st.floats(0.1, 1.0)), draw(SEEDS))
    Sigma = np.random.default_rng(draw(SEEDS)).standard_normal((m, n)) / np.sqrt(max(n, m))
    return (*network.weights, Sigma)


def columns(W1, W2):
    return np.concatenate([W1.T, W2])


def textbook(W1, W2, Sigma, t):
    """e^(Ft) Q_0 [I + Q_0^T G Q_0]^(-1) Q_0^T e^(Ft), with both exponential and integral from one exponential."""
    (k, n), m = W1.shape, len(W2)
    half = np.trace(W2.T @ W2 - W1 @ W1.T) / (2 * k)
    F = np.block([[-half * np.eye(n), Sigma.T], [Sigma, half * np.eye(m)]])
    block = expm(t * np.block([[2 * F, np.eye(n + m)], [np.zeros((n + m, 2 * (n + m)))]]))
    moved, Q = expm(F * t) @ columns(W1, W2), columns(W1, W2)
    return moved @ np.linalg.solve(np.eye(k) + Q.T @ block[: n + m, n + m :] @ Q, moved.T)


@given(problem=problems(), t=TIMES)
def test_the_textbook_form_while_its_digits_last(problem, t):
    assert riccati_qqt(*problem, [t])[0] == pytest.approx(textbook(*problem, t), abs=1e-10)


@given(problem=problems(), t1=TIMES, t2=TIMES)
def test_semigroup(problem, t1, t2):
    """To go on from any weights with the same products is to go on."""
    W1, W2, Sigma = problem
    (k, n), times = W1.shape, [t1, t1 + t2]
    between, end = riccati_qqt(W1, W2, Sigma, times)
    f, V = np.linalg.eigh(between)
    f = np.where(f < 1e-13, 0.0, f)[::-1]  # rounding
    assume((f[f > 0] > 1e-7).all())
    root = np.zeros((len(f), max(k, len(f))))
    root[:, : len(f)] = V[:, ::-1] * np.sqrt(f)
    assert not root[:, k:].any()  # the rank is at most k
    again = riccati_qqt(root[:n, :k].T, root[n:, :k], Sigma, [t2])[0]
    assert again == pytest.approx(end, abs=1e-8)


@given(problem=problems(), times=st.lists(st.floats(0, 1e4), min_size=1, max_size=5))
def test_products_of_columns_are_positive_and_keep_lambda(problem, times):
    W1, W2, Sigma = problem
    n, times = W1.shape[1], np.sort(times)
    qqt = riccati_qqt(W1, W2, Sigma, times)
    assert np.abs(qqt - np.swapaxes(qqt, 1, 2)).max() <= 1e-12
    assert np.linalg.eigvalsh(qqt).min() >= -1e-10
    traces = np.trace(qqt[:, n:, n:], axis1=1, axis2=2) - np.trace(qqt[:, :n, :n], axis1=1, axis2=2)
    assert traces == pytest.approx(layer_imbalance(W1, W2) * len(W1), abs=1e-9)


@given(problem=problems(), seed=SEEDS)
def test_rotations_of_inputs_outputs_and_hidden_units(problem, seed):
    (W1, W2, Sigma), rng = problem, np.random.default_rng(seed)
    V, R, U = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (W1.shape[1], len(W1), len(W2)))
    O = np.block([[V, np.zeros((len(V), len(U)))], [np.zeros((len(U), len(V))), U]])  # noqa: E741
    plain = riccati_qqt(W1, W2, Sigma, [0.5, 2.0])
    turned = riccati_qqt(R @ W1 @ V.T, U @ W2 @ R.T, U @ Sigma @ V.T, [0.5, 2.0])
    assert turned == pytest.approx(O @ plain @ O.T, abs=1e-9)


@given(problem=problems(), scale=st.floats(0.3, 3))
def test_units_of_time(problem, scale):
    W1, W2, Sigma = problem
    root = np.sqrt(scale)
    faster = riccati_qqt(root * W1, root * W2, scale * Sigma, np.array([0.3, 1.5]) / scale)
    assert faster == pytest.approx(scale * riccati_qqt(W1, W2, Sigma, [0.3, 1.5]), abs=1e-8)


@given(problem=problems(), t=TIMES)
def test_layers_may_be_swapped(problem, t):
    """The transposed network on the transposed task has -lambda."""
    W1, W2, Sigma = problem
    n = W1.shape[1]
    qqt, swapped = riccati_qqt(W1, W2, Sigma, [t])[0], riccati_qqt(W2.T, W1.T, Sigma.T, [t])[0]
    order = np.r_[n : len(qqt), :n]
    assert swapped == pytest.approx(qqt[np.ix_(order, order)], abs=1e-9)


WEIGHT = st.floats(0.05, 2)


@given(w1=WEIGHT, w2=st.floats(-2, 2), s=st.floats(-2, 2), t=st.floats(0, 10))
def test_one_mode(w1, w2, s, t):
    found = riccati_qqt(np.array([[w1]]), np.array([[w2]]), np.array([[s]]), [t])[0]
    weights = np.array(bp_mode_weights(t, s, w1, w2))
    assert found == pytest.approx(np.outer(weights, weights), abs=1e-9)


EXACT = [  # integers, and rational rotations: lambda is exact
    ([[1, 0], [0, 5]], [[5, 0], [0, 7]], [[5, 3], [1, -2]]),
    ([[3, 4, 0]], [[0], [5]], [[1, 2, 0], [0, 1, 1]]),
    ([[1, 0], [0, 1], [0, 0]], [[1, 0, 0], [0, 1, 0]], [[1, 2], [-1, 1]]),
    ([[2, 0], [0, 2]], [[0, 1], [1, 0]], [[0, 0], [0, 0]]),
]


@pytest.mark.parametrize(("W1", "W2", "Sigma"), EXACT)
@pytest.mark.parametrize("t", [1e-20, 1e-9, 1e-3, 0.3, 3, 30, 200])
def test_digits_are_kept_at_all_times(W1, W2, Sigma, t):
    """Against the textbook form with a thousand digits; that one in floating point is lost at e^(2ft) = 1e16."""
    W1, W2, Sigma = (np.array(M) for M in (W1, W2, Sigma))
    (k, n), m = W1.shape, len(W2)
    lam = (W2.T @ W2 - W1 @ W1.T)[0, 0]
    with mpmath.workdps(1000):
        F = mpmath.matrix(np.block([[-lam * np.eye(n), 2 * Sigma.T], [2 * Sigma, lam * np.eye(m)]]).tolist()) / 2
        f, V = mpmath.eigsy(F)
        Z, t_ = V.T * mpmath.matrix(columns(W1, W2).tolist()), mpmath.mpf(t)
        g = [(mpmath.exp(2 * x * t_) - 1) / (2 * x) if abs(x) > 1e-500 else t_ for x in f]
        X = V * mpmath.diag([mpmath.exp(x * t_) for x in f]) * Z
        exact = np.array((X * (mpmath.eye(k) + Z.T * mpmath.diag(g) * Z) ** -1 * X.T).tolist(), float)
    assert np.abs(riccati_qqt(W1, W2, Sigma, [t])[0] - exact).max() <= 1e-12 * np.abs(exact).max()


def test_no_exponential_overflows():
    """The mode that grows faster wins, also where both have long left the floating-point numbers."""
    W1, W2, Sigma = np.array([[1e-3, 1e-3]]), np.array([[1e-3], [1e-3]]), np.diag([3.0, 1.0])
    times = np.array([5, 50, 3e3, 1e5])
    maps = riccati_qqt(W1, W2, Sigma, times)[:, 2:, :2]
    assert maps[-2:] == pytest.approx(np.broadcast_to(np.diag([3.0, 0.0]), (2, 2, 2)), abs=1e-12)
    still = riccati_qqt(0 * W1, 0 * W2, Sigma, times)
    assert not still.any()
    flat = riccati_qqt(W1 * 1e3, W2 * 1e3, 0 * Sigma, [0.0, 1e6])[1]
    assert flat == pytest.approx(np.ones((4, 4)) / (1 + 4e6), rel=1e-9)


def test_slow_modes_are_learned_after_fast_ones():
    """Also where the exponential of the fast one left the floating-point numbers long before."""
    Sigma, times = np.diag([3.0, 0.01]), np.array([150.0, 300.0, 900.0])
    maps = riccati_qqt(0.1 * np.eye(2), 0.1 * np.eye(2), Sigma, times)[:, 2:, :2]
    assert maps[:, 1, 1] == pytest.approx(bp_mode(times, 0.01, 0.01), rel=1e-10)
    assert maps[:, 0, 0] == pytest.approx(3.0)
    again = riccati_qqt(0.01 * np.eye(2), 0.01 * np.eye(2), Sigma, times)[:, 3, 1]
    assert again == pytest.approx(bp_mode(times, 0.01, 1e-4), rel=1e-10)


def test_rounding_does_not_raise_the_rank():
    """One hidden direction, spread over three units, learns one direction for ever."""
    rng = np.random.default_rng(0)
    r, v, u = (x / np.linalg.norm(x) for x in rng.standard_normal((3, 3, 1)))
    qqt = riccati_qqt(0.3 * r @ v.T, 0.3 * u @ r.T, np.diag([3.0, 2.0, 1.0]), [5.0, 60.0])
    assert (np.linalg.svd(qqt, compute_uv=False)[:, 1] <= 1e-12).all()


@given(n=SIZES, m=SIZES, extra=st.integers(0, 2), seed=SEEDS)
def test_aligned_starts_are_sigmoids(n, m, extra, seed):
    rng = np.random.default_rng(seed)
    task = linfa.Task.from_spectrum(rng.uniform(0.1, 2.0, min(n, m)), n_in=n, n_out=m, seed=seed)
    network = linfa.Network.aligned(task, [min(n, m) + extra], rng.uniform(0.01, 2.0, min(n, m)), seed=seed)
    start, times = State(network.weights, ((),)), np.linspace(0, 5, 6)
    riccati, modes = (kind(linfa.bp(), task, start).predict(times) for kind in (Riccati, SaxeMode))
    assert riccati[1] == pytest.approx(modes, abs=1e-8)


@given(seed=SEEDS)
def test_the_tangent_kernel_moves_the_map(seed):
    setup = Riccati.example(linfa.bp(), seed)
    closed = Riccati(linfa.bp(), setup.task, State(setup.network.weights, ((),)))
    W1, W2 = setup.network.weights
    step, size = 1e-6, W2.shape[0] * W1.shape[1]

    def jacobian(which):
        rows = []
        for i in np.ndindex(setup.network.weights[which].shape):
            moved = [w.copy() for w in setup.network.weights]
            moved[which][i] += step
            rows.append(((moved[1] @ moved[0] - W2 @ W1) / step).reshape(size))
        return np.array(rows)

    J = np.concatenate([jacobian(0), jacobian(1)])
    assert closed.tangent_kernel([0.0])[0] == pytest.approx(J.T @ J, abs=1e-4)
    times = np.array([1.0 - 1e-4, 1.0, 1.0 + 1e-4])
    maps = closed.predict(times)[1].reshape(3, size)
    error = setup.task.Syx.reshape(size) - maps[1]
    assert closed.tangent_kernel(times)[1] @ error == pytest.approx((maps[2] - maps[0]) / 2e-4, abs=1e-6)


@given(n=SIZES, k=SIZES, m=SIZES, imbalance=st.floats(-3, 3), scale=st.floats(0.01, 2), seed=SEEDS)
def test_networks_have_the_imbalance_asked_for(n, k, m, imbalance, scale, seed):
    if (imbalance > 0 and k > m) or (imbalance < 0 and k > n):
        with pytest.raises(ValueError, match=f"no network of widths {n}, {k}, {m} has lambda = .*needs k <= "):
            lambda_balanced_network((n, k, m), imbalance, scale, seed)
        return
    W1, W2 = lambda_balanced_network((n, k, m), imbalance, scale, seed).weights
    assert (W1.shape, W2.shape) == ((k, n), (m, k))
    assert np.allclose(W2.T @ W2 - W1 @ W1.T, imbalance * np.eye(k), rtol=0, atol=1e-12)
    smaller = np.linalg.svd(W1 if imbalance > 0 else W2, compute_uv=False)[: min(n, k, m)]
    assert ((smaller >= scale / 2 - 1e-9) & (smaller <= 1.5 * scale + 1e-9)).all()


def test_starts_outside_the_assumptions():
    W1, W2, Sigma = np.eye(2), np.diag([2.0, 1.0]), np.eye(2)
    with pytest.raises(AssumptionError, match=r"not lambda-balanced: W_2\^T W_2 - W_1 W_1\^T is off 1\.5 I by 1\.5"):
        riccati_qqt(W1, W2, Sigma, [1.0])
    task, deep = linfa.Task.teacher(Sigma), linfa.Network.balanced((2, 2, 2, 2))
    coloured = linfa.Task.teacher(Sigma, np.diag([1.0, 1.31]))
    for task_, weights, text in (
        (task, (W1, W2), r"is off 1\.5 I by 1\.5"),
        (task, deep.weights, "depth is 3, not 2"),
        (coloured, (W1, W1), "not white: Sxx - I has an entry of 0.31"),
    ):
        with pytest.raises(AssumptionError, match=text):
            Riccati(linfa.bp(), task_, State(weights, ((),) * (len(weights) - 1)))
    with pytest.raises(AssumptionError, match="not backprop: feedback is"):
        Riccati.example(linfa.fa())
    with pytest.raises(AssumptionError, match=r"weights decay at rate 0\.1"):
        Riccati.example(linfa.bp(decay=0.1))


def test_bad_arguments():
    one = np.eye(2)
    with pytest.raises(ValueError, match="do not fit together"):
        riccati_qqt(one, one, np.ones((3, 2)), [1.0])
    with pytest.raises(ValueError, match="do not fit together"):
        riccati_qqt(one, np.ones((2, 3)), one, [1.0])
    for t in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="times are finite and at least 0"):
            riccati_qqt(one, one, one, [0.0, t])
