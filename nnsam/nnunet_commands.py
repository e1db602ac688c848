"""Runs nnU-Net's own commands, each in a process of its own, as a user would on the command line."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

from nnsam.errors import NnsamError, SetupError


def run_nnunet(command: str, *arguments: str | Path, environment: Mapping[str, str], log: Path) -> None:
    """Runs an nnU-Net command of this Python environment and waits for it.

    Args:
        command: e.g. "nnUNetv2_train".
        arguments: the command's arguments.
        environment: variables that are added to, or replace, this process's.
        log: file that gets everything that the command prints, appended.

    Raises:
        SetupError: nnU-Net has no such command, or is not installed.
        NnsamError: the command failed; the message ends with the last line that it printed.
    """
    found = [point for point in entry_points(group="console_scripts") if point.name == command]
    if not found:
        raise SetupError(f"{command} is not installed in this Python environment; install nnunetv2")
    module, function = found[0].value.split(":")
    # Not the script beside the interpreter: it need not be on the PATH, nor exist under `pip install --target`.
    code = f"import sys; sys.argv[0] = {command!r}; from {module} import {function} as main; sys.exit(main())"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as file:
        file.write(f"$ {command} {' '.join(map(str, arguments))}\n")
        file.flush()
        process = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if process.returncode:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise NnsamError(f"{command} failed (exit code {process.returncode}): {lines[-1]}; see {log}")
