"""Signed distance of a mask to its boundary, in pixels: the level set of Osher and Sethian (1988).

Convention: negative inside, positive outside, zero on the boundary *between* pixels, so that the distance of the
complement is exactly the negative.

**Where the boundary lies.** A distance transform gives the vector v from a pixel to the nearest pixel of the other
side. All pixels nearer than |v| are on the pixel's own side; let s < |v| be how far they reach in the direction of v.
A straight boundary has to pass between s and |v|, so the middle is taken: d = |v| - c with c = (|v| - s) / 2.
Among the 8 steps u to a neighbour this is c = min(u·v) / (2 |v|) over those with |v - u| < |v|. It is exact, 1/2, on
edges along the axes, and where v is diagonal, sqrt(2)/4.

Root-mean-square error against the shape that was sampled, within 10 pixels of the boundary, and mean error of |d|
(disks at random sub-pixel positions; half-planes likewise; 0.29 is the noise of sampling alone, 1/sqrt(12), for an edge
along an axis):

================================  =============  =============  =============
correction c                      disk r = 20    plane 22.5°    plane 45°
================================  =============  =============  =============
1/2                               0.26, -0.17    0.28, -0.22    0.23, -0.10
max|v_i| / (2 |v|)                0.23, -0.12    0.25, -0.18    0.19, +0.02
this one                          0.19, -0.00    0.15, +0.01    0.21, +0.05
================================  =============  =============  =============

The module imports no torch: it runs in data-loading workers.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError

#: Distance in pixels at which the squashed level set reaches tanh(1) = 0.76, unless a caller says otherwise.
BAND = 8.0

_NEIGHBOURS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))


def relative_spacing(spacing: Sequence[float] | None) -> tuple[float, float]:
    """Returns the pixel's height and width in units of the square pixel with the same area.

    Distances and curvatures keep the unit 'pixel' on an anisotropic grid: multiply a distance by
    ``sqrt(spacing_y * spacing_x)`` to get millimetres.

    Args:
        spacing: (height, width) of a pixel in any unit, array order (y, x); None for square pixels.

    Example:
        >>> relative_spacing((2.0, 0.5))
        (2.0, 0.5)
        >>> relative_spacing((4.0, 1.0))
        (2.0, 0.5)
    """
    if spacing is None:
        return 1.0, 1.0
    values = [float(value) for value in spacing]
    if len(values) != 2 or not all(np.isfinite(value) and value > 0 for value in values):
        raise InputError(
            f"Spacing {tuple(spacing)} is not two positive numbers (y, x); pass the in-plane spacing only."
        )
    unit = (values[0] * values[1]) ** 0.5
    return values[0] / unit, values[1] / unit


def squash(distance: NDArray[np.floating], band: float = BAND) -> NDArray[np.float32]:
    """Maps distances to [-1, 1] by tanh(d / band): linear beside the boundary, flat far away; inf gives 1, NaN stays.

    Args:
        distance: Signed distance in pixels, any shape.
        band: Scale in pixels, positive.

    Example:
        >>> squash(np.array([-np.inf, 0.0, 8.0]), band=8.0).round(3).tolist()
        [-1.0, 0.0, 0.7620000243186951]
    """
    if not band > 0:
        raise InputError(f"The band of a level set is {band} pixels, but has to be positive.")
    return np.tanh(np.asarray(distance, dtype=np.float32) / np.float32(band))


def signed_distance(
    mask: NDArray[Any],
    spacing: Sequence[float] | None = None,
    *,
    ignored: NDArray[Any] | None = None,
    max_distance: float | None = None,
) -> NDArray[np.float32]:
    """Computes the signed Euclidean distance to the boundary of each 2D mask.

    The boundary is what is visible in the array: an object that the array's border cuts has no boundary along the cut.
    An empty mask is infinitely far from its boundary (+inf), a full one infinitely deep (-inf).

    Args:
        mask: Shape (..., H, W); bool, or numbers of which all but 0 are inside.
        spacing: (y, x) size of a pixel in any unit; distances are in pixels of the same area, see
            :func:`relative_spacing`. With square pixels the result turns and flips exactly with the mask; with others
            a pixel that has several nearest pixels takes one of them.
        ignored: Same shape or broadcastable to it: pixels of unknown label. They are neither in- nor outside, so there
            is no boundary where a known area meets them; the distance is that to the nearest pixel *known* to be on
            the other side. Ignored pixels themselves are NaN.
        max_distance: Distances beyond it, in pixels, come back as +inf or -inf; the rest is exact. Much faster for
            small objects.

    Returns:
        Shape (..., H, W), float32, pixels, negative inside. No pixel of a finite map is 0.

    Example:
        >>> signed_distance(np.array([[0, 0, 1, 1, 1]])).tolist()
        [[1.5, 0.5, -0.5, -1.5, -2.5]]
    """
    inside = np.asarray(mask)
    if inside.ndim < 2:
        raise InputError(f"A mask of shape {inside.shape} has no height and width: (..., H, W) is needed.")
    if inside.dtype != np.bool_:
        inside = inside != 0
    unknown = None if ignored is None else np.broadcast_to(np.asarray(ignored, dtype=bool), inside.shape)
    pixel = relative_spacing(spacing)
    result = np.empty(inside.shape, dtype=np.float32)
    for index in np.ndindex(*inside.shape[:-2]):
        result[index] = _distance_2d(inside[index], None if unknown is None else unknown[index], pixel, max_distance)
    return result


def _distance_2d(
    inside: NDArray[np.bool_],
    unknown: NDArray[np.bool_] | None,
    pixel: tuple[float, float],
    max_distance: float | None,
) -> NDArray[np.float32]:
    result = np.where(inside, np.float32(-np.inf), np.float32(np.inf))
    outside = ~inside
    if unknown is not None:
        result[unknown] = np.nan
        inside, outside = inside & ~unknown, outside & ~unknown
    boxes = _bounding_box(inside), _bounding_box(outside)
    if not all(boxes):
        return result
    if max_distance is None:
        margins = inside.shape
    else:
        # Half a diagonal step, the most that c can be, is shorter than the longer side of a pixel.
        margins = tuple(int((max_distance + max(pixel)) / size) + 1 for size in pixel)
    # A pixel within reach of the other side, and its nearest pixel there, lie in both boxes grown by the reach.
    window = _intersection(_grown(boxes[0], margins), _grown(boxes[1], margins))
    for side, other, box, sign in ((inside, outside, boxes[0], -1), (outside, inside, boxes[1], 1)):
        # The step from the nearest pixel of the other side towards this one ends on this side, unless it is unknown.
        area = window if unknown is not None else _intersection(window, _grown(box, (1, 1)))
        slices = tuple(slice(max(0, low), max(0, high)) for low, high in area)
        if side[slices].any() and other[slices].any():
            distance = _distance_to(other[slices], pixel)
            if max_distance is not None:
                distance[distance > max_distance] = np.inf
            np.copyto(result[slices], sign * distance, where=side[slices])
    return result


def _distance_to(features: NDArray[np.bool_], pixel: tuple[float, float]) -> NDArray[np.float32]:
    """Distance (H, W) of every other pixel to the boundary before the nearest true pixel."""
    from scipy import ndimage  # a quarter of a second, which whatever else imports this package is spared

    y, x = ndimage.distance_transform_edt(~features, sampling=pixel, return_distances=False, return_indices=True)
    y -= np.arange(y.shape[0], dtype=y.dtype)[:, None]
    x -= np.arange(x.shape[1], dtype=x.dtype)
    np.abs(y, out=y)
    np.abs(x, out=x)
    length = _length_table(int(y.max()) + 1, int(x.max()) + 1, pixel)
    y *= length.shape[1]
    y += x
    return length.ravel().take(y)


_Box = tuple[tuple[int, int], ...]


def _bounding_box(side: NDArray[np.bool_]) -> _Box:
    """((first, last + 1) row, (first, last + 1) column); empty if nothing is true."""
    rows, columns = np.flatnonzero(side.any(axis=1)), np.flatnonzero(side.any(axis=0))
    return tuple((int(at[0]), int(at[-1]) + 1) for at in (rows, columns)) if rows.size else ()


def _grown(box: _Box, margins: tuple[int, ...]) -> _Box:
    return tuple((low - margin, high + margin) for (low, high), margin in zip(box, margins, strict=True))


def _intersection(first: _Box, second: _Box) -> _Box:
    return tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(first, second, strict=True))


@functools.lru_cache(maxsize=8)
def _rounded_length_table(height: int, width: int, pixel: tuple[float, float]) -> NDArray[np.float32]:
    y, x = np.mgrid[:height, :width] * np.array(pixel)[:, None, None]
    length = np.hypot(y, x)
    gap = np.full(length.shape, np.inf)
    for step_y, step_x in _NEIGHBOURS:
        u_y, u_x = step_y * pixel[0], step_x * pixel[1]
        along = u_y * y + u_x * x
        nearer = 2 * along > (u_y * u_y + u_x * u_x) * (1 + 1e-9)
        np.minimum(gap, along, out=gap, where=nearer)
    gap[0, 0] = 0
    gap /= 2 * np.maximum(length, 1e-9)
    if pixel[0] == pixel[1]:
        # Vectors of equal length, such as (5, 0) and (3, 4), may both lead to a nearest pixel. One value for all of
        # them makes the result independent of the order in which pixels are visited. The largest keeps axes exact.
        squared = np.rint((y * y + x * x) / pixel[0] ** 2).astype(np.int64)
        largest = np.zeros(int(squared.max()) + 1)
        np.maximum.at(largest, squared.ravel(), gap.ravel())
        gap = largest[squared]
    table = (length - gap).astype(np.float32)
    table.setflags(write=False)
    return table


def _length_table(height: int, width: int, pixel: tuple[float, float]) -> NDArray[np.float32]:
    """Distance to the boundary by |vector| to the nearest pixel of the other side; steps of 64 keep the cache small."""
    return _rounded_length_table(-(-height // 64) * 64, -(-width // 64) * 64, pixel)


#: Largest error that an unseen boundary may cause in the squashed level set before a pixel counts as unknown.
UNSEEN_TOLERANCE = 0.05

#: tanh(4) = 0.9993: farther away the squashed level set is constant for every practical purpose.
_CUT_OFF_IN_BANDS = 4.0


def level_set_target(
    mask: NDArray[Any],
    ignored: NDArray[Any] | None = None,
    *,
    band: float = BAND,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Computes tanh(d / band) of the signed distance d, and marks what ignored pixels leave undetermined.

    An ignored area may hide anything, so the true distance lies between ``min(|d|, e)`` and ``|d|``, where d is the
    distance to the nearest *known* pixel of the other side and e that to the ignored area. A pixel is kept if the
    squashed value differs by less than :data:`UNSEEN_TOLERANCE` between the two ends: pixels nearer to a known boundary
    than to the ignored area, and pixels far from both.

    Args:
        mask: Shape (..., H, W), inside where not 0.
        ignored: True where the label is unknown; broadcastable to `mask`. None: everything is known.
        band: Scale in pixels, see :func:`nnsam.geometry.squash`.
        spacing: (y, x) size of a pixel, see :func:`nnsam.geometry.signed_distance`.

    Returns:
        Shape (..., H, W), float32 in [-1, 1], negative inside, NaN where unknown. Beyond 4 bands it is exactly -1 or 1.

    Example:
        >>> mask = np.zeros((1, 40), dtype=bool)
        >>> level_set_target(mask, np.arange(40)[None] < 10)[0, [5, 12, 39]].tolist()
        [nan, nan, 1.0]
    """
    reach = _CUT_OFF_IN_BANDS * band
    if ignored is None or not np.any(ignored):
        return squash(signed_distance(mask, spacing, max_distance=reach), band)
    distance = signed_distance(mask, spacing, ignored=ignored, max_distance=reach)
    to_ignored = np.maximum(signed_distance(ignored, spacing, max_distance=reach), 0)
    farthest = np.abs(distance)
    nearest = np.minimum(farthest, to_ignored)
    target = squash(distance, band)
    # NaN (ignored) pixels compare false and stay NaN.
    target[squash(farthest, band) - squash(nearest, band) >= UNSEEN_TOLERANCE] = np.nan
    return target
