"""Local losses: every module answers to a head of its own."""

import itertools
from dataclasses import dataclass
from typing import ClassVar, final

from linfa.algebra import T
from linfa.rules.claims import Conserved
from linfa.rules.edge import Edge
from linfa.rules.route.base import Carrier, Route
from linfa.theory import invariants


@final
@dataclass(frozen=True)
class Local(Route):
    """Greedy learning of modules: a linear head C_k = B_k^T reads the output off the end of module k, h_l.

    g_k = C_k^T (C_k h_l - y), the gradient of its loss l_k = 1/2 E|C_k h_l - y|^2, is backpropagated exactly to the
    layers of the module and no further.  The last module ends at the output and has no head.  The edge carries the
    error of its own head, and the plasticity that gives B the transposed update, Kolen-Pollack, is then the head's
    gradient descent.  No signal crosses modules (Nokland & Eidnes 2019; the linear form is ours).

    Successive gradient reconciliation (Yang et al. 2024, arXiv 2406.05222) adds to the loss of every module but the
    first its discord with the gradient of the one below, which is kept fixed, as is the module's input x:

        L_k = l_k + lam E|q_k|^2,   q_k = A^T g_k - g_(k-1) for each sample,   A = W_b .. W_(a+1) the module's map.

    That a regulariser on the distance of neighbouring gradients is added is read in the abstract; its form and lam are
    ours.  With M = C A, e the error of the head and R = 1/2 E|q|^2, so that the loss above is l + 2 lam R,

        dR/dM = E[e q^T + M q x^T],   dR/dC = dR/dM A^T,   dR/dW_j = (C W_b .. W_(j+1))^T dR/dM (W_(j-1) .. W_(a+1))^T.

    Args:
        modules: K >= 2, into which the layers are divided as evenly as they go, at the cuts ceil(k L / K) (local-BP;
            one module is backprop); None for one layer a module (BP-free).
        lam: weight of the discord, at least 0.

    >>> Local().edges(3)
    (Edge(activity=1, source=3), Edge(activity=2, source=3))
    >>> Local(modules=2).edges(3)
    (Edge(activity=2, source=3),)
    """

    modules: int | None = None
    lam: float = 0.0
    backward: ClassVar[bool] = False
    error_driven: ClassVar[bool] = False

    def __post_init__(self):
        if self.modules is not None and self.modules < 2:
            raise ValueError(
                f"modules is their number, at least 2, or None for one a layer; got {self.modules} (one is backprop)"
            )
        if isinstance(self.lam, (int, float)) and not self.lam >= 0:
            raise ValueError(f"lam weighs the discord, at least 0; got {self.lam}")

    def edges(self, depth):
        number = min(self.modules or depth, depth)
        return tuple(Edge(-(-k * depth // number), depth) for k in range(1, number))

    @property
    def single_layer(self):
        return False

    def claims(self, rule):
        return (Conserved(invariants.module_balance, 2),) if self.modules else ()

    def teach(self, carriers, matrices, activities, target, through):
        depth, heads = len(matrices), {carrier.edge.activity: carrier for carrier in carriers}
        errors, carried = {depth: activities[-1] - target}, {}
        for cut in range(depth - 1, 0, -1):
            if cut in heads:
                _, carry, back = heads[cut]
                carried[cut] = back(activities[cut]) - target
                errors[cut] = carry(carried[cut])
            else:
                errors[cut] = through[cut](T(matrices[cut]) @ errors[cut + 1])
        return errors, carried

    def penalty(self, carriers, matrices, activities, errors, carried):
        weights, heads, depth = {}, {}, len(matrices)
        if not self.lam:
            return weights, heads
        output = Carrier(Edge(depth, depth), lambda signal: signal, lambda signal: signal)
        for below, (edge, carry, back) in itertools.pairwise((*carriers, output)):
            a, b = below.edge.activity, edge.activity
            maps = tuple(itertools.accumulate(matrices[a:b], lambda A, W: W @ A))  # W_(a+1), W_(a+2) W_(a+1), .. A
            q = T(matrices[a]) @ errors[a + 1] - errors[a]
            e = carried.get(b, errors[depth])
            slope = 2 * self.lam * (e @ T(q) + back(maps[-1] @ q) @ T(activities[a]))
            if b < depth:
                heads[b] = slope @ T(maps[-1])
            slope = carry(slope)
            for layer in range(b, a, -1):
                weights[layer] = slope @ T(maps[layer - a - 2]) if layer > a + 1 else slope
                slope = T(matrices[layer - 1]) @ slope
        return weights, heads
