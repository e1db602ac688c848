"""Tests stand alone: what several of them need is in tests/helpers, and none imports another."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MODULES = {path.stem for path in TESTS.rglob("test_*.py")} | {"conftest", "tests"}


def imports_of_tests(source: str) -> list[str]:
    """Names of the test modules that a source imports, at the top or inside a function."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module or ''}.{alias.name}" for alias in node.names]
            if node.level:
                found.append("." * node.level + (node.module or ""))
        else:
            continue
        found += [name for name in names if MODULES & set(name.split("."))]
    return found


def test_no_test_imports_another():
    found = {str(path.relative_to(TESTS)): imports_of_tests(path.read_text("utf-8")) for path in TESTS.rglob("*.py")}
    assert {name: imports for name, imports in found.items() if imports} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n    from tests.io import x", ["tests.io.x"]),
        ("import test_layering", ["test_layering"]),
        ("from test_layering import room", ["test_layering.room"]),
        ("from . import conftest", [".", ".conftest"]),
        ("from helpers.plans import make_plans\nimport nnsam.io", []),
    ],
)
def test_the_check_above_finds_them(source, found):
    assert imports_of_tests(source) == found
