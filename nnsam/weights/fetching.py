"""Fetches the checkpoint into the cache: pooch checks the hash, a lock keeps processes apart, a `.part` resumes."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nnsam.errors import WeightsError
from nnsam.support import environment
from nnsam.weights.cache import cached_path, is_intact, locked, part_path
from nnsam.weights.spec import OFFICIAL, CheckpointSpec, addresses, shown

if TYPE_CHECKING:
    from nnsam.weights.resuming import ResumingDownloader

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
    from nnsam.weights.resuming import ResumingDownloader

    problems = []
    downloader = ResumingDownloader(spec, part_path(spec), timeout, progress)
    for url in urls:
        try:
            return _retrieve(spec, url, downloader)
        except WeightsError as error:
            problems.append(str(error))
    raise WeightsError(
        f"could not fetch {spec.name} ({'; '.join(problems)}): give the address of a copy with --mirror URL or "
        f"{environment.MIRROR}, or import a copy with `nnsam weights import FILE`"
    )


def _retrieve(spec: CheckpointSpec, url: str, downloader: "ResumingDownloader") -> Path:
    import pooch

    path = cached_path(spec)
    # One fresh start when bytes of an earlier call were used: they, not the server, may be what is wrong.
    for _ in range(2 if downloader.part.exists() else 1):
        try:
            with _quiet_pooch():
                # Not the final name: pooch moves with shutil.move, which is not atomic on every platform.
                name = spec.name + ".verified"
                return Path(pooch.retrieve(url, f"sha256:{spec.sha256}", name, path.parent, downloader=downloader))
        except ValueError as error:  # pooch's word for a wrong hash; it has deleted the file
            mismatch = error
    raise WeightsError(
        f"{shown(url)} delivers a file with SHA-256 {downloader.sha256}, expected {spec.sha256}"
    ) from mismatch


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Silences pooch's chatter during one call; its logger is shared with other users of pooch in the process."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _tell_of_waiting() -> None:
    sys.stderr.write("nnsam: another process is fetching the SAM weights; waiting for it\n")


@contextmanager
def download_bar(name: str, total: int, enabled: bool) -> Iterator[Callable[[int], None]]:
    """Shows a bar while the body runs.

    Args:
        name: What is being downloaded.
        total: Its length in bytes.
        enabled: False shows nothing; nor is anything shown where standard error is not a terminal.

    Yields:
        A function that takes the number of bytes that are there by now.
    """
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
        task = progress.add_task(name, total=total)
        yield lambda done: progress.update(task, completed=done)
