"""For tests of rules, ours and yours: Hypothesis strategies, and laws that every rule obeys.

    from hypothesis import given
    from linfa.testing import problems, check_rule

    def test_my_rule():
        check_rule(my_rule)                      # every law once, on fixed problems

    @given(problems(my_rule))
    def test_my_rule_thoroughly(problem):
        law_batch(problem)

Strategies draw sizes and a seed, and numpy builds the rest: fast, and a failure prints as a few small numbers.
"""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from linfa import observe
from linfa.algebra import T, normalised
from linfa.dynamics import State, start, velocity
from linfa.network import Network
from linfa.rules import Order, Rule, Sign, named
from linfa.simulate import advance, descend, simulate
from linfa.task import Batch, Task
from linfa.verify import relative


@dataclass(frozen=True)
class Problem:
    """A rule on a task, with a network to start from; everything follows from these few numbers.

    Args:
        rule: a `Rule`.
        widths: n_0 .. n_L.
        seed: of task, weights and feedback.
        white: whether the inputs are white.
        noise: standard deviation of the label noise.
        scale: gain of the weights at the start.
    """

    rule: Rule
    widths: tuple[int, ...]
    seed: int
    white: bool = False
    noise: float = 0.0
    scale: float = 0.7

    @property
    def depth(self) -> int:
        """Number of weights."""
        return len(self.widths) - 1

    @property
    def task(self) -> Task:
        """A task with a random map of norm about 1, and random input covariance unless white."""
        rng = np.random.default_rng(self.seed)
        n, m = self.widths[0], self.widths[-1]
        root = np.eye(n) + (0 if self.white else 0.3) * rng.standard_normal((n, n)) / np.sqrt(n)
        return Task.teacher(rng.standard_normal((m, n)) / np.sqrt(n), Sxx=root @ root.T, noise=self.noise)

    @property
    def network(self) -> Network:
        """Normal weights."""
        return Network.small(self.widths, self.scale, self.seed)

    @property
    def state(self) -> State:
        """The state at the start."""
        return start(self.rule, self.network, self.seed)


@st.composite
def rules(draw) -> Rule:
    """A rule of the catalogue, low-dimensional ones with rank 1 to 3."""
    rule = draw(st.sampled_from(list(named().values())))
    if hasattr(rule.feedback, "rank"):
        rank = draw(st.integers(1, 3))
        rule = replace(rule, feedback=replace(rule.feedback, rank=rank), name=rule.name.replace("2", str(rank), 1))
    return rule


@st.composite
def widths(draw, depth: int | None = None, smallest: int = 1, largest: int = 6) -> tuple[int, ...]:
    """Sizes n_0 .. n_L of a network.

    Args:
        depth: L; by default 1 to 6.
        smallest, largest: of the sizes.
    """
    depth = draw(st.integers(1, 6)) if depth is None else depth
    return tuple(draw(st.lists(st.integers(smallest, largest), min_size=depth + 1, max_size=depth + 1)))


@st.composite
def problems(draw, rule: Rule | None = None, depth: int | None = None) -> Problem:
    """A rule on a task.

    Args:
        rule: a rule of your own; by default one of the catalogue.
        depth: number of weights; by default 1 to 6.
    """
    rule = draw(rules()) if rule is None else rule
    smallest = getattr(rule.feedback, "rank", 1)
    return Problem(
        rule,
        draw(widths(depth, smallest, max(6, smallest + 2))),
        draw(st.integers(0, 2**16)),
        draw(st.booleans()),
        draw(st.sampled_from([0.0, 0.3])),
    )


def _close(a, b, tolerance, what):
    error = relative(np.asarray(a), np.asarray(b))
    assert error <= tolerance, f"{what}: relative error {error:.1e} > {tolerance:.0e}"


def _same(a: State, b: State, tolerance, what):
    for x, y in zip(_arrays(a), _arrays(b), strict=True):
        _close(x, y, tolerance, what)


def _arrays(state):
    return [*state.weights, *(matrix for stored in state.feedback for matrix in stored)]


