"""The shapes of the 14 cases of Table 4 of Stock et al., "Segment Anything in Medical Images with nnUNet".

Their images are the challenge's and not free to be passed on; time depends on size and number of objects alone, so
synthetic images of the same sizes stand for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError

_SIDES = {2: (0.04, 0.14), 3: (0.15, 0.45)}  # of the boxes, as a share of the image's shorter side
_MIDDLE = (0.2, 0.8)  # the only object of an image


@dataclass(frozen=True)
class TableRow:
    """One case of the table.

    Attributes:
        name: the paper's case number without its prefix 2DBox_ or 3DBox_.
        size: (H, W) of a colour picture, (D, H, W) of a grey volume.
        objects: number of boxes.
    """

    name: str
    size: tuple[int, ...]
    objects: int

    @property
    def is_volume(self) -> bool:
        """Whether the image has slices."""
        return len(self.size) == 3


ROWS = (
    TableRow("CT_0566", (287, 512, 512), 6),
    TableRow("CT_0888", (237, 512, 512), 6),
    TableRow("CT_0860", (246, 512, 512), 1),
    TableRow("MR_0621", (115, 400, 400), 6),
    TableRow("MR_0121", (64, 290, 320), 6),
    TableRow("MR_0179", (84, 512, 512), 1),
    TableRow("PET_0001", (264, 200, 200), 1),
    TableRow("US_0525", (256, 256), 1),
    TableRow("X-Ray_0053", (320, 640), 34),
    TableRow("Dermoscopy_0003", (3024, 4032), 1),
    TableRow("Endoscopy_0086", (480, 560), 1),
    TableRow("Fundus_0003", (2048, 2048), 1),
    TableRow("Microscope_0008", (1536, 2040), 19),
    TableRow("Microscope_0016", (1920, 2560), 241),
)
QUICK = ("US_0525", "X-Ray_0053", "Endoscopy_0086")


@dataclass(frozen=True)
class SyntheticImage:
    """A smooth picture or volume with one ellipse per box.

    Attributes:
        image: (H, W, 3) or (D, H, W), uint8.
        boxes: (N, 4) or (N, 6) in the users' convention, see :mod:`nnsam.prompts.convention`.
        spacing: (D, H, W) in mm for volumes, None for pictures.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.int64]
    spacing: tuple[float, ...] | None


def choose_rows(names: Sequence[str] | None, quick: bool = False) -> tuple[TableRow, ...]:
    """Returns rows by name or by how their names begin ("ct" is three of them), in the table's order.

    Raises:
        InputError: a name that fits none.
    """
    if names is None:
        return tuple(row for row in ROWS if not quick or row.name in QUICK)
    for name in names:
        if not any(_fits(row, name) for row in ROWS):
            raise InputError(f"there is no row {name!r}; expected (the beginning of) {', '.join(r.name for r in ROWS)}")
    return tuple(row for row in ROWS if any(_fits(row, name) for name in names))


def _fits(row: TableRow, name: str) -> bool:
    return bool(name) and row.name.lower().startswith(name.lower())


def limit_slices(row: TableRow, limit: int | None) -> TableRow:
    """Returns the row with at most so many slices; pictures and `None` leave it as it is."""
    if limit is None or not row.is_volume or row.size[0] <= limit:
        return row
    return TableRow(row.name, (limit, *row.size[1:]), row.objects)


def make_image(row: TableRow, seed: int = 0) -> SyntheticImage:
    """Draws the image of a row; the same seed gives the same image.

    An object of a volume is an ellipse in every slice, so that its box costs as much as a box can.
    """
    rng = np.random.default_rng(seed)
    plane_boxes = _boxes(row, rng)
    colours = 1 if row.is_volume else 3
    plane = np.stack([_background(row.size[-2:], rng) for _ in range(colours)], axis=-1)
    for box, colour in zip(plane_boxes, rng.uniform(40, 110, (row.objects, colours)), strict=True):
        _add_ellipse(plane, box, colour)
    x0, y0, x1, y1 = plane_boxes.T
    if not row.is_volume:
        return SyntheticImage(plane.clip(0, 255).astype(np.uint8), plane_boxes, None)
    depth = row.size[0]
    # Slices differ in brightness, as in a scan, so that no two of them have the same content.
    gain = np.linspace(0.7, 1.0, depth, dtype=np.float32)
    image = np.empty(row.size, np.uint8)
    for index in range(depth):
        image[index] = (plane[..., 0] * gain[index]).clip(0, 255)
    zeros = np.zeros_like(x0)
    return SyntheticImage(image, np.stack([x0, y0, zeros, x1, y1, zeros + depth - 1], axis=1), (2.0, 1.0, 1.0))


def next_content(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Returns the image shifted by `number` columns: the same work, but nothing that could have been remembered."""
    return np.ascontiguousarray(np.roll(image, number, axis=-1 if image.shape[-1] != 3 else -2))


def _boxes(row: TableRow, rng: np.random.Generator) -> NDArray[np.int64]:
    """Boxes in one plane, (N, 4), users' convention, no two of them the same."""
    height, width = row.size[-2:]
    size = np.array([width, height])
    if row.objects == 1:
        low, high = (np.rint(share * size).astype(np.int64) for share in _MIDDLE)
        return np.concatenate([low, high - 1])[None]
    low, high = (max(2, round(share * min(size))) for share in _SIDES[len(row.size)])
    found: dict[tuple[int, ...], None] = {}
    while len(found) < row.objects:
        sides = rng.integers(low, high, 2, endpoint=True)
        corner = rng.integers(0, size - sides, endpoint=True)
        found[tuple(np.concatenate([corner, corner + sides - 1]).tolist())] = None
    return np.array(list(found), dtype=np.int64)


def _background(size: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth random structure around 90, (H, W)."""
    from PIL import Image

    coarse = rng.normal(90, 20, (9, 9)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC), np.float32).copy()


def _add_ellipse(plane: NDArray[np.float32], box: NDArray[np.int64], colour: NDArray[np.float64]) -> None:
    x0, y0, x1, y1 = box.tolist()
    y = np.linspace(-1, 1, y1 - y0 + 1, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, x1 - x0 + 1, dtype=np.float32)
    inside = (y**2 + x**2 <= 1)[..., None]
    plane[y0 : y1 + 1, x0 : x1 + 1] += inside * colour.astype(np.float32)
