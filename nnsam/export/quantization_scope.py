"""Which operations of a network are computed with 8-bit integers, and which had better not be.

Measured on a small box network (real images of eight kinds, Dice agreement with float32): everything in int8 0.984;
only convolutions 0.991; without the first and the last one 0.995; without those of kernel size 1 either 0.996. The
first convolution sees prompt and image channels of different scale, the last one makes the logits, those of size 1
carry the residual networks' shortcuts. Together they are little of the work.
"""

from collections.abc import Iterator
from typing import Any

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