def law_conserved(problem: Problem):
    """The flow keeps, or lets decay, what the rule claims."""
    rule = problem.rule
    if not rule.conserved():
        return
    run = simulate(rule, problem.task, problem.network, 0.5, seed=problem.seed, rtol=1e-11, atol=1e-13)
    for claim in rule.conserved():
        for value in claim.quantity(rule, run.states):
            expected = np.exp(-claim.rate * rule.decay * run.times)[:, None, None] * value[0]
            _close(value, expected, 1e-8, claim)


def law_order(problem: Problem):
    """The error of descent after a short time falls with the learning rate at the order that the rule claims."""
    (claim,) = [c for c in problem.rule.claims if isinstance(c, Order)] or (None,)
    if claim is None:
        return
    time, steps = 0.02, np.array([32, 64, 128])
    args = problem.rule, problem.task, problem.network
    exact = simulate(*args, [0.0, time], seed=problem.seed, rtol=1e-12, atol=1e-14).map[-1]
    gaps = [np.abs(descend(*args, time / n, n, seed=problem.seed).map[-1] - exact).max() for n in steps]
    if max(gaps) > 1e-9:  # below, rounding and the integrator's own error are seen
        order = -np.polyfit(np.log(steps), np.log(gaps), 1)[0]
        assert abs(order - claim.order) < 0.1, f"observed order {order:.3f}, claimed {claim.order}"


def law_error_rank(problem: Problem):
    """Errors that come through rank-r feedback have rank at most r, and so have the weight gradients below."""
    rank = getattr(problem.rule.feedback, "rank", None)
    if rank is None:
        return
    for edge in problem.rule.route.edges(problem.depth):
        for matrices in (observe.errors, observe.gradients):
            values = np.linalg.svd(
                matrices(problem.rule, problem.state, problem.task)[edge.activity - 1], compute_uv=False
            )
            assert (values[rank:] <= 1e-10 * max(values[0], 1e-300)).all(), f"rank above {rank}: {values}"


def law_homogeneous(problem: Problem):
    """Twice the error, twice the weight gradients (without a clamp)."""
    if problem.rule.feedback.bound is not None:
        return
    rule, state, batch = replace(problem.rule, decay=0.0), problem.state, problem.task.batch
    prediction = observe.total_map(state) @ batch.X
    twice = Batch(batch.X, 2 * batch.Y - prediction, batch.one)
    for once, double in zip(velocity(rule, state, batch).weights, velocity(rule, state, twice).weights, strict=True):
        _close(double, 2 * once, 1e-10, "homogeneity")


def law_batch(problem: Problem):
    """An ensemble moves like its members one by one."""
    rule, batch = problem.rule, problem.task.batch
    members = [replace(problem, seed=problem.seed + k).state for k in range(3)]
    stack = State(
        tuple(np.stack(w) for w in zip(*(m.weights for m in members), strict=True)),
        tuple(
            tuple(np.stack(matrices) for matrices in zip(*stored, strict=True))
            for stored in zip(*(m.feedback for m in members), strict=True)
        ),
    )
    together = velocity(rule, stack, batch)
    for k, member in enumerate(members):
        _same(
            State(
                tuple(w[k] for w in together.weights),
                tuple(tuple(m[k] for m in stored) for stored in together.feedback),
            ),
            velocity(rule, member, batch),
            1e-12,
            "ensemble against one by one",
        )


def law_symbolic(problem: Problem):
    """The printed equations, evaluated on numbers, are the vector field."""
    import sympy

    from linfa.symbolic import DECAY, derive

    rule, task, state = problem.rule, problem.task, problem.state
    equations = derive(rule, problem.depth)
    gap = task.Syx - observe.total_map(state) @ task.Sxx
    W = observe.total_map(state)
    See = task.Syy - W @ task.Syx.T - task.Syx @ W.T + W @ task.Sxx @ W.T
    See_symbol = sympy.MatrixSymbol("S_ee", *(equations.residual.shape[0],) * 2)
    symbols = [x for x, _ in equations.pairs]
    values = [*_arrays(state), gap, See, rule.decay]
    arguments = [*symbols, equations.residual, See_symbol, DECAY]
    mine = velocity(rule, state, task.batch)
    for (symbol, right), number in zip(equations.pairs, _arrays(mine), strict=True):
        if right.is_ZeroMatrix:
            _close(number, 0 * number, 0.0, symbol)
            continue
        code = sympy.lambdify(arguments, right, [{"normalised": normalised}, "numpy"])
        _close(code(*values), number, 1e-9, f"d{symbol}/dt")


