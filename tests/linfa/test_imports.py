"""Imports point one way, and importing linfa is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "matplotlib", "sympy", "scipy", "tyro", "hypothesis")


def test_import_is_light():
    code = f"import sys, linfa; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def imported(tree, inside_functions):
    """Top-level package names that a module imports."""
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    hidden = {id(n) for f in functions for n in ast.walk(f)}
    for node in ast.walk(tree):
        if inside_functions or id(node) not in hidden:
            if isinstance(node, ast.Import):
                yield from (name.name.split(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield node.module.split(".")[0]


@pytest.mark.parametrize("path", sorted((ROOT / "linfa").rglob("*.py")), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_core_does_not_import_upwards(path):
    tree = ast.parse(path.read_text())
    assert not {"torch", "deep", "derivations"} & set(imported(tree, inside_functions=False))
    if path.name not in ("verify.py", "commands.py", "laws.py"):  # these look for torch when asked to
        assert not {"torch", "deep", "derivations"} & set(imported(tree, inside_functions=True))


@pytest.mark.parametrize("path", sorted((ROOT / "derivations").rglob("*.py")), ids=lambda p: p.name)
def test_derivations_import_the_core_alone(path):
    assert not {"torch", "deep"} & set(imported(ast.parse(path.read_text()), inside_functions=True))


@pytest.mark.parametrize("package", ["linfa", "deep"])
def test_a_package_says_where_everything_is(package):
    told = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())).split()
    files = [path for path in (ROOT / package).glob("[!_]*") if path.suffix == ".py" or any(path.glob("*.py"))]
    names = [path.name if path.suffix else f"{path.name}/" for path in files]
    assert len(names) > 10
    assert not {name for name in names if name not in {word.rstrip(",") for word in told}}
