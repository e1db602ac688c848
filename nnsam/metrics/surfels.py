"""Surface elements ("surfels") of a binary mask: where they are and how large.

The idea is that of DeepMind's `surface-distance` (Nikolov et al., "Clinically Applicable Segmentation of Head and Neck
Anatomy for Radiotherapy: Deep Learning Algorithm Development and Validation Study", JMIR 2021): every point where
2 x 2 (x 2) pixels meet and are not all equal carries one surfel, whose size is that of the marching-squares contour
(marching-cubes surface) through the cell between the pixels' centres. This module derives the sizes from the geometry
of the cell in place of a table of 256 triangulations; they are the same numbers.
"""

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnsam.metrics.masks import Mask

FloatArray = NDArray[np.float64]


def surfel_sizes(mask: Mask, spacing: tuple[float, ...]) -> FloatArray:
    """Size of the surfel at every corner point of the pixel grid.

    Args:
        mask: boolean, (H, W) or (D, H, W); what lies beyond the edge counts as background.
        spacing: in array order.

    Returns:
        Length (2D) or area (3D) in units of the spacing, 0 where there is no surface; one larger than `mask` along
        each axis, element 0 is the corner before the first pixel.
    """
    return _sizes_by_code(spacing)[_neighbour_codes(mask)]


def _neighbour_codes(mask: Mask) -> NDArray[np.uint8]:
    """Which of the 4 or 8 pixels around every corner point are set, one bit each."""
    padded = np.pad(mask, 1)
    codes = np.zeros([length + 1 for length in mask.shape], np.uint8)
    for bit, offset in enumerate(product((0, 1), repeat=mask.ndim)):
        window = tuple(slice(start, start + length) for start, length in zip(offset, codes.shape, strict=True))
        codes |= padded[window].astype(np.uint8) << np.uint8(bit)
    return codes


@lru_cache(maxsize=64)
def _sizes_by_code(spacing: tuple[float, ...]) -> FloatArray:
    """Surfel size for each combination of set pixels; (16,) in 2D, (256,) in 3D."""
    ndim = len(spacing)
    corners = np.array(list(product((0, 1), repeat=ndim)))
    part_size = _contour_length if ndim == 2 else _surface_area
    sizes = np.zeros(2 ** len(corners))
    for code in range(len(sizes)):
        members = np.array([code >> bit & 1 for bit in range(len(corners))], dtype=bool)
        # The surface belongs to both sides. Seen from the smaller side, each part that is connected along the cell's
        # edges is cut off by a surface of its own, so that pixels that touch only diagonally stay apart.
        if members.sum() > len(corners) // 2:
            members = ~members
        parts, count = ndimage.label(members.reshape((2,) * ndim))
        for part in range(1, count + 1):
            sizes[code] += part_size(corners[parts.ravel() == part], np.array(spacing))
    sizes.setflags(write=False)
    return sizes


def _contour_length(corners: NDArray[np.int_], spacing: FloatArray) -> float:
    """Length of the line that cuts off one or two corners of a rectangle, through the midpoints of its sides."""
    if len(corners) == 1:
        return float(np.linalg.norm(spacing) / 2)
    return float(spacing[np.ptp(corners, axis=0) == 1][0])


def _surface_area(corners: NDArray[np.int_], spacing: FloatArray) -> float:
    """Area of the surface that cuts off one to four connected corners of a cuboid, through the edges' midpoints.

    Each planar piece is given by its normal vector, whose components are multiples of the cuboid's three face areas.
    """
    faces = np.prod(spacing) / spacing  # face area perpendicular to each axis
    slanted = float(np.linalg.norm(faces))  # the plane through three corners of the cuboid, doubled
    flat = np.ptp(corners, axis=0) == 0
    if len(corners) == 1:  # triangle
        return slanted / 8
    if len(corners) == 2:  # rectangle along the edge
        return float(np.linalg.norm(faces[flat]) / 2)
    if len(corners) == 3:  # half a face, and a trapezoid around the remaining corner of that face's plane
        return float(faces[flat][0]) / 2 + 3 / 8 * slanted
    if flat.any():  # four corners of a face: the middle plane
        return float(faces[flat][0])
    distances = np.abs(corners[:, None] - corners[None]).sum(axis=-1)
    neighbours = (distances == 1).sum(axis=0)
    if neighbours.max() == 3:  # a corner with its three neighbours: regular hexagon (stretched)
        return 3 / 4 * slanted
    # A chain of four corners, one edge along each axis: a hexagon that is not planar, as four triangles.
    inner = corners[neighbours == 2]
    middle = np.ptp(inner, axis=0) == 1
    hypotenuses = np.hypot(faces[middle][0], faces[~middle])
    return slanted / 2 + float(hypotenuses.sum()) / 4
