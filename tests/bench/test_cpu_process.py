import os
import sys

import pytest

from nnsam.bench.cpu.process import peak_of_process, run_cold, segment_command
from nnsam.errors import SetupError

WRITE = """
import os, pathlib, sys, time
held = b"x" * int(float(sys.argv[2]) * 2**20)
draft = pathlib.Path(sys.argv[1] + ".draft")
draft.write_text(os.environ.get("NNSAM_TEST", ""))
draft.rename(sys.argv[1])
time.sleep(float(sys.argv[3]))
"""


def write(output, megabytes=0.0, after=0.0):
    return [sys.executable, "-c", WRITE, str(output), str(megabytes), str(after)]


def test_time_ends_with_the_file_and_not_with_the_process(tmp_path):
    output = tmp_path / "mask.png"
    output.write_text("old")
    run = run_cold(write(output, after=0.5), output, {"NNSAM_TEST": "some"})
    assert output.read_text() == "some"
    assert 0 < run.seconds <= run.process_seconds - 0.4


def test_memory_is_the_process_own(tmp_path):
    held = bytearray(os.urandom(1000)) * 150_000  # this process has 150 MB; the child must not inherit them
    small = run_cold(write(tmp_path / "a", after=0.1), tmp_path / "a")
    if small.peak_mb is None:
        pytest.skip("this system does not tell")
    large = run_cold(write(tmp_path / "b", 120, after=0.1), tmp_path / "b")
    assert small.peak_mb < 100 < large.peak_mb < 200
    assert peak_of_process(os.getpid()) > 150
    assert len(held) == 150_000_000


def test_a_process_that_is_gone_has_no_peak():
    assert peak_of_process(2**22 + 1) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('nnsam segment: no such bundle')", "failed: nnsam segment: no such bundle"),
        ("pass", "exit code 0, no output"),
    ],
)
def test_a_failing_process_is_one_sentence(tmp_path, code, words):
    (tmp_path / "mask.png").write_text("an old one must not be taken for the new one")
    with pytest.raises(SetupError, match=words):
        run_cold([sys.executable, "-c", code], tmp_path / "mask.png")


def test_the_command_is_the_users(tmp_path):
    command = segment_command(tmp_path, tmp_path / "i.png", tmp_path / "b.json", tmp_path / "o.png", ["--x"])
    assert command[1:5] == ["-m", "nnsam", "segment", str(tmp_path)]
    assert command[-1] == "--x"
