"""Fresh Python interpreter for one of nnU-Net's commands, unmodified, or a call: `python -m nnsam.nnunet.entry`.

Only :mod:`nnsam.nnunet.commands` starts it. Arguments: `--threads N COMMAND [ARGUMENTS]`, or `--answer FILE
MODULE:FUNCTION JSON`.
"""

import multiprocessing
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

from nnsam.nnunet.commands import NOT_FOUND, answer_call
from nnsam.support.concurrency import end_with_parent

# nnU-Net starts twelve processes that match file names, wherever it lists the cases of a raw data set.
_LISTING = "nnunetv2.utilities.utils"


def main() -> int:
    """Runs the command, or makes the call, and returns the exit code."""
    end_with_parent()
    kind, *arguments = sys.argv[1:]
    if kind == "--answer":
        fork_from_a_server()
        path, function, values = arguments
        answer_call(function, values, Path(path))
        return 0
    count, command, *sys.argv[1:] = arguments
    found = [point for point in entry_points(group="console_scripts") if point.name == command]
    if not found:
        return NOT_FOUND
    if int(count):
        # nnU-Net uses as many threads on the CPU as the machine has cores, whatever share of them a run is given; so
        # it is told another number of cores. (PYTHON_CPU_COUNT does this from Python 3.13 on.)
        os.cpu_count = lambda: int(count)
    if command != "nnUNetv2_train":  # whose workers share the memory of the data, and start before any other thread
        fork_from_a_server()
    sys.argv[0] = command
    return int(found[0].load()() or 0)


def fork_from_a_server() -> None:
    """Lets worker processes come from a process that never has threads: libraries start some when they are imported."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method("forkserver", force=True)
        multiprocessing.set_forkserver_preload([_LISTING])


if __name__ == "__main__":
    sys.exit(main())
