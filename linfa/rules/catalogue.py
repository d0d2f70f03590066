"""The rules by their names in the literature.

Exact definitions and their sources stand in the parts that each of these puts together.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from linfa.rules.activity import Standardised, Whitened
from linfa.rules.feedback import (
    Dense,
    FixedSign,
    RandomFactors,
    RedrawnSign,
    SVDFactors,
    SVDStructured,
    Transpose,
    UnitSign,
)
from linfa.rules.geometry import Polar
from linfa.rules.parameterisation import Alignment, Cosine, Factored, Orthogonality, Penalty, Sparsity
from linfa.rules.plasticity import Fixed, Hebb, KolenPollack, Mirror, Normative, Oja
from linfa.rules.route import Direct, Layerwise, Local, Modulated, Target
from linfa.rules.rule import Rule


def _choose(what, table, key):
    if key not in table:
        raise ValueError(f"unknown {what} {key!r}: choose one of {', '.join(map(repr, table))}")
    return table[key]


def bp(decay: float = 0.0) -> Rule:
    """Backpropagation: delta_l = W_(l+1)^T delta_(l+1).

    Args:
        decay: common decay of the weights and of feedback that learns.

    >>> bp()
    bp: Layerwise() / Transpose() / Fixed()
    """
    return Rule(Layerwise(), Transpose(), decay=decay, name="bp")


def fa(scale: float = 1.0) -> Rule:
    """Feedback alignment: W^T replaced by a fixed random matrix (Lillicrap et al. 2016).

    Args:
        scale: spread of the feedback in units of the spread of the forward weights.
    """
    return Rule(Layerwise(), Dense(scale), name="fa")


def dfa(scale: float = 1.0) -> Rule:
    """Direct feedback alignment: delta_l = B_l e, the output error through fixed random matrices (Nokland 2016)."""
    return Rule(Direct(), Dense(scale), name="dfa")


def drtp(scale: float = 1.0) -> Rule:
    """Direct random target projection: delta_l = -B_l y, targets through fixed random matrices (Frenkel et al. 2021).

    >>> drtp()
    drtp: Target() / Dense(scale=1.0) / Fixed()
    """
    return Rule(Target(), Dense(scale), name="drtp")


def pepita(scale: float = 1.0) -> Rule:
    """PEPITA to first order: the error enters at the input and travels forward (Dellaferrera & Kreiman 2022)."""
    return Rule(Modulated(), Dense(scale), name="pepita")


def local(decay: float = 0.0) -> Rule:
    """Greedy local learning: every hidden layer descends the loss of a linear head of its own, which learns with it."""
    return Rule(Local(), Dense(), KolenPollack(), decay=decay, name="local")


def sgr(modules: int | None = None, lam: float = 0.1, decay: float = 0.0) -> Rule:
    """Successive gradient reconciliation: local learning of modules that agree with those below (Yang et al. 2024).

    L_k = l_k + lam E|h_k - g_(k-1)|^2 for each module k but the first, with h_k = dl_k/dx_(k-1) at its input and
    g_(k-1) = dl_(k-1)/dx_(k-1), which is kept fixed.  With lam=0 it is `local`.

    Args:
        modules: number of modules, at least 2; None for one a layer, which is free of backprop.
        lam: weight of the discord; ours, 0.01 to 1 are sensible.
        decay: common decay of weights and heads.

    >>> sgr(modules=2, lam=0.5)
    sgr(2): Local(modules=2, lam=0.5) / Dense(scale=1.0) / KolenPollack()
    """
    name = "sgr" if modules is None else f"sgr({modules})"
    return Rule(Local(modules, lam), Dense(), KolenPollack(), decay=decay, name=name)


def sign_symmetry(variant: Literal["uSF", "brSF", "frSF"] = "uSF") -> Rule:
    """Sign symmetry: feedback with the signs of the forward weights (Liao et al. 2016; Xiao et al. 2019).

    Args:
        variant: magnitudes all equal (uSF), random and drawn anew for every batch (brSF), random and fixed (frSF).

    >>> sign_symmetry("frSF")
    frSF: Layerwise() / FixedSign() / Fixed()
    """
    feedback = _choose("variant of sign symmetry", {"uSF": UnitSign, "brSF": RedrawnSign, "frSF": FixedSign}, variant)
    return Rule(Layerwise(), feedback(), name=variant)


def kolen_pollack(decay: float = 0.1) -> Rule:
    """Kolen-Pollack: dW = -G - decay W and dB = -G^T - decay B, so that B - W^T vanishes as exp(-decay t)."""
    return Rule(Layerwise(), Dense(), KolenPollack(), decay=decay, name="kolen-pollack")


def weight_mirror(leak: float = 1.0, directions: int | None = None) -> Rule:
    """Weight mirror: dB = E[xi (W xi)^T] - leak B for noise xi at the layer's input (Akrout et al. 2019).

    Args:
        leak: rate at which feedback is forgotten; it ends at W^T / leak.
        directions: how many xi a step of descent draws; None for their expectation.
    """
    return Rule(Layerwise(), Dense(), Mirror(1.0, leak, directions), name="weight-mirror")


def directional_dfa(rate: float = 1.0, directions: int | None = None, rank: int | None = None) -> Rule:
    """Directional DFA: broadcast feedback that follows the Jacobian by forward-mode AD (Bacho & Chu, arXiv 2212.07282).

    dB_l = rate (J_l^T - B_l) with J_l = W_L .. W_(l+1), from B_l = 0.  A step of descent with learning rate eta is
    B <- (1 - a) B + a J^T with a = eta * rate, and J sampled; a = 1 is the forward gradient, one step late.

    In a promoted net J^ is the mean over a batch of one direction for each sample, and the feedback's gradient is
    rate (B - J^).  Both forms of the authors' code are this gradient under another optimiser: SGD with learning rate
    a / rate is the moving average of momentum 1 - a (theirs is 0.999 to 0.9999), and Adam with learning rate 1e-4 their
    other one.  Give the feedback a parameter group of its own, without weight decay, which would pull it to zero.

    Args:
        rate: 1 / tau, at which feedback follows the Jacobian.
        directions: samples of a step of descent, None for their expectation; 1 to promote: one for each sample.
        rank: of the feedback Q P, in which Q follows J^T P^T and P is fixed (ours); None for full feedback.

    >>> directional_dfa(rate=2.0)
    directional-dfa: Direct(exact_top=0) / Dense(scale=0.0) / Mirror(gain=2.0, leak=2.0, directions=None)
    """
    feedback = Dense(0.0) if rank is None else RandomFactors(rank)
    name = "directional-dfa" if rank is None else f"directional-dfa({rank})"
    return Rule(Direct(), feedback, Mirror(rate, rate, directions), name=name)


def dkp(decay: float = 0.1) -> Rule:
    """Direct Kolen-Pollack: broadcast feedback with dB_l = -E[h_l e^T] - decay B_l."""
    return Rule(Direct(), Dense(), KolenPollack(), decay=decay, name="dkp")


def muon(rule: Rule) -> Rule:
    """A rule whose weight updates are orthogonalised, as by Muon (Jordan et al. 2024).

    The directions are a matter of the optimiser.  A promoted model has plain gradients and does not see who steps: in a
    loop of your own take `deep.optimizer(model, lr)`; any other optimiser descends the gradients, unnoticed.
    `deep.train` refuses it (`deep.optimizer.check_optimizer`).

    >>> muon(fa())
    fa + muon: Layerwise() / Dense(scale=1.0) / Fixed() / Polar(keep_norm=False)
    """
    return replace(rule, geometry=Polar(), name=f"{rule.name} + muon")


def normalised(rule: Rule, activity: Literal["standardised", "whitened"] = "standardised") -> Rule:
    """A rule in a network whose hidden activities are normalised over the data.

    Feedback alignment with Muon and normalised activities is Boeshertz, Pascanu & Clopath (arXiv 2606.11123).

    Args:
        rule: a rule without normalisation.
        activity: every unit of mean 0 and variance 1, as by batch normalisation, or all units uncorrelated, too.

    >>> normalised(muon(fa()))
    fa + muon + standardised: Layerwise() / Dense(scale=1.0) / Fixed() / Polar(keep_norm=False) / Standardised()
    """
    part = _choose("normalisation", {"standardised": Standardised, "whitened": Whitened}, activity)()
    return replace(rule, activity=part, name=f"{rule.name} + {activity}")


def factored(rule: Rule, rank: int, retraction: Literal["polar", "qr"] | None = None) -> Rule:
    """A rule that learns the factors of weights U diag(s) V^T of rank r.

    >>> factored(fa(), rank=3)
    fa + factored(3): Layerwise() / Dense(scale=1.0) / Fixed() / Factored(rank=3, penalties=(), retraction=None)
    """
    part = Factored(rank, retraction=retraction)
    return replace(rule, parameterisation=part, name=f"{rule.name} + factored({rank})")


def svd_local(
    rank: int,
    alignment: float = 0.1,
    orthogonality: float = 0.1,
    cosine: float = 0.0,
    sparsity: float = 0.0,
    subspace: bool = False,
    retraction: Literal["polar", "qr"] | None = None,
) -> Rule:
    """SVD-local learning: factored weights, broadcast feedback with the structure of an SVD (arXiv 2510.25594).

    From the abstract: W = U S V^T is learned in its factors, feedback is fixed and has SVD structure, and the loss is
    joined by subspace alignment and orthogonality.  The formulas and the weights of these terms are ours.

    Args:
        rank: r, of the weights and of the feedback; it can fall during training, see `linfa.ranks`.
        alignment: weight of the penalty on the distance of U from the feedback's frame.
        orthogonality: weight of the penalty that keeps U and V orthonormal.
        cosine: weight of the penalty on the angles between the columns of U and of the feedback's frame.
        sparsity: weight of Hoyer's sparsity of the singular values.
        subspace: align what U and the frame span, instead of column with column.
        retraction: make U and V orthonormal after every step, "polar" or "qr".

    >>> svd_local(rank=4).parameterisation.penalties
    (Alignment(weight=0.1, subspace=False), Orthogonality(weight=0.1))
    """
    terms: list[Penalty] = [Alignment(alignment, subspace)] if alignment else []
    terms += [Orthogonality(orthogonality)] if orthogonality else []
    terms += [Cosine(cosine)] if cosine else []
    terms += [Sparsity(sparsity)] if sparsity else []
    weights = Factored(rank, tuple(terms), retraction)
    return Rule(Direct(), SVDStructured(rank), parameterisation=weights, name=f"svd-local({rank})")


def ldfa(
    rank: int,
    plasticity: Literal["oja", "hebb", "normative", "kolen-pollack", "fixed"] = "oja",
    direct: bool = False,
    decay: float = 0.0,
    clamp: float | None = None,
) -> Rule:
    """Low-dimensional feedback alignment: B = Q P of rank r (Hanut & Kadmon, arXiv 2502.20580).

    Args:
        rank: r, the number of error dimensions that cross a layer.
        plasticity: how Q and P learn; "fixed" is the baseline that fails, "kolen-pollack" learns Q alone.
        direct: broadcast the error at the input of the last layer instead of going layer by layer.
        decay: common decay of W, Q and P.
        clamp: limit on the entries of a delivered error; None for none.

    >>> ldfa(rank=10)
    ldfa(10, oja): Layerwise() / RandomFactors(rank=10, clamp=None) / Oja()
    """
    feedback, learn = _choose(
        "plasticity",
        {
            "oja": (RandomFactors, Oja),
            "hebb": (SVDFactors, Hebb),
            "normative": (SVDFactors, Normative),
            "kolen-pollack": (RandomFactors, KolenPollack),
            "fixed": (RandomFactors, Fixed),
        },
        plasticity,
    )
    route = Direct(exact_top=1) if direct else Layerwise()
    if direct and feedback is SVDFactors and learn is Hebb:
        feedback = RandomFactors  # a cut that is several layers below has no weight to decompose
    name = f"ldfa({rank}, {plasticity}{', direct' * direct})"
    return Rule(route, feedback(rank, clamp), learn(), decay=decay, name=name)


CATALOGUE: dict[str, Callable[..., Rule]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        bp, fa, dfa, ldfa, sign_symmetry, kolen_pollack, dkp, weight_mirror, directional_dfa, drtp, pepita, svd_local,
        local, sgr,
    )
} | {variant: functools.partial(sign_symmetry, variant) for variant in ("uSF", "brSF", "frSF")}  # fmt: skip
"""Name -> what makes the rule; the parameters of these functions are the flags of the command line."""


def named() -> dict[str, Rule]:
    """Every rule of the catalogue once, by name, low-dimensional ones at rank 2: what the tests and tables run over."""
    rules = [bp(), fa(), dfa(), *map(sign_symmetry, ("uSF", "brSF", "frSF")), kolen_pollack()]
    rules += [ldfa(2, kind) for kind in ("fixed", "oja", "hebb", "normative", "kolen-pollack")]
    rules += [dkp(), weight_mirror(), directional_dfa(), drtp(), pepita(), local(), sgr(), sgr(modules=2), muon(fa())]
    rules += [normalised(fa()), normalised(bp(), "whitened"), svd_local(2), factored(bp(), 2)]
    rules += [ldfa(2, kind, direct=True) for kind in ("fixed", "oja", "hebb")]
    return {rule.name: rule for rule in rules}
