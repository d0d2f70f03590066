"""The command line: linfa demo | derive | discover | simulate | sweep | verify | atlas | train | reproduce | data."""

import dataclasses
import importlib
import os
import sys
from typing import Annotated, Union, get_args

import tyro
from tyro.conf import subcommand

import linfa
from linfa.choice import needs_torch
from linfa.commands import COMMANDS

REGISTRY = tyro.constructors.ConstructorRegistry()


@REGISTRY.primitive_rule
def _tuples(info):
    """Tuples of any length, read as lists are; help says "none" of an empty one, of which tyro says nothing."""
    kinds = get_args(info.type)
    if info.type_origin is not tuple or kinds[1:] != (Ellipsis,):
        return None
    wanted = tyro.constructors.PrimitiveTypeInfo.make(list[kinds[0]], info.markers)
    words = REGISTRY.get_primitive_spec(wanted)
    if isinstance(words, tyro.constructors.UnsupportedTypeAnnotationError):
        return words
    return dataclasses.replace(
        words,
        instance_from_str=lambda given: tuple(words.instance_from_str(given)),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: words.str_from_instance(list(value)) or ["none"],
    )


DEEP = {
    "train": "Train a promoted network on images. The folder of the run receives its settings, the certificate of the "
    "rule, logs, checkpoints and figures. The same command goes on with a run that was interrupted.",
    "reproduce": "Run a published experiment over seeds, at a share of its budget, and print the table beside the "
    "published numbers. Runs that are whole are read, others go on where they were.",
    "data": "Fetch the official files of a data set and check them; a download that broke goes on where it was.",
}
"""Commands that `deep.commands` holds, with their texts: torch is loaded for the one that is asked for."""


def _commands(asked):
    kinds = dict(COMMANDS)
    for name, text in DEEP.items():
        if name in asked:
            needs_torch()
            kinds[name] = importlib.import_module("deep.commands").COMMANDS[name]
        else:
            kinds[name] = dataclasses.make_dataclass(name, [], namespace={"__doc__": text})
    return Union[  # noqa: UP007  of a list
        tuple(Annotated[kind, subcommand(name, description=DEEP.get(name))] for name, kind in kinds.items())
    ]


def parse(args: list[str]):
    """The command that the words of a line ask for; what they get wrong is said, and the program left."""
    return tyro.cli(
        _commands(args[:1]), args=args, prog="linfa", description="Learning without backpropagation.",
        config=(tyro.conf.FlagCreatePairsOff,), registry=REGISTRY,
    )  # fmt: skip


def main(args: list[str] | None = None) -> None:
    """Entry point of the ``linfa`` command.

    A wrong input ends with one line on stderr and status 2, an interruption with one and 130; a failed certificate with
    status 1.
    """
    try:
        status = _run(sys.argv[1:] if args is None else args)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)


def _run(args):
    """The exit status of a line."""
    if args == ["--version"]:
        print(f"linfa {linfa.__version__}")
        return 0
    command = parse(args)
    try:
        return command.run()
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print(f"\n{command.interrupted()}", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, TypeError, RuntimeError, ImportError) as error:
        print(f"linfa: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    main()
