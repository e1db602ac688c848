"""Processes with threads, in which forking is dangerous, and nnU-Net's checks in a process without.

As a script: `processes.py PLACE REPEATS SECONDS FOLDER` starts threads and then, so often, what makes nnU-Net start
processes; it ends with an error, and with the stack of every thread, when that takes longer than SECONDS.
"""

import ctypes
import faulthandler
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

LOCK = threading.Lock()


def accepted_by_nnunet(folder: Path) -> None:
    """Fails where nnU-Net's check of a raw data set does."""
    from nnsam.nnunet.commands import call_in_fresh_interpreter

    module = "nnunetv2.experiment_planning.verify_dataset_integrity"
    call_in_fresh_interpreter(f"{module}:verify_dataset_integrity", folder=str(folder), num_processes=1)


def raise_signal(number: int) -> None:
    """As `signal.raise_signal`, on this thread's own stack.

    Python's handlers run on an alternate stack where there is one, and libraries that other tests have loaded and
    unloaded in this process may have left one that is no longer there.
    """
    if sys.platform == "linux":

        class Stack(ctypes.Structure):
            _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

        disable = Stack(None, 2, 0)  # SS_DISABLE
        assert ctypes.CDLL(None).sigaltstack(ctypes.byref(disable), None) == 0
    signal.raise_signal(number)


def run_with_threads(place: str, folder: Path, repeats: int = 1, seconds: int = 300) -> tuple[int, str]:
    """Runs this file as a script, see there; returns its exit code and what it printed."""
    from nnsam.support.concurrency import end, start_guarded

    command = [sys.executable, "-W", "ignore", __file__, place, str(repeats), str(seconds), str(folder)]
    log = folder / "log_of_the_script.txt"
    with open(log, "wb") as file:
        # Their number must not be fixed at one, as in the tests: the threads of OpenMP are part of what is tried.
        process = start_guarded(command, file, {"OMP_NUM_THREADS": "2"})
        try:
            process.wait(seconds + 240)
        finally:
            end(process)  # with the processes that wait forever
    return process.returncode, log.read_text()


def write_fingerprint(raw: Path, preprocessed: Path, cases: int = 3) -> Path:
    """Puts nnU-Net's fingerprint of phantoms in place, whose extraction takes seconds; returns its folder."""
    folder = preprocessed / raw.name
    folder.mkdir(parents=True)
    intensities = {"max": 255.0, "mean": 100.0, "median": 100.0, "min": 0.0, "percentile_00_5": 0.0}
    content = {
        "spacings": [[999.0, 1.0, 1.0]] * cases,
        "shapes_after_crop": [[1, 64, 64]] * cases,
        "foreground_intensity_properties_per_channel": {"0": intensities | {"percentile_99_5": 255.0, "std": 50.0}},
        "median_relative_size_after_cropping": 1.0,
    }
    (folder / "dataset_fingerprint.json").write_text(json.dumps(content))
    return folder


class NeedsLock(str):
    """A name of a case that a process can only receive while it finds `LOCK` free."""

    __slots__ = ()

    def __reduce__(self):
        return receive, (str(self),)


def receive(name: str) -> str:
    with LOCK:
        return name


def start_threads() -> None:
    """OpenMP's pool, OpenVINO's, and threads that take locks; they work until the process ends."""
    import numpy as np
    import openvino
    import torch
    from openvino import opset13

    torch.set_num_threads(2)
    matrix = torch.rand(256, 256)
    data = opset13.parameter([1, 8, 64, 64], np.float32)
    weight = opset13.constant(np.ones((8, 8, 3, 3), np.float32))
    model = openvino.Model([opset13.convolution(data, weight, [1, 1], [1, 1], [1, 1], [1, 1])], [data])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 2})
    image = np.ones((1, 8, 64, 64), np.float32)

    def hold() -> None:
        while True:
            with LOCK:
                time.sleep(0.05)

    def compute() -> None:
        while True:
            matrix @ matrix
            compiled(image)
            time.sleep(0.05)  # the processors belong to what is tried

    for work in (hold, hold, compute):
        threading.Thread(target=work, daemon=True).start()
    while not LOCK.locked():
        time.sleep(0.01)


def list_cases(folder: Path) -> None:
    """As nnU-Net does wherever it looks at a raw data set: in processes of the usual start method."""
    from nnunetv2.utilities.utils import create_lists_from_splitted_dataset_folder

    create_lists_from_splitted_dataset_folder(str(folder), ".png", [NeedsLock("a")], num_processes=1)


def fork(folder: Path) -> None:
    multiprocessing.set_start_method("fork", force=True)
    list_cases(folder)


def fork_from_server(folder: Path) -> None:
    from nnsam.nnunet.entry import fork_from_a_server

    fork_from_a_server()
    list_cases(folder)


def plan_box(folder: Path) -> None:
    from nnsam.cli.main import main

    assert main(["plan-box", "-d", "7", "--model", "small"]) == 0


def plan_and_preprocess(folder: Path) -> None:
    from nnsam.nnunet.commands import run_nnunet

    arguments = ["-d", "7", "-c", "2d", "-np", "1", "-npfp", "1", "--verify_dataset_integrity"]
    run_nnunet("nnUNetv2_plan_and_preprocess", arguments, log=folder / "log.txt")


def bench(folder: Path) -> None:
    from nnsam.bench.train import bench_training

    bench_training(rounds=1, size=64, warmup=0)


PLACES = {function.__name__: function for function in (fork, fork_from_server, plan_box, plan_and_preprocess, bench)}


def run(place: str, repeats: str, seconds: str, folder: str) -> None:
    from nnsam.support.concurrency import end_with_parent

    end_with_parent()
    start_threads()
    faulthandler.dump_traceback_later(int(seconds), exit=True)
    for _ in range(int(repeats)):
        PLACES[place](Path(folder))
    faulthandler.cancel_dump_traceback_later()
    os._exit(0)  # the threads never end


if __name__ == "__main__":
    run(*sys.argv[1:])
