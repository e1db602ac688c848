"""Folders on Ray: with workers in this process, and with real ones that are killed."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles import write_automatic
from hypothesis import given
from hypothesis import strategies as st
from skimage.io import imread, imsave

from nnsam.errors import InputError, SetupError
from nnsam.inference.automatic.predictor import Predictor
from nnsam.inference.folders import ray_run
from nnsam.inference.folders import ray_run as ray_cluster
from nnsam.inference.folders.dispatch import WorkerLost
from nnsam.inference.folders.predict import RunOptions
from nnsam.inference.folders.ray_run import predict_on_ray
from nnsam.io.finding import find_cases

OPTIONS = RunOptions("f32", ("0",), mirror=False)
NAMES = [f"case{number}" for number in range(6)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray") / "bundle"
    write_automatic(folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in NAMES:
        imsave(folder / f"{name}_0000.png", rng.integers(0, 256, (40, 56), dtype=np.uint8), check_contrast=False)
    return folder


@pytest.fixture(scope="module")
def expected(bundle, images):
    """What one predictor in this process says."""
    predictor = Predictor.open(bundle, "f32", threads=1)
    masks = {case.name: predictor.predict_case(case.files, mirror=False).segmentation for case in cases_of(images)}
    assert len({mask.tobytes() for mask in masks.values()}) == len(NAMES)
    return masks


def cases_of(images):
    return find_cases(images, ".png", 1)


def check(output, expected):
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [*(f"{name}.png" for name in expected), "dataset.json", "nnsam_predict.json"]
    )
    for name, mask in expected.items():
        np.testing.assert_array_equal(imread(output / f"{name}.png"), mask.reshape(40, 56))
    record = json.loads((output / "nnsam_predict.json").read_text())
    assert sorted(record["cases"]) == sorted(expected)


class WorkersHere:
    """A cluster whose workers compute in this process; what they are given goes through pickle, as with Ray."""

    fail = frozenset()
    opened = 0

    def __init__(self, opener, threads, note):
        self.opener, self.threads = opener, threads

    def start(self):
        WorkersHere.opened += 1
        return (worker := object()), (None, lambda: setattr_of(worker, self.opener, self.threads))

    def submit(self, worker, case):
        return worker, lambda: run_on(worker, case)

    def wait(self, tasks):
        return tasks[0]

    def result(self, task):
        return pickle.loads(pickle.dumps(task[1]()))

    def stop(self, worker):
        COMPUTE.pop(id(worker), None)


COMPUTE = {}


def setattr_of(worker, opener, threads):
    COMPUTE[id(worker)] = pickle.loads(pickle.dumps(opener))(threads)


def run_on(worker, case):
    name = case[0].name
    if name in WorkersHere.fail:
        WorkersHere.fail = WorkersHere.fail - {name}
        raise WorkerLost("its worker was lost")
    return COMPUTE[id(worker)](pickle.loads(pickle.dumps(case)))


@pytest.fixture
def here(monkeypatch):
    @contextmanager
    def connected(address, workers):
        yield workers or 1, 1

    monkeypatch.setattr(ray_run, "connected", connected)
    monkeypatch.setattr(ray_run, "RayCluster", WorkersHere)
    monkeypatch.setattr(WorkersHere, "fail", frozenset())
    monkeypatch.setattr(WorkersHere, "opened", 0)
    return WorkersHere


def test_the_result_is_that_of_one_predictor(here, bundle, images, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    report = predict_on_ray(
        bundle, cases_of(images), "out", OPTIONS, workers=2, on_case=lambda outcome: seen.append(outcome.case)
    )
    check(tmp_path / "out", expected)
    assert here.opened == 2
    assert sorted(seen) == NAMES
    assert not report.failures
    assert {str(outcome.output) for outcome in report.outcomes} == {f"out/{name}.png" for name in NAMES}
    assert all(set(outcome.seconds) == {"read", "infer", "write"} for outcome in report.outcomes)


def test_cases_on_a_lost_worker_are_done_by_another(here, bundle, images, expected, tmp_path):
    here.fail = frozenset({"case1", "case4"})
    report = predict_on_ray(bundle, cases_of(images), tmp_path / "out", OPTIONS, workers=2)
    assert not report.failures
    check(tmp_path / "out", expected)


def test_an_unreadable_image_is_reported_and_the_rest_continued_later(here, bundle, images, expected, tmp_path):
    copies = tmp_path / "images"
    copies.mkdir()
    for path in images.iterdir():
        (copies / path.name).write_bytes(path.read_bytes()[: 60 if "case2" in path.name else None])
    report = predict_on_ray(bundle, cases_of(copies), tmp_path / "out", OPTIONS, workers=2)
    (failure,) = report.failures
    assert failure.case == "case2"
    assert "case2_0000.png" in failure.error
    assert not (tmp_path / "out" / "case2.png").exists()

    (copies / "case2_0000.png").write_bytes((images / "case2_0000.png").read_bytes())
    again = predict_on_ray(bundle, cases_of(copies), tmp_path / "out", OPTIONS, workers=2, resume=True)
    assert [outcome.case for outcome in again.outcomes if not outcome.skipped] == ["case2"]
    check(tmp_path / "out", expected)


def test_nothing_to_do_needs_no_cluster(here, bundle, images, tmp_path):
    predict_on_ray(bundle, cases_of(images), tmp_path, OPTIONS)
    before = here.opened
    report = predict_on_ray(bundle, cases_of(images), tmp_path, OPTIONS, resume=True)
    assert here.opened == before
    assert all(outcome.skipped for outcome in report.outcomes)


def test_drafts_of_killed_workers_are_removed_and_nothing_else(here, bundle, images, tmp_path):
    for name in (".123.case0.png", ".123.other.png", ".x.case1.png"):
        (tmp_path / name).touch()
    predict_on_ray(bundle, cases_of(images), tmp_path, OPTIONS)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".123.other.png", ".x.case1.png"]


def test_a_machine_that_does_not_see_the_files_is_named(bundle, tmp_path):
    digest = Predictor.open(bundle).bundle.digest
    for folder, output, what in ((tmp_path / "absent", tmp_path, "model"), (bundle, tmp_path / "absent", "output")):
        with pytest.raises(InputError, match=rf"does not find the {what}.*same file system"):
            ray_run._OpenModel(folder, digest, output, OPTIONS, 0)(1)
    with pytest.raises(InputError, match="finds another model"):
        ray_run._OpenModel(bundle, "0" * 64, tmp_path, OPTIONS, 0)(1)


def test_missing_ray_is_a_sentence(bundle, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match=r'pip install "nnsam\[ray\]"'):
        predict_on_ray(bundle, cases_of(images), tmp_path, OPTIONS)


def test_a_cluster_that_does_not_answer_is_a_sentence_within_seconds():
    pytest.importorskip("ray")
    with (
        pytest.raises(SetupError, match="no Ray cluster answers at 127"),
        ray_cluster.connected("127.0.0.1:9", 2),
    ):
        pass
    with (
        pytest.raises(SetupError, match=r"cannot be used at nonsense.*ray start --head"),
        ray_cluster.connected("nonsense", 2),
    ):
        pass


@given(st.lists(st.integers(0, 9), max_size=4), st.integers(1, 9))
def test_the_processors_are_shared_as_well_as_they_can_be(machines, workers):
    def fits(each):
        return sum(count // each for count in machines) >= workers

    if sum(machines) < workers:
        with pytest.raises(InputError, match="do not fit"):
            ray_cluster.processors_per_worker(machines, workers)
    else:
        found = ray_cluster.processors_per_worker(machines, workers)
        assert fits(found)
        assert not any(fits(more) for more in range(found + 1, 11))


class TroubleOnce:
    """Opens the real model; the first attempt at some cases ends badly."""

    def __init__(self, opener, folder):
        self.opener, self.folder = opener, folder

    def __call__(self, threads):
        compute = self.opener(threads)

        def with_trouble(task):
            name = task[0].name
            for case, trouble in (
                ("case1", lambda: os.kill(os.getpid(), signal.SIGKILL)),
                ("case3", lambda: 1 / 0),
            ):
                if name == case and not (self.folder / name).exists():
                    (self.folder / name).touch()
                    # As if it had been killed while it wrote.
                    (task[1].parent / f".{os.getpid()}.{task[1].name}").touch()
                    trouble()
            return compute(task)

        return with_trouble


@pytest.mark.slow
def test_real_workers_one_killed_and_one_case_failing_once(bundle, images, expected, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    # This module is not on the workers' path.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    trouble = tmp_path / "trouble"
    trouble.mkdir()

    class Cluster(ray_cluster.RayCluster):
        def __init__(self, opener, threads, note):
            super().__init__(TroubleOnce(opener, trouble), threads, note)

    monkeypatch.setattr(ray_run, "RayCluster", Cluster)
    out = tmp_path / "out"
    report = predict_on_ray(bundle, cases_of(images), out, OPTIONS, address="local", workers=2)
    assert sorted(path.name for path in trouble.iterdir()) == ["case1", "case3"]
    assert not report.failures
    check(out, expected)
    assert not ray.is_initialized()


INTERRUPTED = """
import sys, time
from pathlib import Path
import ray
from nnsam.runtime import ray_run, ray_cluster
from nnsam.inference.bundle import Bundle
from nnsam.io.finding import find_cases
from nnsam.inference.folders.predict import RunOptions

