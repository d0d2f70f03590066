"""``python -m derivations`` lists the proofs, ``python -m derivations NAME`` runs and prints one.

With ``--latex`` it is printed as LaTeX, with ``--html FILE`` written as a page with equations and figures.
"""

import argparse
import sys
from pathlib import Path

from derivations import evidence, named


def main(arguments=None) -> int:
    """Run the command line.

    >>> main(["fa_invariant"])
    the invariant of feedback alignment, depth 2
    ...
    0
    """
    proofs = named()
    parser = argparse.ArgumentParser(prog="python -m derivations", description="Executable proofs.")
    parser.add_argument("name", nargs="?", help="the proof to run; all are listed without one")
    parser.add_argument("--latex", action="store_true", help="print LaTeX")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with equations and figures")
    options = parser.parse_args(arguments)
    name = options.name and options.name.replace("-", "_")
    if name is not None and name not in proofs:
        parser.error(f"no proof is called {name}: choose one of {', '.join(sorted(proofs))}")
    if name is None:
        for name, prove in proofs.items():
            print(f"{name:20s}  {prove().title}")
    else:
        proof = proofs[name]()
        if options.html:
            proof.html(options.html, *evidence(name))
            print(f"The page is {options.html.resolve()}")
        else:
            print(proof.latex() if options.latex else proof)
    return 0


if __name__ == "__main__":
    sys.exit(main())
