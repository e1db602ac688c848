"""Networks: MobileSAM's encoder, its fusion with nnU-Net's U-Nets, heads.

Names are imported on first use (PEP 562), so that light modules of this package do not pull torch.
"""

import importlib

_EXPORTS = {
    "BottleneckFusion": "nnsam.networks.fused_unet",
    "BoxUNet": "nnsam.networks.box_unet",
    "FusedUNet": "nnsam.networks.fused_unet",
    "LevelSetHead": "nnsam.networks.fused_unet",
    "MobileSAMEncoder": "nnsam.networks.mobile_sam",
    "SAMBranch": "nnsam.networks.sam_branch",
    "SAMInput": "nnsam.networks.sam_branch",
    "build_box_unet": "nnsam.networks.box_unet",
    "build_nnsam_unet": "nnsam.networks.fused_unet",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
