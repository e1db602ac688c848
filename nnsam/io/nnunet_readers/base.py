"""What all readers share: several files become the channels of one image, label maps appear complete or not at all."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.errors import InputError, NnsamWarning
from nnsam.io.image import Tolerance, agree, decoding
from nnsam.io.writing import whole_file

# Numpy's own, with which nnU-Net compares the files of an image.
_TOLERANCE = Tolerance(relative=1e-5, absolute=1e-8)
_DAMAGED = "{path} is damaged, cut off or of another format ({reason}); copy or export it again."


@dataclass(frozen=True)
class ImageFile:
    """One file of an image.

    Attributes:
        pixels: (C, z, y, x), of any real type.
        spacing: pixel size in mm of z, y, x as nnU-Net takes it, with its stand-in for the z of pictures.
        properties: what the writer needs, besides the spacing.
        stored_spacing: pixel size as the file states it, to compare the files of an image.
        position: name -> values that place the file in space, to compare the files of an image.
    """

    pixels: NDArray
    spacing: tuple[float, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)
    stored_spacing: tuple[float, ...] = ()
    position: Mapping[str, ArrayLike] = field(default_factory=dict)


class ImageIO(ABC):
    """Reads images and writes label maps like the class of the same name in nnU-Net 2.8.1 (`nnunetv2.imageio`)."""

    def read_images(self, paths: Sequence[str | Path]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Reads the files of one image and stacks their channels.

        Args:
            paths: in the order of the channels.

        Returns:
            The image, (C, z, y, x), finite; z is 1 for pictures. Its properties: "spacing", the pixel size in mm of
            z, y, x, and what `write_segmentation` needs.

        Raises:
            InputError: a file is missing, empty, damaged, cut off or of a kind that the reader does not read, holds
                something else than finite real numbers, or does not fit to the others.
            SetupError: a package that a compressed TIFF needs is missing.

        Warns:
            NnsamWarning: the files lie at different places or directions in space.
        """
        files = []
        for path in map(Path, paths):
            _check_file(path)
            with decoding(path, _DAMAGED):
                file = self._read(path)
            files.append((path, file, _as_float(path, file.pixels)))
        first, reference, _ = files[0]
        for path, file, pixels in files[1:]:
            _check_same_shape(first, files[0][2], path, pixels)
            _check_same_spacing(first, reference, path, file)
            _warn_of_other_position(first, reference, path, file)
        image = files[0][2] if len(files) == 1 else np.concatenate([pixels for _, _, pixels in files])
        return image, {"spacing": reference.spacing, **reference.properties}

    def write_segmentation(
        self, segmentation: NDArray[np.integer], path: str | Path, properties: Mapping[str, Any]
    ) -> None:
        """Writes a label map in the geometry of the image that it belongs to; an older file is replaced.

        The file appears complete or not at all. Labels are stored as uint8, from 255 on as uint16.

        Args:
            segmentation: labels, 0..65535, (z, y, x) of the image.
            path: its ending chooses the format.
            properties: as `read_images` gave them.

        Raises:
            InputError: the place cannot be written to, or the format does not hold such labels.
        """
        path = Path(path)
        small = segmentation.size == 0 or segmentation.max() < 255
        labels = segmentation.astype(np.uint8 if small else np.uint16, copy=False)
        with whole_file(path) as draft:
            self._write(draft, path, labels, properties)

    @abstractmethod
    def _read(self, path: Path) -> ImageFile:
        """Reads one file; whatever it raises is reported as a damaged file."""

    @abstractmethod
    def _write(self, draft: Path, path: Path, labels: NDArray[np.integer], properties: Mapping[str, Any]) -> None:
        """Writes (z, y, x) labels to `draft`, which is renamed to `path` afterwards."""


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; expected an image file.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); copy or export it again.")


def _as_float(path: Path, pixels: NDArray) -> NDArray[np.float32]:
    if pixels.size == 0 or pixels.dtype.kind not in "buif":
        raise InputError(f"{path} holds {pixels.dtype} of shape {pixels.shape}; expected an image of real numbers.")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite and is refused below
        image = pixels.astype(np.float32)
    # One such value would make the normalisation, and with it the whole label map, meaningless without a word.
    if pixels.dtype.kind == "f" and not np.isfinite(image).all():
        raise InputError(f"{path} holds values that are nan or infinite; replace them by the background's value.")
    return image


def _check_same_shape(first: Path, reference: NDArray, path: Path, pixels: NDArray) -> None:
    if pixels.shape != reference.shape:
        raise InputError(
            f"{path} has the shape {pixels.shape} (channels, z, y, x), {first.name} {reference.shape}; the files of "
            "one image must have one shape, so resample one of them."
        )


def _check_same_spacing(first: Path, reference: ImageFile, path: Path, file: ImageFile) -> None:
    one, other = reference.stored_spacing, file.stored_spacing
    if not agree(one, other, _TOLERANCE):
        raise InputError(
            f"{path} has the spacing {_text(other)} mm, {first.name} {_text(one)} mm; the files of one image must have "
            "one spacing, so resample one of them or mend its header."
        )


def _warn_of_other_position(first: Path, reference: ImageFile, path: Path, file: ImageFile) -> None:
    for name, values in reference.position.items():
        if not agree(values, file.position[name], _TOLERANCE):
            warnings.warn(
                f"{path} and {first.name} have different {name}s; their pixels are taken to lie on each other, and the "
                f"label map gets the {name} of {first.name}.",
                NnsamWarning,
                stacklevel=3,
            )


def _text(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)
