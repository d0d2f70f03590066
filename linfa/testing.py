"""For tests of rules, ours and yours: Hypothesis strategies, and laws that every rule obeys.

    from hypothesis import given
    from linfa.testing import problems, check_rule

    def test_my_rule():
        check_rule(my_rule)                      # every law once, on fixed problems

    @given(problems(my_rule))
    def test_my_rule_thoroughly(problem):
        for law in laws(my_rule):
            law(problem)

Strategies draw sizes and a seed, and numpy builds the rest: fast, and a failure prints as a few small numbers.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from linfa import observe
from linfa.algebra import T, normalised
from linfa.dynamics import State, signals, start, velocity
from linfa.network import Network
from linfa.rules import ErrorRank, Homogeneous, Order, Rule, Sign, named
from linfa.simulate import advance, descend, simulate
from linfa.task import Batch, Task
from linfa.verify import relative


def random_task(
    n_in: int, n_out: int, seed: int = 0, white: bool = False, noise: float = 0.0, modes: int | None = None,
    samples: int = 0,
) -> Task:  # fmt: skip
    """A task with a random teacher, its entries of variance 1/n_in.

    Args:
        n_in, n_out: dimensions.
        seed: of everything.
        white: whether the inputs are white; a random covariance otherwise.
        noise: standard deviation of the label noise.
        modes: largest rank of the teacher; by default it is full.
        samples: number of data that the moments are taken of, with means that are not zero; 0 for the population.

    >>> random_task(4, 3, seed=1, white=True, modes=1)
    Task(4 -> 3, white, singular values 2.614)
    """
    rng = np.random.default_rng(seed)
    root = np.eye(n_in) + (0 if white else 0.3) * rng.standard_normal((n_in, n_in)) / np.sqrt(n_in)
    teacher = rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)
    if modes is not None:
        left, right = rng.standard_normal((n_out, modes)), rng.standard_normal((modes, n_in))
        teacher = left @ right / np.sqrt(n_in * modes)
    if not samples:
        return Task.teacher(teacher, Sxx=root @ root.T, noise=noise)
    inputs = rng.standard_normal((samples, n_in)) @ root.T + 0.5
    return Task.from_data(inputs, inputs @ teacher.T + noise * rng.standard_normal((samples, n_out)))


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
        modes, samples: of the task, as in `random_task`.
    """

    rule: Rule
    widths: tuple[int, ...]
    seed: int
    white: bool = False
    noise: float = 0.0
    scale: float = 0.7
    modes: int | None = None
    samples: int = 0

    @property
    def depth(self) -> int:
        """Number of weights."""
        return len(self.widths) - 1

    @property
    def task(self) -> Task:
        """The random task."""
        n, m = self.widths[0], self.widths[-1]
        return random_task(n, m, self.seed, self.white, self.noise, self.modes, self.samples)

    @property
    def network(self) -> Network:
        """Normal weights."""
        return Network.small(self.widths, self.scale, self.seed)

    @property
    def state(self) -> State:
        """The state at the start."""
        return start(self.rule, self.network, self.seed)

    @property
    def generic(self) -> State:
        """A state with nothing special about it: feedback that starts as the SVD of the weights does not move there."""
        state, rng = self.state, np.random.default_rng((self.seed, 1))
        feedback = tuple(
            tuple(matrix + 0.3 * rng.standard_normal(matrix.shape) for matrix in stored) for stored in state.feedback
        )
        return State(state.weights, feedback)


SEEDS = st.integers(0, 2**16)
_KINDS = {
    "white": st.booleans(),
    "noise": st.sampled_from([0.0, 0.3]),
    "modes": st.none() | st.integers(1, 2),
    "samples": st.sampled_from([0, 0, 25]),
}


def depths(largest: int = 6) -> st.SearchStrategy[int]:
    """Numbers of weights, from 1."""
    return st.integers(1, largest)


