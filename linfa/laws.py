"""Laws that every learning rule obeys, as far as they speak of it: each takes a `Problem` and raises AssertionError.

`linfa.verify` runs them for a certificate, `check_rule` in a test, `linfa.testing` with Hypothesis.
"""

import functools
import math
from dataclasses import dataclass, replace

import numpy as np

from linfa import observe
from linfa.algebra import T, product
from linfa.dynamics import State, signals, start, velocity
from linfa.network import Network
from linfa.rules import (
    Dense,
    ErrorRank,
    Fixed,
    Full,
    Homogeneous,
    KolenPollack,
    Layerwise,
    LowRank,
    Modulated,
    Moments,
    Order,
    Plain,
    Rule,
    Sign,
    Transpose,
    bp,
)
from linfa.simulate import advance, descend, retract, simulate
from linfa.task import Batch, Task
from linfa.tree import leaves, tree_map


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

    @functools.cached_property
    def task(self) -> Task:
        """The random task."""
        n, m = self.widths[0], self.widths[-1]
        return random_task(n, m, self.seed, self.white, self.noise, self.modes, self.samples)

    @functools.cached_property
    def network(self) -> Network:
        """Normal weights."""
        return Network.small(self.widths, self.scale, self.seed)

    @functools.cached_property
    def state(self) -> State:
        """The state at the start."""
        return start(self.rule, self.network, self.seed)

    @functools.cached_property
    def generic(self) -> State:
        """A state with nothing special about it: what starts as an SVD does not move, or pays no penalty, there."""
        state, rng = self.state, np.random.default_rng((self.seed, 1))

        def moved(matrix):
            return matrix + 0.3 * rng.standard_normal(matrix.shape)

        feedback = tree_map(moved, state.feedback)
        whole = type(self.rule.parameterisation) is Full
        return State(state.weights if whole else tree_map(moved, state.weights), feedback)


def relative(measured, expected) -> float:
    """Largest difference in units of the largest entry of what is expected (of 1 where that is smaller).

    Infinite where either is not a number: a NaN would be lost in the next ``max(worst, error)``, and so would pass.

    >>> relative(np.array([1.0, 4.5]), np.array([1.0, 4.0])), relative(np.array([np.nan]), np.array([1.0]))
    (0.125, inf)
    """
    error = float(np.abs(measured - expected).max() / max(1.0, np.abs(expected).max()))
    return math.inf if math.isnan(error) else error


def horizon(rule) -> float:
    """A share of the usual time for which the flow of a rule surely stays finite.

    Factors of a weight move at rates that grow with the weight: under feedback other than the transpose, free factors
    can leave the finite numbers in finite time.  A teaching signal that does not settle, a target, drives weights on.

    >>> import linfa
    >>> horizon(linfa.sgr()), horizon(linfa.factored(linfa.fa(), 2))
    (1.0, 0.1)
    """
    return 1.0 if type(rule.parameterisation) is Full and rule.route.settles else 0.1


def _law(applies=lambda rule: True, claim: bool = False):
    """Marks a law, which passes over rules that it does not speak of; ``claim`` if it repeats a claim of the rule."""

    def mark(check):
        @functools.wraps(check)
        def law(problem: Problem) -> None:
            if applies(problem.rule):
                check(problem)

        law.applies, law.claim = applies, claim
        return law

    return mark


def _claimed(kind):
    return lambda rule: any(isinstance(claim, kind) for claim in rule.claims)


def _unclamped(rule):
    return rule.feedback.clamp is None


def _rounding(rule):
    """Size of the rounding errors of gradients: a normalisation divides them by small variances."""
    return 1e-12 if type(rule.activity) is Plain else 1e-7


def _directed(problem):
    """Size of the rounding errors of a velocity: directions have those of the gradients by their condition number."""
    rule = problem.rule
    batch = rule.activity.prepared(problem.task.batch)
    return _rounding(rule) * rule.geometry.condition(signals(rule, problem.generic, batch).gradients())


def _close(a, b, tolerance, what):
    error = relative(np.asarray(a), np.asarray(b))
    assert error <= tolerance, f"{what}: relative error {error:.1e} > {tolerance:.0e}"


def _same(a: State, b: State, tolerance, what):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        _close(x, y, tolerance, what)


@_law(lambda rule: rule.conserved() and not rule.feedback.redrawn, claim=True)
def law_conserved(problem: Problem):
    """The flow keeps, or lets decay, what the rule claims."""
    rule = problem.rule
    times = np.linspace(0, 0.5 * horizon(rule), 11)
    run = simulate(rule, problem.task, problem.network, times, seed=problem.seed, rtol=1e-11, atol=1e-13)
    for claim in rule.conserved():
        for value in claim.quantity(rule, run.states):
            expected = np.exp(-claim.rate * rule.decay * run.times)[:, None, None] * value[0]
            _close(value, expected, 1e-8, claim)


