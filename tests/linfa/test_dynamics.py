"""The vector field against formulas written out by hand, and backprop against finite differences of the loss."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

import linfa
from linfa.dynamics import State, redraw, signals, start, velocity
from linfa.rules import Dense, Direct, KolenPollack, Plain, Rule, named
from linfa.testing import Problem
from linfa.tree import leaves, tree_map


def samples(n=4, m=3, N=30, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, n)) + 0.4, rng.standard_normal((N, m))


def polar_of(G):
    """The nearest partial isometry, by another driver."""
    U, s, Vt = scipy.linalg.svd(G, full_matrices=False, lapack_driver="gesvd")
    return sum(np.outer(u, v) for u, size, v in zip(U.T, s, Vt, strict=True) if size > 1e-11 * s[0])


def slope(f, matrix, step=1e-20):
    """The gradient of an analytic function entry by entry, exact: the imaginary part at an imaginary step."""
    out = np.zeros(matrix.shape)
    for entry in np.ndindex(*matrix.shape):
        moved = matrix.astype(complex)
        moved[entry] += 1j * step
        out[entry] = f(moved).imag / step
    return out


def discord(layers, head, x, y, g):
    """Mean of |A^T C^T (C A x - y) - g|^2 over samples, in a module A of layers with head C."""
    total = 0
    for a, b, fixed in zip(x, y, g, strict=True):
        for w in layers:
            a = w.dot(a)
        a = head.T.dot(head.dot(a) - b)
        for w in reversed(layers):
            a = w.T.dot(a)
        total = total + ((a - fixed) ** 2).sum()
    return total / len(x)


def normal(name, a):
    """Activities (N, n) as the network of that name has them, by functions that are analytic in the entries."""
    if "standardised" in name:
        a = a - a.mean(0)
        return a / ((a**2).mean(0)) ** 0.5
    if "whitened" in name:  # x (x^T x)^(-1/2) by an iteration on its singular values
        a = a - a.mean(0)
        x, change = a / np.sqrt((abs(a) ** 2).sum()), 1.0
        while change > 1e-8:  # at second order; longer, and rounding errors in empty directions grow
            x, old = x.dot(3 * np.eye(a.shape[1]) - x.T.dot(x)) / 2, x
            change = abs(x - old).max()
        return x * np.sqrt(len(a))
    return a


def through_normal(name, a, delta):
    """dLoss/da from dLoss/dh, (N, n), by an exact difference for every sample of every unit."""
    if "standardised" not in name:
        return delta
    return slope(lambda moved: (delta * normal(name, moved)).sum(), np.array(a))


def loss_by_hand(name, W, x, y):
    """Mean of half the squared error."""
    for k, w in enumerate(W):
        x = x.dot(w.T)
        x = normal(name, x) if k + 1 < len(W) else x
    return ((x - y) ** 2).sum() / 2 / len(x)


def module_ends(name, L):
    """The cuts at which the modules of a local rule end, the output's last."""
    return [L] if L == 1 else [(L + 1) // 2, L] if name == "sgr(2)" else list(range(1, L + 1))


def factored_by_hand(rule, stored, G, frame):
    """Minus the gradient of the factors, entry by entry, and of the penalties as they are written down."""
    (U, s, V), (r,) = stored, stored.s[:, 0].shape
    s = s[:, 0]
    dU = [[-sum(G[i, j] * s[k] * V[j, k] for j in range(len(V))) for k in range(r)] for i in range(len(U))]
    ds = [-sum(U[i, k] * G[i, j] * V[j, k] for i in range(len(U)) for j in range(len(V))) for k in range(r)]
    dV = [[-sum(G[i, j] * U[i, k] * s[k] for i in range(len(U))) for k in range(r)] for j in range(len(V))]
    dU, ds, dV = np.array(dU), np.array(ds)[:, None], np.array(dV)
    for penalty in rule.parameterisation.penalties:
        if type(penalty).__name__ == "Orthogonality":
            for F, d in ((U, dU), (V, dV)):
                loss = lambda F: ((np.einsum("ia,ib->ab", F, F) - np.eye(r)) ** 2).sum()  # noqa: E731
                d -= penalty.weight * slope(loss, F)
        elif frame is not None:
            dU -= penalty.weight * slope(lambda F: ((F - frame[:, :r]) ** 2).sum() / r, U)
    return dU, ds, dV


def by_hand(name, rule, W, feedback, x, y):
    """Velocities from plain loops over samples: gradients and moments as sums of outer products."""
    stored_weights = W
    if "factored" in name or name.startswith("svd"):
        name = name.split(" + ")[0]
        W = [sum(s * np.outer(u, v) for u, s, v in zip(U.T, s[:, 0], V.T, strict=True)) for U, s, V in W]
    L, N = len(W), len(x)
    chain = lambda k: feedback[k]  # noqa: E731
    deltas = [[None] * N for _ in range(L + 1)]
    acts = [[None] * N for _ in range(L + 1)]
    ins = [None] * L
    acts[0] = list(x)
    for k in range(L):
        ins[k] = [W[k].dot(a) for a in acts[k]]
        acts[k + 1] = list(normal(name, np.array(ins[k]))) if k + 1 < L else ins[k]
    for t in range(N):
        deltas[L][t] = acts[L][t] - y[t]
        for k in range(1, L):
            if name == "drtp":
                deltas[k][t] = -chain(k - 1)[0].dot(y[t])
            elif name == "pepita":  # the difference of two forward passes, the second with the error at the input
                second = x[t] + chain(0)[0].dot(deltas[L][t])
                for w in W[:k]:
                    second = w.dot(second)
                deltas[k][t] = second - acts[k][t]
            elif (name == "local" or name.startswith("sgr")) and k in module_ends(name, L):
                head = chain(module_ends(name, L).index(k))[0].T
                deltas[k][t] = head.T.dot(head.dot(acts[k][t]) - y[t])
    for k in range(L - 1, 0, -1):
        for t in range(N):
            if deltas[k][t] is not None:
                continue
            if name in ("dfa", "dkp", "directional-dfa"):
                B = chain(k - 1)[0]
                deltas[k][t] = B.dot(deltas[L][t])
            elif name.startswith("svd"):
                deltas[k][t] = chain(k - 1)[0].dot(chain(k - 1)[1]).dot(deltas[L][t])
            elif "direct" in name:
                error = W[L - 1].T.dot(deltas[L][t])
                deltas[k][t] = error if k == L - 1 else chain(k - 1)[0].dot(chain(k - 1)[1]).dot(error)
            elif name.startswith(("bp", "sgr")):
                deltas[k][t] = W[k].T.dot(deltas[k + 1][t])
            elif name.endswith("SF"):
                deltas[k][t] = (chain(k - 1)[0] * np.sign(W[k].T)).dot(deltas[k + 1][t])
            elif name.startswith("ldfa"):
                deltas[k][t] = chain(k - 1)[0].dot(chain(k - 1)[1]).dot(deltas[k + 1][t])
            else:
                deltas[k][t] = chain(k - 1)[0].dot(deltas[k + 1][t])
        deltas[k] = list(through_normal(name, ins[k - 1], deltas[k]))
    mean = lambda a, b: sum(np.outer(p, q) for p, q in zip(a, b, strict=True)) / N  # noqa: E731
    G = [mean(deltas[k + 1], acts[k]) for k in range(L)]
    if name == "bp + whitened":
        G = [slope(lambda w, k=k: loss_by_hand(name, [*W[:k], w, *W[k + 1 :]], x, y), W[k]) for k in range(L)]
    if "muon" in name:  # the nearest matrix with singular values 1 in the row and column space
        G = list(map(polar_of, G))
    dW = [-g - rule.decay * w for g, w in zip(G, W, strict=True)]
    if name.startswith("sgr"):
        ends = module_ends(name, L)
        for k in range(1, len(ends)):
            a, b = ends[k - 1], ends[k]
            head = feedback[k][0].T if b < L else np.eye(W[-1].shape[0])
            for j in range(b - a):
                moved = lambda w, j=j: [*W[a : a + j], w, *W[a + j + 1 : b]]  # noqa: B023, E731
                cost = lambda w: discord(moved(w), head, acts[a], y, deltas[a])  # noqa: B023, E731
                dW[a + j] = dW[a + j] - rule.route.lam * slope(cost, W[a + j])
    if stored_weights is not W:
        frames = [stored[0] for stored in feedback] if name.startswith("svd") else []
        frames += [None] * (L - len(frames))
        parts = zip(stored_weights, G, frames, strict=True)
        dW = [factored_by_hand(rule, stored, g, frame) for stored, g, frame in parts]
    dB = []
    for number, stored in enumerate(feedback):
        cut = module_ends(name, L)[number] if name.startswith("sgr") else number + 1
        if "direct" in name:
            e = [W[L - 1].T.dot(d) for d in deltas[L]]
        else:
            e = deltas[L] if name in ("dfa", "dkp", "directional-dfa") else deltas[min(cut + 1, L)]
        g, e = mean(e, acts[cut]), np.array(e)
        centred = e - e.mean(0)
        spread = np.sqrt((centred**2).mean(0)).max()
        D = centred / spread
        C = D.T.dot(D) / N
        if "oja" in name:
            Q, P = stored
            d = (-g.T.dot(P.T), P.dot(C).dot(np.eye(P.shape[1]) - P.T.dot(P)))
        elif "hebb" in name:
            Q, P = stored
            d = (-g.T.dot(P.T), -Q.T.dot(g.T))
        elif "normative" in name:
            Q, P = stored
            gap = W[cut].T - Q.dot(P)
            d = (gap.dot(P.T), Q.T.dot(gap))
        elif name in ("weight-mirror", "directional-dfa"):
            J = W[cut] if name == "weight-mirror" else np.linalg.multi_dot([*W[: cut - 1 : -1], np.eye(len(W[cut].T))])
            d = (J.T - stored[0],)
        elif "kolen-pollack" in name or name == "dkp":
            d = (-g.T,) if len(stored) == 1 else (-g.T.dot(stored[1].T), 0 * stored[1])
            d = tuple(v - rule.decay * B for v, B in zip(d, stored, strict=True))
        elif name == "local" or name.startswith("sgr"):  # gradient of the head's own loss
            head = stored[0].T
            d = (-mean([head.dot(h) - t for h, t in zip(acts[cut], y, strict=True)], acts[cut]).T,)
            if name.startswith("sgr") and number:
                a = module_ends(name, L)[number - 1]
                cost = lambda B: discord(W[a:cut], B.T, acts[a], y, deltas[a])  # noqa: B023, E731
                d = (d[0] - rule.route.lam * slope(cost, stored[0]),)
        else:
            d = tuple(0 * B for B in stored)
        dB.append(d)
    return dW, dB


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("name", named())
def test_velocity_is_what_the_papers_say(name, depth):
    rule = named()[name]
    x, y = samples(seed=depth)
    network = linfa.Network.small((4, *[5, 3, 4, 6, 3][: depth - 1], 3), 0.8, seed=depth)
    task, state = linfa.Task.from_data(x, y), start(rule, network, seed=depth)
    rng = np.random.default_rng(depth)  # feedback that starts as the SVD of the weights would not move
    noisy = lambda m: m + 0.3 * rng.standard_normal(m.shape)  # noqa: E731
    feedback = tree_map(noisy, state.feedback)
    state = State(tree_map(noisy, state.weights), feedback)
    mine = velocity(rule, state, task.batch)
    dW, dB = by_hand(name, rule, state.weights, state.feedback, x, y)
    for a, b in zip(leaves(mine.weights), leaves(tuple(dW)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    for stored, expected in zip(mine.feedback, dB, strict=True):
        for a, b in zip(stored, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@given(st.integers(1, 4), st.integers(0, 1000))
def test_backprop_is_the_gradient_of_the_loss(depth, seed):
    problem = Problem(linfa.bp(), (3, *(4,) * (depth - 1), 2), seed, noise=0.2)
    state, task = problem.state, problem.task

    def loss(weights):
        W = np.eye(3)
        for w in weights:
            W = w @ W
        return 0.5 * np.trace(task.Syy - 2 * W @ task.Syx.T + W @ task.Sxx @ W.T)

    v = velocity(problem.rule, state, task.batch)
    rng = np.random.default_rng(seed)
    direction = [rng.standard_normal(w.shape) for w in state.weights]
    h = 1e-5
    up, down = (loss([w + s * h * d for w, d in zip(state.weights, direction, strict=True)]) for s in (1, -1))
    slope = -sum((a * b).sum() for a, b in zip(v.weights, direction, strict=True))
    assert slope == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-8)


def test_population_and_samples_are_one_code():
    """The pseudo-batch of the moments moves every rule as the samples themselves do."""
    x, y = samples()
    N = len(x)
    whole = linfa.task.Batch(x.T / np.sqrt(N), y.T / np.sqrt(N), np.full((N, 1), N**-0.5))
    for rule in named().values():
        state = start(rule, linfa.Network.small((4, 5, 4, 3), 0.8), 0)
        a, b = velocity(rule, state, linfa.Task.from_data(x, y).batch), velocity(rule, state, whole)
        for p, q in zip(leaves(a.weights), leaves(b.weights), strict=True):
            np.testing.assert_allclose(p, q, atol=1e-12)
        for stored, other in zip(a.feedback, b.feedback, strict=True):
            for p, q in zip(stored, other, strict=True):
                np.testing.assert_allclose(p, q, atol=1e-11)


def test_dkp_composes():
    rule = Rule(Direct(), Dense(), KolenPollack(), name="dkp")
    x, y = samples()
    state = start(rule, linfa.Network.small((4, 5, 4, 3), 0.8), 0)
    v = velocity(rule, state, linfa.Task.from_data(x, y).batch)
    W1, W2, W3 = state.weights
    h1, h2 = x @ W1.T, x @ W1.T @ W2.T
    e = h2 @ W3.T - y
    np.testing.assert_allclose(v.feedback[0][0], -(h1.T @ e) / len(x), atol=1e-12)
    np.testing.assert_allclose(v.feedback[1][0], -(h2.T @ e) / len(x), atol=1e-12)


def test_feedback_streams_are_independent_of_depth():
    rule = linfa.fa()
    shallow = start(rule, linfa.Network.zero((3, 4, 5)), seed=7).feedback
    deep = start(rule, linfa.Network.zero((3, 4, 5, 2)), seed=7).feedback
    np.testing.assert_array_equal(shallow[0][0], deep[0][0])
    normals = [(B * np.sqrt(B.shape[0])).ravel()[:8] for (B,) in deep]
    assert np.abs(normals[0] - normals[1]).max() > 0.1


def test_feedback_spread():
    B = start(linfa.fa(scale=3.0), linfa.Network.zero((2, 200, 300)), seed=0).feedback[0][0]
    assert B.std() == pytest.approx(3 / np.sqrt(200), rel=0.02)
    Q, P = start(linfa.ldfa(20), linfa.Network.zero((2, 200, 300)), seed=0).feedback[0]
    assert (Q @ P).std() == pytest.approx(1 / np.sqrt(200), rel=0.05)


def test_svd_start_is_the_truncated_svd():
    network = linfa.Network.small((3, 5, 6), 1.0, seed=2)
    Q, P = start(linfa.ldfa(2, "normative"), network, 0).feedback[0]
    U, s, Vt = np.linalg.svd(network.weights[1].T)
    np.testing.assert_allclose(Q @ P, (U[:, :2] * s[:2]) @ Vt[:2], atol=1e-12)
    np.testing.assert_allclose(Q.T @ Q, P @ P.T, atol=1e-12)


def test_fixed_magnitudes_are_magnitudes():
    (M,) = start(linfa.sign_symmetry("frSF"), linfa.Network.zero((2, 200, 300)), 0).feedback[0]
    assert (M >= 0).all()
    assert M.mean() == pytest.approx(np.sqrt(2 / np.pi / 200), rel=0.02)


def test_a_clamp_limits_the_delivered_error():
    x, y = samples()
    network, bound = linfa.Network.small((4, 5, 3), 0.8), 0.05
    state = start(linfa.ldfa(2, "fixed"), network, 0)
    batch = linfa.Task.from_data(x, y).batch
    free = signals(linfa.ldfa(2, "fixed"), state, batch).errors[1]
    limited = signals(linfa.ldfa(2, "fixed", clamp=bound), state, batch).errors[1]
    assert np.abs(free).max() > 2 * bound
    np.testing.assert_array_equal(limited, np.minimum(np.maximum(free, -bound), bound))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, rule in named().items()
        if rule.route.error_driven and rule.activity == Plain() and not rule.parameterisation.penalties
    ],
)
def test_without_error_nothing_learns_from_it(name):
    rule = named()[name]
    task = linfa.Task.teacher(np.diag([2.0, 3.0]))
    network = linfa.Network((np.diag([1.0, 3.0]), np.diag([2.0, 1.0])))
    state = start(rule, network, 0)
    v = velocity(rule, state, task.batch)
    for w, dw in zip(leaves(state.weights), leaves(v.weights), strict=True):
        np.testing.assert_array_equal(dw, -rule.decay * w)
    if "J" not in rule.plasticity.reads:
        for stored, moves in zip(start(rule, network, 0).feedback, v.feedback, strict=True):
            for B, dB in zip(stored, moves, strict=True):
                np.testing.assert_allclose(dB, -rule.decay * B * any(rule.plasticity.learns(1)), atol=1e-15)


def test_redraw_changes_only_the_feedback():
    rule = linfa.sign_symmetry("brSF")
    state = start(rule, linfa.Network.small((3, 4, 2)), 0)
    again = redraw(rule, state, np.random.default_rng(5))
    assert again.weights is state.weights
    assert not np.array_equal(again.feedback[0][0], state.feedback[0][0])
    assert (again.feedback[0][0] >= 0).all()


def test_rank_above_every_width_raises():
    with pytest.raises(ValueError, match="rank 6 fits no edge: the largest possible rank here is 3"):
        start(linfa.ldfa(6), linfa.Network.zero((4, 5, 3)), 0)


def test_an_edge_carries_no_more_than_it_can():
    Q, P = start(linfa.ldfa(4), linfa.Network.zero((4, 6, 5, 3)), 0).feedback[1]
    assert (Q.shape, P.shape) == ((5, 3), (3, 3))


def test_state_is_a_pytree():
    torch = pytest.importorskip("torch")
    from torch.utils import _pytree

    state = State((torch.zeros(2, 2),), ((torch.ones(2, 2),),))
    leaves, _ = _pytree.tree_flatten(state)
    assert len(leaves) == 2
