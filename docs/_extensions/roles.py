"""Docstrings as Markdown."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([^`]+)`")
_EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
_LITERAL = re.compile(r"::$", re.MULTILINE)


def as_markdown(docstring: str) -> str:
    """Turns Sphinx's roles into code and removes the second colon before literal blocks.

    Example:
        >>> as_markdown("See :func:`nnsam.io.read`, e.g.::")
        'See `nnsam.io.read`, e.g.:'
    """
    return _LITERAL.sub(":", _EXAMPLE.sub(r"\1Examples:", _ROLE.sub(r"`\1`", docstring)))


class Roles(griffe.Extension):
    """Applies `as_markdown` to every docstring that is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrites the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
