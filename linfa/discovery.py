"""Invariant discovery: every polynomial of low degree that a rule's flow conserves, found, made rational, and proved.

A polynomial p of the state is conserved when its gradient is orthogonal to the vector field everywhere.  That is linear
in the coefficients of p, so random states give a matrix whose null space is the answer.
"""

import functools
import itertools
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import sympy as sp
from scipy.linalg import null_space, qr

from linfa.algebra import diagonal, hadamard, product
from linfa.dynamics import State, start, velocity
from linfa.expressions import Diag, Diagonal, evaluate
from linfa.network import Network
from linfa.rules import SVD
from linfa.symbolic import derive, polynomial
from linfa.task import Batch
from linfa.tree import leaves, tree_map

LARGEST_DENOMINATOR = 1000
"""Coefficients are taken for fractions with at most this denominator; feedback that does not learn is whole numbers."""


@dataclass(frozen=True)
class MatrixInvariant:
    """A matrix expression that the flow conserves at every size of the layers, for any loss and data.

    Args:
        expression: a SymPy matrix expression in the symbols of `linfa.derive`; N_l spans the left null space of the
            constant feedback to h_l.
        degree: of its entries.
    """

    expression: sp.MatrixExpr
    degree: int

    def __str__(self):
        return str(self.expression)


@dataclass(frozen=True)
class Discovery:
    """The conserved polynomials of a rule at some sizes: prints as a list, counts with ``len``.

    Args:
        rule: the rule.
        widths: n_0 .. n_L.
        polynomials: a basis without constants, SymPy expressions in the entries such as ``W_1[0, 1]``.
        matrices: conserved matrix expressions, which hold at every size.
        explained: how many dimensions of the basis the matrices span, with the products of those that are linear.
        proved: whether every polynomial was proved by exact algebra; None where that cannot be expanded.
    """

    rule: object
    widths: tuple[int, ...]
    polynomials: tuple[sp.Expr, ...]
    matrices: tuple[MatrixInvariant, ...]
    explained: int
    proved: bool | None

    def __len__(self):
        return len(self.polynomials)

    def __str__(self):
        how = {True: "proved", False: "REFUTED", None: "by numbers alone"}[self.proved]
        lines = [f"{self.rule!r}, widths {self.widths}: {len(self)} conserved polynomials, {how}"]
        lines += [f"  {matrix}" for matrix in self.matrices]
        if self.explained:
            lines.append(f"  {self.explained} of {len(self)} are entries of these matrices or products of linear ones")
        if self.explained < len(self):
            lines += [f"  {p}" for p in sorted(self.polynomials, key=sp.count_ops)]
        return "\n".join(lines)

    __repr__ = __str__


def discover(rule, widths: tuple[int, ...], degree: int = 2, task=None, seed: int = 0) -> Discovery:
    """All polynomials of the state up to some degree that the rule's flow conserves.

    Feedback that does not learn is a constant, drawn as whole numbers.  The decay is left out: with it, a quantity that
    is homogeneous of degree q in what learns decays as exp(-q lambda t).

    Args:
        rule: a `Rule`, of the catalogue or your own.
        widths: n_0 .. n_L, small.
        degree: 1 or 2.
        task: a `Task` to find the invariants of learning it alone, its moments small fractions; by default those of
            learning any data.
        seed: of states, data and constant feedback.

    Raises:
        ArithmeticError: if the coefficients are not small fractions.
        ValueError: for another degree, or a state of more than 60 numbers, whose 1890 monomials are too many.

    >>> import linfa
    >>> print(discover(linfa.bp(), (2, 2, 1)))
    bp: Layerwise() / Transpose() / Fixed(), widths (2, 2, 1): 3 conserved polynomials, proved
      -W_1*W_1.T + W_2.T*W_2
      3 of 3 are entries of these matrices or products of linear ones
    """
    if degree not in (1, 2):
        raise ValueError(f"degree is 1 or 2; got {degree}")
    rule = replace(rule, decay=0.0)
    space = _Space(rule, tuple(widths), degree, task, seed)
    if space.size > 60:
        raise ValueError(f"the state has {space.size} numbers; choose smaller widths, for at most 60")
    basis = _rational(space.conserved())
    polynomials = tuple(space.expression(row) for row in basis)
    matrices = tuple(m for m in _matrix_invariants(rule, len(widths) - 1) if m.degree <= degree)
    explained = space.explained(matrices)
    proved = True if explained == len(basis) else space.prove(basis)
    return Discovery(rule, tuple(widths), polynomials, matrices, explained, proved)


