"""Images and label maps on disk; every file appears complete or not at all, and replaces an older one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, NnsamError
from nnsam.io.dicom.segmentation import check_source, write_segmentation
from nnsam.io.formats import FORMATS, NPZ_ENDING, endings, format_of
from nnsam.io.image import Image, Segment, reason_of
from nnsam.io.nifti import is_nifti, write_nifti
from nnsam.io.overlay import color_of
from nnsam.io.pictures import write_tiff_pages
from nnsam.io.volumes import itk_image
from nnsam.support.files import atomic_file


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to that takes the name of a file when the block ends without error.

    Raises:
        InputError: the place cannot be written to, or a writer fails.
    """
    with atomic_file(path) as draft:
        try:
            yield draft
        except NnsamError:
            raise
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or reason_of(error)
            raise InputError(f"{path} cannot be written ({reason}).") from error


def write_png(path: Path, array: NDArray[np.uint8]) -> None:
    """Writes a picture, such as a drawing.

    Args:
        path: file to write, *.png; its folder is made.
        array: (H, W), or (H, W, 3) in colour.
    """
    import PIL.Image

    with whole_file(path) as draft:
        PIL.Image.fromarray(array).save(draft, format="png")


def write_image(path: str | Path, image: Image) -> None:
    """Writes an image with the pixel size, origin and direction that are known of it.

    A 2D image becomes a NIfTI file of two dimensions: nnU-Net's reader then treats the missing third axis as very
    thick. A volume of one slice would be planned by whatever thickness it states.

    Args:
        path: *.png for 8-bit pictures; else *.nii.gz, *.nii, *.nrrd or *.mha. Its folder is made.
        image: grey or in colour; float16 and bool, which NIfTI lacks, are widened.

    Raises:
        InputError: another ending, or the place cannot be written to.
    """
    path = Path(path)
    found = format_of(path)
    if found is None or not found.is_written or found.kind not in ("picture", "volume"):
        raise InputError(f"{path} has an ending that images are not written with; expected .png or .nii.gz.")
    if found.kind == "picture":
        write_png(path, image.pixels)
        return
    widened = {"float16": np.float32, "bool": np.uint8}.get(image.pixels.dtype.name)
    pixels = image.pixels if widened is None else image.pixels.astype(widened)
    with whole_file(path) as draft:
        _write_volume(draft, pixels.reshape(image.file_shape + pixels.shape[image.dimensions :]), image)


def write_labels(
    path: str | Path,
    labels: Image,
    *,
    segments: Sequence[Segment] = (),
    algorithm: str = "AUTOMATIC",
    palette: bool = False,
) -> None:
    """Writes a label map in the shape and geometry of the file that it belongs to.

    npz files hold it under the key `segs`, as the challenge wants it, and masks of segments under `masks`, (N, H, W) or
    (N, D, H, W), with their values under `labels`; *.dcm is a DICOM SEG, for images of DICOM files.

    Args:
        path: its ending chooses the format, see `nnsam.io.formats.label_endings`.
        labels: uint8 or uint16 pixels, mostly `image.with_pixels(...)` of the image.
        segments: names of the labels, for formats that hold names, see `nnsam.io.dicom.segmentation`.
        algorithm: how a DICOM SEG says that the labels were made, AUTOMATIC or SEMIAUTOMATIC.
        palette: a PNG gets colours for labels up to 255; the values stay, and are read by `read_labels`.

    Raises:
        InputError: another ending, pixels of another shape than the image's or that the format does not hold, a palette
            for another format or larger labels, or the place cannot be written to.
        SetupError: a DICOM SEG without the package that writes it.
    """
    path = Path(path)
    found = format_of(path)
    if found is None or not found.is_written:
        written = endings(row for row in FORMATS.values() if row.is_written)
        raise InputError(f"{path} has an ending that label maps are not written with; expected {written}.")
    _check_fits(path, labels, is_picture=found.kind == "picture")
    if palette and (found.ending != ".png" or labels.pixels.max(initial=0) > _PALETTE_END):
        raise InputError(f"{path} cannot have a palette; expected a .png with labels up to {_PALETTE_END}.")
    if found.kind == "dicom":
        check_source(path, labels)
    with whole_file(path) as draft:
        if found.kind == "dicom":
            write_segmentation(draft, labels, segments, algorithm=algorithm)
        elif palette:
            _write_with_palette(draft, labels)
        elif found.kind == "npz" and any(one.mask is not None for one in segments):
            masks = np.stack([one.mask for one in segments if one.mask is not None])
            np.savez_compressed(draft, masks=masks.astype(np.uint8), labels=np.array([one.label for one in segments]))
        else:
            _write(draft, labels)


_PALETTE_END = 255


def _write_with_palette(draft: Path, labels: Image) -> None:
    import PIL.Image

    picture = PIL.Image.fromarray(labels.pixels.astype(np.uint8), "L")
    picture.putpalette([*(0, 0, 0), *(level for label in range(1, 256) for level in color_of(label))])
    picture.save(draft)


def _check_fits(path: Path, labels: Image, is_picture: bool) -> None:
    shape, expected = labels.pixels.shape, labels.file_shape
    if [side for side in shape if side != 1] != [side for side in expected if side != 1]:
        raise InputError(f"{path}: the labels have the shape {shape}, their image {expected}; give them its shape.")
    if is_picture and (len(expected) != 2 or labels.pixels.dtype.name not in ("bool", "uint8", "uint16")):
        raise InputError(
            f"{path} cannot hold labels of the shape {expected} and the type {labels.pixels.dtype}; expected (H, W), "
            "uint8 or uint16."
        )


def _write(draft: Path, labels: Image) -> None:
    found, values = format_of(draft), labels.pixels.reshape(labels.file_shape)
    assert found is not None
    if found.kind == "npz":
        np.savez_compressed(draft, segs=values)
    elif found.kind == "picture":
        import PIL.Image

        PIL.Image.fromarray(values).save(draft)
    elif found.kind == "tiff":
        write_tiff_pages(draft, values, compression="zlib")
    elif is_nifti(draft) and labels.nifti is not None:
        write_nifti(draft, values, labels.nifti)
    else:
        _write_volume(draft, values, labels)


def _write_volume(draft: Path, pixels: NDArray, image: Image) -> None:
    """Writes pixels of the file's shape with what is known of the image's place."""
    import SimpleITK as sitk

    volume = itk_image(pixels, image.geometry, is_colour=pixels.ndim > len(image.file_shape))
    if image.geometry is None and image.spacing is not None:
        volume.SetSpacing([float(value) for value in image.spacing[::-1]])
    sitk.WriteImage(volume, str(draft), True)


def write_object_probabilities(path: Path, prediction: Any, labels: Sequence[int]) -> None:
    """Writes the probabilities of all objects that boxes stand for as npz.

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
    with whole_file(path) as draft:
        np.savez_compressed(
            draft, boxes=prediction.boxes, labels=np.array(labels), scores=np.asarray(prediction.scores), **arrays
        )


def write_class_probabilities(path: str | Path, probabilities: NDArray[np.floating]) -> None:
    """Writes the probabilities of a case like `nnUNetv2_predict --save_probabilities`, under the key `probabilities`.

    nnU-Net writes the image's properties into a pickle beside it, which is left out: unpickling runs code.

    Args:
        path: *.npz.
        probabilities: 0..1, (O, z, y, x) of the image, stored as float32.

    Raises:
        InputError: another ending, or the place cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() != NPZ_ENDING:
        raise InputError(f"{path} must end with .npz, the format of probabilities.")
    with whole_file(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, probabilities=np.asarray(probabilities, dtype=np.float32))
