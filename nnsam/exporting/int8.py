"""The int8 networks of a bundle: quantised on the calibration patches, checked on others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nnsam.errors import InputError, SetupError
from nnsam.exporting.calibration import CalibrationSet
from nnsam.exporting.comparison import DICE_AGREEMENT, NetworkFiles, pictures_of
from nnsam.exporting.conversion import save
from nnsam.exporting.quantization import Masks, Sample, label_masks, load_nncf, quantize, region_masks
from nnsam.support.openvino import import_openvino

Tell = Callable[[str], None]
# Pictures of the image encoder are large (12 MB each at 1024 pixels).
ENCODER_PATCHES = 16


def int8_is_wanted(precision: str, patches: CalibrationSet, images_given: bool) -> tuple[bool, str]:
    """Tells whether int8 networks are to be made, and if not, why, for the report.

    They are made where they are asked for, and under "auto" where the user gave images and NNCF is installed.

    Raises:
        InputError: int8 was asked for and there are no images.
        SetupError: int8 was asked for and NNCF is not installed.
    """
    if precision not in ("auto", "int8"):
        return False, ""
    if precision == "int8" and not patches.from_images:
        raise InputError("int8 needs images to calibrate on, and noise will not do; give some with --images")
    if precision == "auto" and not images_given:
        return False, "int8 was not tried (it is with --images, or --precision int8)"
    try:
        load_nncf()
    except SetupError:
        if precision == "int8":
            raise
        return False, "int8 was not tried, since NNCF is not installed"
    return True, ""


class Int8Networks:
    """Writes the int8 networks beside those in float32: fold after fold, the image encoder once.

    Args:
        patches: half of them to calibrate on, half to check on.
        has_regions: the outputs are regions.
        tell: gets a sentence when a step begins.

    Attributes:
        encoder: the image encoder's file, None before :meth:`write` or where there is none.
    """

    def __init__(self, patches: CalibrationSet, has_regions: bool, tell: Tell):
        self._patches = patches
        self._calibration, self._validation = patches.split()
        self._masks: Masks = region_masks if has_regions else label_masks
        self._tell = tell
        self.encoder: Path | None = None

    def write(self, files: NetworkFiles, network: nn.Module) -> NetworkFiles:
        """Quantises the networks of a fold and returns the files to use instead.

        Args:
            files: U-Net and image encoder as two networks in float32.
            network: the fold's network in PyTorch.
        """
        openvino = import_openvino()

        core = openvino.Core()
        model = core.read_model(str(files.unet))
        drop = 1 - DICE_AGREEMENT
        if files.encoder is None:
            samples: list[Sample] = [(patch,) for patch in self._patches.patches]
        else:
            drop /= 2  # two networks share what is allowed
            samples = self._with_embeddings(core, files.encoder, network)
            if self.encoder is None:
                self.encoder = self._write_encoder(core, files, network, samples, drop)
        path = _int8_path(files.unet)
        self._quantize(model, samples, self._calibration, self._validation, drop, self._masks, path)
        return replace(files, unet=path, encoder=self.encoder)

    def _with_embeddings(self, core, encoder: Path, network: nn.Module) -> list[Sample]:
        compiled = core.compile_model(str(encoder), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        samples: list[Sample] = []
        for patch in self._patches.patches:
            picture = pictures_of(network, [patch])[0]
            samples.append((patch, np.array(compiled([picture])[0])))
        return samples

    def _write_encoder(self, core, files: NetworkFiles, network: nn.Module, samples: list[Sample], drop: float) -> Path:
        """Quantises the image encoder so that the masks of the U-Net behind it agree."""
        assert files.encoder is not None
        unet = core.compile_model(str(files.unet), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        calibration = self._calibration[: ENCODER_PATCHES // 2]
        validation = self._validation[: ENCODER_PATCHES // 2]
        pictures: list[Sample] = []
        for index in range(len(samples)):
            used = index in calibration or index in validation
            picture = pictures_of(network, [samples[index][0]])[0] if used else None
            pictures.append(() if picture is None else (picture,))

        def masks(embedding: NDArray[np.float32], number: int) -> NDArray[np.bool_]:
            return self._masks(np.array(unet([samples[validation[number]][0], embedding])[0]), number)

        path = _int8_path(files.encoder)
        model = core.read_model(str(files.encoder))
        self._quantize(model, pictures, calibration, validation, drop, masks, path)
        return path

    def _quantize(
        self,
        model,
        samples: list[Sample],
        calibration: list[int],
        validation: list[int],
        drop: float,
        masks: Masks,
        path: Path,
    ) -> None:
        self._tell(f"{path.stem}: quantising")
        result = quantize(
            model,
            [samples[index] for index in calibration],
            [samples[index] for index in validation],
            drop,
            lambda sentence: self._tell(f"{path.stem}: {sentence}"),
            masks=masks,
        )
        save(result.model, path)


def _int8_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}_int8.xml")
