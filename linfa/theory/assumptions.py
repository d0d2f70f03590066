"""What theories ask of a rule, a task and a start; each check raises AssumptionError with the measured violation."""

import dataclasses

import numpy as np

from linfa.rules import Euclidean, Fixed, Full, LayerRates, Layerwise, Plain
from linfa.rules.feedback import Transpose
from linfa.theory.base import AssumptionError

TOLERANCE = 1e-9
"""Violations up to here count as rounding; beyond it a closed form would miss its 1e-8."""


def plain(rule) -> None:
    """Full weights, Euclidean steps, plain activities, errors carried down, feedback unclamped and not drawn anew.

    >>> import linfa
    >>> plain(linfa.ldfa(2, clamp=1.0))
    Traceback (most recent call last):
        ...
    linfa.theory.base.AssumptionError: not linear: delivered errors are clamped at 1.0
    """
    if type(rule.parameterisation) is not Full:
        raise AssumptionError(f"weights are not full matrices: {rule.parameterisation}")
    if type(rule.geometry) is not Euclidean:
        raise AssumptionError(f"steps are not Euclidean: {rule.geometry}")
    if type(rule.activity) is not Plain:
        raise AssumptionError(f"activities are normalised: {rule.activity}")
    if not rule.route.backward:
        raise AssumptionError(f"teaching signals are not errors carried down: {rule.route}")
    if rule.feedback.clamp is not None:
        raise AssumptionError(f"not linear: delivered errors are clamped at {rule.feedback.clamp}")
    if rule.feedback.redrawn:
        raise AssumptionError(f"feedback is drawn anew at every step: {rule.feedback}")


def layer_rates(rule, *moving: bool) -> tuple[float, ...]:
    """A `plain` rule whose layers have learning rates of their own, zero for those that do not move.

    >>> import linfa
    >>> layer_rates(linfa.fa(), True, False)
    Traceback (most recent call last):
        ...
    linfa.theory.base.AssumptionError: exactly W_2 should be frozen: Euclidean()
    """
    rates = rule.geometry.rates if isinstance(rule.geometry, LayerRates) else ()
    if tuple(map(bool, rates)) != moving:
        frozen = ", ".join(f"W_{number}" for number, moves in enumerate(moving, 1) if not moves)
        raise AssumptionError(f"exactly {frozen} should be frozen: {rule.geometry}")
    plain(dataclasses.replace(rule, geometry=Euclidean()))
    return rates


def on_route(rule, kind: type) -> None:
    """A `plain` rule, but for its route, which has to be of a kind that carries something else down than errors.

    >>> import linfa
    >>> on_route(linfa.fa(), linfa.rules.Target)
    Traceback (most recent call last):
        ...
    linfa.theory.base.AssumptionError: route is not Target: Layerwise()
    """
    if type(rule.route) is not kind:
        raise AssumptionError(f"route is not {kind.__name__}: {rule.route}")
    plain(dataclasses.replace(rule, route=Layerwise()))


def no_decay(rule) -> None:
    """No weight decay."""
    if rule.decay:
        raise AssumptionError(f"weights decay at rate {rule.decay}")


def backprop(rule) -> None:
    """A `plain` rule without decay whose feedback is the transposed weight."""
    plain(rule)
    no_decay(rule)
    if type(rule.feedback) is not Transpose:
        raise AssumptionError(f"not backprop: feedback is {rule.feedback}")


def fixed_feedback(rule) -> None:
    """Feedback of its own that does not learn and enters a two-layer network."""
    plain(rule)
    if type(rule.plasticity) is not Fixed:
        raise AssumptionError(f"feedback learns: {rule.plasticity}")
    no_decay(rule)
    if rule.feedback.reads_weight:
        raise AssumptionError(f"feedback follows the weights: {rule.feedback}")
    if not rule.route.edges(2):
        raise AssumptionError(f"no feedback edge in a two-layer network: {rule.route}")


def depth(state, wanted: int) -> None:
    """That many weights."""
    if len(state.weights) != wanted:
        raise AssumptionError(f"depth is {len(state.weights)}, not {wanted}")


def white(task) -> None:
    """E[x x^T] = I."""
    if task.whiteness_violation > TOLERANCE:
        raise AssumptionError(f"not white: Sxx - I has an entry of {task.whiteness_violation:.2g}")


def zero(name: str, matrix) -> None:
    """A matrix of zeros."""
    largest = np.abs(matrix).max(initial=0)
    if largest > TOLERANCE:
        raise AssumptionError(f"{name} is not zero: {largest:.2g}")


def balanced(state) -> None:
    """W_(l+1)^T W_(l+1) = W_l W_l^T."""
    from linfa.theory import invariants

    largest = max((np.abs(D).max() for D in invariants.balance(None, state)), default=0.0)
    if largest > TOLERANCE:
        raise AssumptionError(f"unbalanced by {largest:.2g}")
