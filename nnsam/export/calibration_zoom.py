"""Patches of box models: what zoomed inference shows the network, around objects or random boxes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnsam.inference.plane import Plane
from nnsam.inference.request import Request
from nnsam.inference.spec import BoxModelSpec
from nnsam.inference.zoom import zoom_probabilities
from nnsam.prompts.components import MIN_PIXELS, components
from nnsam.prompts.jitter import BoxJitter

# Sides of random boxes, as shares of the picture's sides.
_SHARES = (0.1, 0.8)
_JITTER = BoxJitter()


def zoomed_patch(plane: Plane, box: NDArray[np.int64], spec: BoxModelSpec) -> NDArray[np.float32]:
    """Returns the network's input for one box, (1, C + P, h, w)."""
    recorder = _Recorder(spec)
    list(zoom_probabilities(recorder, [Request(plane, box)], batch_size=1))
    return recorder.seen[0]


def choose_boxes(
    objects: NDArray[np.int64], shape: Sequence[int], count: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Chooses boxes of a picture, in random order; further ones than there are objects are drawn less exactly.

    Args:
        objects: boxes of the objects, (N, 4); random boxes are drawn where there are none.
        shape: (H, W) of the picture.
        count: number of boxes.
        rng: chooses.
    """
    if not len(objects):
        return [random_box(shape, rng) for _ in range(count)]
    order = rng.permutation(len(objects))
    boxes = []
    for index in range(count):
        box = objects[order[index % len(order)]]
        boxes.append(box if index < len(order) else _JITTER(box, shape, rng).astype(np.int64))
    return boxes


def random_box(shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws a box of 10 to 80 % of the picture's height and width, wherever it fits; at least a pixel."""
    size = np.maximum(1, np.rint(rng.uniform(*_SHARES, size=2) * shape)).astype(np.int64)
    corner = rng.integers(0, np.asarray(shape) - size + 1)
    return np.concatenate([corner, corner + size])


def object_boxes(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the boxes of the objects of a label map (H, W), (N, 4): connected components of one value above 0.

    Specks are left out, as in training.
    """
    from scipy import ndimage

    boxes = []
    for value in np.unique(labels):
        if value <= 0:
            continue
        numbered, _ = components(labels == value)
        sizes = np.bincount(numbered.ravel())[1:]
        for (rows, columns), size in zip(ndimage.find_objects(numbered), sizes, strict=True):
            if size >= MIN_PIXELS:
                boxes.append([rows.start, columns.start, rows.stop, columns.stop])
    return np.array(boxes, dtype=np.int64).reshape(-1, 4)


class _Recorder:
    """A backend that keeps what it is given."""

    def __init__(self, spec: BoxModelSpec):
        self.spec, self.passes, self.seen = spec, 0, []  # type: BoxModelSpec, int, list[NDArray[np.float32]]

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        self.seen.append(patches.copy())
        return np.zeros((len(patches), *patches.shape[2:]), dtype=np.float32)
