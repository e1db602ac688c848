"""Writes a report in a format: the templates hold its text (report.j2) and each format's markup.

Text is plain Unicode; words between backticks are code. The filter `inline` escapes everything else.
"""

import base64
import html
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nnsam.fewshot.report.tables import Bold

MARKDOWN, LATEX, HTML = "markdown", "latex", "html"
_MARKDOWN_SPECIAL = re.compile(r"([\\*_\[\]<>|~#])")
_LATEX_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MINUS SIGN}": r"$-$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "\N{EN DASH}": "--",
    "…": r"\ldots{}",
}


def render(form: str, **content: Any) -> str:
    """A report as text.

    Args:
        form: `MARKDOWN` (GitHub's), `LATEX` (booktabs; folded listings are left out) or `HTML` (one file without any
            link to the outside). The first two link pictures as figures/<name>.
        content: the variables of report.j2.
    """
    text = environment(form).get_template("report.j2").render(content)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def environment(form: str) -> Environment:
    """The templates, with the macros of a format as `write`."""
    made = Environment(
        loader=PackageLoader("nnsam.fewshot.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # every format escapes by its own `inline`
    )
    plain, code = _ESCAPES[form]
    made.filters |= {"inline": partial(inline, form=form), "plain": plain, "code": code, "data": _data}
    made.tests["bold"] = lambda cell: isinstance(cell, Bold)
    made.globals["fence"] = _fence
    made.globals["write"] = made.get_template(f"{form}.j2").module
    return made


def inline(text: str, form: str) -> str:
    """Escapes text for a format; a line break would end a table's row or a heading."""
    plain, code = _ESCAPES[form]
    parts = " ".join(text.split()).split("`")
    return "".join(code(part) if index % 2 else plain(part) for index, part in enumerate(parts) if part)


def _markdown(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\1", text)


def _markdown_code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`"


def _latex(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9 ]", lambda match: _latex_sign(match[0]), text)


def _latex_sign(sign: str) -> str:
    # Latin-1's letters are what inputenc and T1 surely have; another sign is a question mark rather than an error.
    return _LATEX_SIGNS.get(sign, sign if ord(sign) < 0x180 else "?")


def _latex_code(text: str) -> str:
    return rf"\texttt{{{_latex(text)}}}"


def _html_code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


# Format -> how text, and how code is written.
_ESCAPES: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    MARKDOWN: (_markdown, _markdown_code),
    LATEX: (_latex, _latex_code),
    HTML: (html.escape, _html_code),
}


def _data(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()


def _fence(lines: list[str]) -> str:
    """Backticks, more than any run of them in the lines."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    return "`" * max(3, longest + 1)
