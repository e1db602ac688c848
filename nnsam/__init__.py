"""nnSAM: Segment Anything encoders, level-set heads and box prompts for nnU-Net v2.

This module is imported at every interpreter start (see :mod:`nnsam._autoload`), so it imports nothing; its names are
imported on first use (PEP 562).
"""

TYPE_CHECKING = False  # typing's, which type checkers know by its name
if TYPE_CHECKING:
    from nnsam.exporting.export_model import export_model as export
    from nnsam.inference.automatic.predictor import Predictor as Predictor
    from nnsam.inference.box.predictor import BoxPredictor as BoxPredictor
    from nnsam.inference.folders.predict import predict_folder as predict_folder
    from nnsam.inference.folders.segment import segment_files as segment_files
    from nnsam.inference.loading import load as load
    from nnsam.metrics.evaluation import evaluate as evaluate

__version__ = "0.1.0.dev1"

# name -> module, name there
_EXPORTS = {
    "BoxPredictor": ("nnsam.inference.box.predictor", "BoxPredictor"),
    "Predictor": ("nnsam.inference.automatic.predictor", "Predictor"),
    "evaluate": ("nnsam.metrics.evaluation", "evaluate"),
    "export": ("nnsam.exporting.export_model", "export_model"),
    "load": ("nnsam.inference.loading", "load"),
    "predict_folder": ("nnsam.inference.folders.predict", "predict_folder"),
    "segment_files": ("nnsam.inference.folders.segment", "segment_files"),
}
__all__ = ["BoxPredictor", "Predictor", "evaluate", "export", "load", "predict_folder", "segment_files"]

if not TYPE_CHECKING:  # so that a type checker knows that there are no other names

    def __getattr__(name):
        if name in _EXPORTS:
            import importlib

            module, attribute = _EXPORTS[name]
            return getattr(importlib.import_module(module), attribute)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_EXPORTS})
