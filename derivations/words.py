"""Matrix products as words in noncommuting symbols, reduced by what is known of their letters.

A diagonal matrix between two frames, U diag(d) V^T, is written as the commuting symbol d times the word U V^T: exact as
long as every word reduces to two frames around their diagonals, which `reduced` brings about through V^T V = I.
"""

import sympy as sp

from linfa.symbolic import SYMMETRIC, polynomial


def letter(name: str) -> sp.Symbol:
    """The symbol that `linfa.symbolic.polynomial` writes for a matrix; its transpose is the letter ``name^T``."""
    return sp.Symbol(name, commutative=False)


def orthonormal(*names: str) -> dict:
    """The relations F^T F = I of frames F.

    >>> orthonormal("U")
    {U^T*U: 1}
    """
    return {letter(f"{name}^T") * letter(name): sp.Integer(1) for name in names}


def reduced(words, values: dict, relations: dict) -> sp.Expr:
    """Put values in place of letters, expand, and apply the relations until nothing changes.

    >>> U, V = letter("U"), letter("V^T")
    >>> reduced(letter("A") * letter("V"), {letter("A"): 3 * U * V}, orthonormal("V"))
    3*U
    """
    words = sp.expand(words.xreplace(values))
    while True:
        simpler = sp.expand(words.subs(relations))
        if simpler == words:
            return words
        words = simpler


def of(expression) -> sp.Expr:
    """A matrix expression as words."""
    return polynomial(expression)


def trace(words) -> sp.Expr:
    """The trace of words: each in the first of the orders that cyclic shifts and transposition give it.

    >>> A, B, C = letter("A"), letter("B^T"), letter("C")
    >>> trace(A * B * C - C * A * B + A - letter("A^T"))
    0
    """
    total = sp.Integer(0)
    for term in sp.Add.make_args(sp.expand(words)):
        number, letters = term.args_cnc()
        names = [base.name for base, times in (x.as_base_exp() for x in letters) for _ in range(times)]
        back = [_transposed(name) for name in reversed(names)]
        orders = [word[at:] + word[:at] for word in (names, back) for at in range(len(names))]
        total += sp.Mul(*number, *map(letter, min(orders, default=[])))
    return sp.expand(total)


def _transposed(name):
    return name if name in SYMMETRIC else name.removesuffix("^T") if name.endswith("^T") else f"{name}^T"
