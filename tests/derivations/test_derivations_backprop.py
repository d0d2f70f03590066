"""The derivations of backprop and of clocks notice a wrong formula."""

import pytest

from derivations import cubic_clock
from derivations.proof import ProofError
from linfa.theory.clock import cubic_root, cubic_time

MUTATIONS = [
    (cubic_clock, "cubic_time", lambda a, s, c, h, root=None: 2 * cubic_time(a, s, c, h, root)),
    (cubic_clock, "cubic_time", lambda a, s, c, h, root=None: cubic_time(a, s, c, 2 * h, root)),
    (cubic_clock, "cubic_root", lambda s, c, h: -cubic_root(s, c, h)),
    (cubic_clock, "poly_time", lambda x, x0, p: 0.5),
]


@pytest.mark.parametrize(("module", "name", "wrong"), MUTATIONS)
def test_a_wrong_formula_is_noticed(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(ProofError, match="does not hold"):
        module.derivation()
