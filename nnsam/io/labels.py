"""Label maps on disk: which files of a folder are cases, and what is in them."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.volumes import check_nifti_length

PICTURE_ENDINGS = (".png", ".bmp", ".tif", ".tiff")
NPZ_ENDING = ".npz"
VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl")


@dataclass(frozen=True)
class LabelMap:
    """One label map.

    Attributes:
        values: integers, (H, W) or (D, H, W).
        spacing: pixel size in mm in array order, (y, x) or (z, y, x); None for pictures, which hold none.
        geometry: spacing, origin and direction as the file has them, for comparison; empty for pictures.
    """

    values: NDArray[np.integer]
    spacing: tuple[float, ...] | None
    geometry: dict[str, tuple[float, ...]]


def find_label_files(path: str | Path) -> dict[str, Path]:
    """Maps case names (file names without ending) to label maps, sorted by name.

    Args:
        path: a folder, in which files of other kinds (dataset.json, plans.json, ...) are left alone; or one label map.
            Files *.npz count only in a folder without label maps of another format: beside them nnU-Net saves
            probabilities under the same names.

    Raises:
        InputError: nothing there, no label map among it, or two label maps of one case.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    candidates = sorted(path.iterdir()) if path.is_dir() else [path]
    files = _by_case(path, candidates, PICTURE_ENDINGS + VOLUME_ENDINGS) or _by_case(path, candidates, (NPZ_ENDING,))
    if not files:
        known = ", ".join((*PICTURE_ENDINGS, *VOLUME_ENDINGS, NPZ_ENDING))
        raise InputError(f"{path} holds no label maps (files ending with {known}).")
    return files


def _by_case(folder: Path, candidates: list[Path], endings: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for file in candidates:
        ending = _ending(file, endings)
        if ending is None or not file.is_file() or file.name.startswith("."):
            continue
        case = file.name[: -len(ending)]
        if case in files:
            raise InputError(f"{folder} holds two label maps of one case: {files[case].name} and {file.name}.")
        files[case] = file
    return files


def read_label_map(path: Path) -> LabelMap:
    """Reads one label map; volumes of a single slice come as 2D, since they have no surface across the slice.

    Raises:
        InputError: unreadable, in colour, with more than 3 dimensions, or with values that are no labels.
    """
    try:
        values, spacing, geometry = _read_picture(path) if _ending(path) in PICTURE_ENDINGS else _read_volume(path)
    except (
        OSError,
        EOFError,
        zlib.error,
        RuntimeError,
        ValueError,
        SyntaxError,
    ) as error:  # Pillow reports broken PNGs as SyntaxError
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{path} cannot be read ({reason[-1].strip()}).") from error
    if values.ndim not in (2, 3):
        raise InputError(f"{path} has {values.ndim} dimensions; a label map has 2 or 3.")
    return without_single_slice(LabelMap(as_labels(values, path), spacing, geometry))


def without_single_slice(labels: LabelMap) -> LabelMap:
    """Turns a volume of a single slice, along any axis, into 2D; returns everything else as it is."""
    if labels.values.ndim != 3 or 1 not in labels.values.shape:
        return labels
    axis = labels.values.shape.index(1)
    spacing = None if labels.spacing is None else labels.spacing[:axis] + labels.spacing[axis + 1 :]
    return LabelMap(labels.values.squeeze(axis), spacing, labels.geometry)


def as_labels(values: NDArray, path: Path) -> NDArray[np.integer]:
    """Returns numbers as labels, whole floats included.

    Raises:
        InputError: fractions, not finite, or negative; `path` names the file in the message.
    """
    if values.dtype == bool:
        return values.astype(np.uint8)
    if not np.issubdtype(values.dtype, np.integer):
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise InputError(f"{path} holds values that are no whole numbers; is it an image or a probability map?")
        values = values.astype(np.int64)
    if values.size and values.min() < 0:
        raise InputError(f"{path} holds negative values, which are no labels.")
    return values


def _ending(path: Path, endings: tuple[str, ...] = VOLUME_ENDINGS + PICTURE_ENDINGS) -> str | None:
    name = path.name.lower()
    return next((ending for ending in endings if name.endswith(ending)), None)


def _read_picture(path: Path) -> tuple[NDArray, None, dict[str, tuple[float, ...]]]:
    is_tiff = _ending(path) in (".tif", ".tiff")
    if is_tiff:
        # scikit-image takes stacks of three or four slices for colours and turns their axes; tifffile is what it uses.
        import tifffile

        values = tifffile.imread(path)
    else:
        from skimage import io

        values = io.imread(path)
    is_stack = is_tiff and values.ndim == 3 and values.shape[-1] > 4
    if values.ndim != 2 and not is_stack:
        raise InputError(f"{path} is not a label map but a colour picture (shape {values.shape}); save label values.")
    return values, None, {}


def _read_volume(path: Path) -> tuple[NDArray, tuple[float, ...], dict[str, tuple[float, ...]]]:
    import SimpleITK as sitk

    if _ending(path) in (".nii", ".nii.gz"):
        check_nifti_length(path)
    image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path} is not a label map: it has {image.GetNumberOfComponentsPerPixel()} values per voxel.")
    geometry = {"spacing": image.GetSpacing(), "origin": image.GetOrigin(), "direction": image.GetDirection()}
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1], geometry


Pairs = dict[str, tuple[Path, Path]]


def match_cases(predictions: Path, references: Path) -> Pairs:
    """Maps case names to (prediction, reference); two single files are a pair whatever their names.

    Raises:
        InputError: no label maps, or cases without partner.
    """
    predicted, expected = find_label_files(predictions), find_label_files(references)
    if predictions.is_file() and references.is_file():
        return {next(iter(expected)): (predictions, references)}
    missing, extra = sorted(expected.keys() - predicted.keys()), sorted(predicted.keys() - expected.keys())
    if missing:
        raise InputError(f"{predictions} lacks {len(missing)} of {len(expected)} predictions: {_some(missing)}.")
    if extra:
        raise InputError(f"{references} lacks the references of {len(extra)} predictions: {_some(extra)}.")
    return {case: (predicted[case], expected[case]) for case in expected}


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
