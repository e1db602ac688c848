"""Distances between the surfaces of two masks, weighted by surface size."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnsam.errors import InputError
from nnsam.metrics.masks import Mask, check_masks, check_spacing

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


EMPTY_POLICIES = ("nan", "worst")


@dataclass(frozen=True)
class SurfaceDistances:
    """Nearest distances between two surfaces; each pair of arrays is sorted by distance.

    Attributes:
        from_prediction: distance of each of the prediction's surfels to the nearest one of the reference, inf where
            the reference is empty; in units of the spacing.
        prediction_sizes: the surfels' lengths (2D) or areas (3D).
        from_reference: as `from_prediction`, the other way.
        reference_sizes: as `prediction_sizes`.
        diagonal: of the image, in units of the spacing; no distance can be larger.
    """

    from_prediction: FloatArray
    prediction_sizes: FloatArray
    from_reference: FloatArray
    reference_sizes: FloatArray
    diagonal: float

    def undefined(self, empty: str) -> float | None:
        """The distance that policy `empty` gives if a surface is missing, None if both exist."""
        if empty not in EMPTY_POLICIES:
            raise InputError(f"empty must be one of {', '.join(EMPTY_POLICIES)}; found {empty!r}.")
        missing = (len(self.prediction_sizes) == 0) + (len(self.reference_sizes) == 0)
        if missing == 0:
            return None
        return self.diagonal if missing == 1 and empty == "worst" else float("nan")

    def average(self, empty: str = "nan") -> float:
        """Average symmetric surface distance, see `average_surface_distance`."""
        undefined = self.undefined(empty)
        if undefined is not None:
            return undefined
        distances = np.concatenate([self.from_prediction, self.from_reference])
        return float(np.average(distances, weights=np.concatenate([self.prediction_sizes, self.reference_sizes])))

    def robust_hausdorff(self, percent: float, empty: str = "nan") -> float:
        """Larger of the two directions' distances at `percent` of the surface, see `hausdorff95`."""
        undefined = self.undefined(empty)
        if undefined is not None:
            return undefined
        return max(
            _weighted_percentile(self.from_prediction, self.prediction_sizes, percent),
            _weighted_percentile(self.from_reference, self.reference_sizes, percent),
        )

    def dice(self, tolerance: float) -> float:
        """Surface Dice, see `surface_dice`."""
        if not tolerance >= 0:
            raise InputError(f"The tolerance must be at least 0; found {tolerance}.")
        total = self.prediction_sizes.sum() + self.reference_sizes.sum()
        if total == 0:
            return float("nan")
        near_prediction = self.prediction_sizes[self.from_prediction <= tolerance].sum()
        near_reference = self.reference_sizes[self.from_reference <= tolerance].sum()
        return float((near_prediction + near_reference) / total)


def surface_distances(prediction: Mask, reference: Mask, spacing: Sequence[float] | None = None) -> SurfaceDistances:
    """Measures the nearest distances between two surfaces once, for all metrics that build on them.

    Args:
        prediction: boolean, (H, W) or (D, H, W).
        reference: boolean, of the same shape.
        spacing: pixel size in array order, (y, x) or (z, y, x); needed in 3D; without it 2D distances are in pixels.
    """
    check_masks(prediction, reference)
    sampling = check_spacing(spacing, prediction.ndim)
    diagonal = float(np.linalg.norm(np.array(prediction.shape) * sampling))
    window = _bounding_box(prediction | reference)
    sizes = [surfel_sizes(mask[window], sampling) for mask in (prediction, reference)]
    nearest = [
        # The transform measures the way to the nearest zero, and needs one.
        ndimage.distance_transform_edt(size == 0, sampling=sampling) if size.any() else np.full(size.shape, np.inf)
        for size in sizes
    ]
    return SurfaceDistances(*_sorted_pair(nearest[1], sizes[0]), *_sorted_pair(nearest[0], sizes[1]), diagonal=diagonal)