def _whole_numbers(rng, shape):
    """A random matrix of full rank with small integer entries, none of them zero."""
    while np.linalg.matrix_rank(B := rng.choice([-3, -2, -1, 1, 2, 3], shape)) < min(shape):
        pass
    return B


class _Space:
    """The moving entries of a state, their monomials, and the vector field on both."""

    def __init__(self, rule, widths, degree, task, seed):
        self.rule, self.task, self.widths = rule, task, widths
        self.rng = np.random.default_rng(seed)
        like = start(rule, Network.small(widths, 1.0, seed), seed)
        self.fixed = [[_whole_numbers(self.rng, B.shape) for B in stored] for stored in like.feedback]
        edges = rule.route.edges(len(widths) - 1)
        self.names = [f"{name}_{number}" for number in range(1, len(widths)) for name in rule.parameterisation.names]
        self.moving = [(name, w.shape) for name, w in zip(self.names, leaves(like.weights), strict=True)]
        self.like = like.weights
        self.learns = [rule.plasticity.learns(len(stored)) for stored in like.feedback]
        for edge, stored, learns in zip(edges, like.feedback, self.learns, strict=True):
            names = (f"{name}_{edge.activity}" for name in rule.feedback.names)
            self.moving += [(n, B.shape) for n, B, moves in zip(names, stored, learns, strict=True) if moves]
        self.size = sum(rows * columns for _, (rows, columns) in self.moving)
        self.pairs = np.array(list(itertools.combinations_with_replacement(range(self.size), 2)))
        if degree == 1:
            self.pairs = self.pairs[:0]

    @functools.cached_property
    def symbols(self):
        return [sp.Symbol(f"{name}[{i}, {j}]") for name, (m, n) in self.moving for i in range(m) for j in range(n)]

    def state(self, x, redrawn=None) -> State:
        """The state with moving entries x (..., size)."""
        parts, at = [], 0
        for _, (rows, columns) in self.moving:
            parts.append(x[..., at : at + rows * columns].reshape(*x.shape[:-1], rows, columns))
            at += rows * columns
        weights = iter(parts[: len(self.names)])
        learned = iter(parts[len(self.names) :])
        fixed = self.fixed if redrawn is None else redrawn
        feedback = tuple(
            tuple(next(learned) if moves else B for B, moves in zip(stored, learns, strict=True))
            for stored, learns in zip(fixed, self.learns, strict=True)
        )
        return State(tree_map(lambda _: next(weights), self.like), feedback)

    def velocity(self, x, batch, redrawn=None):
        v = velocity(self.rule, self.state(x, redrawn), batch)
        parts = list(leaves(v.weights))
        for stored, learns in zip(v.feedback, self.learns, strict=True):
            parts += [dB for dB, moves in zip(stored, learns, strict=True) if moves]
        batch_axes = x.shape[:-1]
        return np.concatenate(
            [np.broadcast_to(p, (*batch_axes, *p.shape[-2:])).reshape(*batch_axes, -1) for p in parts], -1
        )

    def monomials(self, x):
        """(..., size) -> (..., monomials)."""
        return np.concatenate([x, x[..., self.pairs[:, 0]] * x[..., self.pairs[:, 1]]], -1)

    def rates(self, x, v):
        """Time derivatives of the monomials."""
        i, j = self.pairs.T
        return np.concatenate([v, v[..., i] * x[..., j] + x[..., i] * v[..., j]], -1)

    def conserved(self):
        """Orthonormal coefficients (dimension, monomials) of what is conserved."""
        number = self.size + len(self.pairs) + 20
        x = self.rng.standard_normal((number, self.size))
        if self.task is None:
            n, m = self.widths[0], self.widths[-1]
            batch = Batch(*(self.rng.standard_normal((number, rows, n + m)) for rows in (n, m)))
        else:
            batch = self.task.batch
        redrawn = None
        if self.rule.feedback.redrawn:
            redrawn = [[self.rng.standard_normal((number, *B.shape)) for B in stored] for stored in self.fixed]
        rows = self.rates(x, self.velocity(x, batch, redrawn))
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        _, s, Vt = np.linalg.svd(rows, full_matrices=True)
        return Vt[np.sum(s > 1e-9 * s[0]) :]

    def expression(self, coefficients) -> sp.Expr:
        x = np.array(self.symbols, dtype=object)
        pairs = zip(coefficients, self.monomials(x), strict=True)
        return sp.Add(*(sp.Rational(c.numerator, c.denominator) * term for c, term in pairs if c))

    def explained(self, matrices) -> int:
        """Dimension of the span of the entries of some matrices and of the products of the linear ones."""
        x = self.rng.standard_normal((self.size + len(self.pairs) + 20, self.size))
        table = self.monomials(x)
        state, depth = self.state(x), len(self.widths) - 1
        values = dict(zip(self.names, leaves(state.weights), strict=True))
        for edge, stored in zip(self.rule.route.edges(depth), state.feedback, strict=True):
            values |= {f"{name}_{edge.activity}": B for name, B in zip(self.rule.feedback.names, stored, strict=True)}
            if f"N_{edge.activity}" in {s.name for m in matrices for s in m.expression.atoms(sp.MatrixSymbol)}:
                values[f"N_{edge.activity}"] = null_space(product(stored).T.astype(float))
        linear, columns = [], []
        for matrix in matrices:
            entries = evaluate(matrix.expression, values).reshape(len(x), -1)
            columns.append(entries)
            if matrix.degree == 1:
                linear.append(entries)
        if linear and len(self.pairs):
            L = np.concatenate(linear, -1)
            columns.append((L[:, :, None] * L[:, None, :]).reshape(len(x), -1))
        if not columns:
            return 0
        found = np.linalg.lstsq(np.concatenate([table, np.ones((len(x), 1))], 1), np.concatenate(columns, 1))[0][:-1]
        return int(np.linalg.matrix_rank(found, tol=1e-8 * max(1.0, np.abs(found).max(initial=0))))

    def prove(self, basis) -> bool | None:
        """Expand d/dt of every polynomial with exact coefficients, for data of unknown second moments."""
        right = (v for _, v in derive(self.rule, len(self.widths) - 1).pairs)
        if self.task is not None or not all(map(_is_polynomial, right)):
            return None
        n, m = self.widths[0], self.widths[-1]
        names = [f"x{i}" for i in range(self.size)] + [f"d{i}" for i in range((n + m) * n)]
        _, *generators = sp.ring(names, sp.QQ)
        x, data = np.array(generators[: self.size], dtype=object), np.array(generators[self.size :], dtype=object)
        batch = Batch(data[: n * n].reshape(n, n), data[n * n :].reshape(m, n))
        rates = self.rates(x, self.velocity(x, batch))
        return all(sum((sp.QQ(c.numerator, c.denominator) * r for c, r in zip(row, rates, strict=True) if c), 0) == 0
                   for row in basis)  # fmt: skip


