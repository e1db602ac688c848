"""A hook of MkDocs: warns, hence fails with --strict, where a page would fetch something from another machine."""

import logging
import re
from typing import Any

_LOG = logging.getLogger("mkdocs.hooks.offline")
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)", re.IGNORECASE
)


def fetched(html: str) -> list[str]:
    """Returns the addresses elsewhere that a browser asks for when it shows a page; links to click are none.

    Example:
        >>> fetched('<link href="https://fonts.example/a.css" rel="stylesheet"><a href="https://example.org">paper</a>')
        ['https://fonts.example/a.css']
    """
    return _FETCHED.findall(html)


def on_post_page(output: str, page: Any, **kwargs: Any) -> str:
    """Called by MkDocs with each finished page."""
    for address in fetched(output):
        _LOG.warning("%s fetches %s; put it into docs/assets", page.file.src_uri, address)
    return output