@st.composite
def rules(draw, depth: int | None = None, largest: int = 3) -> Rule:
    """A rule of the catalogue.

    Args:
        depth: only rules that have feedback at this depth (at depth 1 none has, and all are drawn); by default any.
        largest: rank of low-dimensional feedback, which is drawn from 1 on.
    """
    known = list(named().values())
    known = [rule for rule in known if depth is None or rule.route.edges(depth)] or known
    rule = draw(st.sampled_from(known))
    if hasattr(rule.feedback, "rank"):
        rank = draw(st.integers(1, largest))
        rule = replace(rule, feedback=replace(rule.feedback, rank=rank), name=rule.name.replace("2", str(rank), 1))
    return rule


@st.composite
def widths(draw, depth: int | None = None, smallest: int = 1, largest: int = 6) -> tuple[int, ...]:
    """Sizes n_0 .. n_L of a network.

    Args:
        depth: L; by default 1 to 6.
        smallest, largest: of the sizes.
    """
    depth = draw(depths()) if depth is None else depth
    return tuple(draw(st.lists(st.integers(smallest, largest), min_size=depth + 1, max_size=depth + 1)))


def tasks(n_in: int | None = None, n_out: int | None = None) -> st.SearchStrategy[Task]:
    """A task: white or not, noisy or not, of full or low rank, a population or data with means.

    Args:
        n_in, n_out: dimensions; by default 1 to 6.
    """
    sizes = {name: st.integers(1, 6) if n is None else st.just(n) for name, n in (("n_in", n_in), ("n_out", n_out))}
    return st.builds(random_task, **sizes, seed=SEEDS, **_KINDS)


def networks(widths: tuple[int, ...], batch: tuple = ()) -> st.SearchStrategy[Network]:
    """A network of normal weights, small to large.

    Args:
        widths: n_0 .. n_L.
        batch: leading axes of an ensemble.
    """
    gains = st.sampled_from([1e-2, 0.3, 1.0])
    return st.builds(Network.small, st.just(tuple(widths)), scale=gains, seed=SEEDS, batch=st.just(batch))


@st.composite
def problems(draw, rule: Rule | None = None, depth: int | None = None) -> Problem:
    """A rule on a task.

    Args:
        rule: a rule of your own; by default one of the catalogue.
        depth: number of weights; by default 1 to 6.
    """
    depth = draw(depths()) if depth is None else depth
    rule = draw(rules()) if rule is None else rule
    smallest = getattr(rule.feedback, "rank", 1)
    sizes = draw(widths(depth, smallest, max(6, smallest + 2)))
    return Problem(rule, sizes, draw(SEEDS), **{name: draw(kind) for name, kind in _KINDS.items()})


def _law(applies=lambda rule: True):
    """Marks a law, which passes over rules that it does not speak of."""

    def mark(check):
        @functools.wraps(check)
        def law(problem: Problem) -> None:
            if applies(problem.rule):
                check(problem)

        law.applies = applies
        return law

    return mark


def _claimed(kind):
    return lambda rule: any(isinstance(claim, kind) for claim in rule.claims)


def _unclamped(rule):
    return rule.feedback.bound is None


def _close(a, b, tolerance, what):
    error = relative(np.asarray(a), np.asarray(b))
    assert error <= tolerance, f"{what}: relative error {error:.1e} > {tolerance:.0e}"


def _same(a: State, b: State, tolerance, what):
    for x, y in zip(_arrays(a), _arrays(b), strict=True):
        _close(x, y, tolerance, what)


def _arrays(state):
    return [*state.weights, *(matrix for stored in state.feedback for matrix in stored)]


@_law(lambda rule: rule.conserved() and not rule.feedback.redrawn)
def law_conserved(problem: Problem):
    """The flow keeps, or lets decay, what the rule claims."""
    rule = problem.rule
    run = simulate(rule, problem.task, problem.network, 0.5, seed=problem.seed, rtol=1e-11, atol=1e-13)
    for claim in rule.conserved():
        for value in claim.quantity(rule, run.states):
            expected = np.exp(-claim.rate * rule.decay * run.times)[:, None, None] * value[0]
            _close(value, expected, 1e-8, claim)


