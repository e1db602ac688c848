"""Runs nnU-Net's own commands and planning, each in a fresh Python interpreter that ends when this process ends.

nnU-Net forks worker processes. Forked from a process that has threads (PyTorch's, OpenVINO's, a caller's own), a worker
may wait forever for a lock that one of them held; a fresh interpreter has none of them.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from nnsam import errors
from nnsam.errors import NnsamError, SetupError
from nnsam.support.concurrency import end, start_guarded
from nnsam.support.drafts import temporary_folder
from nnsam.support.files import load_json

# Exit code of a command that is not installed, as a shell's.
NOT_FOUND = 127
_ENTRY = "nnsam.nnunet.entry"
_POLL_SECONDS = 0.2
_STANDARD_ERROR = 2


def run_nnunet(
    command: str,
    arguments: Sequence[str | Path] = (),
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    threads: int = 0,
    stop_after: str = "",
) -> None:
    """Runs a command of this Python environment, as a user would on the command line, and waits for it.

    Args:
        command: e.g. "nnUNetv2_train".
        arguments: of the command.
        log: file that gets everything that the command prints, appended.
        environment: variables that are added to, or replace, this process's.
        threads: that the command uses on the CPU; 0 for as many as there are cores.
        stop_after: text; once the command has printed it, its work is done and it is ended.

    Raises:
        SetupError: there is no such command, or nnU-Net is not installed.
        NnsamError: the command failed; the message has the last line that it printed.
    """
    words = [command, *map(str, arguments)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        file.write(f"$ {' '.join(words)}\n".encode())
        file.flush()
        start = file.tell()
        process = _start(["--threads", str(threads), *words], file, environment)
        try:
            stopped = _wait(process, log, start, stop_after.encode())
        finally:
            end(process)
    if process.returncode == NOT_FOUND:
        raise SetupError(f"{command} is not installed in this Python environment; install nnunetv2")
    if process.returncode and not stopped:
        raise NnsamError(f"{command} failed ({_how(process)}): {_last_line(log, start)}; see {log.name}")


def call_in_fresh_interpreter(function: str, **arguments: Any) -> Any:
    """Calls a function in a process without threads and returns what it returns; what it prints goes to standard error.

    Args:
        function: "module:name".
        arguments: of the function; they and its result are what JSON can hold.

    Raises:
        NnsamError: the function raised one, which is raised here too, or its process ended without a result.
    """
    with temporary_folder() as folder:
        answer = folder / "answer.json"
        process = _start(["--answer", str(answer), function, json.dumps(arguments)], _STANDARD_ERROR)
        try:
            process.wait()
        finally:
            end(process)
        if process.returncode or not answer.is_file():
            raise NnsamError(f"{function.partition(':')[2]} failed ({_how(process)}); see the lines above")
        content = load_json(answer)
    if "error" in content:
        raise getattr(errors, content["error"])(content["message"])
    return content["result"]


def answer_call(function: str, arguments: str, answer: Path) -> None:
    """Does in the fresh interpreter what :func:`call_in_fresh_interpreter` asks for; writes result or error."""
    module, name = function.split(":")
    content: dict[str, Any]
    try:
        content = {"result": getattr(importlib.import_module(module), name)(**json.loads(arguments))}
    except NnsamError as error:
        content = {"error": type(error).__name__, "message": str(error)}
    answer.write_text(json.dumps(content), encoding="utf-8")


def _start(
    arguments: Sequence[str], output: IO[bytes] | int, environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    # -u: lines arrive when they are printed, for `stop_after` and for those who watch the log.
    return start_guarded([sys.executable, "-u", "-m", _ENTRY, *arguments], output, environment)


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


def _how(process: "subprocess.Popen[bytes]") -> str:
    code = process.returncode
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _last_line(log: Path, position: int) -> str:
    with open(log, "rb") as file:
        file.seek(position)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
