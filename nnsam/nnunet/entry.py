"""Child process in which one of nnU-Net's commands runs, unmodified: `python -m nnsam.nnunet.entry`.

Arguments: the number of processors that it may think there are (0: all), the command, the command's arguments.
nnU-Net uses as many threads on the CPU as the machine has cores, whatever share of them a run is given; so it is told
another number of cores. (PYTHON_CPU_COUNT does this from Python 3.13 on.)
"""

import os
import sys
from importlib.metadata import entry_points

from nnsam.support.concurrency import end_with_parent


def main() -> int:
    """Runs the command and returns its exit code."""
    count, command, *arguments = sys.argv[1:]
    found = [point for point in entry_points(group="console_scripts") if point.name == command]
    if not found:
        sys.stderr.write(f"{command} is not installed in this Python environment; install nnunetv2\n")
        return 1
    if int(count):
        os.cpu_count = lambda: int(count)
    end_with_parent()
    sys.argv = [command, *arguments]
    return int(found[0].load()() or 0)


if __name__ == "__main__":
    sys.exit(main())
