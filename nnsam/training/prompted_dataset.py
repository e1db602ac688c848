"""nnU-Net's preprocessed cases as views of one object each, for training with box prompts.

nnU-Net's data loader crops patches from cases. Here a case is handed to it as a view that is made for one prompt: an
object is drawn, the image around it is resampled, at its own resolution or zoomed as inference zooms, to the size that
the loader is about to crop. The loader itself, its workers and its transforms stay nnU-Net's own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from numpy.typing import NDArray

from nnsam.geometry.boxes import box_of_mask, shift
from nnsam.inference.box.image import Normalization, Plane
from nnsam.prompts.sampling import class_mask, random_component
from nnsam.prompts.zoom import zoom_scale

OUTSIDE = -1


def resample_view(
    image: Any, segmentation: NDArray[np.int16], index: int, region: NDArray[np.float64], view_size: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Resamples a region of one slice.

    Args:
        image: (C, Z, H, W), an array or a compressed one that is read by slicing.
        segmentation: (H, W) of the slice.
        index: the slice.
        region: (y0, x0, y1, x1) in pixel edges of the slice; may reach beyond it.
        view_size: (h, w) of the result.

    Returns:
        The image (C, h, w), resampled as inference does, see :class:`nnsam.inference.box.image.Plane`; 0, the mean of
        normalised images, outside of the slice. The segmentation (h, w), nearest neighbour; -1 outside.
    """
    height, width = segmentation.shape
    rows, columns = (_positions(region[axis], region[axis + 2], view_size[axis]) for axis in (0, 1))
    mask = np.full(tuple(view_size), OUTSIDE, dtype=np.int16)
    inside_rows, inside_columns = _inside(rows, height), _inside(columns, width)
    if inside_rows.stop <= inside_rows.start or inside_columns.stop <= inside_columns.start:
        return np.zeros((image.shape[0], *view_size), dtype=np.float32), mask
    rows, columns = rows[inside_rows], columns[inside_columns]
    mask[inside_rows, inside_columns] = segmentation[np.ix_(_nearest(rows, height), _nearest(columns, width))]
    spans = [_read_span(region[axis], region[axis + 2], view_size[axis], (height, width)[axis]) for axis in (0, 1)]
    part = np.moveaxis(np.asarray(image[:, index, spans[0], spans[1]], dtype=np.float32), 0, -1)
    plane = Plane(part, Normalization.none(part.shape[:2], part.shape[-1]), part.shape[-1])
    return plane.patch(shift(region, [-spans[0].start, -spans[1].start]), view_size), mask


def _read_span(low: float, high: float, size: int, limit: int) -> slice:
    """What a view needs of an axis, so that only this is decompressed.

    The pyramid of :class:`Plane` halves the slice from its first pixel on, so that the part begins at a whole number of
    its blocks; pixels beyond the view's own weigh in where it shrinks.
    """
    step = (high - low) / size
    halvings = max(0, int(np.floor(np.log2(step) + 1e-9)))
    margin, grid = int(np.ceil(step)) + 2 * 2**halvings, max(_GRID, 2**halvings)
    start = min(max(0, int(np.floor(low)) - margin), limit - 1) // grid * grid
    return slice(start, min(limit, max(start + 1, int(np.ceil(high)) + margin)))


# Parts begin at multiples of this, a power of 2, so that neighbouring views read the same parts.
_GRID = 64


def _positions(low: float, high: float, size: int) -> NDArray[np.float64]:
    """Coordinates of the view's pixel centres in the slice."""
    return low + (np.arange(size) + 0.5) * (high - low) / size


def _inside(positions: NDArray[np.float64], size: int) -> slice:
    return slice(int(np.searchsorted(positions, 0)), int(np.searchsorted(positions, size)))


