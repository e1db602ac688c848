"""Names of a package that are imported on first use (PEP 562), so that light ones do not pull heavy ones."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a package's `__getattr__`; type checkers get the same names from a block under `TYPE_CHECKING`.

    Args:
        package: its `__name__`.
        homes: name -> dotted name of the module that holds it.
    """

    def find(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
