"""Networks: MobileSAM's encoder, its fusion with nnU-Net's U-Nets, heads.

Names are imported on first use (PEP 562), so that light modules of this package do not pull torch.
"""

from typing import TYPE_CHECKING

from nnsam.support.lazy import lazy_names

if TYPE_CHECKING:
    from nnsam.networks.box_unet import BoxUNet as BoxUNet
    from nnsam.networks.box_unet import build_box_unet as build_box_unet
    from nnsam.networks.fused_unet import BottleneckFusion as BottleneckFusion
    from nnsam.networks.fused_unet import FusedUNet as FusedUNet
    from nnsam.networks.fused_unet import LevelSetHead as LevelSetHead
    from nnsam.networks.fused_unet import build_nnsam_unet as build_nnsam_unet
    from nnsam.networks.mobile_sam import MobileSAMEncoder as MobileSAMEncoder
    from nnsam.networks.sam_branch import SAMBranch as SAMBranch
    from nnsam.networks.sam_branch import SAMInput as SAMInput

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

if not TYPE_CHECKING:  # so that a type checker knows that there are no other names
    __getattr__ = lazy_names(__name__, _EXPORTS)
