"""Inputs on which an exported network is calibrated and compared: the user's images, the training data, or noise."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import blosc2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnsam.errors import InputError
from nnsam.exporting.calibration_boxes import box_image_cases, choose_boxes, object_boxes, random_box
from nnsam.inference.box.image import Normalization, Plane
from nnsam.inference.box.zoom import zoomed_patch
from nnsam.io.finding import Case, check_channels, find_cases
from nnsam.io.image import decoding
from nnsam.nnunet.model_folder import TrainedModel
from nnsam.prompts.box_model import BoxModelSpec
from nnsam.prompts.encoding import encode_box


class CalibrationCase(Protocol):
    """One image.

    Attributes:
        name: of the image; patches of one name show one image.
    """

    @property
    def name(self) -> str:
        """See the class."""
        ...

    def patches(self, count: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """Returns `count` network inputs, (1, C, *patch) or, with prompts, (1, C + P, *patch)."""
        ...


# A patch that shows one value only tells nothing of what the network will see; this often another one is tried.
_TRIES = 10


def random_crops(
    data: NDArray,
    patch_size: Sequence[int],
    count: int,
    rng: np.random.Generator,
    foreground: Callable[[], NDArray[np.integer]] | None = None,
) -> list[NDArray[np.float32]]:
    """Cuts patches: the centre of the image first, then random places, every second one around an object.

    Args:
        data: (C, z, y, x), preprocessed, or anything that is indexed like it, such as a compressed file.
        patch_size: (h, w), or (d, h, w).
        count: number of patches.
        rng: chooses the places.
        foreground: returns the places of objects, (N, 3); None where they are unknown.

    Returns:
        (1, C, *patch_size) each.
    """
    size = (1,) * (3 - len(patch_size)) + tuple(patch_size)
    shape = tuple(data.shape[1:])
    objects = foreground() if foreground is not None and count > 1 else np.empty((0, 3), dtype=int)
    crops = []
    for index in range(count):
        centre: list[int | None] = [side // 2 for side in shape] if index == 0 else [None] * 3
        if index % 2 and len(objects):
            centre = [int(place) for place in objects[rng.integers(len(objects))]]
        for _ in range(_TRIES):
            start = [_start(*axis, rng) for axis in zip(shape, size, centre, strict=True)]
            crop = _cut(data, start, size)
            if crop.min() < crop.max():
                break
            centre = [None] * 3
        crops.append(crop.reshape(1, len(crop), *patch_size))
    return crops


def _start(side: int, patch: int, centre: int | None, rng: np.random.Generator) -> int:
    if side <= patch:  # padded on both sides, the odd pixel at the end
        return -((patch - side) // 2)
    if centre is None:
        return int(rng.integers(side - patch + 1))
    return int(np.clip(centre - patch // 2, 0, side - patch))


def _cut(data: NDArray, start: Sequence[int], size: Sequence[int]) -> NDArray[np.float32]:
    inside, target = [slice(None)], [slice(None)]
    for low, length, side in zip(start, size, data.shape[1:], strict=True):
        first, last = max(0, low), min(side, low + length)
        inside.append(slice(first, last))
        target.append(slice(first - low, last - low))
    crop = np.zeros((data.shape[0], *size), dtype=np.float32)
    crop[tuple(target)] = data[tuple(inside)]
    return crop


_ENDING = ".b2nd"


@dataclass(frozen=True)
class PreprocessedCase:
    """One case of a preprocessed data set.

    Attributes:
        name: of the case.
        folder: holds <name>.b2nd and <name>_seg.b2nd.
        model: the model.
    """

    name: str
    folder: Path
    model: TrainedModel

    def patches(self, count: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """See :class:`nnsam.exporting.calibration.CalibrationCase`.

        Raises:
            InputError: files that cannot be read, or another number of channels than the model has.
        """
        data = self._open(self.name)
        if data.ndim != 4 or data.shape[0] != self.model.image_channels:
            raise InputError(
                f"{self.folder / self.name}{_ENDING} has the shape {tuple(data.shape)}; expected "
                f"{self.model.image_channels} channels and 3 axes, so it was preprocessed for another model"
            )
        spec = self.model.box
        if spec is None:
            return random_crops(data, self.model.patch_size, count, rng, lambda: np.argwhere(self._labels() > 0))
        labels = self._labels()
        with_objects = np.flatnonzero((labels > 0).any(axis=(1, 2)))
        slices = with_objects if with_objects.size else np.arange(len(labels))
        return [self._zoomed(data, labels, int(rng.choice(slices)), spec, rng) for _ in range(count)]

    def _zoomed(
        self, data: Any, labels: NDArray[np.integer], index: int, spec: BoxModelSpec, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        pixels = np.moveaxis(np.asarray(data[:, index]), 0, -1)
        channels = pixels.shape[-1]
        plane = Plane(pixels, Normalization.none(pixels.shape[:2], channels), channels)
        box = choose_boxes(object_boxes(labels[index]), plane.shape, 1, rng)[0]
        return zoomed_patch(plane, box, spec)

    def _labels(self) -> NDArray[np.integer]:
        return np.asarray(self._open(f"{self.name}_seg")[0])

    def _open(self, name: str) -> Any:
        path = self.folder / f"{name}{_ENDING}"
        try:
            return blosc2.open(urlpath=str(path), mode="r")
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); preprocess the data set again") from error


def preprocessed_folder(model: TrainedModel) -> Path | None:
    """Returns the folder in nnUNet_preprocessed that the model was trained on, or None where it is not there."""
    root = os.environ.get("nnUNet_preprocessed")
    if not root:
        return None
    folder = Path(root) / str(model.plans["dataset_name"]) / str(model.settings.data_identifier)
    return folder if folder.is_dir() and any(folder.glob(f"*{_ENDING}")) else None


def preprocessed_cases(folder: Path, model: TrainedModel) -> list[PreprocessedCase]:
    """Lists the cases of a preprocessed data set."""
    names = sorted(path.name.removesuffix(_ENDING) for path in folder.glob(f"*{_ENDING}"))
    known = set(names)
    cases = [name for name in names if not (name.endswith("_seg") and name.removesuffix("_seg") in known)]
    return [PreprocessedCase(name, folder, model) for name in cases]


@dataclass(frozen=True)
class ImageCase:
    """One of the user's images, preprocessed by nnU-Net.

    Attributes:
        case: the image.
        model: the model.
    """

    case: Case
    model: TrainedModel

    @property
    def name(self) -> str:
        """Name of the case."""
        return self.case.name

    def patches(self, count: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """See :class:`nnsam.exporting.calibration.CalibrationCase`.

        Raises:
            InputError: files that cannot be read, or another number of channels than the model has.
        """
        model, files = self.model, [str(file) for file in self.case.files]
        with decoding(self.case.files[0]):
            image, properties = model.manager.image_reader_writer_class().read_images(files)
        check_channels(image, model.image_channels, self.case)
        preprocessor = model.settings.preprocessor_class(verbose=False)
        data, _, _ = preprocessor.run_case_npy(
            image, None, properties, model.manager, model.settings, dict(model.dataset_json)
        )
        return random_crops(np.asarray(data), model.patch_size, count, rng)


def image_cases(source: Path, model: TrainedModel) -> list[ImageCase]:
    """Lists the cases at a path, a folder as for `nnsam predict` or a raw data set of nnU-Net.

    Raises:
        InputError: no images, or incomplete cases.
    """
    folder = source / "imagesTr" if (source / "imagesTr").is_dir() else source
    cases = find_cases(folder, model.dataset_json["file_ending"], model.image_channels)
    # In the order of the files: random choices are by place, and shall be those of earlier versions.
    return [ImageCase(case, model) for case in sorted(cases, key=lambda case: case.files[0])]


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
    model: TrainedModel, source: str | Path | None = None, count: int = 64, seed: int = 0
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
    cases: Sequence[CalibrationCase]
    if source is not None:
        folder = Path(source)
        cases = image_cases(folder, model) if model.box is None else box_image_cases(folder, model.box)
    else:
        trained_on = preprocessed_folder(model)
        if trained_on is None:
            return _noise(model, count, seed)
        folder, cases = trained_on, preprocessed_cases(trained_on, model)
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


def _noise(model: TrainedModel, count: int, seed: int) -> CalibrationSet:
    rng = np.random.default_rng(seed)
    size, spec = model.patch_size, model.box
    patches = []
    for _ in range(count):
        image = np.zeros((model.image_channels, *size), dtype=np.float32)
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
