"""The clock of a' = s - c a - h a^3/2, which scalar feedback alignment from w_1 = 0 runs by."""

import sympy as sp

import linfa
from derivations.proof import Derivation, Step, equal, given
from linfa.theory.clock import cubic_root, cubic_time, poly_time
from linfa.theory.special import phi3


def derivation() -> Derivation:
    """From the mode equations to the cubic law, and from the cubic law to its time.

    >>> derivation().title
    'the clock of the cubic law'
    """
    equations = linfa.derive(linfa.fa(), 2)
    modes = equations.modes()
    w1, w2, b = modes
    s = equations.strength
    a, root, c, h = sp.symbols("a a_* c h", positive=True)
    start = sp.Symbol("w_2(0)", real=True)
    on = {w1: b * a, w2: start + b * a**2 / 2}
    law = s - c * a - h * a**3 / 2
    named = {c: b * start, h: b**2}
    speed = law.subs(named)
    steps = [
        given("the equations of the rule", equations),
        given("the weights on one number", "w_1 = b a,  w_2 = w_2(0) + b a^2/2"),
        equal("w_1' = b a' with a' = s - c a - h a^3/2, c = b w_2(0), h = b^2", modes[w1].subs(on), b * speed, "w_1'"),
        equal("w_2' = b a a'", modes[w2].subs(on), b * a * speed, "w_2'"),
    ]
    drive = sp.solve(law.subs(a, root), s)[0]
    time = cubic_time(a, drive, c, h, root)
    steps += [
        given("a* is where a' vanishes", sp.Eq(s, drive, evaluate=False)),
        equal("linfa.theory.clock.cubic_time starts at 0", time.subs(a, 0), 0, "t(0)"),
        equal("its slope is 1/a'", sp.cancel(sp.diff(time, a)), 1 / law.subs(s, drive), "dt/da"),
    ]
    x = sp.Symbol("x", positive=True)
    pure = cubic_time(root * x, h * root**3 / 2, sp.Integer(0), h, root)
    gap = sp.simplify(sp.diff(pure - 2 / (h * root**2) * phi3(x), x))
    steps.append(equal("for c = 0 it is Phi_3, in units of 2/(h a*^2)", gap, 0, "d(t - 2 Phi_3(x)/(h a*^2))/dx"))
    numbers = {"s": sp.Rational(7, 5), "c": sp.Rational(1, 3), "h": sp.Rational(3, 4)}
    cubic = sp.Poly(law.subs({s: numbers["s"], c: numbers["c"], h: numbers["h"]}), a)
    (exact,) = sp.real_roots(cubic)
    found = cubic_root(*map(float, numbers.values()))
    text = "linfa.theory.clock.cubic_root is the real root, here for s = 7/5, c = 1/3, h = 3/4"
    steps.append(Step(text, sp.Eq(root, exact.evalf(15), evaluate=False), bool(abs(found - float(exact)) < 1e-14)))
    half = float(cubic_time(float(exact) / 2, *map(float, numbers.values())))
    other = float(poly_time(float(exact) / 2, 0.0, [float(k) for k in cubic.all_coeffs()]))
    text = "linfa.theory.clock.poly_time, from partial fractions, gives the same time to a*/2"
    steps.append(Step(text, sp.Eq(sp.Symbol("t"), half, evaluate=False), abs(half - other) < 1e-13))
    return Derivation(
        "the clock of the cubic law",
        ("one mode, white inputs", "w_1(0) = 0", "c = b w_2(0) >= 0, so that a' vanishes once"),
        tuple(steps),
        "derived here",
    )
