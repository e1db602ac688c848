"""The way in: an image, boxes, masks."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.errors import InputError
from nnsam.inference.backend import Backend
from nnsam.inference.box.faithful import faithful_probabilities
from nnsam.inference.box.image import PreparedImage
from nnsam.inference.box.prediction import Prediction, Request
from nnsam.inference.box.volume import Propagation, propagate
from nnsam.inference.box.zoom import zoom_probabilities
from nnsam.prompts.convention import check_boxes

if TYPE_CHECKING:
    import torch


_MODES = {"zoom": zoom_probabilities, "faithful": faithful_probabilities}


class BoxPredictor:
    """Segments objects that are given by boxes.

    - ``mode="zoom"``: each box with some context is resized to one patch; one network pass per box and slice.
    - ``mode="faithful"``: Stock et al.'s sliding window at the image's own resolution.

    Args:
        backend: computes the network.
        batch_size: patches per call of the backend.
        propagation: how 3D boxes prompt the slices of a volume: "ellipsoid", "mask", "box", or a
            :class:`nnsam.inference.box.volume.Propagation`.

    Example:
        ``BoxPredictor.from_folder(folder).set_image(image).predict([[x_min, y_min, x_max, y_max]]).label_map()``
    """

    def __init__(self, backend: Backend, batch_size: int = 8, propagation: str | Propagation = "ellipsoid"):
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}; expected at least 1")
        self.backend = backend
        self.batch_size = batch_size
        self.propagation = Propagation(propagation) if isinstance(propagation, str) else propagation
        self._image: PreparedImage | None = None

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        fold: int | str | Sequence[int | str] | None = None,
        checkpoint: str = "checkpoint_final.pth",
        device: "str | torch.device" = "cpu",
        *,
        precision: str = "float32",
        batch_size: int = 8,
        propagation: str | Propagation = "ellipsoid",
    ) -> "BoxPredictor":
        """Loads a trained model; see :meth:`nnsam.inference.torch_backend.TorchBackend.from_folder`."""
        from nnsam.inference.torch_backend import TorchBackend

        return cls(TorchBackend.from_folder(folder, fold, checkpoint, device, precision), batch_size, propagation)

    def set_image(
        self, image: ArrayLike, spacing: Sequence[float] | None = None, *, dimensions: int | None = None
    ) -> "BoxPredictor":
        """Prepares an image for any number of predictions.

        Args:
            image: (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3), any real type; neither copied nor changed.
            spacing: pixel size in mm in array order, (y, x) or (z, y, x); None where unknown.
            dimensions: 2 or 3 where the shape is ambiguous, see :class:`nnsam.inference.box.image.PreparedImage`.

        Returns:
            This object.

        Raises:
            InputError: not an image, nan, or spacing that does not fit.
        """
        self._image = None
        self._image = PreparedImage(image, self.backend.spec, spacing, dimensions)
        return self

    def predict(self, boxes: ArrayLike, mode: str = "zoom") -> Prediction:
        """Segments one object per box.

        The result for a box depends on neither the order nor the number of the others; boxes that are given twice are
        computed once.

        Args:
            boxes: (N, 4) or (N, 6), or one, in the users' convention, see :mod:`nnsam.prompts.convention`.
            mode: "zoom" or "faithful".

        Raises:
            InputError: no image was set, unknown mode, or boxes that do not fit the image.
        """
        if self._image is None:
            raise InputError("there is no image to predict on; call set_image first")
        if mode not in _MODES:
            raise InputError(f"the mode {mode!r} is unknown; expected {' or '.join(_MODES)}")
        image, before = self._image, self.backend.passes
        checked = check_boxes(boxes, image.shape)
        # In one order, whatever the user's: so the batches are the same.
        unique, where = np.unique(checked, axis=0, return_inverse=True)

        def segment(requests: Sequence[Request]) -> Iterable[NDArray[np.float32]]:
            return _MODES[mode](self.backend, requests, self.batch_size)

        if len(image.shape) == 3:
            found = propagate(image, unique, segment, self.propagation)
        else:
            found = list(segment([Request(image.plane(0), box) for box in unique]))
        probabilities = [found[index] for index in where.reshape(-1)]
        return Prediction(image.shape, checked, probabilities, self.backend.passes - before)
