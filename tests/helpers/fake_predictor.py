"""A stand-in for `nnsam.inference.BoxPredictor` that needs no network: every pixel of a box belongs to its object."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from nnsam.geometry.boxes import slices
from nnsam.inference.box.prediction import ObjectMask
from nnsam.prompts.convention import to_challenge


@dataclass
class FakePrediction:
    boxes: np.ndarray
    shape: tuple
    probabilities: list
    scores: np.ndarray

    @property
    def xyxy(self):
        return to_challenge(self.boxes)

    @property
    def masks(self):
        return [
            ObjectMask(box, np.ones(found.shape, bool))
            for box, found in zip(self.boxes, self.probabilities, strict=True)
        ]

    def label_map(self, overlap="smaller"):
        """Later boxes lie over earlier ones."""
        labels = np.zeros(self.shape, np.uint16)
        for value, box in enumerate(self.boxes, 1):
            labels[slices(box)] = value
        return labels


class FakePredictor:
    precision, folds, batch_size = "f32", ("0",), 8

    def __init__(self, digest="fake"):
        self.backend = SimpleNamespace(digest=digest)
        self.images = []  # what set_image was given: (pixels, spacing)
        self.modes = []

    def set_image(self, image, spacing=None, *, dimensions=None):
        self.dimensions = dimensions
        self.images.append((image, spacing))
        return self

    def predict_inside(self, boxes, mode="zoom"):
        self.modes.append(mode)
        image, spacing = self.images[-1]
        dimensions = boxes.shape[-1] // 2
        assert dimensions == self.dimensions
        assert image.shape[dimensions:] in ((), (3,))
        assert spacing is None or len(spacing) == dimensions
        probabilities = [
            np.ones([int(side) for side in box[dimensions:] - box[:dimensions]], np.float32) for box in boxes
        ]
        return FakePrediction(boxes, image.shape[:dimensions], probabilities, np.linspace(1, 0.5, len(boxes)))