class Slow:
    def __init__(self, opener):
        self.opener = opener
    def __call__(self, threads):
        compute = self.opener(threads)
        def slow(task):
            if task[0].name != "case0":
                time.sleep(600)
            return compute(task)
        return slow

class Cluster(ray_cluster.RayCluster):
    def __init__(self, opener, threads, note):
        super().__init__(Slow(opener), threads, note)

ray_run.RayCluster = Cluster
bundle, images, out = sys.argv[1:]
try:
    ray_run.predict_on_ray(bundle, find_cases(images, ".png", 1), out, RunOptions("f32", ("0",), mirror=False),
                           address="local", workers=2, on_case=lambda outcome: print("ENDED", outcome.case, flush=True))
except KeyboardInterrupt:
    print("INTERRUPTED", ray.is_initialized(), flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(bundle, images, tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, bundle, images, out],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "ENDED case0\n"
        workers = descendants(process.pid)
        assert len(workers) > 2
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "INTERRUPTED False\n"
        assert process.wait(30) == 0
    finally:
        process.kill()
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))
    assert list(json.loads((out / "nnsam_predict.json").read_text())["cases"]) == ["case0"]
    assert sorted(path.name for path in out.iterdir()) == ["case0.png", "dataset.json", "nnsam_predict.json"]


@pytest.mark.slow
def test_a_cluster_that_was_joined_goes_on(bundle, images, expected, tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        predict_on_ray(bundle, cases_of(images), tmp_path / "out", OPTIONS)
        assert ray.is_initialized()
        assert ray.get(ray.put(1)) == 1
    finally:
        ray.shutdown()
    check(tmp_path / "out", expected)


def descendants(root):
    """Ids of all processes below one."""
    found, parents = [], {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    level = [root]
    while level := [pid for pid, parent in parents.items() if parent in level]:
        found += level
    return found


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
