"""Backprop from W_2^T W_2 - W_1 W_1^T = lambda I: a matrix Riccati equation, solved, also without inverses."""

import mpmath
import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.algebra import T
from linfa.theory.backprop.riccati import lambda_balanced_network, riccati_qqt

LAMBDA = sp.Symbol("lambda", real=True)


def _moved(expression, rates):
    """The time derivative of words, letter by letter."""
    epsilon = sp.Symbol("epsilon")
    return sp.expand(sp.expand(expression.xreplace({x: x + epsilon * v for x, v in rates.items()})).coeff(epsilon, 1))


def _textbook(W1, W2, Sigma, lam, t):
    """e^(Ft) Q [I + Q^T (e^(2Ft) - 1)/(2F) Q]^(-1) Q^T e^(Ft) to 50 digits."""
    with mpmath.workdps(50):
        (m, n), k = Sigma.shape, len(W1)
        F = mpmath.matrix(np.block([[-lam / 2 * np.eye(n), Sigma.T], [Sigma, lam / 2 * np.eye(m)]]).tolist())
        Q, (f, V) = mpmath.matrix(np.concatenate([W1.T, W2]).tolist()), mpmath.eigsy(F)
        grown = V * mpmath.diag([mpmath.exp(v * t) for v in f]) * V.T
        gain = V * mpmath.diag([mpmath.expm1(2 * v * t) / (2 * v) if v else t for v in f]) * V.T
        X = grown * Q * mpmath.inverse(mpmath.eye(k) + Q.T * gain * Q) * Q.T * grown
        return np.array(X.tolist(), float)


def derivation() -> Derivation:
    """Blocks of the derived equations are those of the Riccati equation; words solve it, and an instance is evaluated.

    >>> derivation().title
    'backprop from lambda-balanced starts'
    """
    equations = linfa.derive(linfa.bp(), 2)
    W1, W1t, W2, W2t, S, St = map(words.letter, ("W_1", "W_1^T", "W_2", "W_2^T", "S_yx", "S_yx^T"))
    white = {words.letter("E"): S - W2 * W1, words.letter("E^T"): St - W1t * W2t, words.letter("S_xx"): sp.Integer(1)}
    balance = {W2t * W2: W1 * W1t + LAMBDA}
    error = words.reduced(words.of(equations.residual_definition), white, {})

    def blocks(rule, state):
        W1, W2 = state.weights
        return T(W1) @ W1, T(W1) @ T(W2), W2 @ W1, W2 @ T(W2)

    F, X = ((-LAMBDA / 2, St), (S, LAMBDA / 2)), ((W1t * W1, W1t * W2t), (W2 * W1, W2 * W2t))
    steps = [
        given("the equations of the rule", equations),
        equal("E for white inputs", error, S - W2 * W1, "E"),
        given("a balance that is conserved (derivations.bp_balance), and X = Q Q^T with Q = [W_1^T; W_2]",
              "W_2^T W_2 - W_1 W_1^T = lambda I,  F = [[-lambda/2 I, S_yx^T], [S_yx, lambda/2 I]]"),
    ]  # fmt: skip
    for index, change in enumerate(equations.change(blocks)):
        i, j = divmod(index, 2)
        right = sum(F[i][a] * X[a][j] + X[i][a] * F[a][j] - X[i][a] * X[a][j] for a in range(2))
        left, right = words.reduced(change, white, balance), words.reduced(right, {}, balance)
        steps.append(equal(f"X' = F X + X F - X^2, block {i + 1}{j + 1}", left, right, f"X'_{i + 1}{j + 1}"))

    K, f, q, qt, N = map(words.letter, ("K", "F", "Q", "Q^T", "N"))
    solution = K * q * N * qt * K
    rates = {K: f * K, N: -N * qt * K * K * q * N}
    moved = words.reduced(_moved(solution, rates), {}, {K * f: f * K})
    wanted = words.reduced(f * solution + solution * f - solution * solution, {}, {K * f: f * K})
    steps += [
        given(
            "with Q at time 0, K = e^(Ft) and G = int_0^t K K dt: K' = F K = K F and N' = -N Q^T K K Q N",
            "N = (I + Q^T G Q)^(-1)",
        ),
        equal("the derivative of X = K Q N Q^T K is F X + X F - X^2", moved, wanted, "X'"),
        equal("it starts at Q Q^T", solution.xreplace({K: sp.S.One, N: sp.S.One}), q * qt, "X(0)"),
    ]

    D, Za, Zb, R, Zat, Zbt, Rt = map(words.letter, ("D", "Z_a", "Z_b", "R", "Z_a^T", "Z_b^T", "R^T"))
    columns = {Zat * Za: 1 - Zbt * Zb}
    steps += [
        given(
            "without the inverse: F = V diag(f) V^T, G = V diag(g) V^T, H = diag(g)^(1/2), D = diag(e^(ft)) / H, "
            "and the QR factors of a tall matrix",
            "[I; H V^T Q] = [Z_a; Z_b] R",
        ),
        equal(
            "R^T R is N^(-1), so that R N R^T = I",
            words.reduced(Rt * (Zat * Za + Zbt * Zb) * R, {}, columns),
            Rt * R,
            "N^-1",
        ),
    ]
    closed = words.reduced(D * (Zb * R) * N * (Rt * Zbt) * D, {}, {R * N * Rt: sp.S.One})
    steps.append(
        equal("V^T X V = D (H V^T Q) N (H V^T Q)^T D with Z_b R for H V^T Q", closed, D * Zb * Zbt * D, "V^T X V")
    )
    t, rate = sp.symbols("t f", positive=True)
    gain = sp.integrate(sp.exp(2 * rate * t), (t, 0, t))
    steps.append(equal("D^2 is bounded for f > 0, and goes to 0 for f < 0", sp.exp(2 * rate * t) / gain,
                       2 * rate / (1 - sp.exp(-2 * rate * t)), "D^2"))  # fmt: skip

    Sigma, worst = np.array([[1.3, 0.2, -0.4], [0.5, -0.9, 0.1]]), 0.0
    for (n, k, m), lam in (((3, 4, 2), 0.0), ((3, 2, 2), 0.7), ((3, 3, 2), -0.6)):
        start = lambda_balanced_network((n, k, m), lam, scale=0.4, seed=k).weights
        for time in (0.3, 2.0, 9.0):
            X = _textbook(*start, Sigma, lam, time)
            worst = max(worst, float(np.abs(riccati_qqt(*start, Sigma, [time])[0] - X).max()))
    text = "linfa.theory.backprop.riccati.riccati_qqt is this, on 3-4-2, 3-2-2 and 3-3-2 with lambda = 0, 0.7, -0.6"
    steps.append(Step(text, "|X - K Q N Q^T K| < 1e-12", worst < 1e-12))
    return Derivation(
        "backprop from lambda-balanced starts",
        ("two layers, white inputs", "W_2^T W_2 - W_1 W_1^T = lambda I", "any widths, singular vectors and spectra"),
        tuple(steps),
        "Fukumizu (1998), Braun et al. (2022), Domine et al. (2024), known; the evaluation derived here",
    )
