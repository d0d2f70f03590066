"""The vector field of a rule on matrix symbols of symbolic size: derive, print, prove.

`linfa.dynamics.velocity` is called on sympy's MatrixSymbols, nothing is typed again.  Only the last step is added here:
products of the data columns become moments, (W_L .. W_1 X - Y) X^T -> -E with E = Syx - W_L .. W_1 Sxx.
"""

import dataclasses
import functools
import itertools
from dataclasses import dataclass

import sympy as sp

from linfa.dynamics import State, velocity
from linfa.expressions import Diag, Diagonal, Normalised, Polar
from linfa.rules import SVD, Conserved, Plain, Rule
from linfa.task import Batch
from linfa.tree import leaves, tree_map

EPSILON = sp.Symbol("epsilon")
SYMMETRIC = ("S_xx", "S_yy", "S_ee")
DECAY = sp.Symbol("lambda", positive=True)
FUNCTIONS = (Normalised, Polar, Diag, Diagonal)
"""Expressions around others, inside of which data columns meet too."""


def symbols(rule: Rule, depth: int) -> tuple[State, Batch]:
    """The state and the data columns as MatrixSymbols of symbolic size n_0 .. n_L."""
    n = sp.symbols(f"n_0:{depth + 1}", integer=True, positive=True)
    N = sp.Symbol("N", integer=True, positive=True)

    def stored(part, number, *size):
        named = zip(part.names, part.shapes(*size), strict=True)
        return tuple(sp.MatrixSymbol(f"{name}_{number}", *shape) for name, shape in named)

    part = rule.parameterisation
    weights = tuple(part.build(*stored(part, cut, n[cut], n[cut - 1])) for cut in range(1, depth + 1))
    feedback = tuple(
        stored(rule.feedback, edge.activity, n[edge.activity], n[edge.source]) for edge in rule.route.edges(depth)
    )
    return State(weights, feedback), Batch(sp.MatrixSymbol("X", n[0], N), sp.MatrixSymbol("Y", n[depth], N))


def derive(rule: Rule, depth: int = 2) -> "Equations":
    """The matrix differential equations of a rule in a network of some depth.

    Args:
        rule: a `Rule`; a non-zero decay is printed as lambda.
        depth: number of weights, at least 1.

    Raises:
        ValueError: if the depth is not positive.
        TypeError: for a part without a symbolic form, such as a clamp, a sparsity or a normalisation of activities.

    >>> import linfa
    >>> print(derive(linfa.fa(), depth=2))
    fa: Layerwise() / Dense(scale=1.0) / Fixed(), depth 2
      E = S_yx - W_2*W_1*S_xx
      dW_1/dt = B_1*E
      dW_2/dt = E*W_1.T
      dB_1/dt = 0
    """
    if depth < 1:
        raise ValueError(f"depth is the number of weights, at least 1; got {depth}")
    if type(rule.activity) is not Plain:
        raise TypeError(
            f"{rule.activity} divides by what varies with the data, which has no symbolic form: derive the rule "
            "without it, replace(rule, activity=Plain())"
        )
    return Equations(dataclasses.replace(rule, decay=DECAY) if rule.decay else rule, depth)


