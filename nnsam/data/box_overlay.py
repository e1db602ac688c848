"""Pictures of masks and the boxes that asked for them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnsam.data.eight_bit import to_eight_bit
from nnsam.data.overlay import overlay

SLICES = 6
COLUMNS = 3
SMALLEST_SIDE, LARGEST_SIDE = 512, 2048  # of the longer side of one picture, in pixels
# The one that stands out most from what lies under the lines is taken: green, yellow, magenta.
LINE_COLORS = ((0, 255, 0), (255, 255, 0), (255, 0, 255))


def draw_segmentation(image: NDArray, labels: NDArray[np.integer], boxes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Draws filled masks and the outlines of the boxes over a picture, or over up to six slices of a volume.

    Small pictures are enlarged by a whole number, large ones thinned out. Lines run just outside the box, except at
    the image's edge. Slices are spread evenly over those that boxes cover, and marked with their number from 0.

    Args:
        image: (H, W) or (D, H, W), in colour with a last axis of 3; any real type.
        labels: (H, W) or (D, H, W), 0 is background.
        boxes: (N, 2 D), half-open in array order, whole pixels.

    Returns:
        (h, w, 3).
    """
    eight_bit = to_eight_bit(image)
    if labels.ndim == 2:
        return _draw_slice(eight_bit, labels, boxes)
    chosen = _choose_slices(boxes)
    return _montage([_draw_numbered(eight_bit, labels, boxes, index) for index in chosen])


def _choose_slices(boxes: NDArray[np.integer]) -> list[int]:
    """Up to `SLICES` indices, the centres of equal parts of the slices that the boxes cover."""
    first, last = int(boxes[:, 0].min()), int(boxes[:, 3].max())
    count = min(SLICES, last - first)
    return [int(first + (last - first) * (part + 0.5) / count) for part in range(count)]


def _draw_numbered(
    image: NDArray[np.uint8], labels: NDArray[np.integer], boxes: NDArray[np.integer], index: int
) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    here = boxes[(boxes[:, 0] <= index) & (index < boxes[:, 3])]
    picture = Image.fromarray(_draw_slice(image[index], labels[index], here[:, [1, 2, 4, 5]]))
    ImageDraw.Draw(picture).text((4, 4), f"slice {index}", fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(picture)


def _draw_slice(image: NDArray[np.uint8], labels: NDArray[np.integer], boxes: NDArray[np.integer]) -> NDArray[np.uint8]:
    longest = max(labels.shape)
    step = -(-longest // LARGEST_SIDE)
    factor = max(1, SMALLEST_SIDE // longest)
    picture = overlay(image[::step, ::step], labels[::step, ::step])
    picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    lines = _outlines(picture.shape[:2], np.asarray(boxes) * factor // step)
    if lines.any():
        under = picture[lines].astype(float)
        picture[lines] = max(LINE_COLORS, key=lambda color: np.abs(under - color).sum(axis=-1).mean())
    return picture


def _outlines(shape: Sequence[int], boxes: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Where the outlines of half-open boxes (y0, x0, y1, x1) run in a picture of this shape."""
    width = max(1, round(min(shape) / 400))
    lines = np.zeros(tuple(shape), dtype=bool)
    for y0, x0, y1, x1 in boxes:
        top, left = max(0, y0 - width), max(0, x0 - width)
        bottom, right = min(shape[0], y1 + width), min(shape[1], x1 + width)
        lines[top : top + width, left:right] = True
        lines[max(0, bottom - width) : bottom, left:right] = True
        lines[top:bottom, left : left + width] = True
        lines[top:bottom, max(0, right - width) : right] = True
    return lines


def _montage(pictures: Sequence[NDArray[np.uint8]], gap: int = 4) -> NDArray[np.uint8]:
    """Lays pictures of one size in rows of `COLUMNS`."""
    height, width = (side + gap for side in pictures[0].shape[:2])
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height - gap, columns * width - gap, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height - gap, left : left + width - gap] = picture
    return sheet
