"""Images with boxes in the npz layout of the "Segment Anything in Medical Images on Laptop" challenge."""

from pathlib import Path

from numpy.typing import NDArray

from nnsam.data.input_image import InputImage, make_input_image
from nnsam.data.npz_case import checked_spacing, load_arrays
from nnsam.errors import InputError

_NO_BOXES = "holds no boxes; add the key boxes, (N, 4) or (N, 6), or give --box or --boxes"
_ONLY_LABELS = (
    "holds gts but no boxes; save the boxes of its objects under the key boxes, or give --box or --boxes, which takes "
    "a label image too"
)


def read_npz_image(path: Path) -> InputImage:
    """Reads the keys `imgs` and, where present, `boxes` and `spacing` (x, y[, z]). Pickled objects are never loaded.

    `imgs` of three axes is a volume (D, H, W) or, with a last axis of 3, a colour picture; where both are possible,
    the number of values per box decides, then the axes of `gts`, then it is a picture.

    Raises:
        InputError: unreadable, pickled objects, no `imgs`, or neither a picture nor a volume.
    """
    arrays = load_arrays(path, ("imgs", "boxes", "spacing"))
    if "imgs" not in arrays:
        raise InputError(f"{path} lacks the key imgs, the image; is it a file of the challenge?")
    image, boxes = arrays["imgs"], arrays.get("boxes")
    labels = load_arrays(path, ("gts",)).get("gts") if boxes is None else None
    dimensions = _dimensions(path, image, boxes, labels)
    spacing = checked_spacing(path, arrays.get("spacing"), dimensions)
    return make_input_image(
        path,
        image,
        dimensions,
        spacing=None if spacing is None else spacing[::-1],
        boxes=boxes,
        missing_boxes=_NO_BOXES if labels is None else _ONLY_LABELS,
    )


def _dimensions(path: Path, image: NDArray, boxes: NDArray | None, labels: NDArray | None) -> int:
    possible = [count for count in (2, 3) if image.ndim == count or (image.ndim == count + 1 and image.shape[-1] == 3)]
    if not possible:
        raise InputError(f"{path}: imgs has the shape {image.shape}; expected (H, W), (D, H, W), or these with 3 last.")
    if boxes is not None and boxes.size and boxes.shape[-1] // 2 in possible:
        return boxes.shape[-1] // 2
    if labels is not None and labels.ndim in possible:
        return labels.ndim
    return possible[0]
