"""What is known of a case before anything is trained: the hash of its files, its classes, its geometry."""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnsam.data.nifti_length import check_nifti_length
from nnsam.errors import InputError
from nnsam.fewshot.sources import SourceCase
from nnsam.metrics.classes import Classes
from nnsam.metrics.label_files import PICTURE_ENDINGS, read_label_map

# Of spacings, relative; of directions, absolute; of origins, in pixels. Writers round these numbers.
_TOLERANCE = 1e-3
_ORIGIN_TOLERANCE = 0.5


@dataclass(frozen=True)
class CheckedCase:
    """A case whose files were read.

    Attributes:
        sha256: over image files and label file, see :func:`hash_files`.
        classes: names of the classes that its label map holds.
    """

    sha256: str
    classes: frozenset[str]


def hash_files(paths: Sequence[Path]) -> str:
    """SHA-256 over the SHA-256 of each file's bytes, in the given order.

    Raises:
        InputError: a file cannot be read.
    """
    total = hashlib.sha256()
    for path in paths:
        try:
            total.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}); restore it") from error
    return total.hexdigest()


def check_case(case: SourceCase, classes: Classes) -> CheckedCase:
    """Hashes a case's files and checks its label values and geometry.

    Args:
        case: the files.
        classes: those of dataset.json.

    Raises:
        InputError: an unreadable file, a value that no class has, or image and label of different size, spacing,
            origin or direction.
    """
    digest = hash_files([*case.images, case.label])
    values = np.unique(read_label_map(case.label).values)
    classes.check_values(values, str(case.label), with_ignore=True)
    reference = _geometry(case.label)
    for image in case.images:
        _compare(image, _geometry(image), reference, case.label)
    found = {name for name, members in classes.values.items() if np.isin(members, values).any()}
    return CheckedCase(digest, frozenset(found))


def _geometry(path: Path) -> dict[str, tuple[float, ...]]:
    """Size (x, y[, z]) and, of volumes, spacing, origin and direction, from the header where the format has one."""
    name = path.name.lower()
    try:
        if name.endswith((".tif", ".tiff")):
            import tifffile

            with tifffile.TiffFile(path) as file:
                return {"size": file.series[0].shape[::-1]}
        if name.endswith((*PICTURE_ENDINGS, ".jpg", ".jpeg")):
            from PIL import Image

            with Image.open(path) as picture:
                return {"size": picture.size}
        return _volume_geometry(path)
    except (OSError, EOFError, zlib.error, RuntimeError, ValueError, SyntaxError) as error:  # SyntaxError: broken PNG
        if isinstance(error, InputError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise InputError(f"{path} cannot be read ({reason}); restore it") from error


def _volume_geometry(path: Path) -> dict[str, tuple[float, ...]]:
    import SimpleITK as sitk

    if path.name.lower().endswith((".nii", ".nii.gz")):
        check_nifti_length(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return {
        "size": reader.GetSize(),
        "spacing": reader.GetSpacing(),
        "origin": reader.GetOrigin(),
        "direction": reader.GetDirection(),
    }


def _compare(
    image: Path, found: dict[str, tuple[float, ...]], reference: dict[str, tuple[float, ...]], label: Path
) -> None:
    for key, expected in reference.items():
        value = found.get(key, ())
        # A colour TIFF has an axis of three in front of (x, y).
        if key == "size" and len(value) == len(expected) + 1 and value[0] in (3, 4):
            value = value[1:]
        if len(value) != len(expected) or not _close(key, value, expected, reference):
            raise InputError(
                f"{image} and {label} differ in their {key} ({_text(value)} and {_text(expected)}); expected image and "
                "label of the same geometry: resample one of them"
            )


def _close(
    key: str, found: Sequence[float], expected: Sequence[float], reference: dict[str, tuple[float, ...]]
) -> bool:
    difference = np.abs(np.subtract(found, expected))
    if key == "size":
        return not difference.any()
    if key == "spacing":
        return bool((difference <= _TOLERANCE * np.abs(expected)).all())
    if key == "direction":
        return bool((difference <= _TOLERANCE).all())
    return bool((difference <= _ORIGIN_TOLERANCE * min(reference["spacing"])).all())


def _text(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values) or "none"
