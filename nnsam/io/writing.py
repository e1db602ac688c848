"""Label maps on disk in the format and geometry of the image that they belong to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.image import InputImage
from nnsam.support.files import atomic_file


def write_png(path: Path, array: NDArray[np.uint8]) -> None:
    """Writes a picture.

    Args:
        path: file to write; its folder is made.
        array: (H, W), or (H, W, 3) in colour.
    """
    from skimage import io

    path.parent.mkdir(exist_ok=True)
    io.imsave(path, array, check_contrast=False)


def write_nifti(path: Path, array: NDArray, spacing_xyz: tuple[float, ...]) -> None:
    """Writes a 2D image or a volume with its pixel size; origin 0, axes not rotated.

    A 2D image becomes a NIfTI file of two dimensions: nnU-Net's reader then treats the missing third axis as very
    thick. A volume of one slice would be planned by whatever thickness it states.

    Args:
        path: file to write, *.nii.gz; its folder is made.
        array: (H, W) or (D, H, W); float16 and bool, which NIfTI lacks, are widened.
        spacing_xyz: in mm, in SimpleITK's order, the reverse of the array's axes.
    """
    import SimpleITK as sitk

    path.parent.mkdir(exist_ok=True)
    widened = {"float16": np.float32, "bool": np.uint8}.get(array.dtype.name)
    image = sitk.GetImageFromArray(array if widened is None else array.astype(widened))
    image.SetSpacing([float(value) for value in spacing_xyz])
    sitk.WriteImage(image, str(path), True)


_PICTURES = (".png", ".tif", ".tiff")
_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha")
# kind of input -> endings that a label map of it may have; the first is the default where the input's is not among them
LABEL_ENDINGS = {
    "picture": _PICTURES,
    "tiff": (".tif", ".tiff"),
    "volume": _VOLUMES,
    "dicom": _VOLUMES,
    "series": _VOLUMES,
    "npz": (".npz",),
}
# Detached headers would make two files of one label map.
_REPLACED = {".nhdr": ".nrrd", ".mhd": ".mha"}


def label_ending(kind: str, ending: str) -> str:
    """Returns the ending of the label map for an input: its own, or the nearest format that holds labels.

    Example:
        >>> label_ending("picture", ".jpg"), label_ending("volume", ".mhd"), label_ending("series", "")
        ('.png', '.mha', '.nii.gz')
    """
    ending = _REPLACED.get(ending, ending)
    return ending if ending in LABEL_ENDINGS[kind] else LABEL_ENDINGS[kind][0]


def label_dtype(values: Sequence[int]) -> type[np.uint8] | type[np.uint16]:
    """Returns the smallest type that holds the label values."""
    return np.uint8 if max(values, default=0) <= 255 else np.uint16


def write_segmentation(path: Path, labels: NDArray[np.integer], image: InputImage) -> None:
    """Writes a label map; the file appears complete or not at all, and replaces an older one.

    npz files hold it under the key `segs`, as the challenge wants it.

    Args:
        path: its ending chooses the format, see `LABEL_ENDINGS`.
        labels: uint8 or uint16, `image.shape`.
        image: what it belongs to.

    Raises:
        InputError: the place cannot be written to.
    """
    labels = labels.reshape(image.file_shape)
    with atomic_file(path) as draft:
        try:
            _write(draft, labels, image)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path} cannot be written ({str(error).strip().splitlines()[-1]}).") from error


def write_probabilities(path: Path, prediction: Any, labels: Sequence[int]) -> None:
    """Writes the probabilities of all objects as npz.

    Keys: `boxes` (N, 2 D), half-open in array order; `labels` (N,); `scores` (N,); and per object, from 0,
    `probability_<i>`, float16 0..1 of its box's shape.

    Args:
        path: *.npz.
        prediction: `nnsam.inference.Prediction`.
        labels: label value of each object.

    Raises:
        InputError: the place cannot be written to.
    """
    arrays = {
        f"probability_{index}": values.astype(np.float16) for index, values in enumerate(prediction.probabilities)
    }
    with atomic_file(path) as draft:
        np.savez_compressed(
            draft, boxes=prediction.boxes, labels=np.array(labels), scores=np.asarray(prediction.scores), **arrays
        )


def _write(draft: Path, labels: NDArray[np.integer], image: InputImage) -> None:
    name = draft.name.lower()
    if name.endswith(".npz"):
        np.savez_compressed(draft, segs=labels)
    elif name.endswith(".png"):
        from PIL import Image

        Image.fromarray(labels).save(draft)
    elif name.endswith((".tif", ".tiff")):
        import tifffile

        tifffile.imwrite(draft, labels, photometric="minisblack", compression="zlib")
    else:
        _write_volume(draft, labels, image)


def _write_volume(draft: Path, labels: NDArray[np.integer], image: InputImage) -> None:
    import SimpleITK as sitk

    volume = sitk.GetImageFromArray(labels)
    volume.SetSpacing(image.geometry["spacing"])
    volume.SetOrigin(image.geometry["origin"])
    volume.SetDirection(image.geometry["direction"])
    sitk.WriteImage(volume, str(draft), True)
