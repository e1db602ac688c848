"""Calibration on what nnU-Net preprocessed for training."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.export.calibration_case import CalibrationModel
from nnsam.export.calibration_crops import random_crops
from nnsam.export.calibration_zoom import choose_boxes, object_boxes, zoomed_patch
from nnsam.inference.plane import Plane
from nnsam.inference.spec import BoxModelSpec
from nnsam.inference.statistics import Normalization

_ENDING = ".b2nd"


@dataclass(frozen=True)
class PreprocessedCase:
    """One case of a preprocessed data set.

    Attributes:
        name: of the case.
        folder: holds <name>.b2nd and <name>_seg.b2nd.
        model: the model.
        spec: of a box model, else None.
    """

    name: str
    folder: Path
    model: CalibrationModel
    spec: BoxModelSpec | None = None

    def patches(self, count: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """See :class:`nnsam.export.calibration_case.CalibrationCase`.

        Raises:
            InputError: files that cannot be read, or another number of channels than the model has.
        """
        data = self._open(self.name)
        if data.ndim != 4 or data.shape[0] != self.model.channels:
            raise InputError(
                f"{self.folder / self.name}{_ENDING} has the shape {tuple(data.shape)}; expected {self.model.channels} "
                "channels and 3 axes, so it was preprocessed for another model"
            )
        if self.spec is None:
            return random_crops(data, self.model.patch_size, count, rng, self._foreground())
        labels = np.asarray(self._open(f"{self.name}_seg")[0])
        with_objects = np.flatnonzero((labels > 0).any(axis=(1, 2)))
        slices = with_objects if with_objects.size else np.arange(len(labels))
        return [self._zoomed(data, labels, int(rng.choice(slices)), rng) for _ in range(count)]

    def _zoomed(
        self, data: Any, labels: NDArray[np.integer], index: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        assert self.spec is not None
        pixels = np.moveaxis(np.asarray(data[:, index]), 0, -1)
        height, width, channels = pixels.shape
        # The pixels are normalised already.
        unchanged = Normalization((slice(0, height), slice(0, width)), np.zeros(channels), np.ones(channels))
        plane = Plane(pixels, unchanged, channels)
        box = choose_boxes(object_boxes(labels[index]), plane.shape, 1, rng)[0]
        return zoomed_patch(plane, box, self.spec)

    def _foreground(self) -> Callable[[], NDArray[np.integer]]:
        def places() -> NDArray[np.integer]:
            return np.argwhere(np.asarray(self._open(f"{self.name}_seg")[0]) > 0)

        return places

    def _open(self, name: str) -> Any:
        import blosc2

        path = self.folder / f"{name}{_ENDING}"
        try:
            return blosc2.open(urlpath=str(path), mode="r")
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); preprocess the data set again") from error


def preprocessed_folder(model: CalibrationModel) -> Path | None:
    """Returns the folder in nnUNet_preprocessed that the model was trained on, or None where it is not there."""
    root = os.environ.get("nnUNet_preprocessed")
    if not root:
        return None
    folder = Path(root) / str(model.plans["dataset_name"]) / str(model.settings["data_identifier"])
    return folder if folder.is_dir() and any(folder.glob(f"*{_ENDING}")) else None


def preprocessed_cases(folder: Path, model: CalibrationModel, spec: BoxModelSpec | None) -> list[PreprocessedCase]:
    """Lists the cases of a preprocessed data set."""
    names = sorted(path.name.removesuffix(_ENDING) for path in folder.glob(f"*{_ENDING}"))
    known = set(names)
    cases = [name for name in names if not (name.endswith("_seg") and name.removesuffix("_seg") in known)]
    return [PreprocessedCase(name, folder, model, spec) for name in cases]
