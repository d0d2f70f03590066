"""Routes: where the teaching signal comes from.

base.py  the abstract Route        layerwise.py  one layer after the other        direct.py  broadcast from the output
"""

from linfa.rules.route.base import Route
from linfa.rules.route.direct import Direct
from linfa.rules.route.layerwise import Layerwise

__all__ = ["Direct", "Layerwise", "Route"]