def average_surface_distance(
    prediction: Mask, reference: Mask, spacing: Sequence[float] | None = None, *, empty: str = "nan"
) -> float:
    """Average symmetric surface distance (ASD, also ASSD), pooled over both surfaces.

    Sum over both surfaces of distance times surfel size, divided by the sum of all sizes. Pooling gives each
    millimetre of surface the same say, as in surface Dice and in MedPy's and MONAI's ASSD. The mean of the two
    directed means (DeepMind's two values averaged; "MASD") differs where the surfaces differ in size.

    Args:
        prediction: boolean, (H, W) or (D, H, W).
        reference: boolean, of the same shape.
        spacing: pixel size in array order, (y, x) or (z, y, x); needed in 3D; without it 2D distances are in pixels.
        empty: where exactly one mask is empty, "nan" gives nan, "worst" the image's diagonal. Both empty: nan.

    Returns:
        0 (equal surfaces) or more, in units of the spacing.

    Raises:
        InputError: arrays not boolean or not of one shape, a bad spacing, an unknown policy.

    Example:
        >>> square = np.zeros((9, 9), bool)
        >>> square[2:6, 2:6] = True
        >>> average_surface_distance(square, square, spacing=(0.5, 0.5))
        0.0
    """
    return surface_distances(prediction, reference, spacing).average(empty)


def hausdorff95(
    prediction: Mask, reference: Mask, spacing: Sequence[float] | None = None, *, empty: str = "nan"
) -> float:
    """Robust Hausdorff distance: within it lie 95 % of each surface, by size, of the other one.

    The percentile is taken in each direction without interpolation, then the larger one counts (as DeepMind's; tools
    that pool both directions before taking the percentile report less).

    Args:
        prediction: boolean, (H, W) or (D, H, W).
        reference: boolean, of the same shape.
        spacing: pixel size in array order, (y, x) or (z, y, x); needed in 3D; without it 2D distances are in pixels.
        empty: where exactly one mask is empty, "nan" gives nan, "worst" the image's diagonal. Both empty: nan.

    Returns:
        0 or more, in units of the spacing.

    Raises:
        InputError: arrays not boolean or not of one shape, a bad spacing, an unknown policy.
    """
    return surface_distances(prediction, reference, spacing).robust_hausdorff(95, empty)


def surface_dice(
    prediction: Mask, reference: Mask, spacing: Sequence[float] | None = None, *, tolerance: float
) -> float:
    """Surface Dice, also normalised surface distance (NSD): share of both surfaces within `tolerance` of the other.

    Args:
        prediction: boolean, (H, W) or (D, H, W).
        reference: boolean, of the same shape.
        spacing: pixel size in array order, (y, x) or (z, y, x); needed in 3D; without it 2D distances are in pixels.
        tolerance: largest distance that counts as equal, in units of the spacing.

    Returns:
        0 (also where only one mask is empty) to 1; nan where both are empty.

    Raises:
        InputError: arrays not boolean or not of one shape, a bad spacing, a negative tolerance.
    """
    return surface_distances(prediction, reference, spacing).dice(tolerance)


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Smallest box around the set pixels; an empty mask gives one pixel, on which nothing is measured."""
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    return boxes[0] if boxes else (slice(0, 1),) * mask.ndim


def _sorted_pair(distances: FloatArray, sizes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distances and sizes at the surfels, by increasing distance."""
    at_surfels = sizes > 0
    order = np.lexsort((sizes[at_surfels], distances[at_surfels]))
    return distances[at_surfels][order], sizes[at_surfels][order]


def _weighted_percentile(distances: FloatArray, sizes: FloatArray, percent: float) -> float:
    """Smallest distance within which `percent` of the total size lies; `distances` are sorted."""
    share = np.cumsum(sizes) / sizes.sum()
    return float(distances[min(int(np.searchsorted(share, percent / 100)), len(distances) - 1)])
