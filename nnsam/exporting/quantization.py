"""Networks in 8-bit integers, by post-training quantisation with NNCF under control of accuracy.

Ranges of activations come from calibration inputs. The result is compared with the float32 network on validation
inputs, and as long as their masks differ too much, NNCF takes the operations back to float32 that do most harm.
"""

import importlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, SetupError
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
    try:
        with _without_module(_TELEMETRY), _quiet_loggers():
            nncf = importlib.import_module("nncf")
            importlib.import_module("torch.utils.cpp_extension")  # NNCF would import it later, with its warning
    except ImportError as error:
        raise SetupError(
            'NNCF, which makes int8 networks, is not installed; install it with: pip install "nnsam[int8]"'
        ) from error
    finally:
        logging.setLoggerClass(before)  # NNCF makes its own the class of all later loggers
    logger = logging.getLogger("nncf")
    if logger.handlers:  # as NNCF makes it
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    return nncf


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keeps NNCF from drawing progress bars; :func:`load_nncf` comes first."""
    from rich.progress import Progress

    class Silent(Progress):
        def __init__(self, *columns: Any, **options: Any):
            super().__init__(*columns, **{**options, "disable": True})

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
_WITH_WEIGHTS = (*CONVOLUTIONS, "MatMul")
# Between weights and the operation that uses them.
_ON_THE_WAY = ("Convert", "Multiply", "Subtract", "FakeQuantize", "Reshape", "Transpose")


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


def operations_with_weights(model: Any) -> list[str]:
    """Returns the names of all convolutions and matrix products with constant weights."""
    return [node.get_friendly_name() for node, _ in _with_weights(model)]


def quantized_operations(model: Any) -> list[str]:
    """Returns the names of those of :func:`operations_with_weights` whose weights are 8-bit integers."""
    return [node.get_friendly_name() for node, is_int8 in _with_weights(model) if is_int8]


def _with_weights(model: Any) -> Iterator[tuple[Any, bool]]:
    for node in model.get_ordered_ops():
        if node.get_type_name() not in _WITH_WEIGHTS:
            continue
        source, is_int8 = node.input_value(1).get_node(), False
        while source.get_type_name() in _ON_THE_WAY:
            is_int8 |= source.get_type_name() == "FakeQuantize"
            source = source.input_value(0).get_node()
        if source.get_type_name() == "Constant":
            yield node, is_int8 or source.get_element_type().get_type_name() in ("i8", "u8")


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
        quantized_operations: number of convolutions and matrix products in int8.
        reverted_operations: number of those that were taken back to float32 for the agreement's sake.
        float_operations: number of those that were left in float32 from the start.
    """

    model: Any
    agreement: float
    quantized_operations: int
    reverted_operations: int
    float_operations: int


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
        masks: turns the first output for a validation input, and that input's number, into masks (K, ...); see
            :func:`label_masks`, the default, and :func:`region_masks`.

    Raises:
        InputError: no inputs.
        SetupError: NNCF is not installed.
    """
    if not calibration or not validation:
        raise InputError("int8 needs images to calibrate on; found none")
    nncf = load_nncf()
    shapes = [port.get_partial_shape() for port in model.inputs]
    static = _reshaped(model, [list(array.shape) for array in calibration[0]])
    tell = progress or (lambda text: None)
    compare = _Comparison(static, validation, masks or label_masks, tell)
    tell(f"calibration on {len(calibration)} inputs")
    kept = [] if is_transformer(static) else sensitive_operations(static)
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
            **_options(nncf, static, kept),
        )
    agreement, _ = compare(_compiled(result), range(len(validation)))
    done, possible = set(quantized_operations(result)), set(operations_with_weights(static))
    return QuantizedModel(
        _reshaped(result, shapes), agreement, len(done), len(possible - done - set(kept)), len(possible & set(kept))
    )


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
    shapes = [port.get_partial_shape() for port in model.inputs]
    static = _reshaped(model, [list(array.shape) for array in calibration[0]])
    kept = [] if is_transformer(static) else sensitive_operations(static)
    options = _options(nncf, static, kept)
    options["advanced_parameters"] = options.pop("advanced_quantization_parameters", None)  # as this function calls it
    with without_progress_bars():
        result = nncf.quantize(static, nncf.Dataset(list(calibration)), subset_size=len(calibration), **options)
    return _reshaped(result, shapes)


def label_masks(logits: NDArray[np.float32], index: int = 0) -> NDArray[np.bool_]:
    """Turns logits (1, K + 1, ...) into the masks of the labels but the background, (K, ...)."""
    labels = logits[0].argmax(axis=0)
    return np.stack([labels == label for label in range(1, logits.shape[1])])


def region_masks(logits: NDArray[np.float32], index: int = 0) -> NDArray[np.bool_]:
    """Turns logits (1, K, ...) into the masks of overlapping regions, (K, ...): a probability above one half."""
    return logits[0] > 0


def mask_agreement(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Mean Dice of pairs of masks (K, ...) of which at least one is not empty; 1 where all are empty."""
    axes = tuple(range(1, first.ndim))
    both, total = (first & second).sum(axis=axes), first.sum(axis=axes) + second.sum(axis=axes)
    return float(np.mean(2 * both[total > 0] / total[total > 0])) if total.any() else 1.0


class _Comparison:
    """Compares compiled networks with the original one, in the form that NNCF asks for."""

    def __init__(self, model: Any, samples: Sequence[Sample], masks: Masks, tell: Callable[[str], None]):
        self._samples, self._masks, self._tell = samples, masks, tell
        compiled = _compiled(model)
        self._reference = [self._masks_of(compiled, index) for index in range(len(samples))]

    def __call__(self, compiled: Any, indices: Iterable[int]) -> tuple[float, list[float]]:
        """Returns the mean agreement and that of each validation input."""
        found = [mask_agreement(self._reference[index], self._masks_of(compiled, index)) for index in indices]
        mean = float(np.mean(found))
        if len(found) == len(self._samples):
            self._tell(f"validation: agreement {mean:.4f}")
        return mean, found

    def _masks_of(self, compiled: Any, index: int) -> NDArray[np.bool_]:
        return self._masks(np.array(compiled(list(self._samples[index]))[0], dtype=np.float32), index)


def _options(nncf: Any, model: Any, kept: Sequence[str]) -> dict[str, Any]:
    if is_transformer(model):
        return {"preset": nncf.QuantizationPreset.MIXED, "model_type": nncf.ModelType.TRANSFORMER}
    return {
        # Symmetric activations: as exact as asymmetric ones here and quicker, since zero points cost extra work.
        "preset": nncf.QuantizationPreset.PERFORMANCE,
        "ignored_scope": nncf.IgnoredScope(names=list(kept), types=list(FLOAT_TYPES), validate=False),
        # Instance normalisation removes every shift that it could correct.
        "advanced_quantization_parameters": nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
    }


def _compiled(model: Any) -> Any:
    openvino = import_openvino()

    # Without the hint, OpenVINO computes the rest in bfloat16 where the processor can.
    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def _reshaped(model: Any, shapes: Sequence[Any]) -> Any:
    copy = model.clone()
    copy.reshape(dict(enumerate(shapes)))
    return copy
