"""Networks at the start."""

import numpy as np
import pytest

import linfa
from linfa.observe import total_map

TASK = linfa.Task.from_spectrum([2.0, 1.0], n_in=4, n_out=3, seed=1)


def test_small():
    network = linfa.Network.small((100, 200, 300), scale=0.3, seed=0)
    for w, n in zip(network.weights, (100, 200), strict=True):
        assert w.std() == pytest.approx(0.3 / np.sqrt(n), rel=0.03)
    assert network.widths == (100, 200, 300)
    again, other = (linfa.Network.small((3, 4), seed=s).weights[0] for s in (0, 1))
    assert not np.array_equal(again, other)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_balanced(batch):
    network = linfa.Network.balanced((4, 6, 5, 3), scale=0.4, seed=2, batch=batch)
    assert network.batch == batch
    for below, above in zip(network.weights, network.weights[1:], strict=False):
        T = lambda a: np.swapaxes(a, -1, -2)  # noqa: E731
        np.testing.assert_allclose(T(above) @ above, below @ T(below), atol=1e-12)
    s = np.linalg.svd(network.weights[0], compute_uv=False)
    np.testing.assert_allclose(s[..., :3], 0.4, atol=1e-12)


def test_aligned():
    network = linfa.Network.aligned(TASK, (5, 4), [0.3, 0.2, 0.1], seed=3)
    U, _, Vt = np.linalg.svd(TASK.Syx, full_matrices=False)
    np.testing.assert_allclose(total_map(linfa.dynamics.State(network.weights)), (U * [0.3, 0.2, 0.1]) @ Vt, atol=1e-12)
    W1, W2, W3 = network.weights
    np.testing.assert_allclose(W2.T @ W2, W1 @ W1.T, atol=1e-12)
    np.testing.assert_allclose(W3.T @ W3, W2 @ W2.T, atol=1e-12)
    with pytest.raises(ValueError, match="too narrow for the 3 modes"):
        linfa.Network.aligned(TASK, (2,), 0.1)


def test_zero_and_given():
    assert not any(w.any() for w in linfa.Network.zero((2, 3, 4), batch=(5,)).weights)
    assert linfa.Network((np.ones((3, 2)), np.ones((1, 3)))).widths == (2, 3, 1)
    assert repr(linfa.Network.zero((2, 3), batch=(4, 5))) == "Network(2-3, ensemble 4x5)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linfa.Network(()), "at least one weight"),
        (lambda: linfa.Network((np.ones(3),)), "W_1 is a matrix"),
        (lambda: linfa.Network((np.full((2, 2), np.nan),)), "W_1 has entries that are not finite"),
        (lambda: linfa.Network((np.ones((3, 2)), np.full((2, 3), -np.inf))), "W_2 has entries that are not finite"),
        (lambda: linfa.Network((np.ones((3, 2)), np.ones((2, 4)))), "W_2 takes 4 inputs but W_1 gives 3 outputs"),
        (lambda: linfa.Network((np.ones((5, 3, 2)), np.ones((2, 3)))), "same leading axes"),
        (lambda: linfa.Network.small((3,)), "at least two whole numbers"),
        (lambda: linfa.Network.small((3, 0, 2)), "at least two whole numbers"),
        (lambda: linfa.Network.zero((3, 2.5)), "at least two whole numbers"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
