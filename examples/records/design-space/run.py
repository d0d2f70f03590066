"""The design space: every composition of the parts, with its certificate or with the reason why it makes no sense.

python examples/records/design-space/run.py        writes README.md and certificates.json beside this file
"""

import itertools
import json
import multiprocessing
import platform
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import scipy
import sympy
from tqdm import tqdm

import linfa
from linfa.rules import SVDStructured
from linfa.rules.space import PARTS, SIGNAL, Cell, space

HERE = Path(__file__).parent
BASES = {
    "fa": linfa.fa(), "kolen-pollack": linfa.kolen_pollack(), "bp": linfa.bp(), "ldfa(2, oja)": linfa.ldfa(2, "oja"),
    "broadcast, SVD-structured": linfa.rules.Rule(linfa.dfa().route, SVDStructured(2)), "local": linfa.local(),
}  # fmt: skip
"""The rules whose step is varied."""


def certify(cell: Cell):
    """The certificate of a cell, without the promoted reading; what went wrong, as text, if there is none."""
    try:
        return linfa.verify(cell.rule, promoted=False)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def spelled(part) -> str:
    """A part without the settings that it has anyway."""
    text = repr(part)
    for kind in PARTS.values():
        if part in kind and sum(type(other) is type(part) for other in kind) == 1:
            return type(part).__name__
    return text.replace(", retraction=None", "").replace(", penalties=()", "")


class Page:
    """Collects the tables, and numbers the reasons of what is refused."""

    def __init__(self, certificates):
        self.certificates, self.reasons, self.lines = certificates, [], []

    def mark(self, cell) -> str:
        """What stands in the table for a cell."""
        if cell.rule is None:
            if cell.refusal not in self.reasons:
                self.reasons.append(cell.refusal)
            return f"[{self.reasons.index(cell.refusal) + 1}](#refused)"
        found = self.certificates[cell.rule]
        if isinstance(found, str):
            return "**error**"
        passed = sum(check.passed for check in found.checks)
        text = str(passed) if found.passed else f"**{passed} of {len(found.checks)}**"
        return f"*{text}*" if cell.published else text

    def table(self, head, across, rows):
        """A table with a column for each part of the kind ``across``; rows are pairs of a title and cells."""
        columns = [spelled(part) for part in PARTS[across]]
        self.lines += [f"| {head} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        self.lines += [f"| {title} | {' | '.join(map(self.mark, cells))} |" for title, cells in rows]
        self.lines.append("")


def grouped(cells, kinds):
    """Neighbouring cells with the same parts of two kinds, under their names; rows without any rule are left out."""
    for title, row in itertools.groupby(cells, lambda cell: ", ".join(spelled(cell.parts[kind]) for kind in kinds)):
        row = list(row)
        if any(cell.rule for cell in row):
            yield title, row


def main():
    signal = list(space(*SIGNAL))
    steps = {
        name: list(space("parameterisation", "activity", "geometry", **{kind: getattr(rule, kind) for kind in SIGNAL}))
        for name, rule in BASES.items()
    }
    every = [cell for cell in itertools.chain(signal, *steps.values()) if cell.rule]
    unique = list({cell.rule: cell for cell in every}.values())
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(tqdm(pool.map(certify, unique), total=len(unique), desc="verify", mininterval=10))
    certificates = dict(zip((cell.rule for cell in unique), found, strict=True))
    failed = [(rule, found) for rule, found in certificates.items() if isinstance(found, str) or not found.passed]
    new = sum(not cell.published for cell in unique)
    page = Page(certificates)
    page.lines = [
        "# The design space", "",
        f"Made by `python examples/records/design-space/run.py` on {platform.machine()}, 2 CPU cores, with linfa "
        f"{linfa.__version__}, numpy {np.__version__}, scipy {scipy.__version__}, sympy {sympy.__version__}: "
        f"{len(unique)} rules, of which {new} are in no paper that the catalogue knows; "
        f"{len(unique) - len(failed)} certificates pass.", "",
        "A cell says how many checks of the certificate of `linfa.verify(rule)` pass: every claim by algebra and by "
        "simulation, and the laws, at depths 1 to 6. *Italics* are the kinds of parts of a rule of the catalogue. A "
        "link leads to the reason why the parts make no sense together; rows in which nothing does are left out. "
        "`certificates.json` has the certificates in short.", "",
        "## What makes the teaching signal", "",
    ]  # fmt: skip
    page.table("route, feedback", "plasticity", grouped(signal, ("route", "feedback")))
    page.lines += ["## What is done with it", ""]
    for name, cells in steps.items():
        page.lines += [f"### {name}", "", f"`{BASES[name]!r}`", ""]
        page.table("parameterisation, activity", "geometry", grouped(cells, ("parameterisation", "activity")))
    page.lines += ["## Refused", "", *(f"{n}. {reason}" for n, reason in enumerate(page.reasons, 1))]
    (HERE / "README.md").write_text("\n".join(page.lines) + "\n", encoding="utf-8")
    (HERE / "certificates.json").write_text(
        json.dumps([short(*item) for item in certificates.items()], indent=1) + "\n"
    )
    for rule, certificate in failed:
        print(rule, certificate, sep="\n")
    print(f"{len(unique) - len(failed)} of {len(unique)} certificates pass")
    return len(failed)


def short(rule, certificate):
    """A certificate in four lines."""
    about = {"rule": repr(rule), "fingerprint": rule.fingerprint}
    if isinstance(certificate, str):
        return {**about, "error": certificate}
    readings = dict.fromkeys(check.reading for check in certificate.checks)
    number = {reading: sum(c.reading == reading for c in certificate.checks) for reading in readings}
    return {**about, "passed": certificate.passed, "checks": number}


if __name__ == "__main__":
    raise SystemExit(main())