@dataclass(frozen=True)
class Equations:
    """The equations of motion of a rule: prints as text, as LaTeX, and as mathematics in a notebook.

    Args:
        rule: the rule.
        depth: number of weights.
    """

    rule: Rule
    depth: int

    @functools.cached_property
    def state(self) -> State:
        """The symbols that move."""
        return symbols(self.rule, self.depth)[0]

    @functools.cached_property
    def residual(self) -> sp.MatrixSymbol:
        """E, the symbol of Syx - W_L .. W_1 Sxx."""
        first, last = self.state.matrices[0], self.state.matrices[-1]
        return sp.MatrixSymbol("E", last.shape[0], first.shape[1])

    @functools.cached_property
    def residual_definition(self) -> sp.MatrixExpr:
        """Syx - W_L .. W_1 Sxx."""
        return self.moments["S_yx"] - sp.MatMul(*reversed(self.state.matrices), self.moments["S_xx"])

    @functools.cached_property
    def moments(self) -> dict[str, sp.MatrixSymbol]:
        """The symbols of the second moments by name: S_xx, S_yx, S_yy, and S_ee of the output error."""
        m, n = self.residual.shape
        sizes = {"S_xx": (n, n), "S_yx": (m, n), "S_yy": (m, m), "S_ee": (m, m)}
        return {name: sp.MatrixSymbol(name, *size) for name, size in sizes.items()}

    @functools.cached_property
    def velocity(self) -> State:
        """Right-hand sides, with the moments of the data in place of its columns."""
        return _velocity(self.rule, self.depth)

    @functools.cached_property
    def pairs(self) -> tuple[tuple[sp.MatrixSymbol, sp.MatrixExpr], ...]:
        """(symbol, its derivative) for every stored matrix of weights and feedback."""
        return tuple(zip(leaves(self.state), leaves(self.velocity), strict=True))

    def latex_lines(self) -> list[str]:
        """The definition of E and every equation, each as a line of LaTeX."""
        lines = [f"E = {sp.latex(self.residual_definition)}"]
        for x, v in self.pairs:
            letter, index = x.name.split("_")
            lines.append(rf"\dot{{{letter}}}_{{{index}}} = {sp.latex(v)}")
        return lines

    def latex(self) -> str:
        """The equations as a LaTeX ``aligned`` environment."""
        lines = [line.replace(" = ", " &= ", 1) for line in self.latex_lines()]
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def _repr_latex_(self):
        return f"$\\displaystyle {self.latex()}$"

    def __str__(self):
        lines = [f"{self.rule!r}, depth {self.depth}", f"  E = {self.residual_definition}"]
        lines += [f"  d{x}/dt = {v if not v.is_ZeroMatrix else 0}" for x, v in self.pairs]
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def strength(self) -> sp.Symbol:
        """s, the singular value of the task in the equations of one mode."""
        return sp.Symbol("s", positive=True)

    def modes(self) -> dict[sp.Symbol, sp.Expr]:
        """The scalar equations of one mode, when weights and feedback start aligned with the task and inputs are white.

        The same vector field on 1x1 matrices: w_l (or u_l, s_l, v_l), b_l (or q_l, p_l) and the singular value s.

        >>> import linfa
        >>> derive(linfa.fa(), depth=2).modes()
        {w_1: b_1*(s - w_1*w_2), w_2: w_1*(s - w_1*w_2), b_1: 0}
        """
        return dict(_modes(_scalar(self.rule), self.depth, self.strength))

    def change(self, quantity, rate=0) -> tuple[sp.Expr, ...]:
        """d/dt quantity + rate * lambda * quantity along the flow, as polynomials in non-commuting symbols.

        The time derivative is the coefficient of epsilon in quantity(state + epsilon velocity), the velocity put in
        last, where it is linear; sympy's own matrix derivative is not used.

        Args:
            quantity: a function of (rule, state) that gives a tuple of matrices.
            rate: a claimed rate of decay, in units of the rule's decay.
        """
        velocities = {}
        factored = any(isinstance(W, SVD) for W in self.state.weights)

        def along(x, v):
            if v.is_ZeroMatrix:
                return x
            if factored:  # the diagonal of a product is one letter, in which a velocity could not be put later
                return x + EPSILON * v
            dx = sp.MatrixSymbol(f"d{x.name}", *x.shape)
            velocities.update({_letter(dx.name): words(v), _letter(f"{dx.name}^T"): words(v, True)})
            return x + EPSILON * dx

        moved = tree_map(along, self.state, self.velocity)
        out = []
        for matrix in quantity(self.rule, moved):
            total: dict = {}
            for word, number in words(matrix).items():
                slope, still = sp.diff(number, EPSILON).subs(EPSILON, 0), sp.sympify(number).subs(EPSILON, 0)
                if slope != 0:
                    _add(total, _product([velocities.get(x, {(x,): 1}) for x in word]), slope)
                _add(total, {word: rate * self.rule.decay}, still)
            out.append(_expression(total))
        return tuple(out)

    def prove(self, claim: Conserved) -> "Proof":
        """Prove or refute a conserved quantity by substitution of the flow, for any E (so for any loss and data).

        >>> import linfa
        >>> equations = derive(linfa.fa(), depth=3)
        >>> [bool(equations.prove(claim)) for claim in linfa.fa().conserved()]
        [True]
        >>> wrong = linfa.bp().conserved()[0]
        >>> print(equations.prove(wrong))
        refuted: d/dt balance = ...
        """
        residue = tuple(r for r in self.change(claim.quantity, claim.rate) if r != 0)
        return Proof(claim, residue)


