"""Builds nnSAM's network from nnU-Net's plans and runs it once.

python network_from_plans.py nnUNet_preprocessed/Dataset001_X/nnUNetPlans.json --classes 6
Without a plans file, a small network for 64 x 64 patches is planned by hand.
"""

import argparse
import json

import torch

from nnsam.networks import MobileSAMEncoder, build_nnsam_unet

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("plans", nargs="?", help="nnUNetPlans.json")
parser.add_argument("--channels", type=int, default=1, help="image channels")
parser.add_argument("--classes", type=int, default=6, help="classes, the background among them")
parser.add_argument("--sam-size", type=int, default=256, help="side of the encoder's input, a multiple of 32")
args = parser.parse_args()

STAGES = 5
SMALL_ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": STAGES,
        "features_per_stage": [16, 32, 64, 128, 128],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3]] * STAGES,
        "strides": [[1, 1]] + [[2, 2]] * (STAGES - 1),
        "n_conv_per_stage": [2] * STAGES,
        "n_conv_per_stage_decoder": [2] * (STAGES - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
if args.plans:
    with open(args.plans) as file:
        plans = json.load(file)
else:
    plans = {"configurations": {"2d": {"architecture": SMALL_ARCHITECTURE, "patch_size": [64, 64]}}}

network = build_nnsam_unet(
    plans,
    MobileSAMEncoder.random(seed=0),  # MobileSAMEncoder.from_checkpoint("mobile_sam.pt") with SAM's weights
    input_channels=args.channels,
    num_classes=args.classes,
    sam_size=args.sam_size,
)
*logits, level_sets = network(torch.randn(1, args.channels, *plans["configurations"]["2d"]["patch_size"]))
trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
frozen = sum(p.numel() for p in network.parameters() if not p.requires_grad)
print(f"{trainable:,} trainable and {frozen:,} frozen parameters")
print("training output: logits", [tuple(x.shape) for x in logits], "level sets", tuple(level_sets.shape))

network.decoder.deep_supervision = False
network.eval()
with torch.no_grad():
    logits = network(torch.randn(1, args.channels, *plans["configurations"]["2d"]["patch_size"]))
print("prediction output:", tuple(logits.shape))
