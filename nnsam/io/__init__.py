"""Images in, label maps out: every reader, every writer, and who finds the files.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from nnsam.io import Image, read_image, read_labels, write_image, write_labels
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_image(folder / "a.nii.gz", Image(np.arange(48.0).reshape(6, 8), 2, spacing=(0.5, 0.75)))
    >>> image = read_image(folder / "a.nii.gz")
    >>> write_labels(folder / "mask.nii.gz", image.with_pixels((image.pixels > 20).astype(np.uint8)))
    >>> read_labels(folder / "mask.nii.gz").spacing
    (0.5, 0.75)
"""

from typing import TYPE_CHECKING

from nnsam.support.lazy import lazy_names

if TYPE_CHECKING:
    from nnsam.io.finding import Case as Case
    from nnsam.io.finding import InputFile as InputFile
    from nnsam.io.finding import find_cases as find_cases
    from nnsam.io.finding import find_images as find_images
    from nnsam.io.finding import find_labels as find_labels
    from nnsam.io.image import Geometry as Geometry
    from nnsam.io.image import Image as Image
    from nnsam.io.image import Segment as Segment
    from nnsam.io.reading import read_image as read_image
    from nnsam.io.reading import read_labels as read_labels
    from nnsam.io.writing import write_image as write_image
    from nnsam.io.writing import write_labels as write_labels

_HOMES = {
    "Case": "finding",
    "Geometry": "image",
    "Image": "image",
    "InputFile": "finding",
    "Segment": "image",
    "find_cases": "finding",
    "find_images": "finding",
    "find_labels": "finding",
    "read_image": "reading",
    "read_labels": "reading",
    "write_image": "writing",
    "write_labels": "writing",
}
__all__ = list(_HOMES)

if not TYPE_CHECKING:  # so that a type checker knows that there are no other names
    __getattr__ = lazy_names(__name__, {name: f"nnsam.io.{module}" for name, module in _HOMES.items()})
