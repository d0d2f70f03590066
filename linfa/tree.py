"""Nested tuples of arrays: what a state is made of, walked through leaf by leaf."""


def leaves(tree) -> tuple:
    """The arrays of a nested tuple, left to right.

    >>> leaves((1, ((2, 3), 4)))
    (1, 2, 3, 4)
    """
    if not isinstance(tree, tuple):
        return (tree,)
    found: list = []
    for branch in tree:  # calls take as long as small arrays do: none for a leaf
        if isinstance(branch, tuple):
            found.extend(leaves(branch))
        else:
            found.append(branch)
    return tuple(found)


def tree_map(function, *trees):
    """The nested tuple of function(leaf of each tree), of the same structure and types.

    Raises:
        ValueError: if the trees differ in structure.

    >>> tree_map(lambda a, b: a + b, (1, (2,)), (10, (20,)))
    (11, (22,))
    """
    first = trees[0]
    if not isinstance(first, tuple):
        return function(*trees)
    parts = [
        tree_map(function, *branches) if isinstance(branches[0], tuple) else function(*branches)
        for branches in zip(*trees, strict=True)
    ]
    return getattr(type(first), "_make", tuple)(parts)
