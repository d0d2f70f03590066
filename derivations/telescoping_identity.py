"""What local gradients lack of those of backprop is the sum of the discords above, carried down."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given
from linfa.algebra import T, product
from linfa.symbolic import symbols
from linfa.theory.local.discord import discords, gradient_gaps
from linfa.theory.local.problem import module_maps, module_signals


def derivation(depths: tuple[int, ...] = (3, 4), modules: int | None = None) -> Derivation:
    """Prove it at given depths, on the signals of the rule.

    Args:
        depths: numbers of weights, each at least 2.
        modules: number of modules; None for one layer a module.

    >>> derivation(depths=(2,)).title
    'the telescoping identity of local learning, depth 2'
    """
    n = sp.Symbol("n", integer=True, positive=True)
    g, above, p, A = (sp.MatrixSymbol(name, n, n) for name in ("g", "g'", "p'", "A"))
    (d,) = discords((g, above), (A,))
    steps = [
        given("d = g - A^T g', with g' the gradient of the module above and A its map or Jacobian", str(d)),
        equal("backprop takes p' to A^T p', so the gap g - p is d and what the gap above leaves: by induction, the sum",
              words.of(g - T(A) @ p), words.of(d + T(A) @ (above - p)), "g-p"),
    ]  # fmt: skip
    for depth in depths:
        rule = linfa.sgr(modules)
        state, batch = symbols(rule, depth)
        local, exact = module_signals(rule, state, batch)
        maps = module_maps(rule, state)[1:]
        apart = discords(local, maps)
        for number, gap in enumerate(gradient_gaps(apart, maps), 1):
            text = f"depth {depth}, on the rule's signals: linfa.theory.local.discord.gradient_gaps at module {number}"
            left = words.of(local[number - 1] - exact[number - 1])
            steps.append(equal(text, left, words.of(gap), f"g_{number}-p_{number}"))
        agreeing: dict = {}
        for number, (B,) in enumerate(state.feedback):
            C = product(tuple(reversed(maps[number:])))
            agreeing |= {words.of(B): words.of(C.T), words.of(B.T): words.of(C)}
        for number, d_k in enumerate(apart, 1):
            text = f"where heads agree, C_{number} = C_{number + 1} A_{number + 1}, there is no discord"
            steps.append(equal(text, words.of(d_k).xreplace(agreeing), 0, f"d_{number}"))
    return Derivation(
        f"the telescoping identity of local learning, depth {' and '.join(map(str, depths))}",
        ("modules that pass nothing down; any losses, of linear heads where the rule's signals are used",),
        tuple(steps),
        "derived here",
    )
