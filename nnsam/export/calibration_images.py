"""Calibration of automatic models on users' images, read and preprocessed by nnU-Net itself."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.data.input_image import decoding
from nnsam.errors import InputError
from nnsam.export.calibration_case import CalibrationModel
from nnsam.export.calibration_crops import random_crops


@dataclass(frozen=True)
class ImageCase:
    """The files of one case, a channel each.

    Attributes:
        name: of the case, without channel and ending.
        files: in the order of the channels.
        model: the model.
    """

    name: str
    files: tuple[Path, ...]
    model: CalibrationModel

    def patches(self, count: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """See :class:`nnsam.export.calibration_case.CalibrationCase`.

        Raises:
            InputError: files that cannot be read, or another number of channels than the model has.
        """
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        plans = PlansManager(dict(self.model.plans))
        configuration = plans.get_configuration(self.model.configuration)
        with decoding(self.files[0]):
            image, properties = plans.image_reader_writer_class().read_images([str(file) for file in self.files])
        if len(image) != self.model.channels:
            raise InputError(
                f"{self.files[0]} gives {len(image)} channels; expected {self.model.channels}, as the model was "
                "trained with"
            )
        preprocessor = configuration.preprocessor_class(verbose=False)
        data, _, _ = preprocessor.run_case_npy(
            image, None, properties, plans, configuration, dict(self.model.dataset_json)
        )
        return random_crops(np.asarray(data), self.model.patch_size, count, rng)


def image_cases(source: Path, model: CalibrationModel) -> list[ImageCase]:
    """Lists the cases in a folder: files <case>_0000<ending>, <case>_0001<ending>, ...

    Args:
        source: the folder, or a raw data set of nnU-Net, with a folder imagesTr.
        model: the model.

    Raises:
        InputError: no such files.
    """
    folder = source / "imagesTr" if (source / "imagesTr").is_dir() else source
    ending = model.dataset_json["file_ending"]
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected one with images named <case>_0000{ending}")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        stem = path.name.removesuffix(ending)
        if stem != path.name and len(stem) > 5 and stem[-5] == "_" and stem[-4:].isdigit():
            found.setdefault(stem[:-5], []).append(path)
    if not found:
        raise InputError(f"{folder} holds no images of the model's kind; expected files named <case>_0000{ending}")
    return [ImageCase(name, tuple(files), model) for name, files in found.items()]