@_law(_claimed(Order), claim=True)
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


@_law(_claimed(ErrorRank), claim=True)
def law_error_rank(problem: Problem):
    """Errors that an edge delivers, and the weight gradients below, have at most the rank that the rule claims."""
    rank = min(claim.rank for claim in problem.rule.claims if isinstance(claim, ErrorRank))
    for edge in problem.rule.route.edges(problem.depth):
        for matrices in (observe.errors, observe.gradients):
            taught = matrices(problem.rule, problem.state, problem.task)[edge.taught]
            values = np.linalg.svd(taught, compute_uv=False)
            assert (values[rank:] <= 1e-10 * max(values[0], 1e-300)).all(), f"rank above {rank}: {values}"


@_law(_claimed(Homogeneous), claim=True)
def law_homogeneous(problem: Problem):
    """Twice the error gives 2^degree times the weight gradients, of the degree that the rule claims."""
    (claim,) = [c for c in problem.rule.claims if isinstance(c, Homogeneous)]
    rule, state, batch = problem.rule, problem.generic, problem.task.batch
    batch = rule.activity.prepared(batch)
    prediction = signals(rule, state, batch).activities[-1]
    twice = Batch(batch.X, 2 * batch.Y - prediction, batch.one)
    for once, double in zip(*(signals(rule, state, data).gradients() for data in (batch, twice)), strict=True):
        _close(double, 2**claim.degree * once, max(1e-10, _rounding(rule)), "homogeneity")


@_law()
def law_batch(problem: Problem):
    """An ensemble moves like its members one by one."""
    rule, batch = problem.rule, problem.task.batch
    members = [replace(problem, seed=problem.seed + k).generic for k in range(3)]
    together = velocity(rule, tree_map(lambda *parts: np.stack(parts), *members), batch)
    for k, member in enumerate(members):
        alone, one = velocity(rule, member, batch), tree_map(lambda parts, k=k: parts[k], together)
        _same(one, alone, 1e-12, "ensemble against one by one")


@_law(lambda rule: rule.symbolic)
def law_symbolic(problem: Problem):
    """The printed equations, evaluated on numbers, are the vector field, of rules that have a symbolic form.

    A covariance of signals other than the output error is printed by its moments, for data without means.
    """
    from linfa.expressions import evaluate
    from linfa.symbolic import DECAY, derive

    rule, task, state = problem.rule, problem.task, problem.generic
    equations = derive(rule, problem.depth)
    if "C" in rule.plasticity.reads and not rule.route.backward and (task.mean_x.any() or task.mean_y.any()):
        return
    W = observe.total_map(state)
    gap = task.Syx - W @ task.Sxx
    mean = W @ task.mean_x - task.mean_y
    See = task.Syy - W @ task.Syx.T - task.Syx @ W.T + W @ task.Sxx @ W.T - np.outer(mean, mean)
    numbers = [*leaves(state), gap, task.Sxx, task.Syx, task.Syy, See, rule.decay]
    symbols = [*(x for x, _ in equations.pairs), equations.residual, *equations.moments.values(), DECAY]
    values = {symbol.name: number for symbol, number in zip(symbols, numbers, strict=True)}
    mine, rounding = velocity(rule, state, task.batch), max(1e-9, _directed(problem))
    for (symbol, right), number in zip(equations.pairs, leaves(mine), strict=True):
        if right.is_ZeroMatrix:
            _close(number, 0 * number, 0.0, symbol)
            continue
        _close(evaluate(right, values), number, rounding, f"d{symbol}/dt")