@dataclass(frozen=True)
class Proof:
    """The outcome of a proof by substitution; true when nothing is left over.

    Args:
        claim: the claim.
        residue: what is left of its time derivative, for each matrix where that is not zero.
    """

    claim: Conserved
    residue: tuple[sp.Expr, ...]

    def __bool__(self):
        return not self.residue

    def __str__(self):
        if self:
            return f"proved: {self.claim}"
        return f"refuted: d/dt {self.claim.quantity.__name__} = {'; '.join(map(str, self.residue))}"


@functools.cache
def _velocity(rule, depth) -> State:
    """Right-hand sides of the equations of motion; the same for every rule of the same parts."""
    state, batch = symbols(rule, depth)
    v, about = velocity(rule, state, batch), Equations(rule, depth)
    X, Y, E = batch.X, batch.Y, about.residual
    error = (sp.MatMul(*reversed(state.matrices), X) - batch.Y).doit()
    back = sp.transpose(error).doit()
    Sxx, Syx, Syy, See = about.moments.values()
    table = {(error, X.T): -E, (X, back): -E.T, (error, back): See, (X, X.T): Sxx}
    table |= {(Y, X.T): Syx, (X, Y.T): Syx.T, (Y, Y.T): Syy}

    def clean(v):
        v = _moments(v, table)
        return v if v.free_symbols.isdisjoint({X, Y}) else _moments(_expanded(v), table)

    return tree_map(clean, v)


@functools.cache
def _modes(rule, depth, s) -> tuple:
    """Every scalar with its derivative."""
    state, _ = symbols(rule, depth)
    one = {x: sp.Symbol(x.name.lower(), real=True) for x in leaves(state)}
    small = tree_map(lambda x: sp.ImmutableMatrix([[one[x]]]), state)
    v = velocity(rule, small, Batch(sp.ImmutableMatrix([[1]]), sp.ImmutableMatrix([[s]])))
    return tuple((x, sp.factor_terms(sp.factor(e[0, 0]))) for x, e in zip(one.values(), leaves(v), strict=True))


def _scalar(rule):
    """The rule at rank 1 if it has a rank: all that one mode can see."""
    return rule.at_rank(1)


def _moments(expression, table):
    """Replace data columns by moments: two signals that meet are an expectation, looked up in the table."""
    if isinstance(expression, sp.MatAdd):
        return sp.MatAdd(*(_moments(term, table) for term in expression.args)).doit(deep=False)
    if isinstance(expression, FUNCTIONS):
        return type(expression)(_moments(expression.args[0], table))
    if not isinstance(expression, sp.MatMul):
        return expression
    out = []
    for factor in expression.args:
        pair = (out[-1], factor) if out else None
        if pair in table:
            out[-1] = table[pair]
        else:
            out.append(_moments(factor, table) if isinstance(factor, FUNCTIONS) else factor)
    return sp.MatMul(*out).doit(deep=False)


def polynomial(expression) -> sp.Expr:
    """A matrix expression as a polynomial in non-commuting symbols, a transpose A^T being a symbol of its own.

    Unlike matrix expressions of symbolic size, such polynomials expand and compare reliably.  The letters of an
    entrywise product of columns stand in alphabetical order.

    >>> from linfa.algebra import diagonal, scaled
    >>> A, s = sp.MatrixSymbol("A", 3, 3), sp.MatrixSymbol("s", 3, 1)
    >>> polynomial(diagonal(scaled(A, s)))
    diagonal(A)*s
    """
    return _expression(words(expression))


def words(expression, transposed: bool = False) -> dict:
    """The terms of `polynomial` and their coefficients, a term being the tuple of its letters."""
    return _multiplied(expression, transposed, _letters)


