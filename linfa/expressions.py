"""The matrix expressions that sympy lacks and rules need."""

import sympy as sp
from sympy.matrices.expressions.matexpr import MatrixElement


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

    def _numpycode(self, printer):
        return f"normalised({printer._print(self.args[0])})"


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

    def _numpycode(self, printer):
        return f"numpy.sign({printer._print(self.args[0])})"


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

    def _numpycode(self, printer):
        return f"polar({printer._print(self.args[0])})"


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

    def _numpycode(self, printer):
        return f"numpy.diagflat({printer._print(self.args[0])})"


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

    def _numpycode(self, printer):
        return f"numpy.diag({printer._print(self.args[0])})[:, None]"
