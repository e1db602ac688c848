"""The way in: an image, boxes, masks."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.errors import InputError
from nnsam.geometry.boxes import permute
from nnsam.inference.backend import Backend
from nnsam.inference.box.faithful import faithful_probabilities
from nnsam.inference.box.image import PreparedImage
from nnsam.inference.box.network import BoxNetwork
from nnsam.inference.box.prediction import Prediction, Request
from nnsam.inference.box.volume import Propagation, propagate
from nnsam.inference.box.zoom import zoom_probabilities
from nnsam.inference.bundle import Bundle, check_runs_on_cpu
from nnsam.inference.openvino_backend import OpenVINOBackend
from nnsam.prompts.convention import check_boxes

if TYPE_CHECKING:
    import torch

    from nnsam.nnunet.model_folder import Folds


_MODES = {"zoom": zoom_probabilities, "faithful": faithful_probabilities}
BATCH_SIZE = 8


class BoxPredictor:
    """Segments objects that are given by boxes; see `open`, `from_folder` and :func:`nnsam.load`.

    - ``mode="zoom"``: each box with some context is resized to one patch; one network pass per box and slice.
    - ``mode="faithful"``: Stock et al.'s sliding window at the image's own resolution.

    Args:
        backend: computes the networks.
        batch_size: patches per call of the networks.
        propagation: how 3D boxes prompt the slices of a volume: "ellipsoid", "mask", "box", or a
            :class:`nnsam.inference.box.volume.Propagation`.

    Attributes:
        backend: see above.
        batch_size: see above.
        propagation: see above.
        spec: what has to be known of the model.
        precision: what it is computed in.
        folds: names of the folds that are averaged.
        note: one sentence on how precision and folds were chosen; may be empty.

    Raises:
        InputError: not a box model, a batch size below 1, or an unknown propagation.

    Example:
        ``BoxPredictor.open(bundle).set_image(image).predict([[x_min, y_min, x_max, y_max]]).label_map()``
    """

    def __init__(
        self, backend: Backend, batch_size: int = BATCH_SIZE, propagation: str | Propagation = "ellipsoid"
    ) -> None:
        self._network = BoxNetwork(backend, batch_size)
        self.backend = backend
        self.batch_size = batch_size
        self.spec = self._network.spec
        self.precision: str = backend.precision
        self.folds: tuple[str, ...] = tuple(backend.folds)
        self.note: str = backend.note
        self.propagation = Propagation(propagation) if isinstance(propagation, str) else propagation
        self._image: PreparedImage | None = None

    @classmethod
    def open(
        cls,
        bundle: str | Path | Bundle,
        precision: str = "auto",
        threads: int = 0,
        folds: "Folds | None" = None,
        cache: bool = True,
        *,
        device: str = "cpu",
        batch_size: int = BATCH_SIZE,
        propagation: str | Propagation = "ellipsoid",
    ) -> "BoxPredictor":
        """Opens a bundle; needs neither PyTorch nor nnU-Net.

        Args:
            bundle: folder of a box model, written by `nnsam export`; or one whose files have been checked.
            precision: "auto" (the one that was found best at export), "f32", "bf16" or "int8".
            threads: number of CPU threads; 0 leaves the choice to OpenVINO.
            folds: name or names of the folds to average; all by default.
            cache: keep compiled networks on disk, so that the next process starts sooner.
            device: "cpu" or "auto": bundles run on the CPU.
            batch_size: see the class.
            propagation: see the class.

        Raises:
            InputError: no intact bundle of a box model, unknown precision, fold or device.
            SetupError: OpenVINO is missing, or this CPU does not compute the precision.
        """
        bundle = Bundle.open(bundle, "box")
        check_runs_on_cpu(bundle, device)
        return cls(OpenVINOBackend(bundle, precision, threads, cache, folds), batch_size, propagation)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        folds: "Folds | None" = None,
        checkpoint: str | None = None,
        device: "str | torch.device" = "cpu",
        *,
        precision: str = "f32",
        threads: int = 0,
        batch_size: int = BATCH_SIZE,
        propagation: str | Propagation = "ellipsoid",
        fold: "Folds | None" = None,
    ) -> "BoxPredictor":
        """Loads a model folder of nnU-Net, which PyTorch computes.

        Args:
            folder: holds plans.json, dataset.json and fold_X.
            folds: number, "all", or several, which are averaged; by default "all" where there is one, else the lowest
                with a checkpoint (`note` then says which one of several).
            checkpoint: file name within fold_X; None for checkpoint_final.pth.
            device: see :class:`nnsam.inference.torch_backend.TorchBackend`.
            precision: "f32", "bf16" or "auto"; see :class:`nnsam.inference.torch_backend.TorchBackend`.
            threads: number of CPU threads, for the whole process; 0 leaves the choice to PyTorch.
            batch_size: see the class.
            propagation: see the class.
            fold: earlier name of `folds`.

        Raises:
            InputError: no such model, an incomplete one, or one of another trainer; an unknown device or precision;
                both `folds` and `fold`.
            SetupError: PyTorch or nnU-Net is not installed.
        """
        from nnsam.inference.torch_backend import TorchBackend

        if fold is not None:
            warnings.warn("from_folder(fold=...) is now called folds=...", DeprecationWarning, stacklevel=2)
            if folds is not None:
                raise InputError(f"both folds={folds} and fold={fold}, its earlier name, are given; leave fold out")
            folds = fold
        backend = TorchBackend.from_folder(folder, folds, checkpoint, device, precision, threads, kind="box")
        return cls(backend, batch_size, propagation)

    def set_image(
        self,
        image: ArrayLike,
        spacing: Sequence[float] | None = None,
        *,
        dimensions: int | None = None,
        is_normalized: bool = False,
    ) -> "BoxPredictor":
        """Prepares an image for any number of predictions.

        Args:
            image: (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3), any real type; neither copied nor changed.
            spacing: pixel size in mm in array order, (y, x) or (z, y, x); None where unknown.
            dimensions: 2 or 3 where the shape is ambiguous, see :class:`nnsam.inference.box.image.PreparedImage`.
            is_normalized: the image comes from nnU-Net's preprocessing and is not normalised again.

        Returns:
            This object.

        Raises:
            InputError: not an image, nan, or spacing that does not fit.
        """
        self._image = None
        self._image = PreparedImage(image, self.spec, spacing, dimensions, is_normalized)
        return self

    def predict(self, boxes: ArrayLike, mode: str = "zoom") -> Prediction:
        """Segments one object per box.

        The result for a box depends on neither the order nor the number of the others; boxes that are given twice are
        computed once.

        Args:
            boxes: (N, 4) as [x_min, y_min, x_max, y_max], or (N, 6) as [x_min, y_min, z_min, x_max, y_max, z_max], or
                one; in pixels from 0, and the last pixel belongs to the box, see :mod:`nnsam.prompts.convention`.
            mode: "zoom" or "faithful".

        Raises:
            InputError: no image was set, unknown mode, or boxes that do not fit the image.
        """
        return self.predict_inside(check_boxes(boxes, self._prepared(mode).shape), mode)

    def predict_inside(self, boxes: NDArray[np.int64], mode: str = "zoom") -> Prediction:
        """Segments one object per box; `predict` for boxes as this package has them inside.

        Args:
            boxes: (N, 4) as (y0, x0, y1, x1), or (N, 6) as (z0, y0, x0, z1, y1, x1), half-open, see
                :mod:`nnsam.geometry.boxes`; within the image, as :func:`nnsam.prompts.convention.check_boxes` leaves
                them.
            mode: "zoom" or "faithful".

        Raises:
            InputError: no image was set, or unknown mode.
        """
        image, before = self._prepared(mode), self._network.passes
        # In one order, whatever the user's: so the batches are the same.
        unique, where = np.unique(permute(boxes, image.order), axis=0, return_inverse=True)

        def segment(requests: Sequence[Request]) -> Iterable[NDArray[np.float32]]:
            return _MODES[mode](self._network, requests)

        if len(image.shape) == 3:
            found = propagate(image, unique, segment, self.propagation)
        else:
            found = list(segment([Request(image.plane(0), box) for box in unique]))
        back = np.argsort(image.order)
        found = [np.ascontiguousarray(values.transpose(back)) for values in found]
        probabilities = [found[index] for index in where.reshape(-1)]
        return Prediction(image.shape, boxes, probabilities, self._network.passes - before)

    def _prepared(self, mode: str) -> PreparedImage:
        if self._image is None:
            raise InputError("there is no image to predict on; call set_image first")
        if mode not in _MODES:
            raise InputError(f"the mode {mode!r} is unknown; expected {' or '.join(_MODES)}")
        return self._image
