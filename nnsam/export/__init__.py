"""Export of trained models to OpenVINO bundles, which :mod:`nnsam.runtime` runs without PyTorch.

Names are imported on first use (PEP 562).
"""

import importlib

_EXPORTS = {"export_model": "nnsam.export.export_model"}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
