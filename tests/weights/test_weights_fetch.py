"""Downloads from a server that is well, breaks off, lies or stalls, into a cache that is well or not."""

import os
import time
from dataclasses import replace

import pytest
from helpers.checkpoint_server import Reply

from nnsam.errors import WeightsError
from nnsam.weights import cached_path, fetch


def ranges(server):
    return [request.range for request in server.requests]


def test_downloads_once(spec, server, content, folder, leftovers):
    path = fetch(spec)
    assert path == folder / "mobile_sam.pt" == cached_path(spec)
    assert path.read_bytes() == content
    assert leftovers() == ["mobile_sam.pt"]
    assert fetch(spec) == path
    assert len(server.requests) == 1
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask(), "others must be able to read a shared cache"


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_continues_where_the_connection_broke(spec, server, content, leftovers):
    server.script = [Reply(break_after=120_000)]
    assert fetch(spec).read_bytes() == content
    assert ranges(server) == [None, "bytes=120000-"]
    assert [request.sent for request in server.requests] == [120_000, 80_000]
    assert leftovers() == ["mobile_sam.pt"]


def test_continues_in_the_next_call(spec, server, content, leftovers):
    server.script = [Reply(break_after=120_000), *[Reply(break_after=0)] * 3]
    with pytest.raises(WeightsError, match=r"broke off after 120,000 of 200,000 bytes"):
        fetch(spec)
    assert leftovers() == ["mobile_sam.pt.part"]
    server.requests.clear()
    assert fetch(spec).read_bytes() == content
    assert [(request.range, request.sent) for request in server.requests] == [("bytes=120000-", 80_000)]


def test_many_breaks_with_progress_are_survived(spec, server, content):
    server.script = [Reply(break_after=10_000) for _ in range(15)]
    assert fetch(spec).read_bytes() == content
    assert len(server.requests) == 16


def test_breaks_without_progress_are_not_retried_for_ever(spec, server):
    server.script = [Reply(break_after=1) for _ in range(1000)]
    with pytest.raises(WeightsError, match="broke off"):
        fetch(spec)
    assert len(server.requests) == 4


def test_server_that_ignores_range_is_read_from_the_start(spec, server, content):
    server.script = [Reply(break_after=120_000), Reply(ignore_range=True)]
    assert fetch(spec).read_bytes() == content
    assert [request.sent for request in server.requests] == [120_000, 200_000]


def test_server_that_continues_elsewhere_is_read_from_the_start(spec, server, content):
    server.script = [Reply(break_after=120_000), Reply(shift=7)]
    assert fetch(spec).read_bytes() == content
    assert ranges(server) == [None, "bytes=120000-", None]


def test_range_not_satisfiable_starts_again(spec, server, content):
    server.script = [Reply(break_after=120_000), Reply(status=416)]
    assert fetch(spec).read_bytes() == content
    assert ranges(server) == [None, "bytes=120000-", None]


@pytest.mark.parametrize("length", [200_000, 300_000])
def test_stale_part_costs_one_fresh_start(spec, content, folder, length):
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt.part").write_bytes(bytes(length))
    assert fetch(spec).read_bytes() == content


def test_content_that_changed_between_parts(spec, server, content, folder, leftovers):
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt.part").write_bytes(content[:120_000])
    server.content = bytes(len(content))
    with pytest.raises(WeightsError, match=f"SHA-256 [0-9a-f]{{64}}, expected {spec.sha256}"):
        fetch(spec)
    assert ranges(server) == ["bytes=120000-", None]
    assert leftovers() == []


def test_wrong_content_of_the_right_size(spec, server, content, leftovers):
    server.script = [Reply(content=content[::-1])]
    with pytest.raises(WeightsError, match=spec.sha256):
        fetch(spec)
    assert len(server.requests) == 1
    assert leftovers() == []


@pytest.mark.parametrize("size", [100, 300_000])
def test_announced_length_is_wrong(spec, server, leftovers, size):
    server.script = [Reply(content=bytes(size))]
    with pytest.raises(WeightsError, match=f"{size:,} bytes instead of 200,000"):
        fetch(spec)
    assert leftovers() == []
    assert len(server.requests) == 1


def test_endless_body_is_cut_off(spec, server, leftovers):
    server.script = [Reply(content=bytes(50_000_000), announce_length=False)]
    with pytest.raises(WeightsError, match="more than 200,000 bytes"):
        fetch(spec)
    assert leftovers() == []
    assert server.requests[0].sent < 20_000_000


def test_total_length_in_a_continued_answer_is_wrong(spec, server, content, folder):
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt.part").write_bytes(content[:100])
    server.script = [Reply(content=bytes(300_000))]
    with pytest.raises(WeightsError, match="300,000 bytes instead of 200,000"):
        fetch(spec)


