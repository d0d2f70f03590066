"""The few functions a rule may call besides ``@``, ``+``, ``-`` and a scalar ``*``.

Each runs on whatever it is given: numpy arrays, torch tensors, sympy matrices (explicit or symbolic).  The last two
axes are the matrix; leading axes are batch axes.  sympy and torch are never imported here: an argument brings its own
library with it.  What a rule cannot be derived with raises TypeError.

>>> import numpy as np
>>> T(np.zeros((5, 2, 3))).shape
(5, 3, 2)
"""

import sys

import numpy as np


def is_symbolic(x) -> bool:
    """Whether x is a sympy matrix."""
    return hasattr(x, "is_Matrix")


def _torch(x):
    """The torch module if x is a torch tensor, else None."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(x, torch.Tensor) else None


def T(x):
    """Transpose of the last two axes."""
    return x.mT if hasattr(x, "mT") else x.T


def sign(x):
    """Entrywise sign."""
    if is_symbolic(x):
        import sympy

        from linfa.expressions import Sign

        return x.applyfunc(sympy.sign) if isinstance(x, sympy.MatrixBase) else Sign(x)
    return x.sign() if _torch(x) else np.sign(x)


def hadamard(a, b):
    """Entrywise product of two matrices of one shape."""
    if is_symbolic(a):
        import sympy

        if isinstance(a, sympy.MatrixBase):
            return a.multiply_elementwise(b)
        return sympy.HadamardProduct(a, b)
    return a * b


def scaled(U, s):
    """U diag(s) for a matrix U (..., n, r) and a column s (..., r, 1).

    >>> scaled(np.ones((2, 2)), np.array([[3.0], [4.0]])).tolist()
    [[3.0, 4.0], [3.0, 4.0]]
    """
    if is_symbolic(U):
        import sympy

        from linfa.expressions import Diag

        return U * (sympy.diag(*s) if isinstance(U, sympy.MatrixBase) else Diag(s))
    return U * T(s)


def diagonal(M):
    """The diagonal of a square matrix as a column (..., r, 1)."""
    if is_symbolic(M):
        import sympy

        from linfa.expressions import Diagonal

        return sympy.ImmutableMatrix(list(M.diagonal())) if isinstance(M, sympy.MatrixBase) else Diagonal(M)
    return (M.diagonal(dim1=-2, dim2=-1) if _torch(M) else np.diagonal(M, axis1=-2, axis2=-1))[..., None]


def clip(x, bound):
    """Entries limited to [-bound, bound]; a symbolic argument has no such matrix expression and raises TypeError."""
    if is_symbolic(x):
        raise TypeError("clip has no symbolic form: derive the rule without its clamp (clamp=None)")
    return x.clip(-bound, bound)


def normalised(C):
    """A covariance divided by its largest variance, C / max_j C_jj; all zeros stay all zeros."""
    if hasattr(C, "normalised"):
        return C.normalised()
    if is_symbolic(C):
        import sympy

        from linfa.expressions import Normalised

        if isinstance(C, sympy.MatrixBase):
            return C / sympy.Max(*C.diagonal())
        return Normalised(C)
    torch = _torch(C)
    if torch:
        largest = C.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
        return C / torch.where(largest > 0, largest, 1)
    largest = np.diagonal(C, axis1=-2, axis2=-1).max(-1)[..., None, None]
    return C / np.where(largest > 0, largest, 1)


def negligible(x) -> float:
    """What counts as zero beside 1 in numbers like those of x: 1e-12 in double precision, elsewhere as many roundings.

    >>> negligible(np.zeros(2)), round(negligible(np.zeros(2, np.float32)), 5)
    (1e-12, 0.00054)
    """
    return 1e-12 * float((_torch(x) or np).finfo(x.dtype).eps) / 2.0**-52


def polar(G):
    """The polar factor U V^T of G = U S V^T, without singular values that are `negligible` beside the largest."""
    if is_symbolic(G):
        import sympy

        from linfa.expressions import Polar

        if not isinstance(G, sympy.MatrixBase):
            return Polar(G)
        if G.shape != (1, 1):
            raise TypeError("the polar factor of an explicit symbolic matrix has no closed form")
        return G.applyfunc(sympy.sign)
    U, _, Vt = svd(G)
    return U @ Vt


def svd(G):
    """The thin U, s and V^T of G = U S V^T; where s is `negligible` beside the largest all three are zeros."""
    U, s, Vt = svd_frames(G)
    keep = s > negligible(s) * s[..., :1]
    return U * keep[..., None, :], s * keep, Vt * keep[..., :, None]


def svd_frames(G):
    """The thin U, s and V^T of G = U S V^T, with orthonormal columns and rows also where singular values vanish.

    All nan for a matrix that is not finite, which leaves the others of an ensemble alone.
    """
    if is_symbolic(G):
        raise TypeError("a singular value decomposition has no symbolic form")
    library = _torch(G) or np
    finite = library.isfinite(G).all(-1).all(-1)[..., None, None]  # of others LAPACK raises, whatever their neighbours
    U, s, Vt = library.linalg.svd(library.where(finite, G, 0.0), full_matrices=False)
    nan = float("nan")
    return library.where(finite, U, nan), library.where(finite[..., 0], s, nan), library.where(finite, Vt, nan)


def row_norms(x):
    """Norms of the rows of a matrix (..., n, 1), 0 for those `negligible` beside the largest."""
    if is_symbolic(x):
        raise TypeError("norms of rows have no symbolic form")
    sizes = (x * x).sum(-1)[..., None] ** 0.5
    largest = sizes.amax(-2, True) if _torch(x) else sizes.max(-2, keepdims=True)
    return sizes * (sizes > negligible(sizes) * largest)


def reciprocal(x):
    """1 / x entrywise, 0 where x is 0."""
    return (x != 0) / (x + (x == 0))


def orthonormal(A):
    """The orthonormal columns of A = Q R with a positive diagonal of R; a symbolic argument raises TypeError."""
    if is_symbolic(A):
        raise TypeError("a QR decomposition has no symbolic form")
    library = _torch(A) or np
    Q, R = library.linalg.qr(A)
    return Q * T(sign(diagonal(R)))


def norm(G):
    """The Frobenius norm (..., 1, 1); a symbolic argument has none that is a matrix expression and raises TypeError."""
    if is_symbolic(G):
        raise TypeError("a norm has no symbolic form here: derive the rule with the Polar geometry")
    return ((G * G).sum((-1, -2)) ** 0.5)[..., None, None]


def beside(a, b):
    """Two matrices side by side, [a b]."""
    torch = _torch(a)
    return torch.cat((a, b), -1) if torch else np.concatenate((a, b), -1)


def product(factors):
    """The matrix product of a tuple of factors, left to right."""
    out = factors[0]
    for factor in factors[1:]:
        out = out @ factor
    return out
