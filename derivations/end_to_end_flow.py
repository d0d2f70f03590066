"""Backprop in a balanced network of depth N: W' = sum_j (W W^T)^((j-1)/N) E (W^T W)^((N-j)/N), for W = W_N .. W_1."""

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.theory.backprop.end_to_end import end_to_end, singular_value_speed


def _rotation(a: int, b: int) -> sp.Matrix:
    """A rotation with rational entries."""
    return sp.Matrix([[a * a - b * b, -2 * a * b], [2 * a * b, a * a - b * b]]) / (a * a + b * b)


def derivation(depth: int = 3) -> Derivation:
    """The product rule on the derived velocities, with the layers of a balanced network put in.

    Args:
        depth: number of weights N, at least 2.

    >>> derivation(depth=2).title
    'the map of a balanced network under backprop, depth 2'
    """
    equations = linfa.derive(linfa.bp(), depth)
    D = words.letter("D")
    R = [(words.letter(f"R_{cut}"), words.letter(f"R_{cut}^T")) for cut in range(depth + 1)]
    frames = words.orthonormal(*(f"R_{cut}" for cut in range(depth + 1)))
    layers = [(R[cut][0] * D * R[cut - 1][1], R[cut - 1][0] * D * R[cut][1]) for cut in range(1, depth + 1)]
    values = {}
    for number, (layer, back) in enumerate(layers, 1):
        values |= {words.letter(f"W_{number}"): layer, words.letter(f"W_{number}^T"): back}

    def put(expression):
        return words.reduced(expression, values, frames)

    steps = [
        given("the equations of the rule", equations),
        given("any balanced layers, D diagonal and R_l^T R_l = I", "W_l = R_l D R_(l-1)^T"),
    ]
    for cut in range(1, depth):
        (below, below_t), (above, above_t) = layers[cut - 1 : cut + 1]
        sides = (put(above_t * above), put(below * below_t))
        steps.append(equal(f"W_{cut + 1}^T W_{cut + 1} = W_{cut} W_{cut}^T", *sides, f"W_{cut + 1}^T W_{cut + 1}"))
    W, Wt = sp.Mul(*(layer for layer, _ in reversed(layers))), sp.Mul(*(back for _, back in layers))
    left, right = R[-1][0] * D**2 * R[-1][1], R[0][0] * D**2 * R[0][1]
    text = f"(W W^T)^(1/{depth}) is R_{depth} D^2 R_{depth}^T, the one positive semi-definite root"
    steps.append(equal(text, put(W * Wt), put(left**depth), "W W^T"))
    steps.append(equal(f"and (W^T W)^(1/{depth}) is R_0 D^2 R_0^T", put(Wt * W), put(right**depth), "W^T W"))
    moved, factors = sp.Integer(0), [words.letter(f"W_{number}") for number in range(depth, 0, -1)]
    for at, v in enumerate(reversed(equations.velocity.weights)):
        moved += sp.Mul(*factors[:at], words.of(v), *factors[at + 1 :])
    powers = [(sp.S.One, sp.S.One), *((put(left**j), put(right**j)) for j in range(1, depth))]
    E = words.letter("E")
    wanted = sum(powers[j][0] * E * powers[depth - 1 - j][1] for j in range(depth))
    steps.append(equal("the sum of W_N .. W_(j+1) W_j' W_(j-1) .. W_1 is the velocity of W", put(moved), wanted, "W'"))

    frame = [_rotation(cut + 2, 1) for cut in range(depth + 1)]
    diagonal = sp.diag(sp.Rational(3, 2), sp.Rational(1, 2))
    numbers = {f"W_{cut}": frame[cut] * diagonal * frame[cut - 1].T for cut in range(1, depth + 1)}
    numbers["E"] = sp.Matrix([[1, sp.Rational(-1, 3)], [sp.Rational(2, 5), -2]])
    product = [numbers[f"W_{number}"] for number in range(depth, 0, -1)]
    velocity = sp.zeros(2, 2)
    for at, v in enumerate(reversed(equations.velocity.weights)):
        velocity += sp.MatMul(*product[:at], words.evaluated(v, numbers), *product[at + 1 :]).doit()
    total = sp.MatMul(*product).doit()
    speeds = (frame[-1].T * velocity * frame[0]).diagonal()

    def number(matrix):
        return np.array(matrix.tolist(), float)

    def close(array, matrix):
        return bool(np.abs(array - number(matrix)).max() < 1e-13)

    here = "for D = diag(3/2, 1/2) and rational rotations R_l"
    found = end_to_end(number(total), number(numbers["E"]), depth)
    text = f"linfa.theory.backprop.end_to_end.end_to_end is the velocity of the derived equations, {here}"
    steps.append(Step(text, sp.Eq(sp.Symbol("W'"), velocity, evaluate=False), close(found, velocity)))
    found = singular_value_speed(number(total), number(numbers["E"]), depth)
    text = f"singular_value_speed is the diagonal of R_{depth}^T W' R_0, {here}"
    steps.append(Step(text, sp.Eq(sp.Symbol("sigma'"), speeds, evaluate=False), close(found, speeds)))
    x = sp.Symbol("sigma", positive=True) ** sp.Rational(2, depth)
    text = "in which all terms of the sum agree: its entries are this times u^T E v"
    steps.append(
        equal(text, sum(x**j * x ** (depth - 1 - j) for j in range(depth)), depth * x ** (depth - 1), "factor")
    )
    return Derivation(
        f"the map of a balanced network under backprop, depth {depth}",
        ("W_(l+1)^T W_(l+1) = W_l W_l^T", "any loss, data and widths: E is any matrix"),
        tuple(steps),
        "Arora, Cohen & Hazan (2018), Arora et al. (2019); known result re-derived",
        results=("A7",),
    )
