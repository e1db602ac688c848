"""Which addresses are asked, and what is said when none of them answers."""

import socket

import pytest
from helpers.checkpoint_server import Reply, serve, spec_of

from nnsam.errors import WeightsError
from nnsam.weights import OFFICIAL, fetch


def test_official_specification():
    assert OFFICIAL.size == 40_728_226
    assert OFFICIAL.sha256 == "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
    assert all(url.startswith("https://github.com/ChaoningZhang/MobileSAM/raw/") for url in OFFICIAL.urls)


def test_nothing_listens(content, monkeypatch):
    monkeypatch.setattr("nnsam.weights.downloading.time.sleep", lambda seconds: pytest.fail("waited in vain"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/mobile_sam.pt"
        with pytest.raises(WeightsError, match=r"cannot be reached.*--mirror URL.*weights import FILE"):
            fetch(spec_of(content, url))


@pytest.mark.parametrize(
    "url", ["mobile_sam.pt", "ftp://127.0.0.1/x", "http:///x", "http://[", "http://user:secret@:x/"]
)
def test_address_that_is_none(content, url):
    with pytest.raises(WeightsError, match="not a valid http or https address") as error:
        fetch(spec_of(content), mirror=url)
    assert "secret" not in str(error.value)


def test_second_official_address_is_the_fallback(content, server):
    spec = spec_of(content, server.url + "?commit", server.url + "?branch")
    server.script = [Reply(status=404)]
    assert fetch(spec).read_bytes() == content
    assert [request.path for request in server.requests] == ["/mobile_sam.pt?commit", "/mobile_sam.pt?branch"]


def test_mirror_replaces_the_official_addresses(spec, server, content, monkeypatch):
    with serve(content) as mirror:
        mirror.script = [Reply(status=404)]
        with pytest.raises(WeightsError, match="404"):
            fetch(spec, mirror=mirror.url)
        monkeypatch.setenv("NNSAM_WEIGHTS_URL", mirror.url.removesuffix("mobile_sam.pt"))
        assert fetch(spec).read_bytes() == content
        assert [request.path for request in mirror.requests] == ["/mobile_sam.pt"] * 2
    assert server.requests == []


def test_given_mirror_wins_over_the_variable(spec, server, monkeypatch):
    monkeypatch.setenv("NNSAM_WEIGHTS_URL", "http://127.0.0.1:9/nothing-here")
    fetch(spec, mirror=server.url)
    assert len(server.requests) == 1


def test_passwords_are_not_shown(spec, server):
    server.script = [Reply(status=403)]
    secret = server.url.replace("http://", "http://user:secret@") + "?token=secret"
    with pytest.raises(WeightsError, match="HTTP 403") as error:
        fetch(spec, mirror=secret)
    assert "secret" not in str(error.value)


def test_proxy_variable_is_respected(content, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/mobile_sam.pt"))
    fetch(spec_of(content, "http://host.invalid/weights/mobile_sam.pt"))
    assert [request.path for request in server.requests] == ["http://host.invalid/weights/mobile_sam.pt"]


def test_missing_certificates_are_not_taken_for_a_full_disk(content, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(WeightsError, match=r"ca\.pem") as error:
        fetch(spec_of(content, "https://127.0.0.1:9/mobile_sam.pt"))
    assert "cannot write" not in str(error.value)
