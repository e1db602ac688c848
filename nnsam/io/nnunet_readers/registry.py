"""Reads images and writes label maps as nnU-Net's reader classes do; chosen by the class name in a model's plans."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, SetupError
from nnsam.io.nnunet_readers.base import ImageIO
from nnsam.support.files import atomic_file

# name of the class -> its module, the packages that it reads with
_READERS = {
    "NaturalImage2DIO": ("pictures", ("PIL", "tifffile")),
    "NibabelIO": ("nibabel_files", ("nibabel",)),
    "NibabelIOWithReorient": ("nibabel_files", ("nibabel",)),
    "SimpleITKIO": ("simpleitk_files", ("SimpleITK",)),
    "SimpleITKIOWithReorient": ("simpleitk_files", ("SimpleITK",)),
    "Tiff3DIO": ("tiff_files", ("tifffile",)),
}
_INSTALL_NAMES = {"PIL": "pillow"}
READERS = tuple(_READERS)


def reader(name: str) -> ImageIO:
    """Returns the reader and writer that does what nnU-Net's class of this name does.

    Args:
        name: one of `READERS`, as in the manifest's `input.reader`.

    Raises:
        InputError: not known.
        SetupError: the package that it reads with is not installed.
    """
    if name not in _READERS:
        raise InputError(
            f"the model reads its images with {name}, which nnsam does not have; known are {', '.join(READERS)}, so "
            "use nnUNetv2_predict for this model."
        )
    module, packages = _READERS[name]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            install = _INSTALL_NAMES.get(package, package)
            raise SetupError(f"images of this model are read with {install}, which is missing; `pip install {install}`")
    return getattr(importlib.import_module(f"nnsam.io.nnunet_readers.{module}"), name)()


def write_probabilities(path: str | Path, probabilities: NDArray[np.floating]) -> None:
    """Writes the probabilities of a case like `nnUNetv2_predict --save_probabilities`, under the key `probabilities`.

    nnU-Net writes the image's properties into a pickle beside it, which is left out: unpickling runs code.

    Args:
        path: *.npz; the file appears complete or not at all.
        probabilities: 0..1, (O, z, y, x) of the image, stored as float32.

    Raises:
        InputError: another ending, or the place cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise InputError(f"{path} must end with .npz, the format of probabilities.")
    with atomic_file(path) as draft:
        try:
            with draft.open("wb") as file:
                np.savez_compressed(file, probabilities=np.asarray(probabilities, dtype=np.float32))
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror or error}).") from error