def _nearest(positions: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    return np.clip(np.floor(positions), 0, size - 1).astype(np.int64)


# Values of the segmentation that the loader passes on; -1, outside of the image, is nnU-Net's own.
BACKGROUND, OTHER, TARGET, IGNORED = 0, 1, 2, 3
GROUP_SEPARATOR = "__"


@dataclass(frozen=True)
class ViewSampling:
    """How objects and views are drawn.

    Attributes:
        patch_size: (H, W) of the network's input.
        view_size: (H, W) of the views, what nnU-Net's loader crops; larger than the patch where it will be rotated.
        zoom_probability: share of views that are zoomed to the object; the others are at the image's resolution.
        context: range of the zoom's context, see `zoom_scale`; drawn log-uniformly.
        aspect: zoomed views are stretched along y and squeezed along x by up to this factor, or the reverse.
        shift: zoomed objects lie off the centre by up to this share of the patch.
        whole_label_probability: share of prompts for all pixels of a label instead of one component.
        single_component_labels: labels of which only components are objects (instances that share a value).
        ignore_label: value of pixels that have no annotation.
    """

    patch_size: tuple[int, int]
    view_size: tuple[int, int]
    zoom_probability: float = 0.5
    context: tuple[float, float] = (1.1, 2.5)
    aspect: float = 1.15
    shift: float = 0.12
    whole_label_probability: float = 0.0
    single_component_labels: frozenset[int] = frozenset()
    ignore_label: int | None = None


class PromptedDataset:
    """Wraps nnU-Net's data set; every load draws an object and returns a view of it.

    It has what nnU-Net's data loader asks of a data set: `identifiers` and `load_case`.

    Args:
        cases: nnU-Net's data set.
        sampling: see :class:`ViewSampling`.
        balance: draw cases called ``<group>__<name>`` such that each group is equally likely.
    """

    def __init__(self, cases: nnUNetBaseDataset, sampling: ViewSampling, *, balance: bool = True):
        self._cases = cases
        self.sampling = sampling
        self.source_folder = cases.source_folder
        self.identifiers = balanced(cases.identifiers) if balance else list(cases.identifiers)

    def load_case(self, identifier: str) -> tuple[NDArray[np.float32], NDArray[np.int16], None, dict[str, Any]]:
        """Returns image (C, 1, h, w), segmentation (1, 1, h, w) of the values above, None, and nnU-Net's properties.

        The only location of the only class is the view's centre: a loader that always looks for foreground crops
        exactly the view.
        """
        image, labels, _, properties = self._cases.load_case(identifier)
        index, values = self._choose_class(properties["class_locations"], labels.shape[1])
        segmentation, box = self._draw_object(np.asarray(labels[0, index]), values)
        region = self._choose_region(segmentation, box)
        view, mask = resample_view(image, segmentation, index, region, self.sampling.view_size)
        height, width = self.sampling.view_size
        return view[:, None], mask[None, None], None, {"class_locations": {1: [(0, 0, height // 2, width // 2)]}}

    def _choose_class(
        self, locations: Mapping[Any, Sequence[Sequence[int]]], slices: int
    ) -> tuple[int, int | tuple[int, ...] | None]:
        """Draws a class or region that is present, and a slice that holds it; no class where all is background."""
        present = [key for key in locations if len(locations[key]) and not _is_annotated_key(key)]
        if not present:
            return np.random.randint(slices), None
        key = present[np.random.randint(len(present))]
        voxel = locations[key][np.random.randint(len(locations[key]))]
        return int(voxel[1]), key

    def _draw_object(
        self, labels: NDArray[np.integer], values: int | tuple[int, ...] | None
    ) -> tuple[NDArray[np.int16], NDArray[np.int64] | None]:
        sampling = self.sampling
        segmentation = (labels > 0).astype(np.int16)
        if sampling.ignore_label is not None:
            segmentation[labels == sampling.ignore_label] = IGNORED
        if values is None:
            return segmentation, None
        mask = class_mask(labels, values)
        if not mask.any():  # class_locations of another slice after a resampling; rare
            return segmentation, None
        whole = values not in sampling.single_component_labels and (
            np.random.uniform() < sampling.whole_label_probability
        )
        target = mask if whole else random_component(mask, np.random)
        segmentation[target] = TARGET
        return segmentation, box_of_mask(target)

    def _choose_region(self, segmentation: NDArray[np.int16], box: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Returns the part of the slice that becomes the view, (y0, x0, y1, x1) in pixels, with fractions."""
        sampling = self.sampling
        patch, view = np.array(sampling.patch_size, float), np.array(sampling.view_size, float)
        if box is None:
            centre = np.random.uniform(size=2) * segmentation.shape
            return _around(centre, view)
        if np.random.uniform() < sampling.zoom_probability:
            context = np.exp(np.random.uniform(*np.log(sampling.context)))
            stretch = np.exp(np.random.uniform(-1, 1) * np.log(sampling.aspect))
            factors = zoom_scale(box, sampling.patch_size, context) * np.array([stretch, 1 / stretch])
            centre = (box[:2] + box[2:]) / 2 + np.random.uniform(-1, 1, size=2) * sampling.shift * patch / factors
            return _around(centre, view / factors)
        # At the image's resolution: a random pixel of the object lies somewhere in the inner half of the patch.
        pixels = np.argwhere(segmentation == TARGET)
        centre = pixels[np.random.randint(len(pixels))] + np.random.uniform(-0.25, 0.25, size=2) * patch
        return _around(np.rint(centre), view)


def _around(centre: NDArray, size: NDArray) -> NDArray[np.float64]:
    lower = centre - size / 2
    return np.concatenate([lower, lower + size])


def _is_annotated_key(key: Any) -> bool:
    # nnU-Net lists all annotated pixels of data with an ignore label under the tuple (-1, label, label, ...).
    return isinstance(key, tuple) and -1 in key


def balanced(identifiers: Collection[str]) -> list[str]:
    """Repeats identifiers so that every group ``<group>__...`` has about the same number of entries.

    Example:
        >>> balanced(["a__1", "a__2", "b__1"])
        ['a__1', 'a__2', 'b__1', 'b__1']
    """
    groups: dict[str, list[str]] = {}
    for identifier in identifiers:
        group = identifier.split(GROUP_SEPARATOR)[0] if GROUP_SEPARATOR in identifier else ""
        groups.setdefault(group, []).append(identifier)
    largest = max((len(members) for members in groups.values()), default=0)
    # Whole repeats: a group between half and all of the largest one keeps somewhat less or more than its share.
    return [name for members in groups.values() for name in members * max(1, round(largest / len(members)))]
