"""What the two factors of a low-rank feedback conserve while they learn, and what decays."""

import numpy as np

from linfa.rules import Hebb, Layerwise, Normative, RandomFactors, Rule, ldfa
from linfa.simulate import simulate
from linfa.theory import invariants
from linfa.theory.base import relative_error
from linfa.theory.learned.kolen_pollack import kp_gap
from linfa.theory.result import Result
from linfa.verify import problem


def violation(rule, seed, *laws) -> float:
    """Largest relative error of some (quantity, rate), d/dt quantity = -rate * decay * quantity, along one flow.

    >>> violation(ldfa(2, "oja"), 0, (invariants.activity_balance, 2)) < 1e-8
    True
    """
    task, network = problem(rule, 2 + seed % 2, seed)
    run = simulate(rule, task, network, np.linspace(0, 2, 9), seed=seed, rtol=1e-11, atol=1e-13)
    times, errors = run.times[:, None, None], []
    for quantity, rate in laws:
        values = quantity(rule, run.states)
        errors.append(relative_error(tuple(kp_gap(times, rate * rule.decay, value[0]) for value in values), values))
    return max(errors)


def _learned(seed):
    laws = (invariants.kolen_pollack, 1), (invariants.activity_balance, 2)
    return violation(ldfa(2, "kolen-pollack", decay=0.2), seed, *laws)


def _balanced(seed):
    hebb, normative = (Rule(Layerwise(), RandomFactors(2), kind, 0.1) for kind in (Hebb(), Normative()))
    laws = (invariants.factor_balance, 2), (invariants.activity_balance, 2)
    return max(violation(hebb, seed, *laws), violation(normative, seed, laws[0]))


RESULTS = (
    Result("D8", "fixed P, Q by Kolen-Pollack, decay l: Q - W_2^T P^T falls as e^(-lt), W_1 W_1^T - Q Q^T as e^(-2lt)",
           "derived here", 1e-8, _learned),
    Result("D12", "Hebb and normative factors: Q^T Q - P P^T falls as e^(-2lt) at decay l, however the weights move",
           "derived here", 1e-8, _balanced),
)  # fmt: skip
