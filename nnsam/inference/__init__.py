"""Prediction: with box prompts or automatically, of bundles or of model folders.

Names are imported on first use (PEP 562). Only :mod:`nnsam.inference.torch_backend` needs PyTorch.
"""

from typing import TYPE_CHECKING

from nnsam.support.lazy import lazy_names

if TYPE_CHECKING:
    from nnsam.inference.automatic.predictor import AutomaticPrediction as AutomaticPrediction
    from nnsam.inference.automatic.predictor import Predictor as Predictor
    from nnsam.inference.backend import Backend as Backend
    from nnsam.inference.box.faithful import faithful_passes as faithful_passes
    from nnsam.inference.box.prediction import Prediction as Prediction
    from nnsam.inference.box.predictor import BoxPredictor as BoxPredictor
    from nnsam.inference.box.volume import Propagation as Propagation
    from nnsam.inference.bundle import Bundle as Bundle
    from nnsam.inference.loading import load as load
    from nnsam.inference.openvino_backend import OpenVINOBackend as OpenVINOBackend
    from nnsam.inference.torch_backend import TorchBackend as TorchBackend
    from nnsam.prompts.box_model import BoxModelSpec as BoxModelSpec

_EXPORTS = {
    "AutomaticPrediction": "nnsam.inference.automatic.predictor",
    "Backend": "nnsam.inference.backend",
    "BoxModelSpec": "nnsam.prompts.box_model",
    "BoxPredictor": "nnsam.inference.box.predictor",
    "Bundle": "nnsam.inference.bundle",
    "OpenVINOBackend": "nnsam.inference.openvino_backend",
    "Prediction": "nnsam.inference.box.prediction",
    "Predictor": "nnsam.inference.automatic.predictor",
    "Propagation": "nnsam.inference.box.volume",
    "TorchBackend": "nnsam.inference.torch_backend",
    "faithful_passes": "nnsam.inference.box.faithful",
    "load": "nnsam.inference.loading",
}
__all__ = sorted(_EXPORTS)

if not TYPE_CHECKING:  # so that a type checker knows that there are no other names
    __getattr__ = lazy_names(__name__, _EXPORTS)
