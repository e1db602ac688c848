"""Segmentation from a box without any training: what a box-prompt network has to beat."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.errors import InputError, SetupError
from nnsam.geometry.boxes import clip, expand, sides, slices
from nnsam.io.image import to_eight_bit, to_rgb

# GrabCut sees the box with half of its side (at least so many pixels) on each side, shrunk to at most this side.
GRABCUT_MARGIN = 0.5
GRABCUT_MIN_MARGIN = 16
GRABCUT_MAX_SIDE = 512
GRABCUT_ITERATIONS = 5


def inscribed_ellipse(box: ArrayLike, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Draws the ellipse that touches all sides of a box (for volumes the ellipsoid): area pi / 4 * height * width.

    Args:
        box: (y0, x0, y1, x1) or (z0, y0, x0, z1, y1, x1), half-open.
        shape: of the image, with as many axes.

    Returns:
        Boolean, of this shape: the pixels whose centre lies in the ellipse. A box of one pixel gives that pixel.

    Example:
        >>> int(inscribed_ellipse([0, 0, 200, 100], (200, 100)).sum()), round(np.pi / 4 * 200 * 100)
        (15708, 15708)
    """
    corners = np.asarray(box, dtype=np.float64)
    distance = np.zeros(tuple(shape))
    for axis, size in enumerate(shape):
        low, high = corners[axis], corners[axis + len(shape)]
        relative = (2 * (np.arange(size) + 0.5) - low - high) / (high - low)
        distance = distance + (relative**2).reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return distance < 1


def grabcut(image: NDArray, box: ArrayLike) -> NDArray[np.bool_]:
    """Segments the object in a box with OpenCV's GrabCut (Rother et al., SIGGRAPH 2004), started from the rectangle.

    Five iterations on the box and its surroundings, which are shrunk where they are larger than 512 pixels. The result
    does not depend on earlier calls: OpenCV's random generator is set before. Where object and surroundings look alike,
    as in many grey images, GrabCut calls everything background; such empty masks are left as they are.

    Args:
        image: (H, W) or (H, W, 3), any real type.
        box: (y0, x0, y1, x1), half-open, inside the image.

    Returns:
        (H, W) boolean, nothing outside the box. Where no background is left around the box the whole box.

    Raises:
        SetupError: OpenCV is not installed.
        InputError: a volume.
    """
    cv2 = import_opencv()
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3):
        raise InputError(f"GrabCut segments pictures, (H, W) or (H, W, 3); found shape {image.shape}.")
    shape = image.shape[:2]
    region = _surroundings(box, shape)
    picture = to_rgb(to_eight_bit(image), image.ndim == 3)[slices(region)]
    inner = np.asarray(box, dtype=np.float64) - np.tile(region[:2], 2)
    scale = min(1.0, GRABCUT_MAX_SIDE / max(picture.shape[:2]))
    if scale < 1:
        size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    found = _grabcut_in_rectangle(cv2, np.ascontiguousarray(picture), _rectangle(inner * scale, picture.shape))
    full_size = [int(side) for side in sides(region)[::-1]]
    found = cv2.resize(found.astype(np.uint8), full_size, interpolation=cv2.INTER_NEAREST).astype(bool)
    result = np.zeros(shape, bool)
    result[slices(region)] = found
    outside = np.ones(shape, bool)
    outside[slices(box)] = False
    result[outside] = False
    return result


def import_opencv() -> Any:
    """Returns OpenCV's module `cv2`; raises SetupError where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise SetupError('GrabCut needs OpenCV; install it with: pip install "nnsam[bench]"') from error
    return cv2


def _surroundings(box: ArrayLike, shape: Sequence[int]) -> NDArray[np.int64]:
    margin = np.maximum(GRABCUT_MIN_MARGIN, np.ceil(GRABCUT_MARGIN * sides(box))).astype(np.int64)
    return clip(expand(np.asarray(box, dtype=np.int64), margin), shape)


def _rectangle(box: NDArray[np.float64], shape: Sequence[int]) -> tuple[int, int, int, int]:
    """OpenCV's (x, y, width, height), in whole pixels, at least one."""
    low = np.minimum(np.floor(box[:2]).astype(int), np.array(shape[:2]) - 1)
    high = np.clip(np.ceil(box[2:] - 1e-6).astype(int), low + 1, shape[:2])
    return int(low[1]), int(low[0]), int(high[1] - low[1]), int(high[0] - low[0])


def _grabcut_in_rectangle(cv2: Any, picture: NDArray, rectangle: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    if rectangle[2:] == picture.shape[1::-1]:  # no background to learn from, which OpenCV refuses
        return np.ones(picture.shape[:2], bool)
    labels = np.zeros(picture.shape[:2], np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, rectangle, *models, GRABCUT_ITERATIONS, cv2.GC_INIT_WITH_RECT)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
