"""Routes: where the teaching signal comes from.

base.py       the abstract Route, which carries errors down       layerwise.py  one layer after the other
direct.py     broadcast from the output                           target.py     broadcast of the target
modulated.py  in at the input and forward                         local.py      a head on every layer
"""

from linfa.rules.route.base import Carrier, Route
from linfa.rules.route.direct import Direct
from linfa.rules.route.layerwise import Layerwise
from linfa.rules.route.local import Local
from linfa.rules.route.modulated import Modulated
from linfa.rules.route.target import Target

__all__ = ["Carrier", "Direct", "Layerwise", "Local", "Modulated", "Route", "Target"]