def law_equivariant(problem: Problem):
    """An orthogonal change of basis of inputs, hidden units and outputs changes nothing but the names of the axes.

    Signs of entries depend on the basis, and so does the largest variance that Oja divides by: there the law is checked
    for permutations.
    """
    rule, task, state = problem.rule, problem.task, problem.state
    rng = np.random.default_rng(problem.seed)
    permute = isinstance(rule.feedback, Sign) or "C" in rule.plasticity.reads
    frames = [
        np.eye(n)[rng.permutation(n)] if permute else np.linalg.qr(rng.standard_normal((n, n)))[0]
        for n in problem.widths
    ]

    def turn(s: State) -> State:
        weights = tuple(frames[i + 1] @ w @ T(frames[i]) for i, w in enumerate(s.weights))
        feedback = []
        for edge, stored in zip(rule.route.edges(problem.depth), s.feedback, strict=True):
            h, e = frames[edge.activity], frames[edge.source]
            feedback.append((h @ stored[0] @ T(e),) if len(stored) == 1 else _turn_factors(stored, h, e))
        return State(weights, tuple(feedback))

    x, y = frames[0], frames[-1]
    turned = Batch(x @ task.batch.X, y @ task.batch.Y, task.batch.one)
    _same(velocity(rule, turn(state), turned), turn(velocity(rule, state, task.batch)), 1e-9, "change of basis")


def _turn_factors(stored, h, e):
    return (h @ stored[0], stored[1] @ T(e)) if stored else ()


def law_torch(problem: Problem):
    """torch tensors give what numpy arrays give; nothing is checked where torch is not installed."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        return
    import torch

    state, batch = problem.state, problem.task.batch
    tensors = State(
        tuple(map(torch.as_tensor, state.weights)),
        tuple(tuple(map(torch.as_tensor, stored)) for stored in state.feedback),
    )
    moved = Batch(*(None if part is None else torch.as_tensor(part) for part in batch))
    theirs = velocity(problem.rule, tensors, moved)
    for a, b in zip(_arrays(theirs), _arrays(velocity(problem.rule, state, batch)), strict=True):
        _close(a.numpy(), b, 1e-12, "torch against numpy")


def law_descends(problem: Problem):
    """A step of `descend` is lr times the velocity."""
    rule, task, state = problem.rule, problem.task, problem.state
    if rule.feedback.redrawn:
        return
    run = descend(rule, task, problem.network, 0.01, 1, seed=problem.seed)
    _same(run.at(1), advance(state, velocity(rule, state, task.batch), 0.01), 1e-14, "one step")


LAWS = (
    law_conserved, law_order, law_error_rank, law_homogeneous, law_batch, law_symbolic, law_equivariant, law_torch,
    law_descends,
)  # fmt: skip
"""Every law; each takes a `Problem`, raises AssertionError, and passes over rules that it does not speak of."""


def check_rule(rule: Rule, depths=(1, 2, 3), seed: int = 0) -> None:
    """Run every law on a rule of your own, at several depths.

    Args:
        rule: a `Rule`.
        depths: numbers of weights.
        seed: of the problems.

    Raises:
        AssertionError: naming the law's statement and the measured error.

    >>> import linfa
    >>> check_rule(linfa.ldfa(2), depths=(2,))
    """
    size = getattr(rule.feedback, "rank", 1) + 2
    for depth in depths:
        for law in LAWS:
            sizes = tuple(size + (i + depth) % 3 for i in range(depth + 1))
            law(Problem(rule, sizes, seed + depth, white=False, noise=0.2))
