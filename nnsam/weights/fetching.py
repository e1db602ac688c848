"""Fetches the checkpoint into the cache: a lock keeps processes apart, a `.part` is continued, the hash decides."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nnsam.errors import WeightsError
from nnsam.support import environment
from nnsam.weights.cache import (
    OFFICIAL,
    CheckpointSpec,
    addresses,
    cached_path,
    is_intact,
    locked,
    part_path,
    sha256_of,
    shown,
)

TIMEOUT_S = 30.0


def fetch(
    spec: CheckpointSpec = OFFICIAL, mirror: str | None = None, progress: bool = True, timeout: float = TIMEOUT_S
) -> Path:
    """Makes sure that the cache holds the checkpoint, and downloads it where it does not.

    An intact cached file is returned without touching the network; a damaged one is replaced. A broken-off download is
    continued. Proxies are taken from the usual environment variables (http_proxy, https_proxy, no_proxy).

    Args:
        spec: The file.
        mirror: Address of the file itself, or of its folder with a slash at the end. A mirror, given here or in
            NNSAM_WEIGHTS_URL, is used instead of the official addresses, which are then never contacted.
        progress: Show a progress bar on standard error.
        timeout: Seconds without data after which a server counts as stalled.

    Returns:
        The path in the cache; its SHA-256 has been checked.

    Raises:
        WeightsError: No address delivered the file, NNSAM_OFFLINE is set, or the cache cannot be written.
    """
    path = cached_path(spec)
    if is_intact(path, spec):
        return path
    if environment.is_offline():
        raise WeightsError(
            f"{spec.name} is not in the cache and {environment.OFFLINE} forbids to download it: fetch it on another "
            "machine and run `nnsam weights import FILE` here"
        )
    urls = addresses(spec, mirror)
    with locked(spec, on_wait=_tell_of_waiting if progress else None) as path:
        # The process that held the lock before may have done the work.
        if not is_intact(path, spec):
            os.replace(_download(spec, urls, progress, timeout), path)
    return path


def _download(spec: CheckpointSpec, urls: tuple[str, ...], progress: bool, timeout: float) -> Path:
    """Returns a verified file beside the final name."""
    problems = []
    for url in urls:
        try:
            return _retrieve(spec, url, progress, timeout)
        except WeightsError as error:
            problems.append(str(error))
    raise WeightsError(
        f"could not fetch {spec.name} ({'; '.join(problems)}): give the address of a copy with --mirror URL or "
        f"{environment.MIRROR}, or import a copy with `nnsam weights import FILE`"
    )


def _retrieve(spec: CheckpointSpec, url: str, progress: bool, timeout: float) -> Path:
    from nnsam.weights.downloading import download

    part, found = part_path(spec), ""
    # One fresh start when bytes of an earlier call were used: they, not the server, may be what is wrong.
    for _ in range(2 if part.exists() else 1):
        with _bar(spec, progress) as advance:
            download(url, part, spec, timeout, advance)
        found = sha256_of(part)
        if found == spec.sha256:
            return part
        part.unlink()
    raise WeightsError(f"{shown(url)} delivers a file with SHA-256 {found}, expected {spec.sha256}")


def _tell_of_waiting() -> None:
    sys.stderr.write("nnsam: another process is fetching the SAM weights; waiting for it\n")


@contextmanager
def _bar(spec: CheckpointSpec, enabled: bool) -> Iterator[Callable[[int], None]]:
    """Shows a bar on standard error, where that is a terminal; yields what takes the number of bytes so far."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not (enabled and console.is_terminal):
        yield lambda done: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(spec.name, total=spec.size)
        yield lambda done: progress.update(task, completed=done)
