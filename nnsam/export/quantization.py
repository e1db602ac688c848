"""Networks in 8-bit integers, by post-training quantisation with NNCF under control of accuracy.

Ranges of activations come from calibration inputs. The result is compared with the float32 network on validation
inputs, and as long as their masks differ too much, NNCF takes the operations back to float32 that do most harm.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.export.nncf_loading import load_nncf, without_progress_bars
from nnsam.export.quantization_scope import (
    FLOAT_TYPES,
    is_transformer,
    operations_with_weights,
    quantized_operations,
    sensitive_operations,
)
from nnsam.runtime.openvino_import import import_openvino

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
