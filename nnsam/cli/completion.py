"""Prints a script that makes a shell complete commands, options and their values with the tab key.

Example:
  eval "$(nnsam completion bash)"                                     # for this shell; in ~/.bashrc for all
  nnsam completion zsh > ~/.zfunc/_nnsam                              # a folder in fpath, before compinit
  nnsam completion tcsh >> ~/.tcshrc
"""

import argparse
from pathlib import Path

from nnsam.errors import SetupError

SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's argument."""
    parser.add_argument("shell", choices=SHELLS, help="which one")


def run(args: argparse.Namespace) -> int:
    """Prints the script."""
    from nnsam.cli.main import COMMANDS, build_parser

    try:
        import shtab
    except ModuleNotFoundError:
        raise SetupError("shtab, which writes completions, is not installed; run: pip install shtab") from None
    parser = build_parser(*COMMANDS)
    _complete_files(parser)
    print(shtab.complete(parser, args.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Lets values that may be paths be completed as such."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in {id(child): child for child in action.choices.values()}.values():
                _complete_files(child)
        elif action.choices is None and action.nargs != 0 and action.type in (None, Path):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
