"""CPU inference with exported models; imports neither torch nor nnunetv2.

Names are imported on first use (PEP 562).
"""

from typing import TYPE_CHECKING

from nnsam.support.lazy import lazy_names

if TYPE_CHECKING:
    from nnsam.inference.automatic.predictor import Predictor as Predictor
    from nnsam.inference.box.predictor import BoxPredictor as BoxPredictor
    from nnsam.inference.bundle import Bundle as Bundle

_EXPORTS = {
    "BoxPredictor": "nnsam.inference.box.predictor",
    "Bundle": "nnsam.inference.bundle",
    "Predictor": "nnsam.inference.automatic.predictor",
}
__all__ = sorted(_EXPORTS)

if not TYPE_CHECKING:  # so that a type checker knows that there are no other names
    __getattr__ = lazy_names(__name__, _EXPORTS)