@_law()
def law_equivariant(problem: Problem):
    """An orthogonal change of basis of inputs, hidden units and outputs changes nothing but the names of the axes.

    Signs of entries, a clamp on them, the largest variance that Oja divides by and the variances of units depend on the
    basis: there the law is checked for permutations.  The r directions between two factors may be rotated, unless those
    of a factored weight are aligned with them.
    """
    rule, task, state = problem.rule, problem.task, problem.generic
    rng = np.random.default_rng(problem.seed)
    permute = isinstance(rule.feedback, Sign) or "C" in rule.plasticity.reads or not _unclamped(rule)
    permute = permute or not rule.activity.basis_free
    frames = [np.eye(n)[rng.permutation(n)] if permute else _rotation(rng, n) for n in problem.widths]
    aligned = any(penalty.reads_frame for penalty in rule.parameterisation.penalties)
    between = (lambda rng, r: np.eye(r)) if aligned else _rotation
    inner = [between(rng, stored[-1].shape[0]) if len(stored) == 2 else None for stored in state.feedback]

    def turn(s: State) -> State:
        turned = rule.parameterisation.turned
        weights = tuple(turned(w, frames[i + 1], frames[i]) for i, w in enumerate(s.weights))
        feedback = []
        for edge, between, stored in zip(rule.route.edges(problem.depth), inner, s.feedback, strict=True):
            ends = (frames[edge.activity], *([] if between is None else [between]), frames[edge.source])
            feedback.append(tuple(ends[i] @ matrix @ T(ends[i + 1]) for i, matrix in enumerate(stored)))
        return State(weights, tuple(feedback))

    x, y = frames[0], frames[-1]
    turned = Batch(x @ task.batch.X, y @ task.batch.Y, task.batch.one)
    _same(
        velocity(rule, turn(state), turned),
        turn(velocity(rule, state, task.batch)),
        max(1e-9, _directed(problem)),
        "change of basis",
    )


