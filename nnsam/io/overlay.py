"""Pictures of a segmentation over its image: filled prediction, outlined reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
FILL = 0.25
_HALO, _NUMBER = (0, 0, 0), (255, 255, 255)
_LEGEND, _TEXT = (28, 28, 28), (240, 240, 240)
_LEGEND_ROWS = 24


class DrawnObject(NamedTuple):
    """One object of `draw_segmentation`.

    Attributes:
        box: (2 D,), half-open in array order, whole pixels.
        mask: of the box's shape.
        caption: in the legend, behind the object's number.
    """

    box: NDArray[np.integer]
    mask: NDArray[np.bool_]
    caption: str = ""


def draw_segmentation(image: NDArray, objects: Sequence[DrawnObject]) -> NDArray[np.uint8]:
    """Draws the objects in boxes over a picture, or over up to six slices of a volume, with a legend below.

    Each object has a colour and a number, counted from 1, for its box, its contour, a light fill, and its line in the
    legend. Lines have a dark rim, so that they are seen on bright and on dark ground, and numbers are white on black
    with a rim in the object's colour. Small pictures are enlarged by a
    whole number, large ones thinned out. The lines of boxes run just outside of them, except at the image's edge.
    Slices are spread evenly over those that boxes cover, and marked with their number from 0.

    Args:
        image: (H, W) or (D, H, W), in colour with a last axis of 3; any real type.
        objects: at least one.

    Returns:
        (h, w, 3).
    """
    eight_bit = to_eight_bit(image)
    if objects[0].mask.ndim == 2:
        picture = _draw_slice(eight_bit, dict(enumerate(objects)))
    else:
        chosen = _choose_slices(np.array([one.box for one in objects]))
        picture = _montage([_draw_numbered(eight_bit[index], objects, index) for index in chosen])
    return np.concatenate([picture, _legend(objects, picture.shape[1])])


def color_of(number: int) -> RGB:
    """The colour of object or label 1, 2, ..."""
    return COLORS[(number - 1) % len(COLORS)]


def _choose_slices(boxes: NDArray[np.integer]) -> list[int]:
    """Up to `SLICES` indices, the centres of equal parts of the slices that the boxes cover."""
    first, last = int(boxes[:, 0].min()), int(boxes[:, 3].max())
    count = min(SLICES, last - first)
    return [int(first + (last - first) * (part + 0.5) / count) for part in range(count)]


def _draw_numbered(image: NDArray[np.uint8], objects: Sequence[DrawnObject], index: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    here = {
        number: DrawnObject(one.box[[1, 2, 4, 5]], one.mask[index - int(one.box[0])])
        for number, one in enumerate(objects)
        if one.box[0] <= index < one.box[3]
    }
    picture = Image.fromarray(_draw_slice(image, here))
    draw = ImageDraw.Draw(picture)
    draw.text((4, 4), f"slice {index}", fill=_TEXT, font=_font(16), stroke_width=2, stroke_fill=_HALO)
    return np.asarray(picture)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _draw_slice(image: NDArray[np.uint8], objects: Mapping[int, DrawnObject]) -> NDArray[np.uint8]:
    """Objects by their index, with boxes of 4 numbers, over (H, W) or (H, W, 3)."""
    from PIL import Image, ImageDraw

    longest = max(image.shape[:2])
    step = -(-longest // LARGEST_SIDE)
    factor = max(1, SMALLEST_SIDE // longest)
    picture = _as_rgb(image[::step, ::step]).repeat(factor, axis=0).repeat(factor, axis=1)
    width = max(1, round(min(picture.shape[:2]) / 400))
    masks = {index: _enlarged(one, step, factor, picture.shape, 2 * width) for index, one in objects.items()}
    for index, (place, mask) in masks.items():
        picture[place][mask] += FILL * (np.array(color_of(index + 1)) - picture[place][mask])
    for place, mask in masks.values():
        picture[place][_ring(mask, width, outside=True)] = _HALO
    for index, (place, mask) in masks.items():
        picture[place][_ring(mask, width, outside=False)] = color_of(index + 1)
    boxes = {index: _scaled(one.box, step, factor) for index, one in objects.items()}
    for index, box in boxes.items():
        _draw_box(picture, box, width, color_of(index + 1))
    drawn = Image.fromarray(np.round(picture).astype(np.uint8))
    draw = ImageDraw.Draw(drawn)
    font = _font(max(18, 8 * width + 10))
    taken: list[_Place] = []
    for index, box in boxes.items():
        corner, space = _free_corner(draw, str(index + 1), font, box, width, taken)
        taken.append(space)
        # White on black is found over the object's own fill, too; the rim in its colour says whose number it is.
        for stroke, ink in ((2 * width + 1, color_of(index + 1)), (width + 1, _HALO)):
            draw.text(corner, str(index + 1), fill=_NUMBER, font=font, stroke_width=stroke, stroke_fill=ink)
    return np.asarray(drawn)


_Place = tuple[float, float, float, float]


def _free_corner(
    draw: Any, text: str, font: Any, box: Sequence[int], width: int, taken: Sequence[_Place]
) -> tuple[tuple[float, float], _Place]:
    """Where a box's number goes: the first of its corners where no other number is, and the space that it takes."""
    y0, x0, y1, x1 = box
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font, stroke_width=2 * width + 1)
    near, far_x, far_y = 2 * width, x1 - 2 * width - right, y1 - 2 * width - bottom
    corners = [(x0 + near, y0 + near), (far_x, y0 + near), (x0 + near, far_y), (far_x, far_y)]
    for x, y in corners:
        place = (x + left, y + top, x + right, y + bottom)
        if not any(_meet(place, other) for other in taken):
            return (x, y), place
    x, y = corners[0]
    return corners[0], (x + left, y + top, x + right, y + bottom)


