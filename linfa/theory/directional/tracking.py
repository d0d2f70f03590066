"""Feedback that chases a moving map: it is the moving average of what it has seen, and lags behind."""

import numpy as np

from linfa.dynamics import State, velocity
from linfa.network import Network
from linfa.rules import Dense, Direct, Layerwise, Mirror, RandomFactors, Rule
from linfa.simulate import advance, descend
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.directional.leaky import leaky_descent
from linfa.theory.directional.mirror_decay import mirror_targets
from linfa.theory.directional.problem import draw, forward_maps
from linfa.theory.result import Result

__all__ = ["moving_average", "tracking_lag"]


def moving_average(a, seen, start) -> np.ndarray:
    """B_t = (1 - a)^t B_0 + a sum_(s < t) (1 - a)^(t - 1 - s) J_s^T: what a mirror with gain = leak is, at any step.

    Whatever moves the weights, and in the same way for sampled maps in place of J_s.  In the flow
    B(t) = e^(-t / tau) B_0 + int_0^t e^(-(t - s) / tau) J(s)^T ds / tau.

    Args:
        a: learning rate times leak.
        seen: J_s^T before each step (steps, n_l, n_s).
        start: B_0 (n_l, n_s).

    Returns:
        (steps + 1, n_l, n_s).

    Source: derived here; elementary.

    >>> moving_average(0.5, np.array([[[1.0]], [[0.0]], [[4.0]]]), np.zeros((1, 1))).ravel().tolist()
    [0.0, 0.5, 0.25, 2.125]
    """
    steps = np.arange(len(seen))
    age = steps[:, None] - steps
    share = np.where(age >= 0, a * (1.0 - a) ** np.maximum(age, 0), 0)
    averaged = np.tensordot(share, seen, 1)
    kept = np.multiply.outer((1.0 - a) ** np.arange(len(seen) + 1), start)
    return kept + np.concatenate([np.zeros((1, *averaged.shape[1:])), averaged])


def tracking_lag(a, steps: int, drift, start) -> np.ndarray:
    """J_t^T - B_t = (1 - a)^t (J_0^T - B_0) + (1 - (1 - a)^t) / a dJ^T, when J moves by dJ in every step.

    In the end the feedback that a step uses is dJ / a behind the map of that step: tau dJ/dt in the flow.  Of this
    (1 - a) / a dJ is the lag of the new feedback behind the map that it has just seen, and dJ the delay of one step.

    Args:
        a: learning rate times leak; gain = leak.
        steps: number of steps.
        drift: dJ^T, what J^T gains in every step (n_l, n_s).
        start: J_0^T - B_0 (n_l, n_s).

    Returns:
        (steps + 1, n_l, n_s).

    Source: derived here; elementary.

    >>> tracking_lag(0.5, 3, np.ones((1, 1)), np.zeros((1, 1))).ravel().tolist()
    [0.0, 1.0, 1.5, 1.75]
    """
    return leaky_descent(steps, a, start, drift)


def _linear(seed):
    """Lag behind maps that move linearly, since W_L does and the other weights rest; and behind the map last seen."""
    worst, lr = 0.0, 0.3
    for depth, route in ((2, Layerwise()), (3, Direct()), (4, Direct())):
        task, network = draw(seed + depth, depth)
        rng = np.random.default_rng((seed, depth))
        a = rng.uniform(0.1, 1.5)
        rule = Rule(route, Dense(), Mirror(a / lr, a / lr))
        below, step = network.weights[:-1], 0.1 * rng.standard_normal(network.weights[-1].shape)
        state = State(network.weights, examples.feedback(rule, rng, network.widths))
        used, after = [], []
        for _ in range(60):
            goals, moved = mirror_targets(rule, state), advance(state, velocity(rule, state, task.batch), lr)
            used.append([goal - B for goal, (B,) in zip(goals, state.feedback, strict=True)])
            after.append([goal - B for goal, (B,) in zip(goals, moved.feedback, strict=True)])
            state = State((*below, state.weights[-1] + step), moved.feedback)
        drifts = forward_maps(rule, (*below, step))
        for drift, lags, behind in zip(drifts, zip(*used, strict=True), zip(*after, strict=True), strict=True):
            closed = tracking_lag(a, len(lags), drift.T, lags[0])
            worst = max(worst, relative_error(np.stack([closed[:-1], closed[1:] - drift.T]), np.array([lags, behind])))
    return worst


def _average(seed):
    """Feedback along descent in mini-batches, all weights learning, against the moving average of what it saw."""
    worst, lr = 0.0, 0.05
    for depth, route, feedback in ((2, Direct(), RandomFactors(1)), (3, Direct(), Dense()), (3, Layerwise(), Dense())):
        task, network = draw(seed + depth, depth)
        a = np.random.default_rng((seed, depth)).uniform(0.1, 1.5)
        rule = Rule(route, feedback, Mirror(a / lr, a / lr))
        small = Network(tuple(0.5 * W for W in network.weights))
        run = descend(rule, task, small, lr, 80, batch_size=10, seed=seed)
        for seen, stored in zip(mirror_targets(rule, run.states), run.feedback, strict=True):
            worst = max(worst, relative_error(moving_average(a, seen[:-1], stored[0][0]), stored[0]))
    return worst


RESULTS = (
    Result("F5", "behind maps that move by dJ a step feedback lags (1 - a)^t L_0 + (1 - (1 - a)^t) / a dJ: in the end "
           "dJ / a where it is used, (1 - a) / a dJ behind what it has just seen",
           "derived here", 1e-11, _linear),
    Result("F5b", "feedback with gain = leak is the moving average of the maps it saw, exactly in any descent",
           "derived here", 1e-11, _average),
)  # fmt: skip
