"""A derivation: steps in order, each of which is checked when the derivation is made."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sympy as sp


class ProofError(ValueError):
    """A step of a derivation does not hold."""


@dataclass(frozen=True)
class Step:
    """One step.

    Args:
        text: what is done, in words.
        formula: a SymPy object, or ready text.
        holds: whether the check of the step passed.
    """

    text: str
    formula: Any
    holds: bool


def equal(text: str, left, right, name: str | None = None) -> Step:
    """The step left = right, checked by algebra; noncommuting symbols stand for matrices.

    Args:
        text: what is done, in words.
        left, right: SymPy expressions.
        name: what the left side is called where the step is printed; None prints it in full.

    >>> x = sp.Symbol("x")
    >>> equal("expand", (x + 1) ** 2, x**2 + 2 * x + 1, name="y")
    Step(text='expand', formula=Eq(y, x**2 + 2*x + 1), holds=True)
    """
    left, right = sp.sympify(left), sp.sympify(right)
    rest = sp.expand(left - right)
    shown = left if name is None else sp.Symbol(name, commutative=False)
    return Step(text, sp.Eq(shown, right, evaluate=False), bool(rest == 0 or sp.simplify(rest) == 0))


def nothing_left(text: str, residuals, name: str) -> Step:
    """The step that every one of some residuals is zero."""
    return Step(text, sp.Eq(sp.Symbol(name), 0, evaluate=False), bool(residuals) and all(r == 0 for r in residuals))


def given(text: str, formula) -> Step:
    """A step that states where the derivation stands: the rule's equations, an ansatz, a definition."""
    return Step(text, formula, True)


@dataclass(frozen=True)
class Derivation:
    """A proof whose every step has been checked.

    Args:
        title: what is proved.
        assumptions: one line each.
        steps: in order.
        source: read, known and re-derived, or derived here.

    Raises:
        ProofError: naming the first step that does not hold.

    >>> x = sp.Symbol("x")
    >>> Derivation("a mistake", (), (equal("double", x + x, x**2),), "nowhere")
    Traceback (most recent call last):
        ...
    derivations.proof.ProofError: a mistake: step 1 does not hold: double: Eq(2*x, x**2)
    """

    title: str
    assumptions: tuple[str, ...]
    steps: tuple[Step, ...]
    source: str

    def __post_init__(self):
        for number, step in enumerate(self.steps, 1):
            if not step.holds:
                raise ProofError(f"{self.title}: step {number} does not hold: {step.text}: {step.formula}")

    def __str__(self):
        lines = [self.title, "", *(f"  assume  {line}" for line in self.assumptions), f"  source  {self.source}"]
        for number, step in enumerate(self.steps, 1):
            lines += ["", f"{number:3d}. {step.text}", *(f"       {line}" for line in _plain(step.formula).split("\n"))]
        return "\n".join(lines)

    __repr__ = __str__

    def html(self, path, theories=(), results=()) -> None:
        """Write the proof as one self-contained page: steps, equations, and theory against simulation.

        Args:
            path: of the file.
            theories: names of classes in `linfa.theory` to draw beside a simulation.
            results: keys of the catalogue whose errors to draw.
        """
        from derivations.figures import errors, trajectory
        from linfa.page import Page, equations, figure

        page = Page(Path(path), self.title, f"Assumptions: {'; '.join(self.assumptions)}. Source: {self.source}.")
        for number, step in enumerate(self.steps, 1):
            page.add(f"{number}. {step.text}", "", equations(_lines(step.formula)))
        if theories:
            page.add("Theory against simulation", "Lines: the closed form. Dots: the weights, integrated.",
                     *(figure(trajectory(name)) for name in theories))  # fmt: skip
        if results:
            page.add("Measured errors", "On random problems, against the tolerance of the catalogue.",
                     figure(errors(tuple(results))))  # fmt: skip
        page.close(f"{len(self.steps)} steps, each checked when this page was made.")

    def latex(self) -> str:
        """The proof as a LaTeX fragment: a paragraph of assumptions and an enumerated list."""
        lines = [rf"\paragraph{{{_escaped(self.title)}}}", "; ".join(map(_escaped, self.assumptions)) + "."]
        items = [rf"  \item {_escaped(step.text)} \[{_latex(step.formula)}\]" for step in self.steps]
        return "\n".join([*lines, r"\begin{enumerate}", *items, r"\end{enumerate}"])

    def _repr_latex_(self):
        inside = r" \\ ".join(rf"\text{{{_escaped(step.text)}}} \\ {_latex(step.formula)}" for step in self.steps)
        return rf"$\displaystyle \begin{{gathered}} {inside} \end{{gathered}}$"


def _plain(formula):
    if isinstance(formula, sp.Eq):
        return f"{formula.lhs} = {formula.rhs}"
    return str(formula)


def _lines(formula):
    if hasattr(formula, "latex_lines"):
        return formula.latex_lines()
    return [_latex(formula)]


def _latex(formula):
    if hasattr(formula, "latex"):
        return formula.latex()
    if isinstance(formula, str):
        return _upright(formula)
    if isinstance(formula, sp.Eq) and isinstance(formula.lhs, sp.Symbol) and not formula.lhs.name.isidentifier():
        return f"{_upright(formula.lhs.name)} = {sp.latex(formula.rhs)}"
    return sp.latex(formula)


def _upright(text):
    """Ready text as upright mathematics, in which indices and powers stay what they are."""
    return rf"\mathrm{{{re.sub(r'[{}#%&$]', '', text).replace(' ', chr(92) + ' ')}}}"


def _escaped(text):
    """Ready text in LaTeX's text mode."""
    return text.replace("_", r"\_").replace("^", r"\^{}")