def _meet(one: _Place, other: _Place) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _scaled(box: NDArray[np.integer], step: int, factor: int) -> tuple[int, int, int, int]:
    """A box in a picture that shows every `step`-th pixel `factor` times."""
    y0, x0, y1, x1 = (-(-int(side) // step) * factor for side in box)
    return y0, x0, max(y1, y0 + 1), max(x1, x0 + 1)


def _enlarged(
    one: DrawnObject, step: int, factor: int, shape: Sequence[int], margin: int
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Where an object's mask lies in the drawn picture, with a margin as far as the picture goes, and the mask."""
    spans, places, pads = [], [], []
    for axis in range(2):
        start, stop = int(one.box[axis]), int(one.box[axis + 2])
        shown = np.arange(-(-start // step), -(-stop // step))
        spans.append(shown * step - start)
        low = int(shown[0]) * factor if shown.size else 0
        high = low + shown.size * factor
        outer = max(0, low - margin), min(shape[axis], high + margin)
        places.append(slice(*outer))
        pads.append((low - outer[0], outer[1] - high))
    mask = one.mask[np.ix_(*spans)].repeat(factor, axis=0).repeat(factor, axis=1)
    return (places[0], places[1]), np.pad(mask, pads)


def _ring(mask: NDArray[np.bool_], width: int, *, outside: bool) -> NDArray[np.bool_]:
    """Pixels within `width` of a mask's boundary, inside or outside of it."""
    from scipy import ndimage

    if not mask.any():
        return mask
    square = np.ones((3, 3), bool)
    if outside:
        return ndimage.binary_dilation(mask, square, iterations=width) & ~mask
    return mask & ~ndimage.binary_erosion(mask, square, iterations=width, border_value=1)


def _draw_box(picture: NDArray[np.float64], box: Sequence[int], width: int, color: RGB) -> None:
    """Draws a line with a dark rim just outside a box (y0, x0, y1, x1), as far as the picture goes."""
    height, length = picture.shape[:2]
    top, left = max(0, box[0] - 3 * width), max(0, box[1] - 3 * width)
    bottom, right = min(height, box[2] + 3 * width), min(length, box[3] + 3 * width)
    for depth, size, ink in ((0, 3 * width, _HALO), (width, width, color)):
        y0, x0, y1, x1 = top + depth, left + depth, bottom - depth, right - depth
        picture[y0 : y0 + size, x0:x1] = ink
        picture[max(0, y1 - size) : y1, x0:x1] = ink
        picture[y0:y1, x0 : x0 + size] = ink
        picture[y0:y1, max(0, x1 - size) : x1] = ink


def _legend(objects: Sequence[DrawnObject], width: int) -> NDArray[np.uint8]:
    """A field for each object: its colour, number and caption."""
    from PIL import Image, ImageDraw

    font, line, gap = _font(16), 24, 8
    texts = [f"{number}  {one.caption}".rstrip() for number, one in enumerate(objects, 1)]
    left_out = len(texts) - _LEGEND_ROWS
    texts = texts[:_LEGEND_ROWS]
    column = max(int(font.getlength(text)) for text in texts) + line + 3 * gap
    columns = max(1, min(len(texts), width // column))
    rows = -(-len(texts) // columns)
    panel = Image.new("RGB", (width, (rows + (left_out > 0)) * line + 2 * gap), _LEGEND)
    draw = ImageDraw.Draw(panel)
    for index, text in enumerate(texts):
        x, y = gap + index // rows * column, gap + index % rows * line
        draw.rectangle((x, y + 4, x + 16, y + line - 5), fill=color_of(index + 1))
        draw.text((x + line, y + 2), text, fill=_TEXT, font=font)
    if left_out > 0:
        draw.text((gap, gap + rows * line), f"and {left_out} more", fill=_TEXT, font=font)
    return np.asarray(panel)


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
