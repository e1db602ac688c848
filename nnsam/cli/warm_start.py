"""Turn a checkpoint of nnU-Net into a starting point for nnSAM.

The result goes to nnU-Net's own option -pretrained_weights. At the first step the network computes what the nnU-Net
of the checkpoint computes; output layers are left out, as nnU-Net does for pretrained weights.

Example:
  nnsam warm-start fold_0/checkpoint_final.pth -o start.pth
  nnUNetv2_train 1 2d 0 -tr nnSAMTrainer -pretrained_weights start.pth
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("checkpoint", help="checkpoint_*.pth that nnUNetv2_train wrote, 2d configuration")
    parser.add_argument("-o", "--output", required=True, help="file to write")
    parser.add_argument("-tr", "--trainer", default="nnSAMTrainer", help="trainer that will use it (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")


def run(args: argparse.Namespace) -> int:
    """Writes the file."""
    from nnsam.training.warm_start import write_warm_start

    counts = write_warm_start(args.checkpoint, args.output, args.trainer, args.overwrite)
    print(
        f"wrote {args.output}: {counts['taken']} tensors of nnU-Net, {counts['added']} new ones; use it with\n"
        f"  nnUNetv2_train ... -tr {args.trainer} -pretrained_weights {args.output}"
    )
    return 0
