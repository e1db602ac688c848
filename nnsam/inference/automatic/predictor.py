"""Automatic segmentation as nnU-Net does it: its preparation and restoration of images in numpy, any backend."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.inference.backend import Backend
from nnsam.inference.bundle import Bundle, check_runs_on_cpu
from nnsam.inference.openvino_backend import OpenVINOBackend
from nnsam.io.finding import Case, check_channels

if TYPE_CHECKING:
    import torch

    from nnsam.nnunet.model_folder import Folds

# What nnU-Net takes for the missing third axis of a picture: thicker than any pixel.
_PICTURE_THICKNESS = 999.0


def as_channels(image: NDArray, channels: int, dimensions: int) -> tuple[NDArray, tuple[int, ...]]:
    """Brings an image into the layout that images have after reading.

    Args:
        image: (H, W) or (H, W, 1), a picture of one channel; (D, H, W), a volume of one channel; (C, H, W), or
            (H, W, 3) in colour, a picture of several channels; (C, D, H, W), a volume.
        channels: C of the model.
        dimensions: 2 or 3, those of the model's patches. A model of 2 segments volumes slice by slice; one of 3 needs
            volumes.

    Returns:
        A view (C, D, H, W) with D = 1 for pictures, and the shape that the segmentation is to have: (H, W) or
        (D, H, W).

    Raises:
        InputError: the shape does not fit the model, or fits it in two ways; a picture in colour for a model of one
            channel, which would otherwise pass for a volume of 3 columns.
    """
    if image.ndim == 3 and image.shape[-1] == 1 and channels == 1:
        image = image[..., 0]
    stacked = _stack(image, channels)
    is_picture = image.ndim == 2 or (image.ndim == 3 and channels > 1)
    if dimensions == 3 and is_picture:
        raise InputError(f"the model segments volumes; found a picture of shape {image.shape}")
    return stacked, stacked.shape[2:] if is_picture else stacked.shape[1:]


def _stack(image: NDArray, channels: int) -> NDArray:
    if image.ndim == 2 and channels == 1:
        return image[None, None]
    if image.ndim == 3 and channels == 1:
        if image.shape[-1] in (3, 4) and min(image.shape[:2]) > 4:
            raise InputError(
                f"the model takes one channel; found the shape {image.shape} of a picture in colour, so make it grey; "
                f"a volume that is {image.shape[-1]} columns wide is given as {(1, *image.shape)}"
            )
        return image[None]
    if image.ndim == 3:
        first, last = image.shape[0] == channels, channels == 3 and image.shape[2] == channels
        if first and last:
            raise InputError(
                f"either end of shape {image.shape} may be the {channels} channels; give it as "
                f"({channels}, 1, height, width)"
            )
        if first or last:
            return (image if first else np.moveaxis(image, -1, 0))[:, None]
    if image.ndim == 4 and image.shape[0] == channels:
        return image
    expected = "(H, W), (D, H, W) or (1, D, H, W)" if channels == 1 else f"({channels}, H, W) or ({channels}, D, H, W)"
    raise InputError(f"the model takes images of shape {expected}; found {image.shape}")


def array_spacing(
    spacing: Sequence[float] | None, is_picture: bool, preprocessing: Mapping[str, Any]
) -> tuple[float, float, float]:
    """Returns the pixel size of an image given as an array, (z, y, x).

    Args:
        spacing: (z, y, x) in the unit of the training images, mm as a rule; for pictures (y, x) too. None for the one
            that the model works at, so that nothing is resampled.
        is_picture: the image is one.
        preprocessing: this section of the manifest.

    Raises:
        InputError: not so many numbers, or numbers that are not above 0.
    """
    if spacing is None:
        own = [float(value) for value in preprocessing["spacing"]]
        own = [_PICTURE_THICKNESS] * (3 - len(own)) + own
        z, y, x = (own[axis] for axis in preprocessing["transpose_backward"])
        return z, y, x
    expected = "(y, x)" if is_picture else "(z, y, x)"
    try:
        values = [float(value) for value in spacing]
    except (TypeError, ValueError):
        raise InputError(f"spacing must be {expected}, numbers above 0; found {spacing!r}") from None
    if is_picture and len(values) == 2:
        values.insert(0, _PICTURE_THICKNESS)
    if len(values) != 3 or not all(0 < value < np.inf for value in values):
        raise InputError(f"spacing must be {expected}, numbers above 0; found {tuple(spacing)}")
    return values[0], values[1], values[2]


# More do not help, and each needs memory.
_RESAMPLING_THREADS = 8


@dataclass(frozen=True)
class PreparedCase:
    """A preprocessed image.

    Attributes:
        prepared: `nnsam.inference.automatic.preprocessing.Prepared`.
        properties: what the reader needs to write the segmentation.
        shape: of the segmentation.
    """

    prepared: Any
    properties: dict[str, Any]
    shape: tuple[int, ...]

    def without_pixels(self) -> "PreparedCase":
        """Returns what is left to remember when the network has seen the image."""
        return replace(self, prepared=replace(self.prepared, data=self.prepared.data[:0].copy()))


class AutomaticPrediction:
    """The result for one image.

    Attributes:
        segmentation: uint8 or uint16, label values of the data set; (H, W) for pictures given as arrays, else
            (D, H, W).
        properties: of the image, as its reader gave them.
    """

    def __init__(
        self,
        segmentation: NDArray[np.unsignedinteger],
        properties: dict[str, Any],
        probabilities: Callable[[], NDArray[np.float32]],
    ) -> None:
        self.segmentation = segmentation
        self.properties = properties
        self._probabilities = probabilities

    def probabilities(self) -> NDArray[np.float32]:
        """Computes how probable each output is: 0..1, (outputs, *segmentation.shape).

        Outputs are the background and the classes, which add up to 1; or, where the model was trained on regions, one
        per region, each between 0 and 1 for itself, without background.
        """
        return self._probabilities()


class Predictor:
    """Segments images by itself; see `open`, `from_folder` and :func:`nnsam.load`.

    Args:
        backend: computes the networks.
        threads: of the CPU, for resampling; 0 for as many as help.
        batch_size: patches per call of the networks; None for a number that suits their size.

    Attributes:
        backend: see above.
        manifest: what the model does with images, see :mod:`nnsam.exporting.manifest`.
        bundle: the bundle that was opened; None for a model folder.
        precision: what it is computed in.
        folds: names of the folds that are averaged.
        note: one sentence on how precision and folds were chosen; may be empty.
        file_ending: of images and label maps, e.g. ".nii.gz".
        threads: of the CPU, as asked for.

    Raises:
        InputError: a box model, or a batch size below 1.
    """

    def __init__(self, backend: Backend, threads: int = 0, batch_size: int | None = None) -> None:
        if batch_size is not None and batch_size < 1:
            raise InputError(f"the batch size is {batch_size}; expected at least 1")
        self.backend = backend
        self.manifest: Mapping[str, Any] = backend.manifest
        self.bundle: Bundle | None = getattr(backend, "bundle", None)
        if self.manifest["kind"] != "automatic":
            raise InputError("this is a box model; use nnsam.inference.BoxPredictor, and give it boxes")
        self.precision: str = backend.precision
        self.folds: tuple[str, ...] = tuple(backend.folds)
        self.note: str = backend.note
        self.file_ending: str = self.manifest["input"]["file_ending"]
        self._batch_size = batch_size
        self.threads = threads
        self._threads = threads or min(_RESAMPLING_THREADS, _processors())

    @property
    def digest(self) -> str:
        """Identity of the model: another one where description or weights differ; of a bundle the bundle's."""
        return self.backend.digest

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
        batch_size: int | None = None,
    ) -> "Predictor":
        """Opens a bundle; needs neither PyTorch nor nnU-Net.

        Args:
            bundle: folder made by `nnsam export` from a model that segments by itself; or one whose files have been
                checked.
            precision: "f32", "bf16", "int8", or "auto": the fastest that was found accurate enough at export.
            threads: of the CPU; 0 for all.
            folds: name or names of the folds to average; None for all in the bundle.
            cache: keep compiled networks on disk, which makes later starts quicker.
            device: "cpu" or "auto": bundles run on the CPU.
            batch_size: see the class.

        Raises:
            InputError: no such bundle, a damaged one or one of a box model; a fold or a precision that it lacks.
            SetupError: OpenVINO is missing, or the CPU does not compute in this precision.

        Example:
            >>> from nnsam.runtime import Predictor
            >>> predictor = Predictor.open("heart_bundle")  # doctest: +SKIP
            >>> predictor.predict(volume, spacing=(2.0, 0.8, 0.8)).segmentation  # doctest: +SKIP
        """
        bundle = Bundle.open(bundle, "automatic")
        check_runs_on_cpu(bundle, device)
        return cls(OpenVINOBackend(bundle, precision, threads, cache, folds), threads, batch_size)

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
        batch_size: int | None = None,
    ) -> "Predictor":
        """Loads a model folder of nnU-Net, whose networks PyTorch computes; the rest is done as for bundles.

        Args:
            folder: holds plans.json, dataset.json and fold_X; of a trainer of nnU-Net or of this package.
            folds: number, "all", or several, which are averaged; by default those that nnUNetv2_predict uses: all
                numbered ones, else fold_all.
            checkpoint: file name within fold_X; None for checkpoint_final.pth.
            device: see :class:`nnsam.inference.torch_backend.TorchBackend`.
            precision: "f32", "bf16" or "auto"; see :class:`nnsam.inference.torch_backend.TorchBackend`.
            threads: of the CPU, for the whole process; 0 leaves the choice to PyTorch.
            batch_size: see the class.

        Raises:
            InputError: no such model, an incomplete one, a box model, or one that nnsam can only predict with
                nnUNetv2_predict, such as a cascade; an unknown device or precision.
            SetupError: PyTorch or nnU-Net is not installed.
        """
        from nnsam.inference.torch_backend import TorchBackend

        backend = TorchBackend.from_folder(folder, folds, checkpoint, device, precision, threads, kind="automatic")
        return cls(backend, threads, batch_size)

    def predict(
        self,
        image: NDArray,
        spacing: Sequence[float] | None = None,
        *,
        mirror: bool = True,
        step: float | None = None,
    ) -> AutomaticPrediction:
        """Segments an image given as an array.

        Args:
            image: (H, W) or (D, H, W) for models of one channel; (C, H, W), or (H, W, 3) in colour, for pictures of
                several channels; (C, D, H, W). Intensities and axis order as nnU-Net reads them from files.
            spacing: pixel size, (z, y, x), or (y, x) for pictures; None for the one that the model works at.
            mirror: average over mirrored images, where the model was trained so: more accurate, and slower.
            step: distance of neighbouring tiles as a share of their size, 0.01 to 1; None for the
                model's, usually 0.5.

        Raises:
            InputError: the image or its spacing does not fit the model.
        """
        expected = self.manifest["input"]
        pixels, shape = as_channels(np.asarray(image), expected["channels"], expected["dimensions"])
        sizes = array_spacing(spacing, len(shape) == 2, self.manifest["preprocessing"])
        case = self._prepare(pixels, {"spacing": list(sizes)}, shape)
        return self.restore(self.infer(case, mirror=mirror, step=step), case)

    def predict_case(
        self, files: Sequence[str | Path], *, mirror: bool = True, step: float | None = None
    ) -> AutomaticPrediction:
        """Segments an image in files, one per channel or one in colour; see `predict`.

        Raises:
            InputError: unreadable, or unfitting images.
        """
        paths = tuple(Path(file) for file in files)
        case = self.prepare_case(Case(paths[0].name, paths))
        return self.restore(self.infer(case, mirror=mirror, step=step), case)

    def prepare_case(self, case: Case) -> PreparedCase:
        """Reads and preprocesses an image; may run in a thread.

        Raises:
            InputError: unreadable, or unfitting images.
        """
        from nnsam.io.nnunet_readers import reader

        expected = self.manifest["input"]
        pixels, properties = reader(expected["reader"]).read_images(case.files)
        check_channels(pixels, expected["channels"], case)
        try:
            return self._prepare(pixels, properties, pixels.shape[1:])
        except InputError as error:
            raise InputError(f"case {case.name} ({case.files[0].name}): {error}") from error

    def infer(
        self,
        case: PreparedCase,
        *,
        mirror: bool = True,
        step: float | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float16]:
        """Runs the networks over a preprocessed image.

        Args:
            case: see `prepare_case`.
            mirror: see `predict`.
            step: see `predict`.
            on_tile: called with the number of tiles done and that of all tiles; what it raises ends the inference.

        Returns:
            Logits at the model's resolution.

        Raises:
            InputError: a step that is not from 0.01 to 1, or answers of the network that are not finite.
        """
        from nnsam.inference.automatic.sliding_window import predict_logits

        return predict_logits(
            case.prepared.data,
            self.backend,
            mirror=mirror,
            step=step,
            batch_size=self._batch_size,
            progress=on_tile,
        )

    def restore(self, logits: NDArray[np.float16], case: PreparedCase) -> AutomaticPrediction:
        """Brings logits into the image's shape and decides on labels; may run in a thread."""
        from nnsam.inference.automatic.restoration import to_probabilities, to_segmentation

        manifest, prepared, threads = self.manifest, case.without_pixels().prepared, self._threads

        def probabilities() -> NDArray[np.float32]:
            values = to_probabilities(logits, prepared, manifest, threads)
            return values.reshape(len(values), *case.shape)

        segmentation = to_segmentation(logits, prepared, manifest, threads).reshape(case.shape)
        return AutomaticPrediction(segmentation, case.properties, probabilities)

    def write(self, prediction: AutomaticPrediction, path: Path) -> None:
        """Writes the label map of an image that was read from files, with its geometry.

        Raises:
            InputError: the place cannot be written to.
        """
        from nnsam.io.nnunet_readers import reader

        io = reader(self.manifest["input"]["reader"])
        io.write_segmentation(prediction.segmentation, path, prediction.properties)

    def _prepare(self, pixels: NDArray, properties: dict[str, Any], shape: tuple[int, ...]) -> PreparedCase:
        from nnsam.inference.automatic.preprocessing import preprocess

        prepared = preprocess(pixels, properties["spacing"], self.manifest, self._threads)
        return PreparedCase(prepared, properties, shape)


def _processors() -> int:
    """How many this process may use; a container or `taskset` may have taken some away."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
