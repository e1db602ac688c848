"""A local HTTP server that serves one file, and can break off, stall, lie or refuse as a test scripts it."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from nnsam.weights import CheckpointSpec


def spec_of(content: bytes, *urls: str) -> CheckpointSpec:
    """Returns the specification under which a content passes for the official checkpoint."""
    return CheckpointSpec("mobile_sam.pt", len(content), hashlib.sha256(content).hexdigest(), urls)


@dataclass
class Reply:
    """How the server answers one request.

    Attributes:
        status: A status to answer with instead of the file.
        content: Other content than the server's.
        break_after: Close the connection after so many bytes of the body.
        stall_after: Stop sending, with the connection open, after so many bytes of the body.
        drip: Send one byte every 20 ms.
        ignore_range: Send the whole file whatever was asked.
        shift: Start so many bytes later than asked.
        announce_length: Send Content-Length.
        gate: Wait for this before the body.
        headers: Further headers.
    """

    status: int | None = None
    content: bytes | None = None
    break_after: int | None = None
    stall_after: int | None = None
    drip: bool = False
    ignore_range: bool = False
    shift: int = 0
    announce_length: bool = True
    gate: threading.Event | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What a client asked for and was sent."""

    path: str
    range: str | None
    sent: int = 0


class CheckpointServer(ThreadingHTTPServer):
    """Answers requests by `script`, one entry each, and plainly when the script is used up."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.script: list[Reply] = []
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mobile_sam.pt"

    def wait_for_requests(self, count: int, timeout: float = 20) -> None:
        end = time.monotonic() + timeout
        while len(self.requests) < count:
            assert time.monotonic() < end, f"{len(self.requests)} of {count} requests came"
            time.sleep(0.01)


class _Handler(BaseHTTPRequestHandler):
    server: CheckpointServer

    def do_GET(self):
        with self.server.lock:
            reply = self.server.script.pop(0) if self.server.script else Reply()
            request = Request(self.path, self.headers.get("Range"))
            self.server.requests.append(request)
        with suppress(ConnectionError):  # the client may leave early, as some tests want it to
            self._answer(reply, request)
        self.close_connection = True

    def _answer(self, reply: Reply, request: Request):
        if reply.status is not None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        content = self.server.content if reply.content is None else reply.content
        asked = re.fullmatch(r"bytes=(\d+)-", request.range or "")
        start = 0
        if asked and not reply.ignore_range:
            start = int(asked[1]) + reply.shift
            if start >= len(content):
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if reply.announce_length:
            self.send_header("Content-Length", str(len(content) - start))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.gate is not None:
            reply.gate.wait(30)
        self._send_body(reply, request, content[start:])

    def _send_body(self, reply: Reply, request: Request, body: bytes):
        step = 1 if reply.drip else 4096
        end = min(
            len(body), *(limit for limit in (reply.break_after, reply.stall_after, len(body)) if limit is not None)
        )
        while request.sent < end and not self.server.closing.is_set():
            piece = body[request.sent : min(request.sent + step, end)]
            request.sent += len(piece)  # before the client can have it, and look here
            self.wfile.write(piece)
            if reply.drip:
                time.sleep(0.02)
        if reply.stall_after is not None:
            self.wfile.flush()
            self.server.closing.wait(30)

    def log_message(self, *args):
        pass


@contextmanager
def serve(content: bytes) -> Iterator[CheckpointServer]:
    """Runs a server in a thread while the body runs."""
    server = CheckpointServer(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
