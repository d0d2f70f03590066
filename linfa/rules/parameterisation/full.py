"""The weight itself."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.algebra import T
from linfa.rules.parameterisation.base import Parameterisation


@final
@dataclass(frozen=True)
class Full(Parameterisation):
    """The layer stores W itself."""

    names: ClassVar[tuple[str, ...]] = ("W",)
    penalties: ClassVar[tuple] = ()

    def shapes(self, n_out, n_in):
        return ((n_out, n_in),)

    def build(self, *matrices):
        return matrices[0]

    def start(self, weight):
        return weight

    def pull(self, stored, G):
        return G

    def tangent(self, stored, v):
        return v

    def retract(self, stored):
        return stored

    def turned(self, stored, left, right):
        return left @ stored @ T(right)

    def claims(self, rule):
        return (*rule.plasticity.claims(rule), *rule.route.claims(rule))
