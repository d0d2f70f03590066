"""A rule of your own in thirty lines, and what it gets for them: equations, invariants, certificate, a torch network.

The rule is Kolen-Pollack with a gain: feedback that follows the transposed update c times as fast.  We claim that
B - c W^T decays with the weights, so that feedback ends c times as strong as backprop's.

    python examples/a_rule_of_your_own.py [figure.png]
"""

import sys
from dataclasses import dataclass
from typing import ClassVar, final

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from deep.data import fashion_mnist_subset
from linfa import plot
from linfa.algebra import T
from linfa.rules import Conserved, Dense, Layerwise, Plasticity, Rule


def distance(rule, state):
    """B_l - c W_(l+1)^T."""
    return tuple(B - rule.plasticity.gain * T(W) for (B,), W in zip(state.feedback, state.weights[1:], strict=True))


@final
@dataclass(frozen=True)
class Eager(Plasticity):
    """dB = -c G^T."""

    gain: int = 2
    reads: ClassVar[tuple[str, ...]] = ("G",)
    factors: ClassVar[tuple[int, ...]] = (1,)

    def velocity(self, stored, moments):
        return (-self.gain * T(moments.G),)

    def learns(self, stored):
        return (True,)

    def claims(self, rule):
        return (Conserved(distance, rate=1),) if rule.route.single_layer else ()


eager = Rule(Layerwise(), Dense(), Eager(gain=2), decay=0.2, name="eager")


def main(figure):
    # derived
    print(linfa.derive(eager, depth=2), "\n")
    print(linfa.discover(eager, (2, 2, 2)), "\n")

    # simulated, beside the rules it comes from
    task, network = linfa.Task.from_spectrum([3.0, 2.0, 1.0], seed=0), linfa.Network.small((3, 12, 3), 0.3, seed=1)
    with plot.style():
        fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
        for rule in (eager, linfa.kolen_pollack(0.2), linfa.fa()):
            run = linfa.simulate(rule, task, network, 10.0)
            ax.plot(run.times, run.feedback_alignment[:, 0], label=rule.name)
        ax.set(title="Feedback turns towards the weights", xlabel="time", ylabel="cosine of B and $W_2^T$")
        ax.legend()
        fig.savefig(figure, dpi=150)

    # verified: algebra, simulation, every law, the torch network
    certificate = linfa.verify(eager)
    print(certificate, "\n")

    # promoted: the same object, your own loop
    torch.manual_seed(0)
    images, test = fashion_mnist_subset("train"), fashion_mnist_subset("test")
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    deep.promote(net, eager)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.005, momentum=0.9, weight_decay=1e-3)
    for index in torch.arange(5000).repeat(4).split(50):
        optimizer.zero_grad()
        F.cross_entropy(net(images.normalised(index)), images.y[index]).backward()
        optimizer.step()
    right = (net(test.normalised()).argmax(1) == test.y).float().mean()
    print(f"promoted to a torch network on Fashion-MNIST: {100 * right:.1f} % of {len(test)} test images")
    return certificate, float(right)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "a_rule_of_your_own.png")
