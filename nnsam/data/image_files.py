"""Image and label files in the formats that nnU-Net reads: PNG for 8-bit pictures, NIfTI for everything else."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


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
