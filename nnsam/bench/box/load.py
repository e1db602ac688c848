"""Many boxes in one large image: seconds and peak memory, in a process of its own.

Run as `python -m nnsam.bench.box.load '{"boxes": 241, ...}'`; prints one JSON object.
"""

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.bench.box.cases import synthetic_case
from nnsam.bench.measuring import peak_memory_mb
from nnsam.bench.models import load_predictor
from nnsam.errors import SetupError

SIZE = (1920, 2560)
SIDES = (24, 160)  # of the boxes, in pixels


def measure_load(
    model: str | None = None, boxes: int = 241, few: int = 60, size: tuple[int, int] = SIZE, device: str = "cpu"
) -> dict[str, Any]:
    """Segments few and many boxes in a fresh process, label map included.

    Args:
        model: folder of a trained model, or a bundle; None: the full network with random weights.
        boxes: how many.
        few: fewer, for comparison.
        size: of the image, (H, W).
        device: "cpu", "cuda" or "mps"; of bundles "cpu" or "auto".

    Returns:
        boxes, few, size; seconds and few_seconds (network warm, image set); linearity: seconds / few_seconds relative
        to boxes / few, 1 where time is linear in boxes; peak_mb: of the whole process; None where the system does not
        tell.

    Raises:
        SetupError: the process failed.
    """
    arguments = {"model": model, "boxes": boxes, "few": few, "size": list(size), "device": device}
    command = [sys.executable, "-m", "nnsam.bench.box.load", json.dumps(arguments)]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        reason = finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"]
        raise SetupError(f"The process that segments {boxes} boxes failed: {reason[-1]}")
    return json.loads(finished.stdout.splitlines()[-1])


def random_boxes(count: int, size: tuple[int, int], seed: int = 0) -> NDArray[np.int64]:
    """Boxes in the users' convention, (count, 4), all inside an image of this size."""
    rng = np.random.default_rng(seed)
    low, high = (min(side, *size) for side in SIDES)
    sides = rng.integers(low, high, (count, 2), endpoint=True)
    corners = np.floor(rng.uniform(size=(count, 2)) * (np.array(size[::-1]) - sides + 1)).astype(np.int64)
    return np.concatenate([corners, corners + sides - 1], axis=1)


def _measure(arguments: dict[str, Any]) -> dict[str, Any]:
    size = (int(arguments["size"][0]), int(arguments["size"][1]))
    predictor = load_predictor(arguments["model"], arguments["device"])
    predictor.set_image(synthetic_case(size).image)
    boxes = random_boxes(arguments["boxes"], size)
    few = arguments["few"]
    predictor.predict(boxes[: predictor.batch_size]).label_map()  # the first call is slower
    seconds = []
    for chosen in (boxes[:few], boxes, boxes[:few]):  # the few before and after, should the machine get busier
        start = time.perf_counter()
        predictor.predict(chosen).label_map()
        seconds.append(time.perf_counter() - start)
    few_seconds = (seconds[0] + seconds[2]) / 2
    return {
        "boxes": len(boxes),
        "few": few,
        "size": list(size),
        "seconds": seconds[1],
        "few_seconds": few_seconds,
        "linearity": seconds[1] / few_seconds / (len(boxes) / few),
        "peak_mb": peak_memory_mb(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(json.loads(sys.argv[1]))) + "\n")
