"""Verification: every claim of a rule, checked in every reading of the rule.

`symbolic`   proved by substitution of the derived equations
`simulated`  measured on random problems, by flow or descent
`law`        what every rule obeys, on random problems (`linfa.laws`)
`promoted`   measured on a torch network that was promoted with the rule (where torch is installed)
"""

import dataclasses
import functools
import json
import math
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from linfa import observe
from linfa.dynamics import start
from linfa.laws import Problem, horizon, laws, relative
from linfa.network import Network
from linfa.rules import Claim, ClosedForm, Conserved, ErrorRank, Homogeneous, Order, Rule
from linfa.simulate import descend, simulate
from linfa.task import Task

DEPTHS = tuple(range(1, 7))
"""The depths at which claims and laws are checked, unless others are named."""


@dataclass(frozen=True)
class Check:
    """One claim in one reading.

    Args:
        claim: the claim, as a sentence.
        reading: "symbolic", "simulated" or "promoted".
        error: what was measured (0 for a proof that holds, infinity for one that does not).
        tolerance: the largest error that passes.
        detail: how it was measured.
    """

    claim: str
    reading: str
    error: float
    tolerance: float
    detail: str

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return bool(self.error <= self.tolerance)


@dataclass(frozen=True)
class Certificate:
    """The outcome of `verify`: prints as a table, converts to JSON.

    Args:
        rule: the rule as text.
        fingerprint: of the rule.
        checks: every check that was made.
        versions: of linfa, Python and the libraries.
        notes: what was not read, and why.
    """

    rule: str
    fingerprint: str
    checks: tuple[Check, ...]
    versions: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> str:
        """The certificate as JSON."""
        rows = [{**dataclasses.asdict(c), "error": _finite(c.error), "passed": c.passed} for c in self.checks]
        about = {"rule": self.rule, "fingerprint": self.fingerprint, "passed": self.passed, "versions": self.versions}
        about |= {"notes": list(self.notes)}
        return json.dumps({**about, "checks": rows}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Certificate":
        """The certificate that `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: for any other text.
        """
        read = json.loads(text)
        checks = tuple(
            Check(c["claim"], c["reading"], float(c["error"]), c["tolerance"], c["detail"]) for c in read["checks"]
        )
        return cls(read["rule"], read["fingerprint"], checks, read["versions"], tuple(read["notes"]))

    def speaks_of(self, rule: Rule) -> bool:
        """Whether it is of this rule and of the versions at hand, so that `verify` would find the same.

        Never of a rule with parts of the user's own, whose code may have changed under the same name.
        """
        return self.fingerprint == rule.fingerprint and self.versions == _versions() and _of_linfa(rule)

    def __str__(self):
        lines = [f"{self.rule}   [{self.fingerprint}]"]
        for c in self.checks:
            mark = "ok  " if c.passed else "FAIL"
            lines.append(f"  {mark} {c.reading:<9}  {c.error:8.1e} <= {c.tolerance:7.0e}  {c.claim}: {c.detail}")
        lines += [f"  --   {note}" for note in self.notes]
        lines.append(f"  {sum(c.passed for c in self.checks)} of {len(self.checks)} checks passed")
        return "\n".join(lines)


def _finite(x):
    return x if math.isfinite(x) else str(x)


def verify(rule: Rule, seed: int = 0, promoted: bool | None = None, depths: Sequence[int] = DEPTHS) -> Certificate:
    """Check every claim of a rule symbolically, by simulation and, where torch is installed, in a promoted network.

    A rule that promotion does not cover has a note in its certificate instead of the promoted reading.

    Args:
        rule: a `Rule`, of the catalogue or your own.
        seed: of the random problems.
        promoted: whether to check the torch reading; by default if torch is installed.
        depths: at which claims and laws are checked, each at least 1.

    Raises:
        ValueError: for no depth, or one below 1.

    >>> import linfa
    >>> certificate = verify(linfa.kolen_pollack(), promoted=False)
    >>> certificate.passed, len(certificate.checks) >= 6
    (True, True)
    """
    if promoted is None:
        import importlib.util

        promoted = importlib.util.find_spec("torch") is not None
    if not depths or min(depths) < 1:
        raise ValueError(f"depths are whole numbers, at least 1; got {list(depths)}")
    checks: list[Check] = []
    for claim in rule.claims:
        checks.extend(symbolic(claim, rule, depths))
        checks.extend(simulated(claim, rule, seed, depths))
    checks.extend(_lawful(rule, seed, depths))
    notes: list[str] = []
    if promoted:
        from deep.bridge import checks as bridge
        from deep.coverage import check_rule
        from deep.unsupported import Unsupported

        try:
            check_rule(rule)
        except Unsupported as reason:
            notes.append(f"not promoted: {reason}")
        else:
            checks.extend(bridge(rule, seed, depths))
    if not rule.symbolic:
        notes.append("not derived: a part of the rule has no symbolic form")
    return Certificate(repr(rule), rule.fingerprint, tuple(checks), _versions(), tuple(notes))


def _lawful(rule, seed, depths):
    problems = [Problem(rule, widths(rule, L), seed, noise=0.2, samples=samples) for L in depths for samples in (0, 25)]
    for law in (law for law in laws(rule) if not law.claim):
        error, detail = 0.0, f"{_listed(depths)}, a population and data"
        for problem in problems:
            try:
                law(problem)
            except (AssertionError, FloatingPointError) as broken:
                error, detail = math.inf, f"depth {problem.depth}, {problem.samples or 'no'} samples: {broken}"
        yield Check(law.__doc__.splitlines()[0].rstrip("."), "law", error, 0.0, detail)


def _listed(depths):
    return f"depths {', '.join(map(str, depths))}"


def _of_linfa(part):
    if isinstance(part, tuple):
        return all(map(_of_linfa, part))
    if not dataclasses.is_dataclass(part):
        return True
    ours = type(part).__module__.split(".")[0] == "linfa"
    return ours and all(_of_linfa(getattr(part, field.name)) for field in dataclasses.fields(part))


def _versions():
    from linfa import __version__

    names = ("numpy", "scipy", "sympy", "torch")
    found = {name: sys.modules[name].__version__ for name in names if name in sys.modules}
    return {"linfa": __version__, "python": platform.python_version(), **found}


def widths(rule: Rule, depth: int) -> tuple[int, ...]:
    """Layer sizes for a problem on which the rank of a rule, if it has one, is less than every width.

    >>> from linfa.rules import fa, ldfa
    >>> widths(fa(), 3), widths(ldfa(4), 2)
    ((4, 5, 5, 3), (6, 7, 5))
    """
    r = max(2, rule.rank)
    return (r + 2, *(r + 3,) * (depth - 1), r + 1)


def problem(rule: Rule, depth: int, seed: int) -> tuple[Task, Network]:
    """A random task and a generic network for a rule at some depth: inputs that are not white, noisy labels.

    Args:
        rule: a `Rule`.
        depth: number of weights.
        seed: of everything.
    """
    sizes = widths(rule, depth)
    n, m = sizes[0], sizes[-1]
    rng = np.random.default_rng((seed, depth))
    root = np.eye(n) + 0.6 / np.sqrt(n) * rng.standard_normal((n, n))
    spread = np.linalg.qr(rng.standard_normal((n, m)))[0] * np.linspace(1.5, 0.7, m)
    task = Task.teacher(spread.T, Sxx=root @ root.T / 2, noise=0.1)
    return task, Network.small(sizes, scale=0.7, seed=seed + depth)


@functools.singledispatch
def symbolic(claim: Claim, rule: Rule, depths: Sequence[int]) -> Iterator[Check]:
    """Checks of a claim by algebra; most claims have none."""
    yield from ()


@functools.singledispatch
def simulated(claim: Claim, rule: Rule, seed: int, depths: Sequence[int]) -> Iterator[Check]:
    """Checks of a claim by simulation."""
    raise TypeError(f"no check is known for a claim of type {type(claim).__name__}")


@symbolic.register
def _(claim: Conserved, rule, depths):
    from linfa.symbolic import derive

    for depth in depths if rule.symbolic else ():
        proof = derive(rule, depth).prove(claim)
        error = 0.0 if proof else math.inf
        yield Check(str(claim), "symbolic", error, 0.0, f"depth {depth}, {'proved' if proof else str(proof)}")


@symbolic.register
def _(claim: ClosedForm, rule, depths):
    from linfa import theory
    from linfa.symbolic import derive

    residuals = theory.by_name(claim.theory).residuals(derive(rule, 2))
    if residuals:
        left = [r for r in residuals if r != 0]
        detail = f"left over: {left}" if left else f"{len(residuals)} equations of motion solved"
        yield Check(str(claim), "symbolic", math.inf if left else 0.0, 0.0, detail)


@simulated.register
def _(claim: Conserved, rule, seed, depths):
    worst, decay = 0.0, claim.rate * rule.decay
    for depth in depths:
        task, network = problem(rule, depth, seed)
        times = np.linspace(0, horizon(rule), 21)
        run = simulate(rule, task, network, times, seed=seed, rtol=1e-11, atol=1e-13)
        for values in claim.quantity(rule, run.states):
            expected = np.exp(-decay * run.times)[:, None, None] * values[0]
            worst = max(worst, relative(values, expected))
    yield Check(str(claim), "simulated", worst, 1e-8, f"flow at {_listed(depths)}")


@simulated.register
def _(claim: Homogeneous, rule, seed, depths):
    worst = 0.0
    for depth in depths:
        task, network = problem(rule, depth, seed)
        state = start(rule, network, seed)
        grown = _with_error(rule, task, state, 3.0)
        for once, thrice in zip(
            observe.gradients(rule, state, task), observe.gradients(rule, state, grown), strict=True
        ):
            worst = max(worst, relative(thrice, 3.0**claim.degree * once))
    yield Check(str(claim), "simulated", worst, 1e-10, f"three times the error, {_listed(depths)}")


def _with_error(rule, task, state, factor):
    """The task in which the state's error is that many times what it is: y -> y_hat + factor (y - y_hat)."""
    W = observe.network_map(rule, state, task)
    gap = task.Syx - W @ task.Sxx
    noise = task.Syy - task.Syx @ W.T - W @ task.Syx.T + W @ task.Sxx @ W.T
    Syx = W @ task.Sxx + factor * gap
    return Task(task.Sxx, Syx, W @ task.Sxx @ W.T + factor * (gap @ W.T + W @ gap.T) + factor**2 * noise)


@simulated.register
def _(claim: ErrorRank, rule, seed, depths):
    worst = 0.0
    for depth in depths:
        task, network = problem(rule, depth, seed)
        state = start(rule, network, seed)
        edges = rule.route.edges(depth)
        errors = observe.errors(rule, state, task)
        for edge in edges:
            s = np.linalg.svd(errors[edge.taught], compute_uv=False)
            if claim.rank < len(s):
                worst = max(worst, float(s[claim.rank] / s[0]))
    yield Check(str(claim), "simulated", worst, 1e-12, f"first singular value beyond the rank, {_listed(depths)}")


@simulated.register
def _(claim: Order, rule, seed, depths):
    """Fit the order from the error at a fixed time, with the step halved twice."""
    task, network = problem(rule, 2, seed)
    time = 0.2
    end = simulate(rule, task, network, [0.0, time], seed=seed, rtol=1e-12, atol=1e-14).map[-1]
    steps = 64 * 2 ** np.arange(3)
    gaps = [np.abs(descend(rule, task, network, time / n, n, seed=seed, record=n).map[-1] - end).max() for n in steps]
    order = -float(np.polyfit(np.log(steps), np.log(gaps), 1)[0])
    yield Check(str(claim), "simulated", abs(order - claim.order), 0.1, f"observed order {order:.3f}")


@simulated.register
def _(claim: ClosedForm, rule, seed, depths):
    from linfa import theory

    kind = theory.by_name(claim.theory)
    setup = kind.example(rule, seed)
    run = simulate(
        rule, setup.task, setup.network, setup.times, seed=seed, feedback=setup.feedback, rtol=1e-11, atol=1e-13
    )
    closed = kind(rule, setup.task, run.at(0))
    yield Check(str(claim), "simulated", closed.error(run), 1e-8, "against the flow")
    if kind.exact_in_discrete_time:
        run = descend(rule, setup.task, setup.network, 0.02, 200, seed=seed, feedback=setup.feedback)
        yield Check(
            str(claim), "simulated", closed.discrete_error(run), 1e-11, "against descent, exact in discrete time"
        )
