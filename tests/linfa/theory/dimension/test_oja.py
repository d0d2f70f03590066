"""The flow of Oja's projector, against the plasticity itself, integrated, and by its group properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import linfa
from linfa.algebra import normalised
from linfa.dynamics import State
from linfa.rules import Direct, LayerRates, Layerwise, Moments, Oja, RandomFactors, Rule
from linfa.theory import AssumptionError, examples
from linfa.theory.base import relative_error
from linfa.theory.dimension.final_map import final_loss
from linfa.theory.dimension.oja import OjaProjector, error_covariance, oja_limit, oja_projector, oja_tangent, tangent

SEEDS = st.integers(0, 10**6)
FROZEN = LayerRates((0.0, 0.0))
RULE = Rule(Layerwise(), RandomFactors(2), Oja(), geometry=FROZEN)


def drawn(m, r, size, seed):
    rng = np.random.default_rng(seed)
    C = normalised(examples.moment(rng, m, 0.0 if seed % 2 else 0.3, 1.5))
    return C, size * examples.matrix(rng, min(r, m), m, 0.8, 1.25)


@given(m=st.integers(1, 5), r=st.integers(1, 5), size=st.floats(0.1, 2.0), seed=SEEDS)
def test_the_plasticity_itself(m, r, size, seed):
    C, P0 = drawn(m, r, size, seed)
    times = np.linspace(0, 2, 5)

    def field(_, p):
        moments = Moments(G=np.zeros((m, 3)), C=7.0 * C)
        return Oja().velocity((np.zeros((3, len(P0))), p.reshape(P0.shape)), moments)[1].ravel()

    flow = solve_ivp(field, (0, 2), P0.ravel(), "DOP853", times, rtol=1e-11, atol=1e-13)
    P = flow.y.T.reshape(-1, *P0.shape)
    assert relative_error(oja_projector(C, P0, times), np.swapaxes(P, -1, -2) @ P) <= 1e-8


@given(m=st.integers(1, 5), r=st.integers(1, 5), size=st.floats(0.1, 2.0), s=st.floats(0, 30), t=st.floats(0, 30),
       seed=SEEDS)  # fmt: skip
def test_semigroup_rotations_and_units_of_time(m, r, size, s, t, seed):
    C, P0 = drawn(m, r, size, seed)
    r = len(P0)
    both, first = oja_projector(C, P0, [s + t, s])
    assert np.allclose(oja_projector(C, root(first, r), [t])[0], both, atol=1e-7)
    rng = np.random.default_rng(seed)
    R, V = examples.frame(rng, r, r), examples.frame(rng, m, m)
    assert np.allclose(oja_projector(V @ C @ V.T, R @ P0 @ V.T, [s + t])[0], V @ both @ V.T, atol=1e-9)
    assert np.allclose(oja_projector(3 * C, P0, [s])[0], oja_projector(C, P0, [3 * s])[0], atol=1e-9)


def root(X, r):
    """A matrix (r, m) with P^T P = X."""
    values, basis = np.linalg.eigh(X)
    return np.sqrt(np.maximum(values[-r:, None], 0)) * basis[:, -r:].T


@given(m=st.integers(2, 6), r=st.integers(1, 5), seed=SEEDS)
def test_late_times_keep_their_digits(m, r, seed):
    rng, r = np.random.default_rng(seed), min(r, m - 1)
    basis = examples.frame(rng, m, m)
    C = (basis * np.arange(m, 0, -1.0)) @ basis.T
    P0 = examples.matrix(rng, r, m, 0.5, 1.5)
    late, latest = oja_projector(C, P0, [60.0, 1000.0])
    assert np.allclose(latest, oja_limit(C, r), atol=1e-13)
    assert np.linalg.matrix_rank(late, tol=1e-6) == r
    assert np.allclose(latest, basis[:, :r] @ basis[:, :r].T, atol=1e-13)


@given(m=st.integers(2, 5), r=st.integers(1, 4), t=st.floats(0, 3), size=st.floats(0.2, 1.5), seed=SEEDS)
def test_tangents_of_the_projector(m, r, t, size, seed):
    """Row spaces do not care how long the rows are."""
    r = min(r, m - 1)
    rng = np.random.default_rng(seed)
    C = np.diag(np.sort(rng.uniform(0.2, 1.5, m))[::-1])
    P0 = size * np.hstack([np.eye(r) + 0.3 * rng.standard_normal((r, r)) / r, rng.standard_normal((r, m - r))])
    P = root(oja_projector(C, P0, [t])[0], r)
    assert np.allclose(oja_tangent(C, P0, [t])[0], tangent(P, np.eye(m)), atol=1e-6)


def test_one_angle():
    phi, times = 1.1, np.linspace(0, 5, 6)
    closed = oja_tangent(np.diag([1.0, 0.4]), np.array([[np.cos(phi), np.sin(phi)]]), times)
    assert np.allclose(closed[:, 0, 0], np.tan(phi) * np.exp(-0.6 * times))


def test_quasi_static_loss_falls_to_the_best_of_its_rank():
    """What FA would leave of two modes with the feedback that Oja has reached at each time."""
    s, phi, times = np.array([2.0, 1.0]), 1.3, np.linspace(0, 3, 7)
    C, P0 = np.diag(s**2), np.array([[np.cos(phi), np.sin(phi)]])
    losses = [final_loss(np.diag(s), X) for X in oja_projector(C, P0, times)]
    tan = np.tan(phi) * np.exp(-(s[0] ** 2 - s[1] ** 2) * times)
    assert np.allclose(losses, (s.prod() ** 2 / 2) * (1 + tan**2) / (s[0] ** 2 + s[1] ** 2 * tan**2))
    assert losses[-1] == pytest.approx(0.5, abs=1e-6)


def test_no_error_at_all():
    assert oja_projector(np.zeros((2, 2)), np.eye(1, 2), [0.0, 5.0])[1].tolist() == [[1, 0], [0, 0]]


BAD = [
    (lambda: oja_projector(np.ones((2, 3)), np.ones((1, 2)), [0.0]), r"square; got shape \(2, 3\)"),
    (lambda: oja_projector(np.array([[1.0, 0.5], [0.0, 1.0]]), np.ones((1, 2)), [0.0]), "differ by up to 0.5"),
    (lambda: oja_limit(np.diag([1.0, -0.5]), 1), "no negative eigenvalue; got -0.5"),
    (lambda: oja_projector(np.eye(2), np.ones((1, 3)), [0.0]), r"P_0 is \(r, 2\); got shape \(1, 3\)"),
    (lambda: oja_projector(np.eye(2), np.ones((1, 2)), [1.0, -0.25]), "times are at least 0; got -0.25"),
    (lambda: oja_tangent(np.diag([2.0, 1.0]), np.array([[0.0, 1.0]]), [0.0]), "misses a leading direction: it sees 0"),
    (lambda: oja_limit(np.eye(3), 2), "no gap between eigenvalues 2 and 3 of the covariance: 0"),
]


@pytest.mark.parametrize(("call", "text"), BAD)
def test_wrong_input_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@given(seed=SEEDS)
def test_data_with_means(seed):
    rng = np.random.default_rng(seed)
    task = linfa.Task.from_data(rng.standard_normal((40, 3)) + 1, rng.standard_normal((40, 3)) - 1)
    network = linfa.Network.small((3, 4, 3), scale=1.0, seed=seed)
    run = linfa.simulate(RULE, task, network, [0.0, 1.0, 2.0], seed=seed, rtol=1e-11, atol=1e-13)
    theory = OjaProjector(RULE, task, run.at(0))
    assert theory.error(run) <= 1e-8
    W = run.map[0]
    assert np.allclose(error_covariance(task, W), np.cov((task.inputs @ W.T - task.targets).T, ddof=0))


def test_the_end_of_a_network():
    task = linfa.Task.from_spectrum([2.0, 1.5, 0.5], seed=1)
    run = linfa.simulate(RULE, task, linfa.Network.zero((3, 4, 3)), [0.0, 80.0], rtol=1e-10)
    theory = OjaProjector(RULE, task, run.at(0))
    assert np.allclose(theory.observed(run)[-1], theory.limit, atol=1e-8)
    assert final_loss(task.Syx, run.feedback[0][1][-1]) == pytest.approx(0.5 * 0.5**2)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (linfa.ldfa(2, "oja"), "exactly W_1, W_2 should be frozen: Euclidean"),
        (Rule(Layerwise(), RandomFactors(2), geometry=FROZEN), "does not learn by Oja's rule"),
        (Rule(Direct(1), RandomFactors(2), Oja(), geometry=FROZEN), "no feedback edge"),
        (Rule(Layerwise(), RandomFactors(2), Oja(), decay=0.1, geometry=FROZEN), "weights decay"),
    ],
)
def test_rules_outside_the_assumptions(rule, text):
    with pytest.raises(AssumptionError, match=text):
        OjaProjector.example(rule)


def test_depth():
    rule = Rule(Direct(), RandomFactors(1), Oja(), geometry=FROZEN)
    network, task = linfa.Network.zero((2, 2, 2, 2)), linfa.Task.from_spectrum([1.0, 1.0])
    with pytest.raises(AssumptionError, match="depth is 3, not 2"):
        OjaProjector(rule, task, State(network.weights, ((np.ones((2, 1)), np.ones((1, 2))),) * 2))
