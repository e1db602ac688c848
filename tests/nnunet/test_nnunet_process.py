"""nnU-Net's commands as child processes, with stand-ins for them."""

import os
import time

import pytest

from nnsam.errors import NnsamError
from nnsam.nnunet.commands import run_guarded

_MODULE = """
import multiprocessing, os, sys, time
def cores():
    print(os.cpu_count(), multiprocessing.cpu_count(), sys.argv[1:], os.environ.get("MINE"))
def fails():
    print("a line\\n")
    sys.exit("RuntimeError: no good")
def slow():
    print("Epoch 0")
    print("Training done.")
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def commands(tmp_path, monkeypatch):
    info = tmp_path / "site" / "stand_in-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "stand_in.py").write_text(_MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\n")
    names = ("cores", "fails", "slow")
    (info / "entry_points.txt").write_text("\n".join(["[console_scripts]", *(f"{n} = stand_in:{n}" for n in names)]))
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def test_arguments_variables_and_number_of_processors(tmp_path):
    log = tmp_path / "log.txt"
    run_guarded("cores", ["a", "b c"], environment={"MINE": "5"}, log=log, threads=3)
    assert log.read_text() == "$ cores a b c\n3 3 ['a', 'b c'] 5\n"


def test_all_processors(tmp_path):
    log = tmp_path / "log.txt"
    run_guarded("cores", [], environment={}, log=log)
    assert log.read_text().splitlines()[1].split()[0] == str(os.cpu_count())


def test_failure_ends_with_the_last_line(tmp_path):
    with pytest.raises(NnsamError, match=r"^fails failed \(exit code 1\): RuntimeError: no good; see log\.txt$"):
        run_guarded("fails", [], environment={}, log=tmp_path / "log.txt")


def test_unknown_command(tmp_path):
    with pytest.raises(NnsamError, match="nnUNetv2_dance is not installed"):
        run_guarded("nnUNetv2_dance", [], environment={}, log=tmp_path / "log.txt")


def test_stopped_after_a_text_of_its_own_output_only(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("Training done.\n")  # of an earlier attempt
    run_guarded("cores", [], environment={}, log=log, stop_after="Training done.")
    assert "[]" in log.read_text()
    start = time.monotonic()
    run_guarded("slow", [], environment={}, log=log, stop_after="Training done.")
    assert time.monotonic() - start < 60
