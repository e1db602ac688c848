"""A small stand-in for the checkpoint, a server for it, and an environment without proxies."""

import random

import pytest
from helpers.checkpoint_server import serve, spec_of


@pytest.fixture(autouse=True)
def clean_network(monkeypatch):
    """No proxy or mirror of the user's gets between the tests and the local server; retries follow at once."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "nnsam_weights_url"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("nnsam.weights.downloading.BACKOFF_S", 0.001)


@pytest.fixture(scope="session")
def content() -> bytes:
    return random.Random(1).randbytes(200_000)


@pytest.fixture
def server(content):
    with serve(content) as running:
        yield running


@pytest.fixture
def spec(content, server):
    """The stand-in, whose only official address is the local server."""
    return spec_of(content, server.url)


@pytest.fixture
def folder(tmp_path):
    """Where the cached checkpoint and its companions lie."""
    return tmp_path / "nnsam_home" / "weights"


@pytest.fixture
def leftovers(folder):
    """Returns what lies in the cache besides the lock, by name."""

    def names() -> list[str]:
        return sorted(path.name for path in folder.glob("*") if path.suffix != ".lock") if folder.is_dir() else []

    return names
