"""A downloader for pooch that continues a broken-off transfer by HTTP Range.

Pooch writes into a temporary file that it deletes when anything fails; here the bytes go into a `.part` file that
stays, and only a complete one is handed over. Its content may still be wrong: pooch's hash check decides.
"""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import requests
import urllib3

from nnsam import __version__
from nnsam.errors import WeightsError
from nnsam.weights.cache import file_size, sha256_of
from nnsam.weights.fetching import download_bar
from nnsam.weights.spec import CheckpointSpec, shown

MAX_FAILURES = 4  # attempts in a row that bring no progress worth the name
BACKOFF_S = 0.5  # doubled after each of them
CONNECT_TIMEOUT_S = 10.0  # a firewall that swallows packets should not cost the whole read timeout
MIN_BYTES_PER_S = 1024  # below this a server that drips bytes, and so never times out, counts as stalled
_CHUNK = 1 << 16
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class InterruptedTransfer(Exception):
    """One attempt failed in a way that the next may not."""

    def __init__(self, reason: str, reached: bool = True):
        super().__init__(reason)
        self.reached = reached


class ResumingDownloader:
    """Callable as pooch expects: `downloader(url, output_file, pooch)`.

    Args:
        spec: The file that is expected; a body of another length is refused before it fills the disk.
        part: Where the bytes are gathered.
        timeout: Seconds without data after which a server counts as stalled.
        progress: Show a progress bar.

    Attributes:
        sha256: Hash of what was handed over last.
    """

    def __init__(self, spec: CheckpointSpec, part: Path, timeout: float, progress: bool):
        self.spec = spec
        self.part = part
        self.timeout = timeout
        self.progress = progress
        self.sha256 = ""

    def __call__(self, url: str, output_file: str, pooch: object = None) -> None:
        """Downloads, or continues, until the part is complete, and moves it to `output_file`.

        Raises:
            WeightsError: The address does not deliver a file of the expected length.
            OSError: The part cannot be written; it is deleted, to give the space back.
        """
        try:
            with download_bar(self.spec.name, self.spec.size, self.progress) as advance:
                self._gather(url, advance)
            self.sha256 = sha256_of(self.part)
            os.replace(self.part, output_file)
        except OSError:
            self.part.unlink(missing_ok=True)
            raise

    def _gather(self, url: str, advance: Callable[[int], None]) -> None:
        failures, reached = 0, False
        while (have := file_size(self.part)) < self.spec.size:
            try:
                self._attempt(url, have, advance)
            except InterruptedTransfer as error:
                # A link that breaks every few per cent still gets there; one that drips a byte per attempt does not.
                progressed = file_size(self.part) - have > self.spec.size // 100
                failures = 1 if progressed else failures + 1
                reached = reached or error.reached
                if failures >= MAX_FAILURES or not reached:
                    raise WeightsError(f"{shown(url)}: {error}") from error
                time.sleep(BACKOFF_S * 2 ** (failures - 1))

    def _attempt(self, url: str, have: int, advance: Callable[[int], None]) -> None:
        headers = {"User-Agent": f"nnsam/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            with self._request(url, headers) as response:
                self._receive(response, self._start(response, have), advance)
        except requests.exceptions.SSLError as error:
            raise WeightsError(
                f"{shown(url)}: no trusted TLS connection (REQUESTS_CA_BUNDLE names a file with further certificates)"
            ) from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._interruption(error) from error

    def _request(self, url: str, headers: dict[str, str]) -> requests.Response:
        timeout = (min(CONNECT_TIMEOUT_S, self.timeout), self.timeout)
        try:
            return requests.get(url, headers=headers, stream=True, timeout=timeout)
        except ValueError as error:  # malformed in one of a dozen ways, each with its own exception
            raise WeightsError(f"{shown(url)}, or the proxy for it, is not a valid http or https address") from error
        except requests.exceptions.RequestException:
            raise
        except OSError as error:  # a file with certificates that is missing; not to be taken for a full disk
            raise WeightsError(f"{shown(url)}: {error}") from error

    def _start(self, response: requests.Response, have: int) -> int:
        """Reads status and headers; returns the position in the file at which the body starts."""
        status, headers, url = response.status_code, response.headers, shown(response.url)
        if status in _TRANSIENT:
            raise InterruptedTransfer(f"the server answered HTTP {status} {response.reason}")
        if status == 416:
            self.part.unlink(missing_ok=True)
            raise InterruptedTransfer("the server cannot continue the file (HTTP 416)")
        if status not in (200, 206):
            raise WeightsError(f"{url}: the server answered HTTP {status} {response.reason}")
        if headers.get("Content-Type", "").startswith("text/html"):
            raise WeightsError(f"{url} answered with a web page (a log-in?) instead of the file")
        start = 0
        length = headers.get("Content-Length", "")
        if status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
            if found is None or int(found[1]) != have:
                self.part.unlink(missing_ok=True)
                raise InterruptedTransfer("the server continued the file at another place than asked")
            start, length = have, found[2]
        if length.isdecimal() and int(length) != self.spec.size:
            raise WeightsError(f"{url} has {int(length):,} bytes instead of {self.spec.size:,}: it is another file")
        return start

    def _receive(self, response: requests.Response, start: int, advance: Callable[[int], None]) -> None:
        # read1 returns what has arrived; read (urllib3 1) waits for the whole chunk and so sees a slow server late.
        read = getattr(response.raw, "read1", response.raw.read)
        done = window_start = start
        window_end = time.monotonic() + self.timeout
        with open(self.part, "ab" if start else "wb") as file:
            while data := read(_CHUNK):
                if done + len(data) > self.spec.size:
                    break
                file.write(data)
                done += len(data)
                advance(done)
                if time.monotonic() > window_end:
                    if done - window_start < MIN_BYTES_PER_S * self.timeout:
                        raise InterruptedTransfer(f"the server sends less than {MIN_BYTES_PER_S} bytes a second")
                    window_start, window_end = done, time.monotonic() + self.timeout
        if data:
            self.part.unlink()
            raise WeightsError(f"{shown(response.url)} sends more than {self.spec.size:,} bytes: it is another file")
        if done < self.spec.size:
            raise InterruptedTransfer(self._broke_off())

    def _broke_off(self) -> str:
        return f"the connection broke off after {file_size(self.part):,} of {self.spec.size:,} bytes"

    def _interruption(self, error: Exception) -> InterruptedTransfer:
        if isinstance(error, requests.exceptions.ProxyError):
            return InterruptedTransfer("the proxy server cannot be reached or refused", reached=False)
        if isinstance(error, requests.exceptions.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
            return InterruptedTransfer(f"the server sent nothing for {self.timeout:g} seconds")
        # requests wraps what failed while connecting, and only that, in urllib3's MaxRetryError.
        if error.args and isinstance(error.args[0], urllib3.exceptions.MaxRetryError):
            return InterruptedTransfer("the server cannot be reached", reached=False)
        if isinstance(error, requests.exceptions.TooManyRedirects):
            return InterruptedTransfer("the server redirects in circles")
        return InterruptedTransfer(self._broke_off())
