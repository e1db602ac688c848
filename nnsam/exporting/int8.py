"""Networks in 8-bit integers, by post-training quantisation with NNCF under control of accuracy.

Ranges of activations come from calibration inputs. The result is compared with the float32 network on validation
inputs, and as long as their masks differ too much, NNCF takes the operations back to float32 that do most harm.
:class:`Int8Networks` does this for the networks of a bundle.
"""

import importlib
import io
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import nn

from nnsam.errors import InputError, SetupError
from nnsam.exporting.calibration import CalibrationSet
from nnsam.exporting.comparison import DICE_AGREEMENT, NetworkFiles, hard_masks, pictures_of
from nnsam.exporting.conversion import save
from nnsam.support.installation import how_to_install
from nnsam.support.openvino import import_openvino

_TELEMETRY = "openvino_telemetry"


def load_nncf() -> Any:
    """Imports NNCF and returns the module.

    Its telemetry package is hidden during the import, so that nothing is sent and no identifier of the user is made.
    Its messages go to the logger "nncf" and from there only to handlers of the program, instead of to the terminal.

    Raises:
        SetupError: NNCF is not installed.
    """
    before = logging.getLoggerClass()
    known = logging.root.manager.loggerDict.get("nncf")
    level = known.level if isinstance(known, logging.Logger) else logging.NOTSET  # the program's, which NNCF replaces
    try:
        # PyTorch 2.5 prints, where later ones log, that it finds no CUDA.
        with _without_module(_TELEMETRY), _quiet_loggers(), redirect_stderr(io.StringIO()):
            nncf = importlib.import_module("nncf")
            importlib.import_module("torch.utils.cpp_extension")  # NNCF would import it later, with its warning
    except ImportError as error:
        raise SetupError(f"NNCF, which makes int8 networks, is not installed; {how_to_install('int8')}") from error
    finally:
        logging.setLoggerClass(before)  # NNCF makes its own the class of all later loggers
    logger = logging.getLogger("nncf")
    if logger.handlers:  # as NNCF makes it
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(level)
    return nncf


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keeps NNCF from drawing progress bars; :func:`load_nncf` comes first."""

    class Silent(Progress):
        def __init__(self, *columns: Any, **options: Any):
            # Disabled ones of rich before 15 still end a line.
            super().__init__(*columns, **{**options, "disable": True, "console": Console(file=io.StringIO())})

    module: Any = importlib.import_module("nncf.common.logging.track_progress")
    before = module.Progress
    module.Progress = Silent
    try:
        yield
    finally:
        module.Progress = before


@contextmanager
def _without_module(name: str) -> Iterator[None]:
    """Makes `import name` fail, as if it were not installed."""
    missing = object()
    before = sys.modules.get(name, missing)
    sys.modules[name] = None  # type: ignore[assignment]  # how Python marks a module that cannot be imported
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[name]
        else:
            sys.modules[name] = before  # type: ignore[assignment]


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Keeps PyTorch from warning, on import of parts not used here, that there is no CUDA."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


CONVOLUTIONS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
# They would be computed with integers too, next to convolutions, for little gain: sums, normalisations, poolings.
FLOAT_TYPES = ("Add", "Multiply", "MVN", "AvgPool", "MaxPool", "Concat", "PRelu", "Interpolate")


def is_transformer(model: Any) -> bool:
    """Tells whether a network has attention."""
    return any(node.get_type_name() in ("Softmax", "ScaledDotProductAttention") for node in model.get_ops())


def sensitive_operations(model: Any) -> list[str]:
    """Returns the names of a U-Net's convolutions that stay in float32 from the start."""
    convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() in CONVOLUTIONS]
    return [
        node.get_friendly_name()
        for node in convolutions
        if node is convolutions[-1] or _sees_input(node) or _kernel_is_one(node)
    ]


def _sees_input(node: Any) -> bool:
    return node.input_value(0).get_node().get_type_name() == "Parameter"


def _kernel_is_one(node: Any) -> bool:
    if node.get_type_name() != "Convolution":  # transposed ones of other sizes do the upsampling
        return False
    kernel = list(node.input(1).get_partial_shape())[2:]
    return all(side.is_static and side.get_length() == 1 for side in kernel)


