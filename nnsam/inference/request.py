"""One object to find in one plane."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnsam.inference.plane import Plane


@dataclass(frozen=True)
class Request:
    """A box in a picture or slice.

    Attributes:
        plane: where.
        box: (y0, x0, y1, x1), half-open, whole pixels within the plane, not empty.
    """

    plane: Plane
    box: NDArray[np.int64]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the box."""
        y0, x0, y1, x1 = (int(value) for value in self.box)
        return y1 - y0, x1 - x0
