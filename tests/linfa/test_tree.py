"""Nested tuples of arrays."""

import numpy as np
import pytest

from linfa.dynamics import State
from linfa.rules import SVD
from linfa.tree import leaves, tree_map


def test_a_map_keeps_structure_and_types():
    tree = State((SVD(1, 2, 3), 4), ((5,), ()))
    assert tree_map(lambda x: 10 * x, tree) == State((SVD(10, 20, 30), 40), ((50,), ()))
    assert type(tree_map(lambda x: x, tree).weights[0]) is SVD
    assert leaves(tree) == (1, 2, 3, 4, 5)
    assert leaves(np.ones(2))[0].sum() == 2


def test_trees_of_different_structure_raise():
    with pytest.raises(ValueError, match="shorter"):
        tree_map(lambda a, b: a, (1, 2), (1,))
