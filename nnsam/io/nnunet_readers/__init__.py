"""Readers and writers that do bit by bit what nnU-Net's own classes do, chosen by the class name in a model's plans."""

import importlib
import importlib.util

from nnsam.errors import InputError, SetupError
from nnsam.io.nnunet_readers.base import ImageIO

# name of the class -> its module, the packages that it reads with
_READERS = {
    "NaturalImage2DIO": ("pictures", ("PIL", "tifffile")),
    "NibabelIO": ("nibabel_files", ("nibabel",)),
    "NibabelIOWithReorient": ("nibabel_files", ("nibabel",)),
    "SimpleITKIO": ("simpleitk_files", ("SimpleITK",)),
    "SimpleITKIOWithReorient": ("simpleitk_files", ("SimpleITK",)),
    "Tiff3DIO": ("pictures", ("tifffile",)),
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