@_law(_claimed(Order))
def law_order(problem: Problem):
    """The error of descent after a short time falls with the learning rate at the order that the rule claims."""
    (claim,) = [c for c in problem.rule.claims if isinstance(c, Order)]
    time, steps = 0.02, np.array([32, 64, 128])
    args = problem.rule, problem.task, problem.network
    exact = simulate(*args, [0.0, time], seed=problem.seed, rtol=1e-12, atol=1e-14).map[-1]
    gaps = [np.abs(descend(*args, time / n, n, seed=problem.seed).map[-1] - exact).max() for n in steps]
    if max(gaps) > 1e-9:  # below, rounding and the integrator's own error are seen
        order = -np.polyfit(np.log(steps), np.log(gaps), 1)[0]
        assert abs(order - claim.order) < 0.1, f"observed order {order:.3f}, claimed {claim.order}"


@_law(_claimed(ErrorRank))
def law_error_rank(problem: Problem):
    """Errors that an edge delivers, and the weight gradients below, have at most the rank that the rule claims."""
    rank = min(claim.rank for claim in problem.rule.claims if isinstance(claim, ErrorRank))
    for edge in problem.rule.route.edges(problem.depth):
        for matrices in (observe.errors, observe.gradients):
            values = np.linalg.svd(
                matrices(problem.rule, problem.state, problem.task)[edge.activity - 1], compute_uv=False
            )
            assert (values[rank:] <= 1e-10 * max(values[0], 1e-300)).all(), f"rank above {rank}: {values}"


@_law(_claimed(Homogeneous))
def law_homogeneous(problem: Problem):
    """Twice the error gives 2^degree times the weight gradients, of the degree that the rule claims."""
    (claim,) = [c for c in problem.rule.claims if isinstance(c, Homogeneous)]
    rule, state, batch = problem.rule, problem.generic, problem.task.batch
    prediction = observe.total_map(state) @ batch.X
    twice = Batch(batch.X, 2 * batch.Y - prediction, batch.one)
    for once, double in zip(_gradients(rule, state, batch), _gradients(rule, state, twice), strict=True):
        _close(double, 2**claim.degree * once, 1e-10, "homogeneity")


def _gradients(rule, state, batch):
    seen = signals(rule, state, batch)
    return [seen.errors[cut] @ T(seen.activities[cut - 1]) for cut in range(1, len(state.weights) + 1)]


@_law()
def law_batch(problem: Problem):
    """An ensemble moves like its members one by one."""
    rule, batch = problem.rule, problem.task.batch
    members = [replace(problem, seed=problem.seed + k).generic for k in range(3)]
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


@_law(_unclamped)
def law_symbolic(problem: Problem):
    """The printed equations, evaluated on numbers, are the vector field (a clamp has no symbolic form).

    A covariance of signals other than the output error is printed by its moments, for data without means.
    """
    import sympy

    from linfa.symbolic import DECAY, derive

    rule, task, state = problem.rule, problem.task, problem.generic
    equations = derive(rule, problem.depth)
    if "C" in rule.plasticity.reads and not rule.route.backward and (task.mean_x.any() or task.mean_y.any()):
        return
    W = observe.total_map(state)
    gap = task.Syx - W @ task.Sxx
    mean = W @ task.mean_x - task.mean_y
    See = task.Syy - W @ task.Syx.T - task.Syx @ W.T + W @ task.Sxx @ W.T - np.outer(mean, mean)
    values = [*_arrays(state), gap, task.Sxx, task.Syx, task.Syy, See, rule.decay]
    arguments = [*(x for x, _ in equations.pairs), equations.residual, *equations.moments.values(), DECAY]
    mine = velocity(rule, state, task.batch)
    for (symbol, right), number in zip(equations.pairs, _arrays(mine), strict=True):
        if right.is_ZeroMatrix:
            _close(number, 0 * number, 0.0, symbol)
            continue
        code = sympy.lambdify(arguments, right, [{"normalised": normalised}, "numpy"])
        _close(code(*values), number, 1e-9, f"d{symbol}/dt")


