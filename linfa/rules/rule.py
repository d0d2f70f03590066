"""The rule object: six independent parts and a decay."""

import dataclasses
import functools
import hashlib
from dataclasses import dataclass, field

from linfa.rules.activity import Activity, Plain
from linfa.rules.claims import Claim, ClosedForm, Conserved, ErrorRank, Homogeneous, Order
from linfa.rules.feedback import Feedback, LowRank, SVDStructured
from linfa.rules.geometry import Euclidean, Geometry
from linfa.rules.parameterisation import Full, Parameterisation
from linfa.rules.plasticity import Fixed, Plasticity
from linfa.rules.route import Modulated, Route


class CompositionError(ValueError):
    """Parts that make no sense together."""


@dataclass(frozen=True)
class Rule:
    """A learning rule for a deep linear network, and through `deep.promote` for a deep nonlinear one.

    Two rules are equal when their parts are; the name is for people.

    Args:
        route: where the teaching signal comes from.
        feedback: what carries it.
        plasticity: how the carrier learns.
        decay: lambda >= 0 in d/dt W = -G - lambda W; the same lambda acts on every feedback matrix that learns.
        parameterisation: what a weight is made of.
        geometry: the direction that a gradient stands for.
        activity: how hidden activities are normalised.
        name: how the rule is called in tables and figures.

    Raises:
        CompositionError: if the parts do not fit together.

    >>> from linfa.rules import Layerwise, RandomFactors, KolenPollack
    >>> Rule(Layerwise(), RandomFactors(rank=4), KolenPollack(), name="mine")
    mine: Layerwise() / RandomFactors(rank=4, clamp=None) / KolenPollack()
    """

    route: Route
    feedback: Feedback
    plasticity: Plasticity = field(default_factory=Fixed)
    decay: float = 0.0
    parameterisation: Parameterisation = field(default_factory=Full)
    geometry: Geometry = field(default_factory=Euclidean)
    activity: Activity = field(default_factory=Plain)
    name: str = field(default="rule", compare=False)

    def __post_init__(self):
        stored = len(self.feedback.names)
        spans = "an edge of this route spans several layers, which have no single weight"
        if self.feedback.reads_weight and not self.route.single_layer:
            raise CompositionError(f"{self.feedback} follows the forward weight, and {spans}: use the Layerwise route")
        if "J" in self.plasticity.reads and not self.route.backward:
            raise CompositionError(
                f"{self.plasticity} reads what is between the ends of an edge, and on {self.route} they "
                "are the ends of nothing"
            )
        learns = not isinstance(self.plasticity, Fixed)
        if self.route.lam and self.feedback.clamp is not None:
            raise CompositionError(
                f"{self.route} differentiates what {self.feedback} delivers, which is clamped: use clamp=None or lam=0"
            )
        if learns and isinstance(self.route, Modulated):
            raise CompositionError(
                f"{self.plasticity} moves feedback by the activity that it reaches, and {self.route} "
                "delivers to the input, below which there is nothing to learn"
            )
        if learns and (self.feedback.reads_weight or stored not in self.plasticity.factors):
            raise CompositionError(
                f"{self.plasticity} moves {' or '.join(map(str, self.plasticity.factors))} stored factors, and "
                f"{self.feedback} has {stored} that may move{' (it follows the weight)' * self.feedback.reads_weight}"
            )
        if self.activity != Plain():
            self._check_normalised()
        self._check_parameterisation()
        if self.is_number(self.decay) and not self.decay >= 0:
            raise ValueError(f"decay is a rate, at least 0; got {self.decay}")

    def _check_normalised(self):
        if isinstance(self.route, Modulated):
            raise CompositionError(f"{self.activity} takes errors back, and on {self.route} they travel forward")
        if self.route.lam:
            raise CompositionError(f"{self.route} differentiates the gradients of linear modules: use lam=0 with "
                                   f"{self.activity}")  # fmt: skip
        if "J" in self.plasticity.reads and not self.route.single_layer:
            raise CompositionError(
                f"{self.plasticity} reads the forward map of edges over several layers, in which {self.activity} makes "
                "every sample depend on all: use the Layerwise route"
            )

    def _check_parameterisation(self):
        part = self.parameterisation
        if type(part) is not Full and not self.geometry.linear:
            raise CompositionError(
                f"{self.geometry} is the direction of one matrix, and {part} descends {', '.join(part.names)}: "
                "use the Euclidean geometry or LayerRates"
            )
        if any(penalty.reads_frame for penalty in part.penalties):
            if not isinstance(self.feedback, SVDStructured) or isinstance(self.route, Modulated):
                raise CompositionError(
                    f"alignment draws U to the frame of the feedback to its layer, and {self.feedback} on {self.route} "
                    "has none: use SVDStructured feedback on a route that delivers to hidden layers"
                )
            if self.feedback.rank != part.rank:
                raise CompositionError(
                    f"alignment compares frames column by column: the feedback has rank {self.feedback.rank}, the "
                    f"weights {part.rank}"
                )

    @property
    def rank(self) -> int:
        """The largest rank of its parts, which some width has to reach; 1 without any."""
        return max(getattr(part, "rank", 1) for part in (self.feedback, self.parameterisation))

    def at_rank(self, rank: int) -> "Rule":
        """The same rule with this rank in every part that has one.

        >>> from linfa.rules import ldfa
        >>> ldfa(2).at_rank(3).feedback
        RandomFactors(rank=3, clamp=None)
        """
        ranked = {name: dataclasses.replace(getattr(self, name), rank=rank) for name in self._ranked}
        return dataclasses.replace(self, **ranked)

    @property
    def has_rank(self) -> bool:
        """Whether one of its parts has a rank."""
        return bool(self._ranked)

    @property
    def _ranked(self):
        return [name for name in ("feedback", "parameterisation") if hasattr(getattr(self, name), "rank")]

    @staticmethod
    def is_number(x) -> bool:
        """Whether x is a plain number rather than a symbol."""
        return isinstance(x, (int, float))

    @functools.cached_property
    def claims(self) -> tuple[Claim, ...]:
        """What the rule says of itself, put together from its parts, and the closed forms that speak of it."""
        from linfa import theory  # which knows the rules

        plain = type(self.activity) is Plain
        parts = self.feedback, self.plasticity, self.geometry, self.activity, self.parameterisation
        claims: list[Claim] = [Order()] if all(part.continuous for part in parts) else []
        if self.feedback.clamp is None:
            if self.route.error_driven:
                claims.append(Homogeneous())
            if plain and type(self.geometry) is Euclidean:
                claims.extend(self.parameterisation.claims(self))
            if isinstance(self.feedback, LowRank) and plain:
                claims.append(ErrorRank(self.feedback.rank))
        return (*claims, *map(ClosedForm, theory.about(self)))

    def conserved(self) -> tuple[Conserved, ...]:
        """The claimed conserved quantities."""
        return tuple(c for c in self.claims if isinstance(c, Conserved))

    @property
    def symbolic(self) -> bool:
        """Whether every part has a symbolic form, so that `linfa.derive` writes the equations of the rule."""
        plain = self.feedback.clamp is None and type(self.activity) is Plain
        return plain and self.geometry.symbolic and self.parameterisation.symbolic

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that depend on the parts and their settings alone."""
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.compare}
        if type(self.activity) is Plain:  # which there was before there were others
            del named["activity"]
        parts = [f"{name}={part!r}" for name, part in named.items()]
        return hashlib.sha256(";".join(parts).encode()).hexdigest()[:16]

    def __repr__(self):
        parts = [self.route, self.feedback, self.plasticity]
        parts += [p for p in (self.parameterisation, self.geometry, self.activity)
                  if p not in (Full(), Euclidean(), Plain())]  # fmt: skip
        decay = f" / decay={self.decay}" if self.decay else ""
        return f"{self.name}: {' / '.join(map(repr, parts))}{decay}"