def _rotation(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


@_law()
def law_torch(problem: Problem):
    """torch tensors give what numpy arrays give; nothing is checked where torch is not installed."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        return
    import torch

    state, batch, rounding = problem.generic, problem.task.batch, _directed(problem)
    tensors = tree_map(torch.as_tensor, state)
    moved = Batch(*(None if part is None else torch.as_tensor(part) for part in batch))
    theirs = velocity(problem.rule, tensors, moved)
    for a, b in zip(leaves(theirs), leaves(velocity(problem.rule, state, batch)), strict=True):
        _close(a.numpy(), b, rounding, "torch against numpy")


@_law(lambda rule: not rule.feedback.redrawn and rule.plasticity.directions is None)
def law_descends(problem: Problem):
    """A step of `descend` is lr times the velocity, and the retraction of the rule if it has one."""
    rule, task, state = problem.rule, problem.task, problem.state
    run = descend(rule, task, problem.network, 0.01, 1, seed=problem.seed)
    _same(run.at(1), retract(rule, advance(state, velocity(rule, state, task.batch), 0.01)), 1e-14, "one step")


@_law(lambda rule: bool(rule.conserved()) and not rule.feedback.redrawn)
def law_drift(problem: Problem):
    """A step of descent moves what the flow conserves by lr^2 times its value at the velocity, exactly."""
    rule, state, lr = problem.rule, problem.generic, 0.1
    v = velocity(rule, state, problem.task.batch)
    states = (state, advance(state, v, lr), v, advance(v, v, -2.0))
    for claim in rule.conserved():
        for old, moved, ahead, behind in zip(*(claim.quantity(rule, s) for s in states), strict=True):
            expected = (1 - lr * claim.rate * rule.decay) * old + lr**2 * (ahead + behind) / 2
            _close(moved, expected, 1e-11, claim)


@_law(lambda rule: type(rule.activity) is not Plain)
def law_scale(problem: Problem):
    """A hidden weight that a normalisation follows has no gradient along itself, whatever the teaching signal."""
    rule, state, batch = problem.rule, problem.generic, problem.task.batch
    for W, G in zip(state.matrices[:-1], signals(rule, state, batch).gradients(), strict=False):
        _close((W * G).sum() / max(1.0, np.linalg.norm(W) * np.linalg.norm(G)), 0.0, 1e-9, "gradient along the weight")


def _settable(rule):
    """Whether feedback can be put in place of any carrier of errors."""
    linear = type(rule.activity) is Plain or rule.route.single_layer  # else what an edge spans is not a matrix
    return linear and rule.route.backward and isinstance(rule.feedback, (Dense, LowRank)) and _unclamped(rule)


@_law(_settable)
def law_transposed(problem: Problem):
    """Feedback that equals the transposed forward map, full rank where it has a rank, is backprop."""
    rule, state = problem.rule, problem.state
    if isinstance(rule.feedback, LowRank):
        rule = rule.at_rank(max(problem.widths))
    feedback = []
    for edge in rule.route.edges(problem.depth):
        B = T(product(tuple(reversed(state.matrices[edge.activity : edge.source]))))
        U, s, Vt = np.linalg.svd(B, full_matrices=False)
        feedback.append((B,) if isinstance(rule.feedback, Dense) else (U * s, Vt))
    mine = signals(rule, State(state.weights, tuple(feedback)), problem.task.batch).gradients()
    exact = signals(
        replace(bp(), activity=rule.activity), State(state.matrices, ((),) * (problem.depth - 1)), problem.task.batch
    ).gradients()
    for a, b in zip(mine, exact, strict=True):
        _close(a, b, 1e-11, "feedback of the transposed weights")


def _scales(rule):
    learns = not isinstance(rule.plasticity, Fixed)
    plain = isinstance(rule.feedback, (Dense, Transpose, LowRank)) and not isinstance(rule.route, Modulated)
    tied = isinstance(rule.feedback, Dense) and isinstance(rule.route, Layerwise)
    plain = plain and type(rule.activity) is Plain and type(rule.parameterisation) is Full
    plain = plain and rule.geometry.linear and not rule.route.lam  # a discord has another degree than a loss
    return plain and _unclamped(rule) and (not learns or (isinstance(rule.plasticity, KolenPollack) and tied))


@_law(_scales)
def law_scaling(problem: Problem):
    """A task c^L times as large, with weights and feedback c times for each layer, runs c^(2L-2) times as fast.

    Of weights that are stored whole: the factors of others are larger by less than c, and faster by more.
    """
    rule, state, c, depth = replace(problem.rule, decay=0.0), problem.generic, 1.3, problem.depth
    X, Y, one = problem.task.batch

    def grown(s, factor=1.0):
        spans = [edge.source - edge.activity for edge in rule.route.edges(depth)]
        return State(
            tuple(factor * c * w for w in s.weights),
            tuple(
                tuple(factor * c**span * B if place == 0 else B for place, B in enumerate(stored))
                for span, stored in zip(spans, s.feedback, strict=True)
            ),
        )

    slow, fast = velocity(rule, state, Batch(X, Y, one)), velocity(rule, grown(state), Batch(X, c**depth * Y, one))
    _same(fast, grown(slow, c ** (2 * depth - 2)), 1e-10, "scaling")


@_law()
def law_chain(problem: Problem):
    """What a layer stores moves against the gradient of its weight by the chain rule, apart from what it pays itself.

    <pull(G), direction> is the derivative of <G, W> in random directions, by a complex step.
    """
    part, rng = problem.rule.parameterisation, np.random.default_rng((problem.seed, 2))
    for stored in problem.generic.weights:
        direction = tree_map(lambda x: rng.standard_normal(x.shape), stored)
        (W,) = State((tree_map(lambda x, d: x + 1e-30j * d, stored, direction),)).matrices
        G = rng.standard_normal(W.shape)
        slope = sum((a * b).sum() for a, b in zip(leaves(part.pull(stored, G)), leaves(direction), strict=True))
        _close(slope, (G * W.imag).sum() / 1e-30, 1e-11, "chain rule")
    for penalty in part.penalties:
        for stored in problem.generic.weights:
            frame = rng.standard_normal(stored.U.shape)
            direction = tree_map(lambda x: rng.standard_normal(x.shape), stored)
            up, down = (
                penalty.value(tree_map(lambda x, d, h=h: x + h * d, stored, direction), frame) for h in (1e-5, -1e-5)
            )
            slope = sum((a * b).sum() for a, b in zip(penalty.gradient(stored, frame), direction, strict=True))
            _close(slope, (up - down) / 2e-5, 1e-7, f"gradient of {penalty}")


@_law(lambda rule: rule.plasticity.proportional and rule.plasticity.reads)
def law_proportional(problem: Problem):
    """Feedback whose plasticity says that it is proportional to the loss learns three times as fast from three times
    the loss.
    """
    plasticity, rng = problem.rule.plasticity, np.random.default_rng(problem.seed)
    for stored in problem.generic.feedback:
        n_h, n_e = product(stored).shape
        (G, J), errors = rng.standard_normal((2, n_e, n_h)), rng.standard_normal((n_e, 2 * n_e))
        seen = (Moments(c * G, c**2 * errors @ errors.T, J) for c in (1, 3))
        for once, grown in zip(*(plasticity.velocity(stored, moments) for moments in seen), strict=True):
            if once is not None:
                _close(grown, 3 * once, 1e-12, "proportional to the loss")


LAWS = (
    law_conserved, law_order, law_error_rank, law_homogeneous, law_batch, law_symbolic, law_equivariant, law_torch,
    law_descends, law_drift, law_scale, law_transposed, law_scaling, law_chain, law_proportional,
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
    size = rule.rank + 2
    for depth in depths:
        sizes = tuple(size + (i + depth) % 3 for i in range(depth + 1))
        for samples in (0, 25):
            problem = Problem(rule, sizes, seed + depth, noise=0.2, samples=samples)
            for law in laws(rule):
                law(problem)
