"""Which rule, as the words and flags of a command line say it."""

import dataclasses
import importlib.util
import inspect
from dataclasses import dataclass
from typing import Annotated, Literal

import linfa
from linfa.rules import Rule
from linfa.rules.catalogue import CATALOGUE

try:
    import docstring_parser  # of tyro
    import tyro
    from tyro.conf import Positional, arg
except ImportError as error:  # pragma: no cover
    raise SystemExit("the command line needs tyro: pip install 'linfa-lab[cli]'") from error

Name = tyro.extras.literal_type_from_choices(CATALOGUE)


def _flags() -> list[tuple]:
    """A field for every parameter of the rules of the catalogue, told by the docstring of the first that has one."""
    users: dict[str, dict[str, inspect.Parameter]] = {}
    texts: dict[str, str] = {}
    for name, make in CATALOGUE.items():
        for parameter in inspect.signature(make).parameters.values():
            users.setdefault(parameter.name, {})[name] = parameter
        for told in docstring_parser.parse(make.__doc__ or "").params:
            texts.setdefault(told.arg_name, told.description.replace("\n", " "))
    fields = []
    for key, takes in users.items():
        kind = next(iter(takes.values())).annotation
        defaults = {name: "required" if p.default is p.empty else p.default for name, p in takes.items()}
        hint = ", ".join(f"{name}: {default}" for name, default in defaults.items())
        told = arg(help=texts[key], help_behavior_hint=f"({hint})")
        fields.append((key, Annotated[kind if kind is bool else kind | None, told], False if kind is bool else None))
    return fields


Flags = dataclasses.make_dataclass("Flags", _flags(), frozen=True, namespace={"__doc__": "Settings of rules."})


@dataclass(frozen=True)
class Choice:
    """Which rule."""

    rule: Positional[Name]  # pyright: ignore[reportInvalidTypeForm]
    """Name of the rule."""
    flags: Annotated[Flags, arg(name="")] = Flags()  # noqa: RUF009  # pyright: ignore[reportInvalidTypeForm]
    factored: int | None = None
    """Learn the factors of weights of this rank."""
    muon: bool = False
    """Orthogonalise the updates of the weights, as by Muon."""
    normalised: Literal["standardised", "whitened"] | None = None
    """Normalise the hidden activities."""

    def build(self) -> Rule:
        """The rule object.

        Raises:
            ValueError: for a setting that the named rule does not have, or one that it needs.
        """
        make = CATALOGUE[self.rule]
        takes = inspect.signature(make).parameters
        given = {name: value for name, value in vars(self.flags).items() if value is not None and value is not False}
        strange = [f"--{name}" for name in given if name not in takes]
        if strange:
            known = ", ".join(f"--{name}" for name in takes) or "no settings"
            raise ValueError(f"{self.rule} takes no {', '.join(strange)}; it takes {known}")
        missing = [f"--{name}" for name, p in takes.items() if p.default is p.empty and name not in given]
        if missing:
            raise ValueError(f"{self.rule} needs {', '.join(missing)}")
        rule = make(**given)
        rule = rule if self.factored is None else linfa.factored(rule, self.factored)
        rule = linfa.muon(rule) if self.muon else rule
        return rule if self.normalised is None else linfa.normalised(rule, self.normalised)


Chosen = Annotated[Choice, arg(name="")]


class Command:
    """What a word of the command line stands for."""

    def interrupted(self) -> str:
        """What there is to say to a user who interrupts it."""
        return "Interrupted."


def needs_torch():
    """Leave the program where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("this command needs torch: pip install 'linfa-lab[deep,plot]'")
