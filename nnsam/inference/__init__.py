"""Prediction with box prompts.

Names are imported on first use (PEP 562). Only :mod:`nnsam.inference.torch_backend` needs PyTorch.
"""

import importlib

_EXPORTS = {
    "Backend": "nnsam.inference.backend",
    "BoxModelSpec": "nnsam.prompts.box_model",
    "BoxPredictor": "nnsam.inference.box.predictor",
    "Prediction": "nnsam.inference.box.prediction",
    "Propagation": "nnsam.inference.box.volume",
    "TorchBackend": "nnsam.inference.torch_backend",
    "faithful_passes": "nnsam.inference.box.faithful",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
