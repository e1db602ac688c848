"""nnU-Net's commands and planning as child processes, with stand-ins for the commands."""

import os
import time

import pytest

from nnsam.errors import InputError, NnsamError, SetupError
from nnsam.nnunet.commands import call_in_fresh_interpreter, run_nnunet

_MODULE = """
import multiprocessing, os, sys, threading, time
from nnsam.errors import InputError
def cores():
    print(os.cpu_count(), multiprocessing.cpu_count(), sys.argv[1:], os.environ.get("MINE"))
def fails():
    print("a line\\n")
    sys.exit("RuntimeError: no good")
def slow():
    print("Epoch 0")
    print("Training done.")
    time.sleep(100)
def add(first, second):
    print("adding")
    return {"sum": first + second, "method": multiprocessing.get_start_method(), "pid": os.getpid()}
def refuse(name):
    raise InputError(f"{name} is no number")
def crash():
    raise ZeroDivisionError
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


def test_output_of_a_real_command_goes_to_the_log(tmp_path):
    run_nnunet("nnUNetv2_train", ["--help"], log=tmp_path / "logs" / "log.txt")
    text = (tmp_path / "logs" / "log.txt").read_text()
    assert text.startswith("$ nnUNetv2_train --help\n")
    assert "usage: nnUNetv2_train" in text


def test_arguments_variables_and_number_of_processors(tmp_path):
    log = tmp_path / "log.txt"
    run_nnunet("cores", ["a", "b c", tmp_path], environment={"MINE": "5"}, log=log, threads=3)
    assert log.read_text() == f"$ cores a b c {tmp_path}\n3 3 ['a', 'b c', '{tmp_path}'] 5\n"


def test_all_processors(tmp_path):
    log = tmp_path / "log.txt"
    run_nnunet("cores", log=log)
    assert log.read_text().splitlines()[1].split()[0] == str(os.cpu_count())


def test_failure_ends_with_the_last_line(tmp_path):
    with pytest.raises(NnsamError, match=r"^fails failed \(exit code 1\): RuntimeError: no good; see log\.txt$"):
        run_nnunet("fails", log=tmp_path / "log.txt")


def test_an_unknown_command_is_refused(tmp_path):
    with pytest.raises(SetupError, match="nnUNetv2_dance is not installed"):
        run_nnunet("nnUNetv2_dance", log=tmp_path / "log.txt")


def test_stopped_after_a_text_of_its_own_output_only(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("Training done.\n")  # of an earlier attempt
    run_nnunet("cores", log=log, stop_after="Training done.")
    assert "[]" in log.read_text()
    start = time.monotonic()
    run_nnunet("slow", log=log, stop_after="Training done.")
    assert time.monotonic() - start < 60


def test_a_call_returns_its_result_from_another_process(capfd):
    result = call_in_fresh_interpreter("stand_in:add", first=2, second=3)
    assert result["sum"] == 5
    assert result["pid"] != os.getpid()
    assert result["method"] in ("forkserver", "spawn")
    assert capfd.readouterr() == ("", "adding\n")


def test_a_call_raises_our_errors_here_too():
    with pytest.raises(InputError, match=r"^seven is no number$"):
        call_in_fresh_interpreter("stand_in:refuse", name="seven")


def test_a_call_that_crashes_is_told(capfd):
    with pytest.raises(NnsamError, match=r"^crash failed \(exit code 1\); see the lines above$"):
        call_in_fresh_interpreter("stand_in:crash")
    assert "ZeroDivisionError" in capfd.readouterr().err
