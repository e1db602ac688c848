"""nnU-Net starts processes; where we let it, no thread of ours can make one of them wait forever."""

import multiprocessing
import os

import pytest
from helpers.processes import run_with_threads, write_fingerprint

from nnsam.datasets.phantom import write_phantom_dataset

can_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    monkeypatch.setenv("NNSAM_WEIGHTS", "random")
    write_phantom_dataset(tmp_path / "raw" / "Dataset007_Hearts", n_train=3, n_test=0, size=(64, 64))
    return tmp_path


@can_fork
@pytest.mark.slow
def test_a_process_that_is_forked_beside_threads_waits_forever(tmp_path):
    code, output = run_with_threads("fork", tmp_path, seconds=10)
    assert code == 1
    assert "Timeout" in output
    assert "list_cases" in output


@can_fork
def test_one_that_a_server_forks_does_not(tmp_path):
    code, output = run_with_threads("fork_from_server", tmp_path, repeats=10)
    assert code == 0, output


def test_planning_boxes_beside_threads(folder):
    write_fingerprint(folder / "raw" / "Dataset007_Hearts", folder / "preprocessed")
    code, output = run_with_threads("plan_box", folder)
    assert code == 0, output


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("place", "repeats", "fingerprint"),
    [("plan_box", 8, True), ("plan_box", 1, False), ("plan_and_preprocess", 2, False), ("bench", 1, False)],
)
def test_each_place_many_times_beside_threads(folder, place, repeats, fingerprint):
    if fingerprint:
        write_fingerprint(folder / "raw" / "Dataset007_Hearts", folder / "preprocessed")
    code, output = run_with_threads(place, folder, repeats, 1500)
    assert code == 0, output


@can_fork
def test_the_tests_themselves_do_not_fork():
    with pytest.raises(AssertionError, match="a test forks this process"):
        multiprocessing.get_context("fork").Process(target=os.getpid).start()