Sample = tuple[NDArray[np.float32], ...]
Masks = Callable[[NDArray[np.float32], int], NDArray[np.bool_]]

# Each iteration costs a compilation and a validation; in large networks some seconds.
_MAX_ITERATIONS = 12
# Validation inputs on which every single operation's harm is measured.
_RANKING_SAMPLES = 4


@dataclass(frozen=True)
class QuantizedModel:
    """An int8 network.

    Attributes:
        model: openvino.Model, with the input shapes of the original.
        agreement: mean Dice of its masks with those of the float32 network, 0..1, on the validation inputs.
    """

    model: Any
    agreement: float


def quantize(
    model: Any,
    calibration: Sequence[Sample],
    validation: Sequence[Sample],
    max_drop: float = 0.005,
    progress: Callable[[str], None] | None = None,
    *,
    masks: Masks | None = None,
) -> QuantizedModel:
    """Makes the int8 version of a network; the same one from the same inputs.

    Args:
        model: openvino.Model in float32; left as it is. Its first output counts.
        calibration: network inputs to find the ranges of activations, all of one shape.
        validation: network inputs to compare on, of the same shape, better of other images.
        max_drop: how far the agreement may fall below 1. Where NNCF does not get there, the result has an agreement
            below, and it is the caller's to refuse it.
        progress: is told in words what goes on.
        masks: turns the first output for a validation input, and that input's number, into masks (K, ...); those of
            labels, as :func:`nnsam.exporting.comparison.hard_masks` gives them, by default.

    Raises:
        InputError: no inputs.
        SetupError: NNCF is not installed.
    """
    if not calibration or not validation:
        raise InputError("int8 needs images to calibrate on; found none")
    nncf = load_nncf()
    static = _reshaped(model, [list(array.shape) for array in calibration[0]])
    tell = progress or (lambda text: None)
    compare = _Comparison(static, validation, masks or _label_masks, tell)
    tell(f"calibration on {len(calibration)} inputs; {_duration(compare, static, len(calibration), len(validation))}")
    with without_progress_bars():
        result = nncf.quantize_with_accuracy_control(
            static,
            nncf.Dataset(list(calibration)),
            nncf.Dataset(range(len(validation)), lambda index: validation[index]),
            compare,
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            subset_size=len(calibration),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                max_num_iterations=_MAX_ITERATIONS,
                ranking_subset_size=min(_RANKING_SAMPLES, len(validation)),
                num_ranking_workers=1,
            ),
            **_options(nncf, static),
        )
    agreement, _ = compare(_compiled(result), range(len(validation)))
    return QuantizedModel(_reshaped(result, _shapes(model)), agreement)


def quantize_unchecked(model: Any, calibration: Sequence[Sample]) -> Any:
    """Makes the int8 version of a network without looking at its accuracy: as quick as :func:`quantize`'s, to be timed.

    Args:
        model: openvino.Model in float32; left as it is.
        calibration: network inputs, all of one shape.

    Returns:
        openvino.Model with the input shapes of the original.

    Raises:
        SetupError: NNCF is not installed.
    """
    nncf = load_nncf()
    static = _reshaped(model, [list(array.shape) for array in calibration[0]])
    options = _options(nncf, static)
    options["advanced_parameters"] = options.pop("advanced_quantization_parameters", None)  # as this function calls it
    with without_progress_bars():
        result = nncf.quantize(static, nncf.Dataset(list(calibration)), subset_size=len(calibration), **options)
    return _reshaped(result, _shapes(model))


