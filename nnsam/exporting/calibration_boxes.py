"""Calibration of box models on users' images: pictures, volumes, the challenge's npz files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnsam.geometry.boxes import permute
from nnsam.inference.box.image import PreparedImage
from nnsam.inference.box.zoom import zoomed_patch
from nnsam.io.finding import InputFile, find_images
from nnsam.io.image import Image
from nnsam.io.npz import load_arrays
from nnsam.io.reading import read_image
from nnsam.prompts.box_model import BoxModelSpec
from nnsam.prompts.convention import check_boxes
from nnsam.prompts.sampling import MIN_PIXELS, BoxJitter, components

# Sides of random boxes, as shares of the picture's sides.
_SHARES = (0.1, 0.8)
_JITTER = BoxJitter()


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


@dataclass(frozen=True)
class BoxImageCase:
    """One image file, with the boxes of its objects as far as they are known.

    Objects come from the label map of the same name in the folder labelsTr beside imagesTr (labelsTs beside imagesTs,
    and so on), from `boxes` or else `inst` or `gts` of an npz file.

    Attributes:
        file: the image.
        spec: the model.
    """

    file: InputFile
    spec: BoxModelSpec

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.file.case

    def patches(self, count: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """See :class:`nnsam.exporting.calibration.CalibrationCase`; of volumes, slices with objects."""
        image = self.file.read()
        boxes = self._boxes(image)
        labels = None if boxes is not None else self._labels(image)
        prepared = PreparedImage(image.pixels, self.spec, image.spacing, image.dimensions)
        boxes = None if boxes is None else permute(boxes, prepared.order)
        labels = None if labels is None else labels.transpose(prepared.order)
        slices = _slices(image.shape[prepared.order[0]] if image.dimensions == 3 else None, boxes, labels)
        chosen = [int(slices[index % len(slices)]) for index in _spread(len(slices), count, rng)]
        found = []
        for index in sorted(set(chosen)):
            plane = prepared.plane(index)
            objects = _objects(index, boxes, labels)
            for box in choose_boxes(objects, plane.shape, chosen.count(index), rng):
                found.append(zoomed_patch(plane, box, self.spec))
        return found

    def _boxes(self, image: Image) -> NDArray[np.int64] | None:
        if image.boxes is None or not np.asarray(image.boxes).size:
            return None
        return check_boxes(image.boxes, image.shape, f"{self.file.path}: boxes")

    def _labels(self, image: Image) -> NDArray[np.integer] | None:
        if self.file.kind == "npz":
            arrays = load_arrays(self.file.path, ("inst", "gts"))
            labels = arrays.get("inst", arrays.get("gts"))
        else:
            path = _label_file(self.file)
            labels = None if path is None else read_image(path).pixels
        if labels is None or labels.size != np.prod(image.shape):
            return None
        return labels.reshape(image.shape)


def box_image_cases(source: Path, spec: BoxModelSpec) -> list[BoxImageCase]:
    """Lists the images at a path.

    Args:
        source: as for `nnsam segment`, or a raw data set of nnU-Net, with a folder imagesTr.
        spec: the model.

    Raises:
        InputError: no images.
    """
    folder = source / "imagesTr" if (source / "imagesTr").is_dir() else source
    return [BoxImageCase(file, spec) for file in find_images(folder)]


def _label_file(file: InputFile) -> Path | None:
    folder = file.path.absolute().parent
    if not folder.name.startswith("images"):
        return None
    path = folder.with_name(folder.name.replace("images", "labels", 1)) / f"{file.case}{file.ending}"
    return path if path.is_file() else None


def _slices(depth: int | None, boxes: NDArray[np.int64] | None, labels: NDArray[np.integer] | None) -> NDArray:
    """Numbers of the slices with objects, or else of the inner half of all; [0] for a picture, which has no depth."""
    if depth is None:
        return np.zeros(1, dtype=int)
    if boxes is not None:
        return np.unique(np.concatenate([np.arange(box[0], box[3]) for box in boxes]))
    if labels is not None and labels.any():
        return np.flatnonzero((labels > 0).any(axis=(1, 2)))
    return np.arange(depth // 4, max(depth // 4 + 1, depth - depth // 4))


def _objects(index: int, boxes: NDArray[np.int64] | None, labels: NDArray[np.integer] | None) -> NDArray[np.int64]:
    """Boxes of the objects of a slice, (N, 4)."""
    if boxes is not None:
        if boxes.shape[1] == 4:
            return boxes
        here = boxes[(boxes[:, 0] <= index) & (index < boxes[:, 3])]
        return here[:, [1, 2, 4, 5]]
    if labels is not None:
        return object_boxes(labels if labels.ndim == 2 else labels[index])
    return np.empty((0, 4), dtype=np.int64)


def _spread(length: int, count: int, rng: np.random.Generator) -> list[int]:
    """Returns `count` of the first `length` numbers, each once before any comes again."""
    rounds = [rng.permutation(length) for _ in range(-(-count // length))]
    return [int(index) for index in np.concatenate(rounds)[:count]]
