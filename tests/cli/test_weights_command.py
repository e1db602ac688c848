"""`nnsam weights`: output, exit codes, one sentence on standard error, Ctrl-C."""

import json
import signal
import subprocess
import sys
import time

import pytest
from helpers.checkpoint_server import Reply, serve, spec_of

from nnsam.cli.main import main
from nnsam.errors import WeightsError
from nnsam.weights import OFFICIAL

CONTENT = bytes(range(256)) * 100


@pytest.fixture(autouse=True)
def clean_network(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "nnsam_weights_url"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with serve(CONTENT) as running:
        yield running


@pytest.fixture
def stand_in(server, monkeypatch):
    """Lets the command take a small file for the official one."""
    spec = spec_of(CONTENT, server.url)
    monkeypatch.setattr("nnsam.cli.weights.OFFICIAL", spec)
    return spec


@pytest.fixture
def cached(tmp_path):
    return tmp_path / "nnsam_home" / "weights" / "mobile_sam.pt"


def sentence(capsys):
    """Returns what is on standard error, which has to be one line that names the command."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("nnsam weights: ")
    return lines[0]


@pytest.mark.parametrize("output", ["", "nnsam weights: a\nb\n", "Traceback\n"])
def test_sentence_helper_can_fail(capsys, output):
    sys.stderr.write(output)
    with pytest.raises(AssertionError):
        sentence(capsys)


@pytest.mark.parametrize("action", [[], ["status"], ["fetch"], ["import"], ["verify"]])
def test_help_has_an_example(action, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["weights", *action, "--help"])
    assert leaving.value.code == 0
    assert "Example: nnsam weights" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments", [[], ["download"], ["import"], ["fetch", "--timeout", "0"], ["fetch", "--timeout", "soon"]]
)
def test_wrong_usage(arguments):
    with pytest.raises(SystemExit) as leaving:
        main(["weights", *arguments])
    assert leaving.value.code == 2


def test_fetch_then_status(stand_in, server, cached, capsys):
    assert main(["weights", "status"]) == 0
    assert "none yet" in capsys.readouterr().out
    assert main(["weights", "fetch"]) == 0
    assert capsys.readouterr() == (f"{cached} holds the official checkpoint (SHA-256 checked)\n", "")
    assert cached.read_bytes() == CONTENT
    assert main(["weights", "status"]) == 0
    assert f"official checkpoint in the cache, {cached}" in capsys.readouterr().out
    assert main(["weights", "status", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["source"], report["path"], report["sha256_ok"]) == ("cache", str(cached), True)


def test_fetch_from_a_mirror_as_json(stand_in, server, cached, capsys):
    assert main(["weights", "fetch", "--mirror", server.url + "?mirror", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": str(cached),
        "size": len(CONTENT),
        "sha256": stand_in.sha256,
    }
    assert [request.path for request in server.requests] == ["/mobile_sam.pt?mirror"]


def test_fetch_that_fails(stand_in, server, cached, capsys):
    server.script = [Reply(content=CONTENT[::-1])]
    assert main(["weights", "fetch"]) == 1
    assert stand_in.sha256 in sentence(capsys)
    assert not cached.exists()


def test_fetch_offline(stand_in, server, monkeypatch, capsys):
    monkeypatch.setenv("NNSAM_OFFLINE", "1")
    assert main(["weights", "fetch"]) == 1
    assert "nnsam weights import FILE" in sentence(capsys)
    assert server.requests == []
    assert main(["weights", "status"]) == 0
    assert "forbidden by NNSAM_OFFLINE" in capsys.readouterr().out


def test_import(stand_in, cached, tmp_path, capsys):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(CONTENT)
    assert main(["weights", "import", str(copy)]) == 0
    assert cached.read_bytes() == CONTENT
    capsys.readouterr()
    copy.write_bytes(b"another")
    assert main(["weights", "import", str(copy)]) == 1
    assert "found 7 bytes, expected 25,600" in sentence(capsys)


def test_status_of_damaged_weights(stand_in, cached, capsys):
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"damaged")
    assert main(["weights", "status"]) == 1
    assert "is damaged" in sentence(capsys)
    assert main(["weights", "status", "--json"]) == 1
    assert "is damaged" in json.loads(capsys.readouterr().out)["problem"]


def test_status_of_random_and_custom_weights(stand_in, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NNSAM_WEIGHTS", "random")
    assert main(["weights", "status"]) == 0
    assert "random" in capsys.readouterr().out
    (tmp_path / "tuned.pt").write_bytes(b"tuned")
    monkeypatch.setenv("NNSAM_WEIGHTS", str(tmp_path / "tuned.pt"))
    assert main(["weights", "status"]) == 0
    assert "not the official checkpoint" in capsys.readouterr().out


@pytest.fixture
def loader(monkeypatch):
    """Replaces the strict check of keys and shapes, which has tests of its own; returns the paths that it got."""
    seen = []

    def load(path):
        seen.append(path)
        if path.read_bytes() != CONTENT:
            raise WeightsError("keys do not fit")

    monkeypatch.setattr("nnsam.networks.mobile_sam.load_encoder_state", load)
    return seen


def test_verify_the_cached_file(stand_in, cached, loader, capsys):
    assert main(["weights", "verify"]) == 1
    assert "nnsam weights fetch" in sentence(capsys)
    assert main(["weights", "fetch"]) == 0
    capsys.readouterr()
    assert main(["weights", "verify"]) == 0
    assert loader == [cached]
    output = capsys.readouterr().out
    assert "(the official checkpoint)" in output
    assert "keys and shapes fit" in output
    cached.write_bytes(b"damaged")
    assert main(["weights", "verify"]) == 1
    assert "is damaged" in sentence(capsys)


def test_verify_a_named_file(stand_in, loader, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other.pt"
    other.write_bytes(b"other")
    assert main(["weights", "verify", str(other)]) == 1
    assert "keys do not fit" in sentence(capsys)
    assert main(["weights", "verify", str(other), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["official"], report["fits"], report["problem"]) == (False, False, "keys do not fit")
    assert main(["weights", "verify", str(tmp_path / "absent.pt")]) == 1
    assert "absent.pt" in sentence(capsys)
    monkeypatch.setenv("NNSAM_WEIGHTS", "random")
    assert main(["weights", "verify"]) == 1
    assert "random" in sentence(capsys)


def test_verify_with_the_official_keys_and_shapes(shared, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    manifest = json.loads((shared / "fixtures" / "mobile_sam_manifest.json").read_text())["entries"]
    tensors = {
        name: torch.zeros(entry["shape"], dtype=getattr(torch, entry["dtype"])) for name, entry in manifest.items()
    }
    path = tmp_path / "zeros.pt"
    torch.save(tensors, path)
    assert main(["weights", "verify", str(path)]) == 0
    assert "(not the official checkpoint)" in capsys.readouterr().out
    del tensors["image_encoder.neck.0.weight"]
    torch.save({"model": tensors}, path)
    assert main(["weights", "verify", str(path)]) == 1
    assert "neck.0.weight" in sentence(capsys)


def test_interrupt_leaves_only_what_can_be_continued(cached, server, capsys):
    server.content = bytes(OFFICIAL.size)
    server.script = [Reply(stall_after=100_000)]
    command = [sys.executable, "-m", "nnsam", "weights", "fetch", "--mirror", server.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        part = cached.with_name("mobile_sam.pt.part")
        while not (part.is_file() and part.stat().st_size):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, error) == (130, "nnsam weights: interrupted\n")
    assert sorted(path.name for path in cached.parent.iterdir() if path.suffix != ".lock") == [part.name]
    assert 0 < part.stat().st_size <= 100_000
    assert main(["weights", "status"]) == 0
    assert f"unfinished:  {part.stat().st_size:,} of 40,728,226 bytes" in capsys.readouterr().out
