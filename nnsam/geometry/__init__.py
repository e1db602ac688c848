"""Level-set geometry: pure functions on arrays and tensors, without nnU-Net and without modules.

Distances run in data-loading workers and in places without torch, so what needs torch is loaded on first use (PEP 562).
No module that is loaded so may be called like one of its functions: importing it would hide the function here.
"""

from typing import TYPE_CHECKING

from nnsam.geometry.signed_distance import level_set_target, relative_spacing, signed_distance, squash

if TYPE_CHECKING:
    from nnsam.geometry.differential import curvature, gradient, narrow_band

__all__ = [
    "curvature",
    "gradient",
    "level_set_target",
    "narrow_band",
    "relative_spacing",
    "signed_distance",
    "squash",
]

if not TYPE_CHECKING:  # so that a type checker knows that there are no other names

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from nnsam.geometry import differential

        return getattr(differential, name)

    def __dir__():
        return sorted({*globals(), *__all__})
