"""Two processes that fetch at once: one downloads, the other waits and finds the file."""

import subprocess
import sys
import threading
import time

from helpers.checkpoint_server import Reply

PROGRAM = """
import sys
from nnsam.weights import CheckpointSpec, fetch
name, size, sha256, url = sys.argv[1:]
print(fetch(CheckpointSpec(name, int(size), sha256, (url,))))
"""


def test_second_process_waits(spec, server, content, folder, leftovers, tmp_path):
    gate = threading.Event()
    server.script = [Reply(gate=gate)]
    command = [sys.executable, "-c", PROGRAM, spec.name, str(spec.size), spec.sha256, server.url]
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    processes = []
    try:
        for log in logs:
            with log.open("w") as errors:
                processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True))
        server.wait_for_requests(1)
        # The one that has not got the lock says so; only then may the other go on.
        end = time.monotonic() + 20
        while not any("another process" in log.read_text() for log in logs):
            assert time.monotonic() < end, [log.read_text() for log in logs]
            time.sleep(0.02)
        assert not (folder / "mobile_sam.pt").exists()
        gate.set()
        outputs = [process.communicate(timeout=20)[0].strip() for process in processes]
    finally:
        gate.set()
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs == [str(folder / "mobile_sam.pt")] * 2
    assert len(server.requests) == 1
    assert (folder / "mobile_sam.pt").read_bytes() == content
    assert leftovers() == ["mobile_sam.pt"]
