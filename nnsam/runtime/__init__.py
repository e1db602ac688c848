"""CPU inference with exported models; imports neither torch nor nnunetv2.

Names are imported on first use (PEP 562).
"""

import importlib

_EXPORTS = {
    "BoxPredictor": "nnsam.inference.box.bundle_predictor",
    "Bundle": "nnsam.inference.bundle",
    "Predictor": "nnsam.inference.automatic.predictor",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
