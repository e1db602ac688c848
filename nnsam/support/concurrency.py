"""Threads whose results come in order, and processes that end when they are told to, or with their starter."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], threads: int = 1) -> Iterator[Result]:
    """Yields `function(item)` for each item, in order.

    Args:
        function: lets go of Python's lock while it computes, or nothing is gained.
        items: read as they are needed.
        threads: items computed at once; with 1, in the caller's thread. As many results as this wait at most.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


# Exit codes of a process that SIGTERM or Ctrl-C has ended, as a shell tells them.
TERMINATED, INTERRUPTED = 143, 130


class Terminated(KeyboardInterrupt):
    """SIGTERM, as sent by `kill`, containers and batch systems; it ends work as Ctrl-C does."""


# What the process was told by a signal and has not done yet.
_told: type[KeyboardInterrupt] | None = None
_AGAIN_SECONDS = 0.02
# Blocks of `uninterrupted` that the main thread is in, and whether a signal waits for their end.
_depth, _waits = 0, False


def pass_on_ending() -> None:
    """Raises anew what SIGTERM or Ctrl-C raised, in a handler of other errors.

    Libraries that call back from native code (PyTorch's writer of files, OpenVINO's converter) make their own errors
    of whatever is raised there. Without this a loop that survives the failure of a case would survive the signal, too.

    Raises:
        Terminated: after SIGTERM.
        KeyboardInterrupt: after Ctrl-C.
    """
    if _told is not None:
        raise _told


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets SIGTERM and Ctrl-C wait for the end of the block, for a few quick steps that belong together.

    Raises:
        Terminated: at the end, after SIGTERM.
        KeyboardInterrupt: at the end, after Ctrl-C.
    """
    global _depth, _waits
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _waits and not _depth:
            _waits = False
            pass_on_ending()


@contextmanager
def terminable() -> Iterator[None]:
    """Raises `Terminated` in the block at the first SIGTERM, so that it leaves nothing behind; main thread only.

    An error that leaves the block after SIGTERM or Ctrl-C is replaced by what the signal means. Where Python has to
    ignore what is raised, in an object's `__del__`, the signal comes again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def tell(number: int, frame: object) -> None:
        global _told, _waits
        if number == signal.SIGTERM:
            if os.getpid() != process:  # a fork, whose owner ends it so
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            signal.signal(number, signal.SIG_IGN)  # while it is tidied up
        _told = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        _waits = _depth > 0
        if not _waits:
            raise _told

    again: list[threading.Timer] = []
    unraisable = sys.unraisablehook

    def ignored(found: "sys.UnraisableHookArgs") -> None:
        if not issubclass(found.exc_type, KeyboardInterrupt):
            unraisable(found)
            return
        number = signal.SIGTERM if issubclass(found.exc_type, Terminated) else signal.SIGINT
        signal.signal(signal.SIGTERM, tell)
        again.append(threading.Timer(_AGAIN_SECONDS, os.kill, (process, number)))
        again[-1].daemon = True
        again[-1].start()

    global _told, _waits
    _told, _waits = None, False
    sys.unraisablehook = ignored
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, tell)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, tell)
    try:
        yield
    except Exception:
        pass_on_ending()
        raise
    finally:
        for timer in again:
            timer.cancel()
        _told, sys.unraisablehook = None, unraisable
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


_PATIENCE_SECONDS = 5.0


def start_guarded(
    command: Sequence[str], output: IO[bytes] | int, environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Starts a process in a group of its own; it has to call :func:`end_with_parent`.

    Args:
        command: program and arguments.
        output: file, or its descriptor, that gets standard output and standard error.
        environment: variables that are added to this process's.
    """
    return subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        start_new_session=True,  # Ctrl-C on the terminal is the starter's to handle
    )


def end_with_parent() -> None:
    """Ends this process and its group as soon as standard input is closed at the other end."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    try:
        while os.read(0, 1024):
            pass
    finally:
        _end_group(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        os._exit(1)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process of :func:`start_guarded` with all that it started, and waits for it."""
    if process.poll() is None:
        _end_group(process.pid, signal.SIGTERM)
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    # What ignored the first signal, or was left by a leader that did not.
    if hasattr(signal, "SIGKILL"):
        _end_group(process.pid, signal.SIGKILL)


def _end_group(leader: int, number: int) -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(leader, number)
        else:
            os.kill(leader, number)
    except (ProcessLookupError, PermissionError):
        pass  # has ended already