def mask_agreement(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Mean Dice of pairs of masks (K, ...) of which at least one is not empty; 1 where all are empty."""
    axes = tuple(range(1, first.ndim))
    both, total = (first & second).sum(axis=axes), first.sum(axis=axes) + second.sum(axis=axes)
    return float(np.mean(2 * both[total > 0] / total[total > 0])) if total.any() else 1.0


def _label_masks(logits: NDArray[np.float32], index: int) -> NDArray[np.bool_]:
    return hard_masks(logits, has_regions=False)[0]


def _duration(compare: "_Comparison", model: Any, calibration: int, validation: int) -> str:
    """How long the search takes: at least, and where the masks differ so much that operations are taken back."""
    once, start = compare.seconds, compare.compiling
    operations = sum(node.get_type_name() in (*CONVOLUTIONS, "MatMul") for node in model.get_ops())
    least = (calibration + 3 * validation) * once + 3 * start  # as it was, quantised, and the result
    ranking = operations * (min(_RANKING_SAMPLES, validation) * once + start)
    most = least + ranking + _MAX_ITERATIONS * (validation * once + start)
    return f"{_time(least)}, up to {_time(most)} if the masks differ too much; --no-int8 leaves int8 out"


def _time(seconds: float) -> str:
    return f"about {max(1, round(seconds))} s" if seconds < 90 else f"about {round(seconds / 60)} min"


class _Comparison:
    """Compares compiled networks with the original one, in the form that NNCF asks for.

    Attributes:
        compiling: seconds that the original one took to compile.
        seconds: that it took for one input.
    """

    def __init__(self, model: Any, samples: Sequence[Sample], masks: Masks, tell: Callable[[str], None]):
        self._samples, self._masks, self._tell = samples, masks, tell
        start = time.perf_counter()
        compiled = _compiled(model)
        self.compiling = time.perf_counter() - start
        self._reference = [self._masks_of(compiled, index) for index in range(len(samples))]
        self.seconds = (time.perf_counter() - start - self.compiling) / len(samples)

    def __call__(self, compiled: Any, indices: Iterable[int]) -> tuple[float, list[float]]:
        """Returns the mean agreement and that of each validation input."""
        found = [mask_agreement(self._reference[index], self._masks_of(compiled, index)) for index in indices]
        mean = float(np.mean(found))
        if len(found) == len(self._samples):
            self._tell(f"validation: agreement {mean:.4f}")
        return mean, found

    def _masks_of(self, compiled: Any, index: int) -> NDArray[np.bool_]:
        return self._masks(np.array(compiled(list(self._samples[index]))[0], dtype=np.float32), index)


def _options(nncf: Any, model: Any) -> dict[str, Any]:
    # Processors without VNNI (most before 2019) add products of 8 bits up in 16 and saturate: with weights of the whole
    # range, masks that were checked on one machine would be other ones there. Weights of half the range cannot.
    settings: dict[str, Any] = {"overflow_fix": nncf.OverflowFix.ENABLE}
    if is_transformer(model):
        return {
            "preset": nncf.QuantizationPreset.MIXED,
            "model_type": nncf.ModelType.TRANSFORMER,
            "advanced_quantization_parameters": nncf.AdvancedQuantizationParameters(**settings),
        }
    settings["disable_bias_correction"] = True  # instance normalisation removes every shift that it could correct
    return {
        # Symmetric activations: as exact as asymmetric ones here and quicker, since zero points cost extra work.
        "preset": nncf.QuantizationPreset.PERFORMANCE,
        "ignored_scope": nncf.IgnoredScope(names=sensitive_operations(model), types=list(FLOAT_TYPES), validate=False),
        "advanced_quantization_parameters": nncf.AdvancedQuantizationParameters(**settings),
    }


def _compiled(model: Any) -> Any:
    # Without the hint, OpenVINO computes the rest in bfloat16 where the processor can.
    return import_openvino().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def _shapes(model: Any) -> list[Any]:
    return [port.get_partial_shape() for port in model.inputs]


def _reshaped(model: Any, shapes: Sequence[Any]) -> Any:
    copy = model.clone()
    copy.reshape(dict(enumerate(shapes)))
    return copy


Tell = Callable[[str], None]
# Pictures of the image encoder are large (12 MB each at 1024 pixels).
ENCODER_PATCHES = 16


def int8_is_wanted(
    precision: str, patches: CalibrationSet, images_given: bool, allowed: bool = True
) -> tuple[bool, str]:
    """Tells whether int8 networks are to be made, and if not, why, for the report.

    They are made where they are asked for, and under "auto" where the user gave images, NNCF is installed and they are
    `allowed`.

    Raises:
        InputError: int8 was asked for and there are no images.
        SetupError: int8 was asked for and NNCF is not installed.
    """
    if precision not in ("auto", "int8"):
        return False, ""
    if precision == "int8" and not patches.from_images:
        raise InputError("int8 needs images to calibrate on, and noise will not do; give some with --images")
    if not allowed:
        return False, "int8 was left out, as asked"
    if precision == "auto" and not images_given:
        return False, "int8 was not tried (it is with --images, or --precision int8)"
    try:
        load_nncf()
    except SetupError:
        if precision == "int8":
            raise
        return False, "int8 was not tried, since NNCF is not installed"
    return True, ""


class Int8Networks:
    """Writes the int8 networks beside those in float32: fold after fold, the image encoder once.

    Args:
        patches: half of them to calibrate on, half to check on.
        has_regions: the outputs are regions.
        tell: gets a sentence when a step begins.

    Attributes:
        encoder: the image encoder's file, None before :meth:`write` or where there is none.
    """

    def __init__(self, patches: CalibrationSet, has_regions: bool, tell: Tell):
        self._patches = patches
        self._calibration, self._validation = patches.split()
        self._masks: Masks = lambda logits, index: hard_masks(logits, has_regions)[0]
        self._tell = tell
        self.encoder: Path | None = None

    def write(self, files: NetworkFiles, network: nn.Module) -> NetworkFiles:
        """Quantises the networks of a fold and returns the files to use instead.

        Args:
            files: U-Net and image encoder as two networks in float32.
            network: the fold's network in PyTorch.
        """
        core = import_openvino().Core()
        model = core.read_model(str(files.unet))
        drop = 1 - DICE_AGREEMENT
        if files.encoder is None:
            samples: list[Sample] = [(patch,) for patch in self._patches.patches]
        else:
            drop /= 2  # two networks share what is allowed
            samples = self._with_embeddings(core, files.encoder, network)
            if self.encoder is None:
                self.encoder = self._write_encoder(core, files, network, samples, drop)
        path = _int8_path(files.unet)
        self._quantize(model, samples, self._calibration, self._validation, drop, self._masks, path)
        return replace(files, unet=path, encoder=self.encoder)

    def _with_embeddings(self, core, encoder: Path, network: nn.Module) -> list[Sample]:
        compiled = core.compile_model(str(encoder), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        samples: list[Sample] = []
        for patch in self._patches.patches:
            picture = pictures_of(network, [patch])[0]
            samples.append((patch, np.array(compiled([picture])[0])))
        return samples

    def _write_encoder(self, core, files: NetworkFiles, network: nn.Module, samples: list[Sample], drop: float) -> Path:
        """Quantises the image encoder so that the masks of the U-Net behind it agree."""
        assert files.encoder is not None
        unet = core.compile_model(str(files.unet), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        calibration = self._calibration[: ENCODER_PATCHES // 2]
        validation = self._validation[: ENCODER_PATCHES // 2]
        pictures: list[Sample] = []
        for index in range(len(samples)):
            used = index in calibration or index in validation
            picture = pictures_of(network, [samples[index][0]])[0] if used else None
            pictures.append(() if picture is None else (picture,))

        def masks(embedding: NDArray[np.float32], number: int) -> NDArray[np.bool_]:
            return self._masks(np.array(unet([samples[validation[number]][0], embedding])[0]), number)

        path = _int8_path(files.encoder)
        model = core.read_model(str(files.encoder))
        self._quantize(model, pictures, calibration, validation, drop, masks, path)
        return path

    def _quantize(
        self,
        model,
        samples: list[Sample],
        calibration: list[int],
        validation: list[int],
        drop: float,
        masks: Masks,
        path: Path,
    ) -> None:
        self._tell(f"{path.stem}: quantising")
        result = quantize(
            model,
            [samples[index] for index in calibration],
            [samples[index] for index in validation],
            drop,
            lambda sentence: self._tell(f"{path.stem}: {sentence}"),
            masks=masks,
        )
        save(result.model, path)


def _int8_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}_int8.xml")
