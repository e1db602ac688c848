"""Inputs on which an exported network is calibrated and compared: the user's images, the training data, or noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.export.calibration_box_images import box_image_cases
from nnsam.export.calibration_case import CalibrationCase, CalibrationModel
from nnsam.export.calibration_images import image_cases
from nnsam.export.calibration_preprocessed import preprocessed_cases, preprocessed_folder
from nnsam.export.calibration_zoom import random_box
from nnsam.inference.spec import BoxModelSpec
from nnsam.prompts.encoding import encode_box

# Width in pixels of the structures in noise; white noise alone would hardly get through a network's poolings.
_NOISE_WIDTHS = (0, 2, 8)


@dataclass(frozen=True)
class CalibrationSet:
    """Network inputs.

    Attributes:
        patches: (1, C, *patch) each, or (1, C + P, *patch) with prompts; float32.
        images: name of the image that each patch shows.
        origin: where they come from, a clause such as "16 patches of 4 images in imagesTs".
        from_images: False for noise, on which no agreement means anything for real images.
    """

    patches: list[NDArray[np.float32]]
    images: list[str]
    origin: str
    from_images: bool

    def split(self) -> tuple[list[int], list[int]]:
        """Numbers of the patches to calibrate on, and of those to validate on.

        Half of the images each; of a single image, half of its patches; a single patch is used for both.
        """
        names = list(dict.fromkeys(self.images))
        everything = range(len(self.patches))
        if len(self.patches) < 2:
            return list(everything), list(everything)
        if len(names) < 2:
            return list(everything[::2]), list(everything[1::2])
        validated = set(names[1::2])
        return (
            [index for index in everything if self.images[index] not in validated],
            [index for index in everything if self.images[index] in validated],
        )


def calibration_patches(
    model: CalibrationModel, source: str | Path | None = None, count: int = 64, seed: int = 0
) -> CalibrationSet:
    """Makes network inputs for a model, the same ones whenever called with the same arguments.

    Automatic models see patches of images as nnU-Net preprocesses them, box models zoomed patches around objects, or
    around random boxes where no objects are known.

    Args:
        model: the model.
        source: the user's images: a folder as for `nnsam predict`, for box models as for `nnsam segment`, or a raw
            data set of nnU-Net. None: what the model was trained on, if it is in nnUNet_preprocessed, else noise.
        count: number of patches.
        seed: of the random choices.

    Raises:
        InputError: no images at `source`, or images that do not fit the model.
    """
    spec = None
    if model.has_prompts:
        spec = BoxModelSpec.from_plans(model.plans, model.dataset_json, configuration=model.configuration)
    cases: Sequence[CalibrationCase]
    if source is not None:
        folder = Path(source)
        cases = box_image_cases(folder, spec) if spec is not None else image_cases(folder, model)
    else:
        trained_on = preprocessed_folder(model)
        if trained_on is None:
            return _noise(model, spec, count, seed)
        folder, cases = trained_on, preprocessed_cases(trained_on, model, spec)
    patches, images = _collect(cases, count, seed)
    used = len(set(images))
    kind = "preprocessed training images" if source is None else "images"
    return CalibrationSet(patches, images, f"{len(patches)} patches of {used} {kind} in {folder.name}", True)


def _collect(cases: Sequence[CalibrationCase], count: int, seed: int) -> tuple[list[NDArray[np.float32]], list[str]]:
    """Takes the patches from as many images as possible, in random order."""
    order = np.random.default_rng(seed).permutation(len(cases))[:count]
    patches: list[NDArray[np.float32]] = []
    images: list[str] = []
    for place, index in enumerate(order):
        share = count // len(order) + (place < count % len(order))
        found = cases[index].patches(share, np.random.default_rng([seed, int(index)]))
        patches.extend(found)
        images.extend([cases[index].name] * len(found))
    return patches, images


def _noise(model: CalibrationModel, spec: BoxModelSpec | None, count: int, seed: int) -> CalibrationSet:
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    size, channels = model.patch_size, model.channels
    patches = []
    for _ in range(count):
        image = np.zeros((channels, *size), dtype=np.float32)
        for width in _NOISE_WIDTHS:
            layer = ndimage.gaussian_filter(
                rng.standard_normal(image.shape, dtype=np.float32), (0, *[width] * len(size)), mode="wrap"
            )
            image += layer / layer.std()
        image /= np.sqrt(len(_NOISE_WIDTHS), dtype=np.float32)
        if spec is not None:
            prompt = encode_box(random_box(spec.patch_size, rng), spec.patch_size, spec.prompt)
            image = np.concatenate([image, prompt])
        patches.append(image[None])
    return CalibrationSet(
        patches, [f"noise {index}" for index in range(count)], f"{count} patches of noise, for want of images", False
    )
