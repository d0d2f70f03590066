"""linfa: learning without backpropagation, from the equations to the GPU.

A learning rule is one object, written as matrix algebra and read four ways:

derive     the matrix differential equations (SymPy)            `linfa.derive`      symbolic.py
           everything of low degree that they conserve          `linfa.discover`    discovery.py
simulate   gradient flow and descent (NumPy, SciPy)             `linfa.simulate`    simulate.py, `linfa.descend`
verify     every claim checked, in every reading                `linfa.verify`      verify.py
promote    the same rule on a PyTorch model                     `deep.promote`

rules/       what a rule is: route, feedback, plasticity
algebra.py   what it may call beside @ + - *     expressions.py  what of that sympy lacks
task.py      the world it learns in          network.py   the weights at the start
dynamics.py  the vector field                theory/      closed forms
observe.py   what is read off a state        trajectory.py  the result of a simulation
sweep.py     ensembles over rules, ranks ... phase.py     their phase diagrams
optimizer.py  Adam, in descent               survey.py    certificates and errors of everything
atlas.py     the main results on one page
laws.py      what every rule obeys           testing.py   Hypothesis strategies for rules of your own
ranks.py     factored weights of falling rank  tree.py    nested tuples of arrays
plot.py      figures                         page.py      HTML pages
streams.py   random numbers of every seed    log.py       files that are always whole
progress.py  a line of the terminal          cli.py, commands.py, choice.py  the command line
"""

import importlib

from linfa.network import Network
from linfa.rules import (
    Rule,
    bp,
    dfa,
    directional_dfa,
    dkp,
    drtp,
    fa,
    factored,
    kolen_pollack,
    ldfa,
    local,
    muon,
    normalised,
    pepita,
    sgr,
    sign_symmetry,
    svd_local,
    weight_mirror,
)
from linfa.simulate import descend, simulate
from linfa.task import Task
from linfa.trajectory import Trajectory
from linfa.verify import Certificate, verify

__version__ = "0.1.0"

__all__ = [
    "Certificate", "Network", "Rule", "Task", "Trajectory", "bp", "derive", "descend", "dfa", "directional_dfa",
    "discover", "dkp", "drtp", "fa", "factored", "kolen_pollack", "ldfa", "local", "muon", "normalised", "pepita",
    "sgr", "sign_symmetry", "simulate", "svd_local", "verify", "weight_mirror",
]  # fmt: skip


_SYMBOLIC = {"derive": "linfa.symbolic", "discover": "linfa.discovery"}


def __getattr__(name):
    # sympy loads when the first equation is derived, so that `import linfa` stays fast.
    if name in _SYMBOLIC:
        return getattr(importlib.import_module(_SYMBOLIC[name]), name)
    raise AttributeError(f"module 'linfa' has no attribute {name!r}")
