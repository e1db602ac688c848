"""Child processes that do not outlive the one that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.fake_study import is_alive, wait_until
from helpers.processes import raise_signal

from nnsam.support.concurrency import Terminated, end, pass_on_ending, start_guarded, terminable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

# A guarded child with a child of its own that ignores SIGTERM.
_CHILD = """
import subprocess, sys, time
from pathlib import Path
from nnsam.support.concurrency import end_with_parent
end_with_parent()
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
grandchild = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
grandchild.stdout.readline()
Path(sys.argv[1]).write_text(str(grandchild.pid))
time.sleep(300)
"""

_PARENT = """
import sys, time
from nnsam.support.concurrency import start_guarded
process = start_guarded([sys.executable, "-c", sys.argv[1], sys.argv[2]], open(sys.argv[2] + ".log", "wb"))
open(sys.argv[2] + ".child", "w").write(str(process.pid))
time.sleep(300)
"""


def grandchild_of(path):
    assert wait_until(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def test_ended_with_all_its_processes(tmp_path):
    path = tmp_path / "pid"
    with open(tmp_path / "log", "wb") as log:
        process = start_guarded([sys.executable, "-c", _CHILD, str(path)], log)
        pid = grandchild_of(path)
        end(process)
    assert process.returncode is not None
    assert wait_until(lambda: not is_alive(pid))


def test_killed_parent(tmp_path):
    path = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, _CHILD, str(path)])
    pid = grandchild_of(path)
    child = int(Path(f"{path}.child").read_text())
    assert is_alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert wait_until(lambda: not is_alive(pid) and not is_alive(child))


def test_ending_what_has_ended(tmp_path):
    with open(tmp_path / "log", "wb") as log:
        process = start_guarded([sys.executable, "-c", "print('hello')"], log, {"A": "b"})
        process.wait()
        end(process)
    assert (tmp_path / "log").read_text() == "hello\n"
    assert process.returncode == 0


def test_variables_are_added(tmp_path):
    with open(tmp_path / "log", "wb") as log:
        code = "import os; print(os.environ['A'], 'PATH' in os.environ)"
        process = start_guarded([sys.executable, "-c", code], log, {"A": "b"})
        process.wait()
    assert (tmp_path / "log").read_text() == "b True\n"


def test_waiting_costs_no_time(tmp_path):
    """The watch blocks; it does not poll."""
    code = "import time; from nnsam.support.concurrency import end_with_parent; end_with_parent(); time.sleep(1); "
    code += "print(time.process_time())"
    with open(tmp_path / "log", "wb") as log:
        process = start_guarded([sys.executable, "-c", code], log)
        start = time.process_time()
        process.wait()
    assert time.process_time() - start < 0.5
    assert float((tmp_path / "log").read_text()) < 0.5


@pytest.fixture
def pythons_own_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def signalled_in_native_code(number):
    """As PyTorch and OpenVINO do with what their callbacks raise."""
    try:
        raise_signal(number)
    except KeyboardInterrupt as error:
        raise RuntimeError("unexpected pos 8731392 vs 8731288") from error


def three_cases(number, done):
    with terminable():
        for case in range(3):
            try:
                signalled_in_native_code(number)
            except Exception:
                pass_on_ending()
                done.append(case)


def fails_by_itself():
    with terminable():
        pass_on_ending()
        raise RuntimeError("by itself")


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_a_library_made_an_error_of_ends_the_work(pythons_own_ctrl_c, number, kind):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    done = []
    with pytest.raises(KeyboardInterrupt) as raised:
        three_cases(number, done)
    assert (raised.type, done) == (kind, [])
    with pytest.raises(KeyboardInterrupt) as raised, terminable():
        signalled_in_native_code(number)
    assert raised.type is kind
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    with pytest.raises(RuntimeError, match="by itself"):  # earlier signals are forgotten
        fails_by_itself()


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_where_python_ignores_what_is_raised_comes_again(pythons_own_ctrl_c, capsys, number, kind):
    class Leaving:
        def __del__(self):
            raise_signal(number)

    def works():
        with terminable():
            Leaving()
            give_up = time.monotonic() + 60
            while time.monotonic() < give_up:
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt) as raised:
        works()
    assert raised.type is kind
    assert capsys.readouterr().err == ""
