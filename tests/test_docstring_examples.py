"""The examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "nnsam"
WITH_EXAMPLES = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text())


def run_examples(module) -> doctest.TestResults:
    return doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_in_docstrings_run_as_printed(path):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    exec_globals = importlib.import_module(name)
    result = run_examples(exec_globals)
    assert result.attempted > 0
    assert result.failed == 0


def test_a_wrong_example_is_noticed():
    import types

    module = types.ModuleType("wrong", ">>> 1 + 1\n3\n")
    assert run_examples(module).failed == 1