@_law()
def law_equivariant(problem: Problem):
    """An orthogonal change of basis of inputs, hidden units and outputs changes nothing but the names of the axes.

    Signs of entries, a clamp on them, and the largest variance that Oja divides by depend on the basis: there the law
    is checked for permutations.  The r directions between two factors may always be rotated.
    """
    rule, task, state = problem.rule, problem.task, problem.generic
    rng = np.random.default_rng(problem.seed)
    permute = isinstance(rule.feedback, Sign) or "C" in rule.plasticity.reads or not _unclamped(rule)
    frames = [np.eye(n)[rng.permutation(n)] if permute else _rotation(rng, n) for n in problem.widths]
    inner = [_rotation(rng, stored[-1].shape[0]) if len(stored) == 2 else None for stored in state.feedback]

    def turn(s: State) -> State:
        weights = tuple(frames[i + 1] @ w @ T(frames[i]) for i, w in enumerate(s.weights))
        feedback = []
        for edge, between, stored in zip(rule.route.edges(problem.depth), inner, s.feedback, strict=True):
            ends = (frames[edge.activity], *([] if between is None else [between]), frames[edge.source])
            feedback.append(tuple(ends[i] @ matrix @ T(ends[i + 1]) for i, matrix in enumerate(stored)))
        return State(weights, tuple(feedback))

    x, y = frames[0], frames[-1]
    turned = Batch(x @ task.batch.X, y @ task.batch.Y, task.batch.one)
    _same(velocity(rule, turn(state), turned), turn(velocity(rule, state, task.batch)), 1e-9, "change of basis")


def _rotation(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


@_law()
def law_torch(problem: Problem):
    """torch tensors give what numpy arrays give; nothing is checked where torch is not installed."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        return
    import torch

    state, batch = problem.generic, problem.task.batch
    tensors = State(
        tuple(map(torch.as_tensor, state.weights)),
        tuple(tuple(map(torch.as_tensor, stored)) for stored in state.feedback),
    )
    moved = Batch(*(None if part is None else torch.as_tensor(part) for part in batch))
    theirs = velocity(problem.rule, tensors, moved)
    for a, b in zip(_arrays(theirs), _arrays(velocity(problem.rule, state, batch)), strict=True):
        _close(a.numpy(), b, 1e-12, "torch against numpy")


@_law(lambda rule: not rule.feedback.redrawn)
def law_descends(problem: Problem):
    """A step of `descend` is lr times the velocity."""
    rule, task, state = problem.rule, problem.task, problem.state
    run = descend(rule, task, problem.network, 0.01, 1, seed=problem.seed)
    _same(run.at(1), advance(state, velocity(rule, state, task.batch), 0.01), 1e-14, "one step")


LAWS = (
    law_conserved, law_order, law_error_rank, law_homogeneous, law_batch, law_symbolic, law_equivariant, law_torch,
    law_descends,
)  # fmt: skip
"""Every law; each takes a `Problem`, raises AssertionError, and passes over rules that it does not speak of."""


def laws(rule: Rule) -> tuple:
    """The laws that speak of a rule.

    >>> import linfa
    >>> law_error_rank in laws(linfa.ldfa(2)), law_error_rank in laws(linfa.fa())
    (True, False)
    """
    return tuple(law for law in LAWS if law.applies(rule))


def check_rule(rule: Rule, depths=(1, 2, 3), seed: int = 0) -> None:
    """Run every law on a rule of your own, at several depths, on a population and on data with means.

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
        sizes = tuple(size + (i + depth) % 3 for i in range(depth + 1))
        for samples in (0, 25):
            for law in laws(rule):
                law(Problem(rule, sizes, seed + depth, noise=0.2, samples=samples))
