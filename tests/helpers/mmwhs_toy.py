"""A small MM-WHS: official names and values, structures as boxes and ellipsoids in patient coordinates."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

# value -> middle in mm (left, posterior, superior) of an ellipsoid with the half axes of RADII.
MIDDLES = {500: (20, 5, 0), 600: (-20, -10, 2), 420: (15, 20, -2), 550: (-20, 20, 0), 205: (2, -15, 0)}
RADII = (8.0, 6.0, 12.0)

IDENTITY = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
FLIPPED = (-1.0, 0, 0, 0, 0, -1, 0, 1, 0)  # x to the right, y to the head, z to the front
COS, SIN = np.cos(0.2), np.sin(0.2)
OBLIQUE = (COS, -SIN, 0, SIN, COS, 0, 0, 0, 1)


def heart(direction=IDENTITY, spacing=(1.0, 1.5, 2.0), size=(70, 50, 20), values=None) -> tuple[sitk.Image, sitk.Image]:
    """Image and label map whose middle is the origin of the patient's coordinates; each voxel has its own value."""
    label = sitk.Image(size, sitk.sitkInt16)
    label.SetSpacing(spacing)
    label.SetDirection(direction)
    middle = np.array(direction).reshape(3, 3) @ ((np.array(size) - 1) / 2 * spacing)
    label.SetOrigin([float(value) for value in -middle])
    z, y, x = np.indices(size[::-1])
    index = np.stack([x, y, z], axis=-1) * np.array(spacing)
    position = index @ np.array(direction).reshape(3, 3).T - middle
    array = np.zeros(size[::-1], np.int16)
    for value, centre in MIDDLES.items():
        if values is None or value in values:
            array[(((position - centre) / RADII) ** 2).sum(axis=-1) < 1] = value
    generator = np.random.default_rng(7)
    image = sitk.GetImageFromArray((array + generator.integers(-200, 200, array.shape)).astype(np.int16))
    result = sitk.GetImageFromArray(array)
    for picture in (image, result):
        picture.CopyInformation(label)
    return image, result


def write_case(folder: Path, stem: str, image: sitk.Image | None, label: sitk.Image | None) -> None:
    """Writes `<stem>_image.nii.gz` and `<stem>_label.nii.gz`."""
    folder.mkdir(parents=True, exist_ok=True)
    if image is not None:
        sitk.WriteImage(image, str(folder / f"{stem}_image.nii.gz"), True)
    if label is not None:
        sitk.WriteImage(label, str(folder / f"{stem}_label.nii.gz"), True)


def write_cfdnet(folder: Path, cases, slices=(1, 2), values=(500, 600, 420, 550, 205)) -> None:
    """Writes CFDnet's slices: sagittal volumes of one column, array (220, 240, 1)."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(3)
    for case in cases:
        for number in slices:
            array = np.zeros((220, 240, 1), np.int16)
            for step, value in enumerate(values):
                array[20 + 30 * step : 40 + 30 * step, 50 + number : 100 + case] = value
            pixels = (array + generator.integers(0, 50, array.shape)).astype(np.int16)
            for kind, content in (("img", pixels), ("lab", array)):
                picture = sitk.GetImageFromArray(content)
                picture.SetSpacing((3.0, 0.75, 1.25))
                sitk.WriteImage(picture, str(folder / f"{kind}{case}_slice{number}.nii.gz"), True)


def read(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Array and spacing (x first) of a file."""
    image = sitk.ReadImage(str(path))
    return sitk.GetArrayFromImage(image), image.GetSpacing()
