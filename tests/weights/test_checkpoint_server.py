"""The test server itself: what the other tests conclude rests on it doing what its script says."""

import threading

import pytest
import requests
from helpers.checkpoint_server import Reply


def get(server, **headers):
    return requests.get(server.url, headers=headers, timeout=5)


def test_sends_the_whole_file_and_logs_it(server, content):
    assert get(server).content == content
    assert [(request.range, request.sent) for request in server.requests] == [(None, len(content))]


def test_range_sends_the_rest_only(server, content):
    answer = get(server, Range="bytes=150000-")
    assert (answer.status_code, answer.content) == (206, content[150_000:])
    assert answer.headers["Content-Range"] == f"bytes 150000-{len(content) - 1}/{len(content)}"
    assert server.requests[0].sent == len(content) - 150_000
    assert get(server, Range=f"bytes={len(content)}-").status_code == 416


def test_ignores_range(server, content):
    server.script = [Reply(ignore_range=True)]
    answer = get(server, Range="bytes=150000-")
    assert (answer.status_code, answer.content) == (200, content)


def test_breaks_off_once(server, content):
    server.script = [Reply(break_after=1000)]
    with pytest.raises(requests.exceptions.RequestException):
        get(server)
    assert server.requests[0].sent == 1000
    assert get(server).content == content


def test_stalls(server):
    server.script = [Reply(stall_after=1000)]
    with pytest.raises(requests.exceptions.ConnectionError, match="timed out"):
        requests.get(server.url, timeout=0.2)


def test_error_other_content_and_missing_length(server):
    server.script = [Reply(status=404), Reply(content=b"lie"), Reply(content=b"lie", announce_length=False)]
    assert get(server).status_code == 404
    assert get(server).headers["Content-Length"] == "3"
    answer = get(server)
    assert (answer.content, "Content-Length" in answer.headers) == (b"lie", False)


def test_gate_holds_the_body_back(server, content):
    gate = threading.Event()
    server.script = [Reply(gate=gate)]
    answers = []
    client = threading.Thread(target=lambda: answers.append(get(server).content))
    client.start()
    server.wait_for_requests(1)
    assert (server.requests[0].sent, answers) == (0, [])
    gate.set()
    client.join()
    assert answers == [content]


def test_waiting_for_requests_that_never_come_fails(server):
    with pytest.raises(AssertionError, match="0 of 1"):
        server.wait_for_requests(1, timeout=0.05)