def _is_polynomial(expression) -> bool:
    if not expression.is_Matrix or isinstance(expression, (sp.MatrixSymbol, sp.ZeroMatrix, sp.Identity)):
        return True
    linear = (sp.MatAdd, sp.MatMul, sp.Transpose, Diag, Diagonal)
    return isinstance(expression, linear) and all(map(_is_polynomial, expression.args))


def _rational(basis) -> list[list[Fraction]]:
    """A basis of the same space with ones and zeros at as many places as it has dimensions, as fractions."""
    dimension = len(basis)
    if not dimension:
        return []
    *_, order = qr(basis, mode="r", pivoting=True)
    pivots = np.sort(order[:dimension])
    reduced = np.linalg.solve(basis[:, pivots], basis)
    fractions = [[Fraction(float(c)).limit_denominator(LARGEST_DENOMINATOR) for c in row] for row in reduced]
    worst = max(abs(float(f) - c) for row, numbers in zip(fractions, reduced, strict=True)
                for f, c in zip(row, numbers, strict=True))  # fmt: skip
    if worst > 1e-9:
        raise ArithmeticError(
            f"coefficients are {worst:.1g} away from small fractions: choose another seed, "
            "or a task whose moments are whole numbers"
        )
    return fractions


def _matrix_invariants(rule, depth) -> tuple[MatrixInvariant, ...]:
    """Linear combinations of words of up to two moving letters whose time derivative vanishes by algebra.

    Of factored weights also the squares of s and of the columns of U and V.
    """
    equations = derive(rule, depth)
    motion = dict(equations.pairs)
    letters = []  # (word, derivative, degree)
    for x, v in motion.items():
        degree = 0 if v.is_ZeroMatrix else 1
        letters += [(x, v, degree), (x.T, sp.transpose(v).doit(), degree)]
    unseen = {}  # N^T B = 0
    for edge, stored in zip(rule.route.edges(depth), equations.state.feedback, strict=True):
        if stored and all(motion[B].is_ZeroMatrix for B in stored) and not rule.feedback.reads_weight:
            B = product(stored)
            N = sp.MatrixSymbol(f"N_{edge.activity}", B.shape[0], sp.Symbol(f"q_{edge.activity}", integer=True))
            unseen |= {polynomial(N.T * stored[0]): 0}
            constants = [N.T, *((B, B.T) if len(stored) == 2 else ())]
            letters += [(C, sp.ZeroMatrix(*C.shape), 0) for C in constants]
    words = [letter for letter in letters if letter[2]]
    for (a, da, p), (b, db, q) in itertools.product(letters, repeat=2):
        if p + q and a.shape[1] == b.shape[0]:
            words.append((a * b, (da * b + a * db).doit(), p + q))
    for U, s, V in (stored for stored in equations.state.weights if isinstance(stored, SVD)):
        words.append((hadamard(s, s), 2 * hadamard(s, motion[s]), 2))
        words += [(diagonal(F.T * F), diagonal((motion[F].T * F + F.T * motion[F]).doit()), 2) for F in (U, V)]
    groups: dict = {}
    for word in words:
        rows, columns = word[0].shape
        if (columns, rows) not in groups or rows == columns:
            groups.setdefault((rows, columns), []).append(word)
    found = []
    for group in groups.values():
        found += _combinations(group, unseen)
    return tuple(found)


def _combinations(group, relations) -> list[MatrixInvariant]:
    changes = [sp.expand(polynomial(change).subs(relations)).as_coefficients_dict() for _, change, _ in group]
    terms = sorted({term for change in changes for term in change if term != 0}, key=str)
    table = sp.Matrix(len(terms), len(group), lambda i, j: changes[j].get(terms[i], 0))
    null = table.nullspace() if terms else [sp.eye(len(group))[:, j] for j in range(len(group))]
    out = []
    for vector in null:
        used = [(c, word, degree) for c, (word, _, degree) in zip(vector, group, strict=True) if c != 0]
        expression = sp.MatAdd(*(c * word for c, word, _ in used)).doit()
        out.append(MatrixInvariant(expression, max(degree for *_, degree in used)))
    return out
