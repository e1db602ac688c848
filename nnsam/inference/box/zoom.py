"""Zoomed inference: each box with some context fills one patch, so it costs one network pass whatever its size.

One pass per box, always: the result of an object that is larger than a patch has the patch's resolution, interpolated.
There is no second pass at the image's resolution, since the network sees the object as a whole only here.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nnsam.geometry.boxes import resize_boxes, shift
from nnsam.inference.box.image import Plane, resize
from nnsam.inference.box.network import BoxNetwork
from nnsam.inference.box.prediction import Request
from nnsam.prompts.box_model import BoxModelSpec
from nnsam.prompts.encoding import encode_box
from nnsam.prompts.zoom import zoom_region


def zoom_probabilities(network: BoxNetwork, requests: Sequence[Request]) -> Iterator[NDArray[np.float32]]:
    """Yields for each request the object's probability in its box, of the box's shape."""
    views = [_View(request, network.spec) for request in requests]
    probabilities = network(view.patch() for view in views)
    for view, probability in zip(views, probabilities, strict=True):
        yield view.back(probability)


def zoomed_patch(plane: Plane, box: NDArray[np.int64], spec: BoxModelSpec) -> NDArray[np.float32]:
    """Returns what the network sees of one box, (1, C + P, h, w)."""
    return _View(Request(plane, box), spec).patch()[None]


class _View:
    """Where in the plane the patch of a box lies."""

    def __init__(self, request: Request, spec: BoxModelSpec):
        self.request, self.spec = request, spec
        # The zoom keeps proportions in mm, as far as they are known, for the box and everything around it.
        stretch = _stretch(request.plane.spacing, spec.spacing)
        region = resize_boxes(zoom_region(resize_boxes(request.box, stretch), spec.patch_size), 1 / stretch)
        self.region = region
        scale = np.asarray(spec.patch_size) / (region[2:] - region[:2])
        self.box = resize_boxes(shift(request.box, -region[:2]), scale)  # in the patch

    def patch(self) -> NDArray[np.float32]:
        """Image and prompt channels, (C + P, h, w)."""
        image = self.request.plane.patch(self.region, self.spec.patch_size)
        return np.concatenate([image, encode_box(_at_least_a_pixel(self.box), self.spec.patch_size, self.spec.prompt)])

    def back(self, probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """The patch's probability in the box of the request, at the plane's resolution."""
        y0, x0, y1, x1 = (float(value) for value in self.box)
        return resize(probability, self.request.size, (x0, y0, x1, y1))


def _stretch(spacing: tuple[float, float] | None, trained: tuple[float, float] | None) -> NDArray[np.float64]:
    """Factors (y, x), of product 1, that give the pixels the proportions that they had in training."""
    if spacing is None:
        return np.ones(2)
    factors = np.array(spacing) / (trained or (1.0, 1.0))
    return factors / np.sqrt(factors.prod())


def _at_least_a_pixel(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Widens a box that is thinner than a pixel, which might cover no pixel's centre and so be no prompt at all."""
    centre = (box[:2] + box[2:]) / 2
    half = np.maximum((box[2:] - box[:2]) / 2, 0.5)
    return np.concatenate([centre - half, centre + half])