def test_web_page_instead_of_the_file(spec, server, leftovers):
    server.script = [Reply(content=b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})]
    with pytest.raises(WeightsError, match="web page"):
        fetch(spec)
    assert leftovers() == []


def test_stalled_server_times_out_and_is_continued(spec, server, content):
    server.script = [Reply(stall_after=50_000)]
    assert fetch(spec, timeout=0.2).read_bytes() == content
    assert [request.sent for request in server.requests] == [50_000, 150_000]


def test_server_that_stays_stalled(spec, server):
    server.script = [Reply(stall_after=0) for _ in range(4)]
    begin = time.monotonic()
    with pytest.raises(WeightsError, match=r"sent nothing for 0\.1 seconds"):
        fetch(spec, timeout=0.1)
    assert time.monotonic() - begin < 5, "the timeout given was not used"


def test_dripping_server_counts_as_stalled(spec, server):
    server.script = [Reply(drip=True) for _ in range(4)]
    with pytest.raises(WeightsError, match="less than 1024 bytes a second"):
        fetch(spec, timeout=0.2)


def test_refusal_is_final_but_overload_is_not(spec, server, content):
    server.script = [Reply(status=404)]
    with pytest.raises(WeightsError, match="HTTP 404 Not Found"):
        fetch(spec)
    assert len(server.requests) == 1
    server.script = [Reply(status=503), Reply(status=429)]
    assert fetch(spec).read_bytes() == content


def test_offline(spec, server, content, monkeypatch):
    monkeypatch.setenv("NNSAM_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"NNSAM_OFFLINE.*nnsam weights import FILE"):
        fetch(spec, mirror=server.url)
    assert server.requests == []
    monkeypatch.setenv("NNSAM_OFFLINE", "0")
    path = fetch(spec)
    monkeypatch.setenv("NNSAM_OFFLINE", "true")
    assert fetch(spec) == path


def test_damaged_cached_file_is_replaced(spec, content, folder):
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt").write_bytes(content[:-1] + b"?")
    assert fetch(spec).read_bytes() == content


def test_damaged_cached_file_stays_when_the_download_fails(spec, server, folder, leftovers):
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt").write_bytes(b"damaged")
    server.script = [Reply(status=404)]
    with pytest.raises(WeightsError, match="404"):
        fetch(spec)
    assert leftovers() == ["mobile_sam.pt"]


def test_cache_folder_that_is_a_file(spec, server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NNSAM_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot write to the cache folder .*NNSAM_HOME"):
        fetch(spec)
    assert server.requests == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes into read-only folders")
def test_read_only_cache_folder(spec, server, folder, leftovers):
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    with pytest.raises(WeightsError, match="cannot write to the cache folder"):
        fetch(spec)
    assert leftovers() == []
    assert server.requests == []


def test_disk_that_fills_up(spec, server, leftovers):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # writes beyond fail as on a full disk
    try:
        with pytest.raises(WeightsError, match="cannot write to the cache folder"):
            fetch(spec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert leftovers() == []
    assert len(server.requests) == 1


def test_the_hash_has_the_last_word(spec, server, content, monkeypatch, leftovers):
    """Whatever the downloader hands over, only the specified file gets the final name."""
    monkeypatch.setattr("nnsam.weights.downloading.download", lambda url, part, *rest: part.write_bytes(b"anything"))
    with pytest.raises(WeightsError, match=f"expected {spec.sha256}"):
        fetch(replace(spec, urls=(server.url,)))
    assert leftovers() == []
    assert server.requests == []


def test_overload_that_lasts_is_named(spec, server):
    server.script = [Reply(status=503) for _ in range(9)]
    with pytest.raises(WeightsError, match="HTTP 503 Service Unavailable"):
        fetch(spec)
    assert len(server.requests) == 4


def test_redirects_are_followed_but_not_in_circles(spec, server, content):
    server.script = [Reply(status=302, headers={"Location": "/elsewhere"})]
    assert fetch(spec).read_bytes() == content
    assert [request.path for request in server.requests] == ["/mobile_sam.pt", "/elsewhere"]
    fetch(spec).unlink()
    server.script = [Reply(status=302, headers={"Location": "/mobile_sam.pt"}) for _ in range(200)]
    with pytest.raises(WeightsError, match="redirects in circles"):
        fetch(spec)


def test_a_continued_download_survives_redirects(spec, server, content):
    server.script = [Reply(break_after=120_000), Reply(status=302, headers={"Location": "/elsewhere"})]
    assert fetch(spec).read_bytes() == content
    assert ranges(server) == [None, "bytes=120000-", "bytes=120000-"]