def _multiplied(x, transposed, atom) -> dict:
    """Sums, products, powers and transposes multiplied out; ``atom`` has the terms of everything else."""
    if not isinstance(x, sp.MatrixExpr):  # a number
        return _add({}, {(): sp.sympify(x)})
    if isinstance(x, sp.MatAdd):
        total: dict = {}
        for part in x.args:
            _add(total, _multiplied(part, transposed, atom))
        return total
    if isinstance(x, sp.MatMul):
        number, factors = x.as_coeff_matrices()
        parts = [_multiplied(factor, transposed, atom) for factor in factors]
        return _add({}, _product(reversed(parts) if transposed else parts), number)
    if isinstance(x, sp.Transpose):
        return _multiplied(x.arg, not transposed, atom)
    if isinstance(x, sp.MatPow):
        return _product([_multiplied(x.base, transposed, atom)] * int(x.exp))
    if x.is_ZeroMatrix:
        return {}
    return {(): sp.Integer(1)} if isinstance(x, sp.Identity) else atom(x, transposed)


def _add(total, terms, number=1) -> dict:
    """Add a multiple of some terms to others, in place."""
    for term, times in terms.items():
        total[term] = total.get(term, 0) + (times if number == 1 else number * times)
        if total[term] == 0:
            del total[term]
    return total


def _product(parts) -> dict:
    total = {(): sp.Integer(1)}
    for part in parts:
        longer: dict = {}
        for (a, x), (b, y) in itertools.product(total.items(), part.items()):
            longer[a + b] = longer.get(a + b, 0) + (x if y == 1 else x * y)
        total = longer
    return total


def _expression(terms) -> sp.Expr:
    return sp.Add(*(sp.expand(number) * sp.Mul(*word) for word, number in terms.items()))


def _letters(x, transposed) -> dict:
    """The terms of what is a letter by itself, or makes one of each of the terms inside."""
    if isinstance(x, Normalised):
        return {(_letter(str(x)),): sp.Integer(1)}
    if isinstance(x, Diag):
        return _termwise(words(x.args[0]), lambda letters: [_letter(f"diag({sp.Mul(*letters)})")])
    if isinstance(x, Diagonal) and not transposed:
        return _termwise(words(x.args[0]), _diagonal)
    if isinstance(x, (sp.HadamardProduct, sp.HadamardPower)) and x.shape[1] == 1 and not transposed:
        columns = x.args if isinstance(x, sp.HadamardProduct) else [x.base] * int(x.exp)
        return _termwise(_product(map(words, columns)), _entrywise)
    if isinstance(x, sp.MatrixSymbol):
        return {(_letter(x.name + "^T" * (transposed and x.name not in SYMMETRIC)),): sp.Integer(1)}
    names = [f"({x})", f"({sp.transpose(x).doit()})"]
    # x^T and the transpose of x are one
    return {(_letter(min(names) + "^T" * (transposed != (names[1] < names[0]))),): sp.Integer(1)}


def _expanded(expression):
    """A matrix expression multiplied out, also inside of functions."""

    def atom(x, transposed):
        x = type(x)(_expanded(x.args[0])) if isinstance(x, FUNCTIONS) else x
        return {(sp.transpose(x).doit() if transposed else x,): sp.Integer(1)}

    terms = _multiplied(expression, False, atom)
    return sp.MatAdd(*(sp.MatMul(number, *term).doit(deep=False) for term, number in terms.items())).doit(deep=False)


def _letter(name):
    return sp.Symbol(name, commutative=False)


def _termwise(terms, form) -> dict:
    """Terms with the letters that ``form`` makes of those of each."""
    total: dict = {}
    for term, number in terms.items():
        _add(total, {tuple(form(term)): number})
    return total


def _entrywise(letters):
    """Columns in an entrywise product, which commute."""
    return sorted(letters, key=str)


def _diagonal(letters):
    """The diagonal of diag(c) A diag(d) is c d diagonal(A), entrywise, and that of A is that of A^T."""
    letters, columns = list(letters), []
    for end in (0, -1):
        while letters and letters[end].name.startswith("diag("):
            columns.append(_letter(letters.pop(end).name[5:-1]))
    turned = [_transposed(letter) for letter in reversed(letters)]
    inner = min((sp.Mul(*letters), sp.Mul(*turned)), key=str)
    return _entrywise([*columns, _letter(f"diagonal({inner})")])


def _transposed(letter):
    name = letter.name
    if name in SYMMETRIC or name.endswith(")"):
        return letter
    return _letter(name[:-2] if name.endswith("^T") else f"{name}^T")
