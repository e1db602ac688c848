"""Drafts of killed processes, and folders that are replaced without a moment in which there is none."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.processes import raise_signal

from nnsam.errors import InputError
from nnsam.support import drafts
from nnsam.support.concurrency import Terminated, terminable
from nnsam.support.drafts import destination_name, draft_of, exchange, recover, remove_stale_drafts, temporary_folder
from nnsam.support.files import atomic_file, atomic_folder, replaced_folder

WRITES = """
import sys, time
from pathlib import Path
from nnsam.support.files import atomic_file, atomic_folder, replaced_folder
from nnsam.support.drafts import temporary_folder
kind, place = sys.argv[1:]
open_draft = {"file": atomic_file, "folder": atomic_folder, "replaced": replaced_folder}
with open_draft[kind](place) if kind != "temporary" else temporary_folder() as draft:
    if kind != "file":
        (draft / "patient.txt").write_text("half")
    print(draft, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer():
    """Starts a process that holds a draft open."""
    started = []

    def start(kind, place, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITES, kind, str(place)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(process)
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def kill(process):
    process.kill()
    process.wait()


@pytest.mark.parametrize("kind", ["file", "folder", "replaced"])
def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_writes_is_not(tmp_path, writer, kind):
    place = tmp_path / "result"
    if kind == "replaced":
        place.mkdir()
        (place / "old").write_text("")
    before = {path.name for path in tmp_path.iterdir()}
    living, draft = writer(kind, place)
    killed, _ = writer(kind, place)
    kill(killed)
    assert len(list(tmp_path.iterdir())) == len(before) + 2
    with atomic_file(tmp_path / "other.txt"):
        pass
    assert draft.exists()
    kill(living)
    drafts._tidied.clear()  # as in another process
    with atomic_file(tmp_path / "other.txt"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*before, "other.txt"}


def test_temporary_files_of_a_killed_process_are_removed_by_the_next_command(tmp_path, writer, monkeypatch):
    from nnsam.cli.main import main

    killed, folder = writer("temporary", "", TMPDIR=str(tmp_path))
    assert folder.parent == tmp_path
    kill(killed)
    assert (folder / "patient.txt").exists()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert main(["convert", "images", "none", "none", "-o", str(tmp_path / "Dataset001_A")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_is_private_and_goes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o77 == 0
    assert list(tmp_path.iterdir()) == []


def test_names_are_random_and_not_those_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in every container
    with draft_of(tmp_path / "a.png") as first, draft_of(tmp_path / "a.png") as second:
        assert first != second
        assert first.suffix == ".png"
        assert destination_name(first) == destination_name(second) == "a.png"
    assert list(tmp_path.iterdir()) == []


def test_a_name_as_long_as_names_can_be(tmp_path):
    name = "é" * 125 + ".png"
    with atomic_file(tmp_path / name) as draft:
        assert draft.suffix == ".png"
        draft.write_text("a")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_drafts_of_other_machines_stay_for_a_day_and_other_files_for_ever(tmp_path):
    (tmp_path / ".nnsam-000000-0123456789ab.a.png").touch()
    (tmp_path / ".nnsam-000000-0123456789ac.a.png").touch()
    (tmp_path / ".nnsam-000000-a.png").touch()
    old = time.time() - 2 * 24 * 3600
    for number in ("000000-0123456789ac.a.png", "000000-a.png"):
        os.utime(tmp_path / f".nnsam-{number}", (old, old))
    remove_stale_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".nnsam-000000-0123456789ab.a.png",
        ".nnsam-000000-a.png",
    }


def test_links_that_look_like_drafts_lead_nowhere(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a").touch()
    (tmp_path / f".nnsam-{drafts._MACHINE}-0123456789ab.a").symlink_to(tmp_path / "precious")
    remove_stale_drafts(tmp_path)
    assert (tmp_path / "precious" / "a").exists()


@pytest.fixture
def old(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "old").write_text("")
    return folder


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="swapping in one step")
def test_a_folder_is_replaced_in_one_step(old, monkeypatch):
    def moved(source, destination):
        assert Path(destination) != old
        assert Path(source) != old
        replace(source, destination)

    replace = os.replace
    monkeypatch.setattr(os, "replace", moved)
    with replaced_folder(old) as draft:
        (draft / "new").write_text("")
    assert [path.name for path in old.iterdir()] == ["new"]
    assert list(old.parent.iterdir()) == [old]


def test_swapping_says_where_it_cannot(tmp_path):
    assert not exchange(tmp_path / "none", tmp_path / "nothing")


def test_a_link_to_a_folder_stays_a_link(old, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(old)
    with replaced_folder(link) as draft:
        (draft / "new").write_text("")
    assert link.is_symlink()
    assert [path.name for path in old.iterdir()] == ["new"]


@pytest.mark.parametrize("has_new", [True, False])
def test_a_replacement_in_two_steps_that_was_killed_is_finished(tmp_path, has_new):
    holder = tmp_path / f".nnsam-{drafts._MACHINE}-0123456789ab.bundle"
    (holder / ".old").mkdir(parents=True)
    (holder / ".old" / "old").touch()
    if has_new:
        (holder / ".new").mkdir()
        (holder / ".new" / "new").touch()
    recover(tmp_path / "other")
    assert not (tmp_path / "bundle").exists()
    recover(tmp_path / "bundle")
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["new" if has_new else "old"]
    with atomic_file(tmp_path / "a"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"a", "bundle"}


def test_tidying_up_finishes_a_replacement_too(tmp_path):
    holder = tmp_path / f".nnsam-{drafts._MACHINE}-0123456789ab.bundle"
    (holder / ".old").mkdir(parents=True)
    remove_stale_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_is_found_between_the_two_steps(tmp_path):
    from helpers.bundles import write_automatic

    from nnsam.inference.bundle import Bundle, is_bundle

    holder = tmp_path / f".nnsam-{drafts._MACHINE}-0123456789ab.bundle"
    write_automatic(holder / ".new")
    (holder / ".old").mkdir()
    assert is_bundle(tmp_path / "bundle")
    Bundle.open(tmp_path / "bundle")


def test_what_is_written_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    events = []
    replace, sync = os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("sync"), sync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("name"), replace(*paths)))
    with atomic_file(tmp_path / "a") as draft:
        draft.write_text("a")
    assert events == ["sync", "name"]
    events.clear()
    with atomic_folder(tmp_path / "b", durable=True) as folder:
        (folder / "c").write_text("c")
    assert events == ["sync", "sync", "name"]


def test_a_disk_that_turns_out_full_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    def write():
        with atomic_file(tmp_path / "a") as draft:
            draft.write_text("a")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"a cannot be written \(No space left on device\): the disk is full"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        with draft_of(tmp_path / "file" / "a"):
            pass


TERMINATED = """
import os, sys, time
from nnsam.cli import evaluate
from nnsam.cli.main import main
from nnsam.support.files import atomic_file

def run(args):
    with atomic_file(sys.argv[1]) as draft:
        print("ready", flush=True)
        try:
            time.sleep(60)
        finally:
            os.kill(os.getpid(), 15)  # a second one does not disturb the tidying up
            time.sleep(0.1)

evaluate.run = run
sys.exit(main(["evaluate", "-p", "a", "-r", "b"]))
"""


def test_sigterm_is_handled_as_ctrl_c(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINATED, str(tmp_path / "a.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    assert errors == "nnsam evaluate: terminated\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["_lock", "_remove"])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_signal_between_making_and_removing_leaves_nothing(tmp_path, monkeypatch, step, is_folder):
    real, calls = getattr(drafts, step), []

    def signalled(draft):
        calls.append(draft)
        raise_signal(signal.SIGTERM)
        assert draft.exists()  # it waits for the end of the step
        return real(draft)

    monkeypatch.setattr(drafts, step, signalled)
    with pytest.raises(Terminated), terminable(), drafts.draft_of(tmp_path / "a", is_folder):
        pass
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []
