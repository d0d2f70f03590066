"""The matrix expressions that sympy lacks and rules need, and the values of all of them."""

import functools
import operator

import numpy as np
import sympy as sp
from sympy.matrices.expressions.matexpr import MatrixElement

from linfa import algebra


class Normalised(sp.MatrixExpr):
    """A covariance divided by its largest variance, symmetric: the symbolic form of `linfa.algebra.normalised`."""

    shape = property(lambda self: self.args[0].shape)

    def _eval_transpose(self):
        return self

    def _entry(self, i, j, **kwargs):
        return MatrixElement(self, i, j)

    def _sympystr(self, printer):
        return f"normalised({printer.doprint(self.args[0])})"

    def _latex(self, printer):
        return r"\widehat{" + printer.doprint(self.args[0]) + "}"


class Sign(sp.MatrixExpr):
    """Entrywise sign of a matrix expression: the symbolic form of `linfa.algebra.sign`."""

    shape = property(lambda self: self.args[0].shape)

    def _eval_transpose(self):
        return Sign(sp.transpose(self.args[0]).doit())

    def _entry(self, i, j, **kwargs):
        return sp.sign(self.args[0][i, j])

    def _sympystr(self, printer):
        return f"sign({printer.doprint(self.args[0])})"

    def _latex(self, printer):
        return r"\operatorname{sign}(" + printer.doprint(self.args[0]) + ")"


class Polar(sp.MatrixExpr):
    """The polar factor of a matrix expression, odd in it: the symbolic form of `linfa.algebra.polar`."""

    def __new__(cls, G):
        if G.could_extract_minus_sign():
            return -Polar((-G).doit())
        return super().__new__(cls, G)

    shape = property(lambda self: self.args[0].shape)

    def _eval_transpose(self):
        return Polar(sp.transpose(self.args[0]).doit())

    def _entry(self, i, j, **kwargs):
        return MatrixElement(self, i, j)

    def _sympystr(self, printer):
        return f"polar({printer.doprint(self.args[0])})"

    def _latex(self, printer):
        return r"\operatorname{polar}(" + printer.doprint(self.args[0]) + ")"


class Diag(sp.MatrixExpr):
    """The diagonal matrix of a column, odd in it: the symbolic form of ``diag(s)`` in `linfa.algebra.scaled`."""

    def __new__(cls, s):
        if s.could_extract_minus_sign():
            return -Diag((-s).doit())
        return super().__new__(cls, s)

    shape = property(lambda self: (self.args[0].shape[0],) * 2)

    def _eval_transpose(self):
        return self

    def _entry(self, i, j, **kwargs):
        return self.args[0][i, 0] * sp.KroneckerDelta(i, j)

    def _sympystr(self, printer):
        return f"diag({printer.doprint(self.args[0])})"

    def _latex(self, printer):
        return r"\operatorname{diag}(" + printer.doprint(self.args[0]) + ")"


class Diagonal(sp.MatrixExpr):
    """The diagonal of a square matrix as a column, odd in it: the symbolic form of `linfa.algebra.diagonal`."""

    def __new__(cls, M):
        if M.could_extract_minus_sign():
            return -Diagonal((-M).doit())
        return super().__new__(cls, M)

    shape = property(lambda self: (self.args[0].shape[0], sp.Integer(1)))

    def _entry(self, i, j, **kwargs):
        return self.args[0][i, i]

    def _sympystr(self, printer):
        return f"diagonal({printer.doprint(self.args[0])})"

    def _latex(self, printer):
        return r"\operatorname{diag}\left(" + printer.doprint(self.args[0]) + r"\right)"


def evaluate(expression, values: dict):
    """A matrix expression at matrices: numpy arrays with any leading axes, or explicit sympy ones.

    Args:
        expression: of matrix symbols.
        values: matrices by the names of their symbols, and numbers by those of the scalar ones.

    >>> A = sp.MatrixSymbol("A", 2, 2)
    >>> evaluate(2 * A * A.T, {"A": np.array([[1.0, 2.0], [0.0, 1.0]])}).tolist()
    [[10.0, 4.0], [4.0, 2.0]]
    """
    if isinstance(expression, sp.MatrixSymbol):
        return values[expression.name]
    if isinstance(expression, (sp.HadamardPower, sp.MatPow)):
        return OPERATIONS[type(expression)](*[evaluate(expression.base, values)] * int(expression.exp))
    number, factors = 1, expression.args
    if isinstance(expression, sp.MatMul):
        number, factors = expression.as_coeff_matrices()
    value = OPERATIONS[type(expression)](*(evaluate(factor, values) for factor in factors))
    if number == 1:
        return value
    number = number.subs({symbol: values.get(symbol.name, symbol) for symbol in number.free_symbols})
    return (float(number) if isinstance(value, np.ndarray) else number) * value


def _each(operation):
    return lambda *matrices: functools.reduce(operation, matrices)


def _diag(s):
    return algebra.scaled(np.eye(s.shape[-2]) if isinstance(s, np.ndarray) else sp.eye(s.rows), s)


OPERATIONS = {
    sp.MatAdd: _each(operator.add), sp.MatMul: _each(operator.matmul), sp.MatPow: _each(operator.matmul),
    sp.HadamardProduct: _each(algebra.hadamard), sp.HadamardPower: _each(algebra.hadamard), sp.Transpose: algebra.T,
    Normalised: algebra.normalised, Sign: algebra.sign, Polar: algebra.polar, Diag: _diag, Diagonal: algebra.diagonal,
}  # fmt: skip
"""What the parts of an expression become when they are matrices: linfa.algebra, and the operators."""
