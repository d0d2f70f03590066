"""The design space: an example of every part, and what they compose to."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields

from linfa.rules.activity import Plain, Standardised, Whitened
from linfa.rules.catalogue import named
from linfa.rules.feedback import (
    Dense,
    FixedSign,
    RandomFactors,
    RedrawnSign,
    SVDFactors,
    SVDStructured,
    Transpose,
    UnitSign,
)
from linfa.rules.geometry import Euclidean, NewtonSchulz, Polar
from linfa.rules.parameterisation import Alignment, Factored, Full, Orthogonality
from linfa.rules.plasticity import Delta, Fixed, Hebb, KolenPollack, Mirror, Normative, Oja
from linfa.rules.route import Direct, Layerwise, Local, Modulated, Target
from linfa.rules.rule import CompositionError, Rule

PARTS = {
    "route": (Layerwise(), Direct(), Direct(exact_top=1), Target(), Modulated(), Local(), Local(2, lam=0.1)),
    "feedback": (
        Transpose(), Dense(), UnitSign(), FixedSign(), RedrawnSign(), RandomFactors(2), SVDFactors(2), SVDStructured(2),
    ),
    "plasticity": (Fixed(), KolenPollack(), Oja(), Hebb(), Normative(), Mirror(), Delta()),
    "parameterisation": (
        Full(), Factored(2), Factored(2, retraction="polar"), Factored(2, (Alignment(), Orthogonality())),
    ),
    "geometry": (Euclidean(), Polar(), Polar(keep_norm=True), NewtonSchulz()),
    "activity": (Plain(), Standardised(), Whitened()),
}  # fmt: skip
"""Field of `Rule` -> the parts of that kind.  A new part is one file and one entry here."""

SIGNAL = ("route", "feedback", "plasticity")
"""The parts that make the teaching signal."""
STEP = ("parameterisation", "geometry", "activity")
"""The parts that say what is done with it."""


@dataclass(frozen=True)
class Cell:
    """A point of the design space.

    Args:
        parts: field of `Rule` -> part.
        rule: what they compose to, or None.
        refusal: why they compose to nothing, or None.
    """

    parts: dict
    rule: Rule | None
    refusal: str | None = None

    @property
    def published(self) -> bool:
        """Whether the catalogue has this rule, up to settings: the same kinds of parts."""
        return any(_kinds(self.rule) == _kinds(rule) for rule in named().values()) if self.rule else False


def compose(**parts) -> Cell:
    """A cell of these parts; what is not named is as in `Rule`.

    >>> from linfa.rules import Direct, RandomFactors, Transpose
    >>> compose(route=Direct(), feedback=RandomFactors(3), plasticity=Mirror()).rule
    composed: Direct(exact_top=0) / RandomFactors(rank=3, clamp=None) / Mirror(gain=1.0, leak=1.0, directions=None)
    >>> compose(route=Direct(), feedback=Transpose()).refusal[:40]
    'Transpose() follows the forward weight, '
    """
    try:
        return Cell(parts, Rule(**parts, name="composed"))
    except CompositionError as refusal:
        return Cell(parts, None, str(refusal))


def space(*kinds: str, **given) -> Iterator[Cell]:
    """Every combination of some kinds of parts.

    Args:
        kinds: which vary; `SIGNAL` and `STEP` have three each.
        given: parts that do not.

    Raises:
        KeyError: for an unknown kind.

    >>> cells = list(space(*SIGNAL))
    >>> len(cells), sum(cell.rule is not None for cell in cells) > 100
    (392, True)
    """
    for parts in itertools.product(*(PARTS[kind] for kind in kinds)):
        yield compose(**given, **dict(zip(kinds, parts, strict=True)))


def _kinds(rule):
    parts = {f.name: getattr(rule, f.name) for f in fields(rule) if f.name in PARTS}
    return {name: type(part) for name, part in parts.items()}
