"""Segmentation by boxes with an exported model."""

from collections.abc import Sequence
from pathlib import Path

from nnsam.inference.box.predictor import BoxPredictor as _BoxPredictor
from nnsam.inference.box.volume import Propagation
from nnsam.inference.bundle import Bundle
from nnsam.inference.openvino_backend import OpenVINOBackend


class BoxPredictor(_BoxPredictor):
    """:class:`nnsam.inference.BoxPredictor` on a bundle of `nnsam export`; needs neither PyTorch nor nnU-Net.

    Example:
        ``BoxPredictor.open(folder).set_image(image).predict([[x_min, y_min, x_max, y_max]]).label_map()``
    """

    @classmethod
    def open(
        cls,
        folder: str | Path,
        precision: str = "auto",
        threads: int = 0,
        *,
        batch_size: int = 8,
        propagation: str | Propagation = "ellipsoid",
        folds: Sequence[str | int] | None = None,
        cache: bool = True,
    ) -> "BoxPredictor":
        """Opens a bundle.

        Args:
            folder: of a box model, written by `nnsam export`.
            precision: "auto" (the one that was found best at export), "f32", "bf16" or "int8".
            threads: number of CPU threads; 0 leaves the choice to OpenVINO.
            batch_size: patches per call of the network.
            propagation: how 3D boxes prompt the slices of a volume.
            folds: names of the folds to average; all by default.
            cache: keep compiled networks on disk, so that the next process starts sooner.

        Raises:
            InputError: no intact bundle of a box model, unknown precision or fold.
            SetupError: OpenVINO is missing, or this CPU does not compute the precision.
        """
        bundle = Bundle.open(folder, "box")
        return cls(OpenVINOBackend(bundle, precision, threads, cache, folds), batch_size, propagation)
