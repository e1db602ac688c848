"""Folders on Ray: with workers in this process, and with real ones that are killed."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles import write_automatic
from helpers.fake_ray import FakeRay
from skimage.io import imread, imsave

from nnsam.errors import InputError, SetupError
from nnsam.inference.automatic.predictor import Predictor
from nnsam.inference.folders import on_ray
from nnsam.inference.folders.on_ray import predict_on_ray
from nnsam.inference.folders.predict import RunOptions
from nnsam.io.finding import find_cases
from nnsam.support.ray_cluster import spread

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


@pytest.fixture
def here(monkeypatch):
    """Workers in this process; `here.opened` counts the models that they opened, `here.fail` names cases lost once."""
    ray = FakeRay(monkeypatch)
    ray.fail, ray.opened = set(), 0
    real = Predictor.open

    def lost(task):
        name = task[0].name
        found = name in ray.fail
        ray.fail.discard(name)
        return found

    def opened(*args, **options):
        ray.opened += 1
        return real(*args, **options)

    ray.lost = lost
    monkeypatch.setattr(on_ray, "connected", ray.connected)
    monkeypatch.setattr(Predictor, "open", opened)
    return ray


def test_the_result_is_that_of_one_predictor(here, bundle, images, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    report = predict_on_ray(
        bundle, cases_of(images), "out", OPTIONS, workers=2, on_case=lambda outcome: seen.append(outcome.case)
    )
    check(tmp_path / "out", expected)
    assert here.most == 2
    assert here.opened == 1  # the workers are this process
    assert here.options["num_cpus"] == 2
    assert sorted(seen) == NAMES
    assert not report.failures
    assert {str(outcome.output) for outcome in report.outcomes} == {f"out/{name}.png" for name in NAMES}
    assert all(set(outcome.seconds) == {"read", "infer", "write"} for outcome in report.outcomes)


def test_cases_on_a_lost_worker_are_done_by_another(here, bundle, images, expected, tmp_path):
    here.fail = {"case1", "case4"}
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
    for name in (*(f".nnsam-0a0a0a-0123456789ab.{name}.png" for name in ("case0", "other")), ".x.case1.png"):
        (tmp_path / name).touch()
    predict_on_ray(bundle, cases_of(images), tmp_path, OPTIONS)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [
        ".nnsam-0a0a0a-0123456789ab.other.png",
        ".x.case1.png",
    ]


def worker_of(folder, digest, output, voxels=2**31):
    """As a worker gets it: through pickle."""
    return pickle.loads(pickle.dumps(on_ray._Worker(folder, digest, output, OPTIONS, 1, voxels)))


def test_workers_know_how_large_images_may_be(bundle, images, tmp_path, monkeypatch):
    monkeypatch.delenv("NNSAM_MAX_VOXELS", raising=False)
    digest, task = Predictor.open(bundle).bundle.digest, (cases_of(images)[0], tmp_path / "case0.png")
    assert "more than the limit of 10" in worker_of(bundle, digest, tmp_path, 10)(task).error
    assert not worker_of(bundle, digest, tmp_path)(task).error


def test_a_machine_that_does_not_see_the_files_is_named(bundle, images, tmp_path):
    digest = Predictor.open(bundle).bundle.digest
    task = cases_of(images)[0], tmp_path / "case0.png"
    for folder, output, what in ((tmp_path / "absent", tmp_path, "model"), (bundle, tmp_path / "absent", "output")):
        error = worker_of(folder, digest, output)(task)
        assert isinstance(error, InputError)
        assert re.search(rf"does not find the {what}.*same file system", str(error))
    error = worker_of(bundle, "0" * 64, tmp_path)(task)
    assert "finds another model" in str(error)


def test_a_worker_that_cannot_open_the_model_ends_the_run(here, bundle, images, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise SetupError("OpenVINO is too old here")

    monkeypatch.setattr(Predictor, "open", refuse)
    with pytest.raises(SetupError, match="too old here"):
        predict_on_ray(bundle, cases_of(images), tmp_path, OPTIONS)
    assert len(here.attempts) == 1


def test_a_case_whose_workers_are_always_lost_fails_and_the_others_are_done(here, bundle, images, tmp_path):
    here.lost = lambda task: task[0].name == "case2"
    report = predict_on_ray(bundle, cases_of(images), tmp_path, OPTIONS, workers=2)
    assert [(failure.case, failure.error) for failure in report.failures] == [
        (
            "case2",
            "case2: failed 3 times; the last time: its worker was lost (killed, out of memory, or its machine is gone)",
        )
    ]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"{name}.png" for name in NAMES if name != "case2"]


def test_a_case_that_always_raises_fails_with_the_first_line(here, bundle, images, tmp_path, monkeypatch):
    real = on_ray.predict_one

    def predict(predictor, case, *rest):
        if case.name == "case1":
            raise RuntimeError("out of luck\nand more lines")
        return real(predictor, case, *rest)

    monkeypatch.setattr(on_ray, "predict_one", predict)
    (failure,) = predict_on_ray(bundle, cases_of(images), tmp_path, OPTIONS).failures
    assert failure.error == "case1: failed 3 times; the last time: RuntimeError: out of luck"


def test_waiting_for_processors_is_said_once(here, bundle, images, tmp_path, monkeypatch):
    real, ticks, notes = here.wait, iter(range(3)), []
    monkeypatch.setattr(here, "available_resources", lambda: {"CPU": 1.0}, raising=False)
    monkeypatch.setattr(on_ray, "_PATIENCE_SECONDS", 0.0)

    def wait(tasks, num_returns, timeout):
        return ([], tasks) if next(ticks, None) is not None else real(tasks, num_returns, timeout)

    monkeypatch.setattr(here, "wait", wait)
    predict_on_ray(bundle, cases_of(images), tmp_path, OPTIONS, note=notes.append)
    assert notes == ["waiting; the Ray cluster may have no 2 free processors for a worker"]


def test_missing_ray_is_a_sentence(bundle, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match="Ray is not installed; run: pip install ray"):
        predict_on_ray(bundle, cases_of(images), tmp_path, OPTIONS)


class TroubleOnce:
    """A real worker; the first attempt at some cases ends badly."""

    def __init__(self, worker, folder):
        self.worker, self.folder = worker, folder

    def __call__(self, task):
        name = task[0].name
        for case, trouble in (
            ("case1", lambda: os.kill(os.getpid(), signal.SIGKILL)),
            ("case3", lambda: 1 / 0),
        ):
            if name == case and not (self.folder / name).exists():
                (self.folder / name).touch()
                # As if it had been killed while it wrote.
                (task[1].parent / f".nnsam-0a0a0a-000000{os.getpid() % 10**6:06}.{task[1].name}").touch()
                trouble()
        return self.worker(task)


@pytest.mark.slow
def test_real_workers_one_killed_and_one_case_failing_once(bundle, images, expected, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    # This module is not on the workers' path.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    trouble = tmp_path / "trouble"
    trouble.mkdir()

    def spread_with_trouble(worker, *args, **options):
        return spread(TroubleOnce(worker, trouble), *args, **options)

    monkeypatch.setattr(on_ray, "spread", spread_with_trouble)
    out = tmp_path / "out"
    report = predict_on_ray(bundle, cases_of(images), out, OPTIONS, address="local", workers=2)
    assert sorted(path.name for path in trouble.iterdir()) == ["case1", "case3"]
    assert not report.failures
    check(out, expected)
    assert not ray.is_initialized()


INTERRUPTED = """
import sys, time
import ray
from nnsam.inference.folders import on_ray
from nnsam.inference.folders.predict import RunOptions
from nnsam.io.finding import find_cases

class Slow:
    def __init__(self, worker):
        self.worker = worker
    def __call__(self, task):
        if task[0].name != "case0":
            time.sleep(600)
        return self.worker(task)

real = on_ray.spread
on_ray.spread = lambda worker, *args, **options: real(Slow(worker), *args, **options)
bundle, images, out = sys.argv[1:]
try:
    on_ray.predict_on_ray(bundle, find_cases(images, ".png", 1), out, RunOptions("f32", ("0",), mirror=False),
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
