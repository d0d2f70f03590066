"""Feedback alignment with layer rates eta_1, eta_2 is feedback alignment through eta_1 sqrt(eta_2) B."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given, nothing_left
from linfa.rules import Dense, LayerRates, Layerwise, Rule
from linfa.theory import invariants
from linfa.theory.alignment.layer_rates import LayerRatesFA, at_equal_rates
from linfa.theory.alignment.zero_init_fa import timescale


def derivation() -> Derivation:
    """The state in the other units moves as the equations at equal rates say.

    >>> derivation().title
    'layer rates in feedback alignment'
    """
    first, second, s = sp.symbols("eta_1 eta_2 s", positive=True)
    equations = linfa.derive(Rule(Layerwise(), Dense(), geometry=LayerRates((first, second)), name="fa"), 2)
    plain, (W1, W2) = linfa.derive(linfa.fa(), 2), equations.state.weights
    small = at_equal_rates(equations.state, (first, second))
    (B,) = small.feedback[0]
    values = {}
    for name, part in (("W_1", small.weights[0]), ("B_1", B)):
        values |= {words.letter(name): words.of(part), words.letter(f"{name}^T"): words.of(part.T)}
    steps = [
        given("the equations of the rule", equations),
        given("the same state at equal rates", f"W_1 -> {small.weights[0]},  W_2 -> {small.weights[1]},  B -> {B}"),
        equal("its map", words.of(small.weights[1] * small.weights[0]), words.of(W2 * W1), "W_2 W_1"),
    ]
    scales = (words.of(part).coeff(words.letter(w.name)) for part, w in zip(small.weights, (W1, W2), strict=True))
    both = zip("12", scales, equations.velocity.weights, plain.velocity.weights, strict=True)
    for number, scale, mine, v in both:
        text = f"its W_{number} moves as feedback alignment at equal rates says, in flow and in a step of descent"
        steps.append(equal(text, scale * words.of(mine), words.reduced(words.of(v), values, {}), f"Wdot_{number}"))

    def quantity(rule, state):
        return invariants.feedback_alignment(linfa.fa(), at_equal_rates(state, (first, second)))

    mixed = equations.state.feedback[0][0] * W2
    (C,) = quantity(None, equations.state)
    usual = second * W1 * W1.T - first * (mixed + mixed.T)
    steps.append(equal("what is conserved, in the state's own terms", words.of(C), words.of(usual), "C"))
    steps.append(equal("and it is", equations.change(quantity)[0], 0, "Cdot"))
    steps.append(
        equal(
            "the clock of a mode", timescale(first * sp.sqrt(second) * s), sp.cbrt(2 / (first**2 * second * s**2)), "T"
        )
    )
    text = "the solution from zero in the mode equations leaves nothing"
    steps.append(nothing_left(text, LayerRatesFA.residuals(equations), "residual"))
    return Derivation(
        "layer rates in feedback alignment",
        (
            "two layers, fixed B, positive rates",
            "any start, loss and data; white inputs and zero weights for the clock",
        ),
        tuple(steps),
        "derived here",
    )
