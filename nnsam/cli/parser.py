"""The parser of all commands: errors with the usage of the command that was typed, and help as wide as the screen."""

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from nnsam.support.suggestions import did_you_mean

# Longer lines are hard to read, however wide the screen.
_WIDEST = 120
# A row of a table: a name, at least two spaces, and what it is.
_ROW = re.compile(r"(\s*\S.*?\s{2,})\S")
_COMMAND = re.compile(r"\s+(nnsam|nnUNet)|Examples?:")


class HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs and rows of tables of a description at the width of the terminal, and leaves commands alone."""

    def __init__(self, prog: str, *args: Any, **options: Any):
        super().__init__(prog, *args, **options)
        self._width = min(self._width, _WIDEST)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = [part for line in _joined(text.splitlines()) for part in _wrapped(line, width)]
        return "\n".join(f"{indent}{line}" for line in lines)


def _joined(lines: Sequence[str]) -> list[str]:
    """Joins the lines of each paragraph, and of the text in each row of a table."""
    joined: list[str] = []
    for line in lines:
        if joined and _goes_on(joined[-1], line):
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
    return joined


def _goes_on(before: str, line: str) -> bool:
    if not before.strip() or not line.strip() or any(map(_COMMAND.match, (before, line))) or _ROW.match(line):
        return False
    return _indent(line) == _text_column(before)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _text_column(line: str) -> int:
    row = _ROW.match(line)
    return len(row[1]) if row else _indent(line)


def _wrapped(line: str, width: int) -> list[str]:
    if not line.strip() or _COMMAND.match(line):
        return [line]
    column = _text_column(line)
    hanging = " " * (column if column < width // 2 else _indent(line))
    return textwrap.wrap(line, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)


class CommandParser(argparse.ArgumentParser):
    """A parser whose children are of this class, too.

    Without any argument, where an action must be chosen, it prints its help. Numbers such as -5,1,8,9 are values, not
    options. The exit code of wrong usage is 2.
    """

    def __init__(self, *args: Any, **options: Any):
        options.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, **options)
        self._negative_number_matcher = re.compile(r"-\.?\d[\d.,e+-]*$")
        self._given: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses, and refuses what it does not know, which argparse would leave to the outermost parser."""
        self._given = list(sys.argv[1:] if args is None else args)
        if not self._given and any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            self.print_help(sys.stderr)
            self.exit(2)
        found, unknown = super().parse_known_args(self._given, namespace)
        if unknown:
            self.error(self._unrecognized(next((word for word in unknown if word.startswith("-")), unknown[0])))
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Prints this parser's own usage and what is wrong."""
        if message.startswith("the following arguments are required"):
            # The required one may be there, but misspelled.
            unknown = [word for word in self._given if word.startswith("--") and not self._is_option(word)]
            message = "; ".join([message, *map(self._unrecognized, unknown[:1])])
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}\n")

    def _is_option(self, word: str) -> bool:
        name = word.partition("=")[0]
        return any(option.startswith(name) for option in self._option_string_actions)

    def _unrecognized(self, word: str) -> str:
        return f"unrecognized argument {word}{did_you_mean(word.partition('=')[0], self._option_string_actions)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            found = f"found {str(value)!r}; expected {', '.join(known)}{did_you_mean(str(value), known)}"
            raise argparse.ArgumentError(action, found)
