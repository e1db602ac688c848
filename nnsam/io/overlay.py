"""Pictures of a segmentation over its image: filled prediction, outlined reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.image import to_eight_bit
from nnsam.support.files import atomic_file

RGB = tuple[int, int, int]

# Label 1, 2, ...; repeated after the last. Okabe and Ito's palette, told apart with any colour vision, lightened where
# it would be too dark on a grey image.
COLORS: tuple[RGB, ...] = (
    (230, 90, 60),
    (86, 180, 233),
    (0, 190, 130),
    (240, 228, 66),
    (214, 120, 190),
    (80, 120, 230),
    (230, 159, 0),
)


class OverlayCase(NamedTuple):
    """One picture of `write_overlays`.

    Attributes:
        title: printed above.
        image: see `overlay`.
        prediction: see `overlay`.
        reference: see `overlay`.
    """

    title: str
    image: NDArray
    prediction: NDArray[np.integer] | None
    reference: NDArray[np.integer] | None = None


def overlay(
    image: NDArray,
    prediction: NDArray[np.integer] | None,
    reference: NDArray[np.integer] | None = None,
    *,
    colors: Mapping[int, RGB] | Sequence[RGB] = COLORS,
    alpha: float = 0.4,
) -> NDArray[np.uint8]:
    """Lays a translucent prediction and the reference's contours over an image.

    Contours run along the inner border of each label, one pixel wide, in the label's colour, so that red fill beyond
    a red line is over-segmentation. 8-bit images keep their intensities; others are stretched from their 0.5th to
    their 99.5th percentile.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3), any real type; nan counts as the lowest value.
        prediction: label map (H, W), 0 is background; None for the image and contours only.
        reference: label map (H, W), or None.
        colors: label -> RGB 0..255, or the colours of labels 1, 2, ..., repeated where there are more labels.
        alpha: opacity of the fill, 0..1.

    Returns:
        (H, W, 3), 0..255; the inputs are not changed.

    Raises:
        InputError: not one 2D image, or label maps of another shape.

    Example:
        >>> picture = overlay(np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8), alpha=1.0)
        >>> picture[0, 0].tolist(), picture[0, 1].tolist()
        ([230, 90, 60], [0, 0, 0])
    """
    picture = _as_rgb(image)
    for name, labels in (("prediction", prediction), ("reference", reference)):
        if labels is not None and labels.shape != picture.shape[:2]:
            raise InputError(f"The {name} has shape {labels.shape}, the image {picture.shape[:2]}.")
    if prediction is not None:
        for value in _labels(prediction):
            fill = prediction == value
            picture[fill] += alpha * (np.array(_color(value, colors)) - picture[fill])
    if reference is not None:
        for value in _labels(reference):
            picture[_contour(reference == value)] = _color(value, colors)
    return np.round(picture).astype(np.uint8)


def write_overlays(
    path: str | Path, cases: Sequence[OverlayCase], *, label_names: Mapping[int, str] | None = None, columns: int = 4
) -> None:
    """Writes a PNG with one titled overlay per case in a grid, and a legend of the labels.

    Args:
        path: file to write or replace, *.png; appears complete or not at all.
        cases: at least one.
        label_names: label -> name for the legend; no legend without.
        columns: pictures per row, at most.

    Raises:
        InputError: no case, or see `overlay`.
    """
    if not cases:
        raise InputError("There is nothing to draw: no case was given.")
    # The object-oriented way, because pyplot would choose a window system and keep the figure.
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    pictures = [overlay(case.image, case.prediction, case.reference) for case in cases]
    columns = min(columns, len(cases))
    rows = -(-len(cases) // columns)
    aspect = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    figure = Figure(figsize=(3 * columns, rows * (3 * aspect + 0.35) + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, case, picture in zip(axes, cases, pictures, strict=False):
        axis.imshow(picture)
        axis.set_title(case.title, fontsize=9)
    if label_names:
        patches = [Patch(color=_fraction(_color(value, COLORS)), label=name) for value, name in label_names.items()]
        ncols = min(len(patches), 3 * columns)  # a picture is wide enough for three names
        figure.legend(handles=patches, loc="outside lower center", ncols=ncols, fontsize=8, frameon=False)
    figure.suptitle("filled: prediction, line: reference", fontsize=9)
    with atomic_file(path) as draft:
        figure.savefig(draft, dpi=110, format="png")


def _as_rgb(image: NDArray) -> NDArray[np.float64]:
    """Copy as (H, W, 3) floats, 0..255."""
    values = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[-1] != 3) or values.size == 0:
        raise InputError(f"The image must be (H, W) or (H, W, 3); found shape {image.shape}.")
    picture = values.astype(np.float64)
    if image.dtype != np.uint8:
        finite = picture[np.isfinite(picture)]
        low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
        # A constant image has no contrast to show; it becomes black rather than a division by zero.
        picture = (np.nan_to_num(picture, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-12)
        picture = 255 * picture.clip(0, 1)
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)


def _labels(labels: NDArray[np.integer]) -> list[int]:
    return [int(value) for value in np.unique(labels) if value != 0]


def _color(value: int, colors: Mapping[int, RGB] | Sequence[RGB]) -> RGB:
    if isinstance(colors, Mapping):
        return colors.get(value, COLORS[(value - 1) % len(COLORS)])
    return colors[(value - 1) % len(colors)]


def _fraction(color: RGB) -> tuple[float, float, float]:
    return color[0] / 255, color[1] / 255, color[2] / 255


def _contour(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the mask that have a neighbour outside; the image's edge counts as inside, it is no boundary."""
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask, border_value=1)


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
