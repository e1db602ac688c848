"""Runs nnU-Net's own commands, each in a process of its own, as a user would on the command line."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from nnsam.errors import NnsamError, SetupError
from nnsam.support.concurrency import end, start_guarded


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


_POLL_SECONDS = 0.2


def run_guarded(
    command: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    threads: int = 0,
    stop_after: str = "",
) -> None:
    """Runs a command of nnU-Net and waits for it; it ends when this process ends.

    Args:
        command: e.g. "nnUNetv2_train".
        arguments: of the command.
        environment: variables that are added to this process's.
        log: file that gets what the command prints, appended.
        threads: that the command uses on the CPU; 0 for as many as there are cores.
        stop_after: text; once the command has printed it, its work is done and it is ended.

    Raises:
        NnsamError: the command failed; the message has the last line that it printed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # -u: lines arrive when they are printed, for `stop_after` and for those who watch the log.
    program = [sys.executable, "-u", "-m", "nnsam.nnunet.entry", str(threads), command, *arguments]
    with open(log, "ab") as file:
        file.write(f"$ {command} {' '.join(arguments)}\n".encode())
        file.flush()
        start = file.tell()
        process = start_guarded(program, file, environment)
        try:
            stopped = _wait(process, log, start, stop_after.encode())
        finally:
            end(process)
    if process.returncode and not stopped:
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        raise NnsamError(f"{command} failed ({how}): {_last_line(log, start)}; see {log.name}")


def _wait(process: "subprocess.Popen[bytes]", log: Path, position: int, stop_after: bytes) -> bool:
    """Waits for the end, or for the text; returns whether the text was found."""
    if not stop_after:
        process.wait()
        return False
    seen = b""
    with open(log, "rb") as file:
        file.seek(position)
        while True:
            try:
                process.wait(_POLL_SECONDS)
                return False
            except subprocess.TimeoutExpired:
                pass
            seen = seen[-len(stop_after) :] + file.read()
            if stop_after in seen:
                return True


def _last_line(log: Path, position: int) -> str:
    with open(log, "rb") as file:
        file.seek(position)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
