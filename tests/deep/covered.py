"""Which rules promotion covers."""

from deep.coverage import check_rule
from deep.unsupported import Unsupported
from linfa.rules import named


def promotable() -> dict:
    """The rules of the catalogue that promotion covers."""
    covered = {}
    for name, rule in named().items():
        try:
            check_rule(rule)
        except Unsupported:
            continue
        covered[name] = rule
    return covered
