"""The bridge between the linear core and torch: a promoted net of Linear layers follows the core's descent.

Used by `linfa.verify` for the promoted reading of a rule, and by the tests at every depth.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

import linfa
from deep import factored
from deep.local import loss
from deep.optimizer import optimizer
from deep.promote import promote
from linfa.dynamics import State, velocity
from linfa.laws import horizon, relative
from linfa.rules import Conserved, Direct, ErrorRank, Homogeneous, Local
from linfa.simulate import advance, retract
from linfa.tree import leaves, tree_map
from linfa.verify import Check, widths


def linear_net(weights) -> nn.Sequential:
    """A torch net of Linear layers without bias, float64, from weights W_1 .. W_L."""
    net = nn.Sequential(*(nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=torch.float64) for w in weights))
    with torch.no_grad():
        for layer, w in zip(net, weights, strict=True):
            layer.weight.copy_(torch.as_tensor(w))
    return net


def read(net: nn.Sequential, rule: linfa.Rule) -> State:
    """The state of a promoted net of Linear layers, as numpy arrays."""
    depth = len(net)
    weights = tuple(tree_map(_array, _stored(layer)) for layer in net)
    feedback = []
    for number, edge in enumerate(rule.route.edges(depth), 1):
        if isinstance(rule.route, Local):
            stored = dict(zip(rule.feedback.names, map(net.get_parameter, net.local.heads(number)), strict=True))
        elif isinstance(rule.route, Direct):
            source = net[min(edge.source, depth - 1)]
            stored = source.feedback[str(edge.activity)]
        else:
            stored = net[edge.activity].feedback
        feedback.append(tuple(stored[name].detach().numpy().copy() for name in rule.feedback.names))
    return State(weights, tuple(feedback))


def _stored(layer):
    """What a promoted layer stores, as parameters."""
    return layer.stored() if isinstance(layer, factored.FactoredLayer) else layer.weight


def _array(tensor):
    return tensor.detach().numpy().copy()


def quadratic(prediction, target):
    """1/2 of the squared distance, averaged over samples: the loss of the linear core."""
    return 0.5 * ((prediction - target) ** 2).sum(-1).mean()


class Replay(list):
    """Directions drawn in torch, as the source of random numbers of `linfa.dynamics.velocity`."""

    def standard_normal(self, shape):
        v = self.pop(0).numpy()
        if v.shape != shape:
            raise ValueError(f"the core asks for directions {shape}, the promoted net drew {v.shape}")
        return v


def replay(rule: linfa.Rule, net: nn.Sequential, samples: int) -> Replay:
    """The directions that a promoted net of Linear layers is about to draw, in the order of the core's edges.

    Broadcast edges draw one for each sample as the forward reaches their cuts, layerwise edges a number of their own in
    the backward.
    """
    widths = [net[edge.activity].in_features for edge in rule.route.edges(len(net))]
    state = torch.get_rng_state()
    if isinstance(rule.route, Direct):
        drawn = [torch.randn(samples, n, dtype=torch.float64).T for n in widths]
    else:
        drawn = [torch.randn(n, rule.plasticity.directions, dtype=torch.float64) for n in reversed(widths)][::-1]
    torch.set_rng_state(state)
    return Replay(drawn)


class Run:
    """A promoted net of Linear layers and the core's descent, side by side on the same data.

    Args:
        rule: a rule.
        depth: number of layers.
        seed: of data, weights and feedback.
    """

    def __init__(self, rule, depth, seed):
        rng = np.random.default_rng((seed, depth))
        sizes = widths(rule, depth)
        n, *hidden, m = sizes
        sizes = (n, *(np.array(hidden, int) + rng.integers(0, 3, depth - 1)), m)  # no two layers need be alike
        self.rule, self.depth, self.seed = rule, depth, seed
        self.task = linfa.Task.from_data(rng.standard_normal((6 * n, n)) + 0.3, rng.standard_normal((6 * n, m)))
        self.x, self.y = torch.as_tensor(self.task.inputs), torch.as_tensor(self.task.targets)
        self.net = linear_net(linfa.Network.small(sizes, 0.7, seed).weights)
        promote(self.net, rule, sample=self.x, seed=seed)

    def gradients(self, factor=1.0):
        """Fill the gradients of ``factor`` times the loss and return those of what layers store, as numpy arrays."""
        self.net.zero_grad()
        (factor * loss(self.net, self.x, self.y, quadratic)).backward()
        return [tree_map(lambda p: _array(p.grad), _stored(layer)) for layer in self.net]

    @torch.random.fork_rng(devices=())
    def follow(self, steps: int = 20, lr: float = 0.05) -> tuple[float, list[State], list[State]]:
        """Step both; returns the largest relative difference and the states of the promoted net and of the core.

        Args:
            steps: their number.
            lr: learning rate of a rule whose flow stays finite for long, see `linfa.laws.horizon`.
        """
        torch.manual_seed(self.seed)
        rule, rng, lr = self.rule, None, lr * horizon(self.rule)
        if rule.plasticity.directions and isinstance(rule.route, Direct):  # one for each sample
            rule = dataclasses.replace(rule, plasticity=dataclasses.replace(rule.plasticity, directions=len(self.x)))
        descent = optimizer(self.net, lr, momentum=0.0, others=functools.partial(torch.optim.SGD, lr=lr))
        state = read(self.net, self.rule)
        promoted, core, worst = [state], [state], 0.0
        for _ in range(steps):
            if rule.plasticity.directions:  # drawn by the torch net, and replayed to the core
                rng = replay(self.rule, self.net, len(self.x))
            self.gradients()
            if self.rule.feedback.redrawn:  # each draws its own numbers; the torch net's are taken
                state = State(state.weights, read(self.net, self.rule).feedback)
            state = retract(rule, advance(state, velocity(rule, state, self.task.batch, rng), lr))
            descent.step()
            factored.retract(self.net)
            promoted.append(read(self.net, self.rule))
            core.append(state)
            for a, b in zip(_arrays(promoted[-1]), _arrays(state), strict=True):
                worst = max(worst, relative(a, b))
        return worst, promoted, core


def fits(rule, depth) -> bool:
    """Whether a rule can be promoted on a net of that depth."""
    return not isinstance(rule.route, Direct) or rule.route.exact_top < depth


def _arrays(state):
    return leaves(state)


def checks(rule: linfa.Rule, seed: int, depths: Sequence[int]) -> Iterator[Check]:
    """The promoted reading: the same trajectory as descent, and every claim that can be read off it."""
    plain = not rule.decay and not rule.parameterisation.penalties  # the gradients are those of the loss alone
    steps = 20 if rule.geometry.linear else 5  # Newton-Schulz makes a rounding 500 times larger in every step
    for depth in depths:
        if not fits(rule, depth):
            continue
        run = Run(rule, depth, seed)
        once, thrice = run.gradients(), run.gradients(3.0)
        error, promoted, core = run.follow(steps)
        yield Check("one rule", "promoted", error, 1e-10, f"{steps} steps beside descent, depth {depth}")
        for claim in rule.claims:
            if isinstance(claim, Conserved):
                worst = 0.0
                for mine, theirs in zip(promoted, core, strict=True):
                    pairs = zip(claim.quantity(rule, mine), claim.quantity(rule, theirs), strict=True)
                    worst = max([worst, *(relative(a, b) for a, b in pairs)])
                yield Check(str(claim), "promoted", worst, 1e-10, f"its drift is descent's, depth {depth}")
            elif isinstance(claim, Homogeneous) and plain and not rule.feedback.redrawn:
                pairs = zip(leaves(tuple(thrice)), leaves(tuple(once)), strict=True)
                error = max(relative(a, 3.0**claim.degree * b) for a, b in pairs)
                yield Check(str(claim), "promoted", error, 1e-10, f"three times the loss, depth {depth}")
            elif isinstance(claim, ErrorRank):
                worst = 0.0
                for edge in rule.route.edges(depth) if plain else ():
                    s = np.linalg.svd(leaves(once[edge.taught])[0], compute_uv=False)  # of W, or of U
                    if claim.rank < len(s):
                        worst = max(worst, float(s[claim.rank] / s[0]))
                yield Check(str(claim), "promoted", worst, 1e-12, f"rank of the weight gradients, depth {depth}")
