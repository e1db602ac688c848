"""Calibration of box models on users' images: pictures, volumes, the challenge's npz files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.data.input_files import InputFile, find_input_files
from nnsam.data.input_image import InputImage
from nnsam.data.npz_case import load_arrays
from nnsam.export.calibration_zoom import choose_boxes, object_boxes, zoomed_patch
from nnsam.inference.image import PreparedImage
from nnsam.inference.spec import BoxModelSpec
from nnsam.prompts.validation import check_boxes


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
        """See :class:`nnsam.export.calibration_case.CalibrationCase`; of volumes, slices with objects."""
        image = self.file.read()
        boxes = self._boxes(image)
        labels = None if boxes is not None else self._labels(image)
        prepared = PreparedImage(image.pixels, self.spec, image.spacing, image.dimensions)
        slices = _slices(image, boxes, labels)
        chosen = [int(slices[index % len(slices)]) for index in _spread(len(slices), count, rng)]
        found = []
        for index in sorted(set(chosen)):
            plane = prepared.plane(index)
            objects = _objects(index, boxes, labels)
            for box in choose_boxes(objects, plane.shape, chosen.count(index), rng):
                found.append(zoomed_patch(plane, box, self.spec))
        return found

    def _boxes(self, image: InputImage) -> NDArray[np.int64] | None:
        if image.boxes is None or not np.asarray(image.boxes).size:
            return None
        return check_boxes(image.boxes, image.shape, f"{self.file.path}: boxes")

    def _labels(self, image: InputImage) -> NDArray[np.integer] | None:
        if self.file.kind == "npz":
            arrays = load_arrays(self.file.path, ("inst", "gts"))
            labels = arrays.get("inst", arrays.get("gts"))
        else:
            path = _label_file(self.file)
            labels = InputFile(path, self.file.kind, self.file.ending).read().pixels if path is not None else None
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
    return [BoxImageCase(file, spec) for file in find_input_files(folder)]


def _label_file(file: InputFile) -> Path | None:
    folder = file.path.absolute().parent
    if not folder.name.startswith("images"):
        return None
    path = folder.with_name(folder.name.replace("images", "labels", 1)) / f"{file.case}{file.ending}"
    return path if path.is_file() else None


def _slices(image: InputImage, boxes: NDArray[np.int64] | None, labels: NDArray[np.integer] | None) -> NDArray:
    """Numbers of the slices with objects, or else of the inner half of all; [0] for a picture."""
    if image.dimensions == 2:
        return np.zeros(1, dtype=int)
    depth = image.shape[0]
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
