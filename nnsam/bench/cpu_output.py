"""Files of `nnsam bench cpu --out`."""

import json
from pathlib import Path
from typing import Any

from nnsam.bench.cpu_plot import plot_cpu
from nnsam.data.atomic import atomic_file

JSON_NAME, PNG_NAME = "cpu.json", "cpu.png"


def check_folder(folder: str | Path) -> None:
    """Makes the folder.

    Raises:
        InputError: it cannot be written to.
    """
    probe = Path(folder) / f".{JSON_NAME}.probe"
    with atomic_file(probe):
        pass
    probe.unlink()


def write_results(result: dict[str, Any], folder: str | Path) -> None:
    """Writes the figures as JSON and as a plot; old ones are replaced.

    Args:
        result: see `bench_cpu`.
        folder: made if absent.

    Raises:
        InputError: it cannot be written to.
    """
    with atomic_file(Path(folder) / JSON_NAME) as draft:
        draft.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot_cpu(result, Path(folder) / PNG_NAME)
