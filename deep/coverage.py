"""What promotion covers: rules, and weights that they can follow."""

from torch import nn

from deep import maps
from deep.unsupported import Unsupported
from linfa.rules import Direct, Euclidean, Factored, Full, KolenPollack, Layerwise, Local, Plain, Rule


def check_rule(rule: Rule) -> None:
    """Raise Unsupported for a rule that promotion does not cover, TypeError for what is none."""
    if not isinstance(rule, Rule):
        raise TypeError(f"a rule is a linfa.Rule, such as linfa.fa() with its parentheses; got {rule!r}")
    plain = rule.geometry == Euclidean() and rule.activity == Plain()
    if type(rule.parameterisation) is Factored and not (plain and type(rule.route) in (Layerwise, Direct)):
        raise Unsupported(
            "promotion covers factored weights on layerwise and direct routes, with Euclidean steps and plain "
            f"activities, not {rule!r}"
        )
    if type(rule.parameterisation) not in (Full, Factored):
        raise Unsupported(f"promotion covers full and factored weights so far, not {rule.parameterisation!r}")
    if type(rule.route) not in (Layerwise, Direct, Local):
        raise Unsupported(f"promotion covers layerwise, direct and local routes so far, not {rule.route!r}")
    if isinstance(rule.route, Local) and rule.feedback.clamp is not None:
        raise Unsupported(f"a local head descends its loss, and {rule.feedback!r} clamps its gradient: use clamp=None")
    if isinstance(rule.route, Local) and not rule.feedback.starts_at_random:
        raise Unsupported(f"{rule.feedback} starts from a forward weight, and a local head has none")
    if rule.activity != Plain() and isinstance(rule.route, Local):
        raise Unsupported(
            f"promotion finds local modules in the model as it is, without {rule.activity!r}: put nn.BatchNorm after "
            "the hidden layers and promote the rule without it"
        )
    if rule.activity != Plain() and getattr(rule.route, "exact_top", 0):
        raise Unsupported(
            f"promotion reads the error of {rule.route!r} at the input of an exact layer, where it has not been taken "
            f"back through {rule.activity!r} as in the core: use exact_top=0, or layers nn.BatchNorm of the model"
        )
    if "J" in rule.plasticity.reads and not rule.route.single_layer and rule.plasticity.directions != 1:
        raise Unsupported(
            f"{rule.name} cannot be promoted with {rule.plasticity!r}: edges of {rule.route!r} span several layers, "
            "whose map a promoted net shows to random directions alone, one for each sample of the batch: use "
            "directions=1, as in linfa.directional_dfa(directions=1)"
        )


def check_runs(rule, calls):
    """Raise Unsupported for layers that run more than once where a rule adds to the gradient of every run."""
    often = tuple(path for path, call in calls.items() if call.runs > 1)
    if often and (rule.decay or rule.parameterisation.penalties):
        raise Unsupported(
            f"{', '.join(often)} ran more than once on the sample, and every run would add the decay and the penalties "
            f"of {rule.name} again: give each run a layer of its own, all of the same weight, leave it on "
            f"backpropagation with exact={often!r}, or let the optimiser decay weights"
        )


def check_layers(rule, targets, users):
    """Raise Unsupported for a weight that the rule cannot follow, or a layer that it does not cover."""
    for path, module in targets.items():
        called, kind = path or type(module).__name__, maps.plain_type(module)
        shared, computed = len(users[module]) > 1, maps.is_computed(module)
        state = "shares its weight with another layer" if shared else "has a weight that is computed from parameters"
        why = None
        if isinstance(rule.plasticity, KolenPollack) and rule.route.single_layer and (shared or computed):
            why = f"{state}, and {rule.name} follows by the gradient of one edge, which is not all that moves it"
        elif rule.parameterisation != Full() and (shared or computed):
            why = f"{state}, and {rule.name} learns factors in place of the weight of one layer"
        elif rule.parameterisation != Full() and kind not in (nn.Linear, nn.Conv2d):
            why = f"is a {kind.__name__}, and {rule.name} learns factors of nn.Linear and nn.Conv2d alone so far"
        elif rule.geometry != Euclidean() and computed:
            why = f"{state}, and {rule.name} takes directions in the space of weights, where no optimiser steps"
        elif rule.activity != Plain() and isinstance(module, nn.MultiheadAttention):
            why = f"has three maps inside, whose outputs {rule.activity!r} cannot reach"
        if why:
            raise Unsupported(f"{called} {why}: leave it on backpropagation with exact=({path!r},)")
