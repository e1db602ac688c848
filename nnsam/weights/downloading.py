"""Downloads one file of known length, and continues a broken-off transfer by HTTP Range.

Requests and urllib3 connect, follow redirects, use proxies, check certificates and ask again where a server is busy.
What they and pooch do not do is to continue a body: pooch throws away what has arrived when anything fails.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

import requests
import urllib3
from requests.adapters import HTTPAdapter

from nnsam import __version__
from nnsam.errors import WeightsError
from nnsam.weights.cache import CheckpointSpec, file_size, shown

MAX_FAILURES = 4  # attempts in a row that bring no progress worth the name
BACKOFF_S = 0.5  # doubled after each of them
CONNECT_TIMEOUT_S = 10.0  # a firewall that swallows packets should not cost the whole read timeout
MIN_BYTES_PER_S = 1024  # below this a server that drips bytes, and so never times out, counts as stalled
_CHUNK = 1 << 16
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class _Interrupted(Exception):
    """A transfer failed in a way that the next may not."""

    def __init__(self, reason: str, reached: bool = True):
        super().__init__(reason)
        self.reached = reached


def download(
    url: str, part: Path, spec: CheckpointSpec, timeout: float, advance: Callable[[int], None] = lambda done: None
) -> None:
    """Downloads, or continues, until a file has the length that is specified; its content may still be wrong.

    Args:
        url: Its address.
        part: Where the bytes are gathered; it stays when the transfer breaks off.
        spec: A body of another length is refused before it fills the disk.
        timeout: Seconds without data after which a server counts as stalled.
        advance: Called with the number of bytes that are there by now.

    Raises:
        WeightsError: The address does not deliver a file of this length.
        OSError: The part cannot be written; it is deleted, to give the space back.
    """
    failures, reached = 0, False
    with _session() as session:
        while (have := file_size(part)) < spec.size:
            try:
                _transfer(session, url, part, spec, timeout, advance)
            except _Interrupted as error:
                # A link that breaks every few per cent still gets there; one that drips a byte per attempt does not.
                progressed = file_size(part) - have > spec.size // 100
                failures = 1 if progressed else failures + 1
                reached = reached or error.reached
                if failures >= MAX_FAILURES or not reached:
                    raise WeightsError(f"{shown(url)}: {error}") from error
                time.sleep(BACKOFF_S * 2 ** (failures - 1))
            except OSError:
                part.unlink(missing_ok=True)
                raise


def _session() -> requests.Session:
    session = requests.Session()
    session.headers.update({"User-Agent": f"nnsam/{__version__}", "Accept-Encoding": "identity"})
    # Only for answers without a body worth having; whether a broken connection is tried again, `download` decides.
    retry = urllib3.Retry(
        total=None,
        connect=0,
        read=False,
        other=0,
        status=MAX_FAILURES - 1,
        status_forcelist=_BUSY,
        backoff_factor=BACKOFF_S,
        raise_on_status=False,
        respect_retry_after_header=False,  # a server may ask for hours
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _transfer(
    session: requests.Session,
    url: str,
    part: Path,
    spec: CheckpointSpec,
    timeout: float,
    advance: Callable[[int], None],
) -> None:
    """One request, and its body as far as it comes."""
    have = file_size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with _get(session, url, headers, timeout) as response:
            start = _start(response, have, part, spec)
            _receive(response, start, part, spec, timeout, advance)
    except requests.exceptions.SSLError as error:
        raise WeightsError(
            f"{shown(url)}: no trusted TLS connection (REQUESTS_CA_BUNDLE names a file with further certificates)"
        ) from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _interruption(error, part, spec, timeout) from error


def _get(session: requests.Session, url: str, headers: dict[str, str], timeout: float) -> requests.Response:
    try:
        return session.get(url, headers=headers, stream=True, timeout=(min(CONNECT_TIMEOUT_S, timeout), timeout))
    except ValueError as error:  # malformed in one of a dozen ways, each with its own exception
        raise WeightsError(f"{shown(url)}, or the proxy for it, is not a valid http or https address") from error
    except requests.exceptions.RequestException:
        raise
    except OSError as error:  # a file with certificates that is missing; not to be taken for a full disk
        raise WeightsError(f"{shown(url)}: {error}") from error


def _start(response: requests.Response, have: int, part: Path, spec: CheckpointSpec) -> int:
    """Reads status and headers; returns the position in the file at which the body starts."""
    status, headers, url = response.status_code, response.headers, shown(response.url)
    if status == 416:
        part.unlink(missing_ok=True)
        raise _Interrupted("the server cannot continue the file (HTTP 416)")
    if status not in (200, 206):
        raise WeightsError(f"{url}: the server answered HTTP {status} {response.reason}")
    if headers.get("Content-Type", "").startswith("text/html"):
        raise WeightsError(f"{url} answered with a web page (a log-in?) instead of the file")
    start, length = 0, headers.get("Content-Length", "")
    if status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != have:
            part.unlink(missing_ok=True)
            raise _Interrupted("the server continued the file at another place than asked")
        start, length = have, found[2]
    if length.isdecimal() and int(length) != spec.size:
        raise WeightsError(f"{url} has {int(length):,} bytes instead of {spec.size:,}: it is another file")
    return start


def _receive(
    response: requests.Response,
    start: int,
    part: Path,
    spec: CheckpointSpec,
    timeout: float,
    advance: Callable[[int], None],
) -> None:
    # read1 returns what has arrived; read (urllib3 1) waits for the whole chunk and so sees a slow server late.
    read = getattr(response.raw, "read1", response.raw.read)
    done = window_start = start
    window_end = time.monotonic() + timeout
    with part.open("ab" if start else "wb") as file:
        while data := read(_CHUNK):
            if done + len(data) > spec.size:
                break
            file.write(data)
            done += len(data)
            advance(done)
            if time.monotonic() > window_end:
                if done - window_start < MIN_BYTES_PER_S * timeout:
                    raise _Interrupted(f"the server sends less than {MIN_BYTES_PER_S} bytes a second")
                window_start, window_end = done, time.monotonic() + timeout
    if data:
        part.unlink()
        raise WeightsError(f"{shown(response.url)} sends more than {spec.size:,} bytes: it is another file")
    if done < spec.size:
        raise _broke_off(part, spec)


def _broke_off(part: Path, spec: CheckpointSpec) -> _Interrupted:
    return _Interrupted(f"the connection broke off after {file_size(part):,} of {spec.size:,} bytes")


def _interruption(error: Exception, part: Path, spec: CheckpointSpec, timeout: float) -> _Interrupted:
    if isinstance(error, requests.exceptions.ProxyError):
        return _Interrupted("the proxy server cannot be reached or refused", reached=False)
    if isinstance(error, requests.exceptions.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return _Interrupted(f"the server sent nothing for {timeout:g} seconds")
    # requests wraps what failed while connecting, and only that, in urllib3's MaxRetryError.
    if error.args and isinstance(error.args[0], urllib3.exceptions.MaxRetryError):
        return _Interrupted("the server cannot be reached", reached=False)
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return _Interrupted("the server redirects in circles")
    return _broke_off(part, spec)
