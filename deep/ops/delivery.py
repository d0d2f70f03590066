"""Errors as feedback delivers them."""


def deliver(rule, stored, weight, error):
    """The delivered error in rows, error @ B^T through each factor in turn: (N, n_e) -> (N, n_h)."""
    check_stored(rule, stored)
    for factor in reversed(rule.feedback.factors(stored, weight)):
        error = error @ factor.mT
    return clamped(rule, error)


def clamped(rule, error):
    """A delivered error within the clamp of the rule; None stays None."""
    bound = rule.feedback.clamp
    return error if error is None or bound is None else error.clip(-bound, bound)


def check_stored(rule, stored):
    """Raise RuntimeError where an error is wanted from a layer that was promoted without feedback."""
    if len(stored) != len(rule.feedback.names):
        raise RuntimeError(
            f"a gradient of {rule.name} is asked for at the input of a layer that has no feedback, because on the "
            "sample given to promote its input needed none: promote without sample=, or with one that requires grad"
        )
