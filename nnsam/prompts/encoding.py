"""What a network sees of a box: extra channels beside the image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.errors import InputError
from nnsam.geometry.boxes import rasterize

# name -> number of channels
ENCODINGS = {"binary": 1, "ellipse": 2}


def check_encoding(name: str) -> str:
    """Returns the name of a known encoding, else raises InputError."""
    if name not in ENCODINGS:
        raise InputError(f"the prompt encoding {name!r} is unknown; expected {' or '.join(ENCODINGS)}")
    return name


def encode_box(box: ArrayLike | None, shape: Sequence[int], encoding: str = "binary") -> NDArray[np.float32]:
    """Draws the prompt channels of one box, float32 (P, H, W), zero outside the box.

    - ``binary``: 1 inside the box (Stock et al., section 2.2).
    - ``ellipse``: beside the binary channel, 1 - u^2 - v^2 inside the box, where (u, v) in -1..1 are the coordinates
      relative to the box: 1 at the centre, 0 on the inscribed ellipse, negative in the corners. It gives the shape
      prior away, which a small network otherwise has to learn from distances to the box's sides.

    Args:
        box: (y0, x0, y1, x1), half-open, may have fractions and reach beyond the patch; None, or a box that covers no
            pixel centre of the patch, gives all zeros, "no prompt".
        shape: (H, W) of the patch.
        encoding: key of `ENCODINGS`.
    """
    channels = np.zeros((ENCODINGS[check_encoding(encoding)], *shape), dtype=np.float32)
    if box is None:
        return channels
    y0, x0, y1, x1 = np.asarray(box, dtype=np.float64)
    inside = rasterize([y0, x0, y1, x1], shape)
    channels[0] = inside
    if encoding == "ellipse" and y1 > y0 and x1 > x0:
        v = (2 * (np.arange(shape[0]) + 0.5) - y0 - y1) / (y1 - y0)
        u = (2 * (np.arange(shape[1]) + 0.5) - x0 - x1) / (x1 - x0)
        channels[1] = np.where(inside, 1 - (v**2)[:, None] - (u**2)[None, :], 0)
    return channels
