"""``python -m derivations`` lists the proofs, ``python -m derivations NAME [--latex]`` runs and prints one."""

import argparse
import sys

from derivations import named


def main(arguments=None) -> int:
    """Run the command line.

    >>> main(["fa_invariant"])
    the invariant of feedback alignment, depth 2
    ...
    0
    """
    proofs = named()
    parser = argparse.ArgumentParser(prog="python -m derivations", description="Executable proofs.")
    parser.add_argument("name", nargs="?", choices=sorted(proofs), help="the proof to run; all are listed without one")
    parser.add_argument("--latex", action="store_true", help="print LaTeX")
    options = parser.parse_args(arguments)
    if options.name is None:
        for name, prove in proofs.items():
            print(f"{name:20s}  {prove().title}")
    else:
        proof = proofs[options.name]()
        print(proof.latex() if options.latex else proof)
    return 0


if __name__ == "__main__":
    sys.exit(main())
