"""Writes plans for box-prompt training, nnSAMBoxPlans.json, for a raw nnU-Net data set.

The network is the one of Stock et al. (71.8 M parameters, patch 224 x 288, batch 51) or, with --model small, one of
2.5 M for laptops (patch 128 x 160, batch 16). nnU-Net's fingerprint is extracted first where it is missing.

Example:
  nnsam plan-box -d 201 --model small --prompt ellipse
  nnUNetv2_preprocess -d 201 -plans_name nnSAMBoxPlans -c 2d
  nnUNetv2_train 201 2d 0 -p nnSAMBoxPlans -tr nnSAMBoxTrainer
"""

import argparse
import json
from pathlib import Path

from nnsam.cli.common import add_json, json_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("-d", "--dataset", required=True, metavar="D", help="number or name of the raw data set")
    parser.add_argument("--model", choices=("full", "small"), default="full", help="size of the network (%(default)s)")
    parser.add_argument(
        "--prompt",
        choices=("binary", "ellipse"),
        default="binary",
        help="what the network sees of a box: its mask, as in the paper, or beside it a bump that is 0 on the "
        "inscribed ellipse (%(default)s)",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: 51 for full, 16 for small")
    parser.add_argument(
        "--patch", type=_patch, metavar="HxW", help="patch in pixels (default: 224x288 for full, 128x160 for small)"
    )
    parser.add_argument("--name", default="nnSAMBoxPlans", help="name of the plans (%(default)s)")
    parser.add_argument(
        "-np",
        "--processes",
        "--np",
        type=int,
        default=2,
        metavar="N",
        help="processes for the fingerprint (%(default)s)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Plans and prints what was planned."""
    from nnsam.training.box_planning import plan_box

    with json_report(args.json) as report:
        planned = plan_box(
            args.dataset,
            model=args.model,
            prompt=args.prompt,
            batch_size=args.batch_size,
            patch_size=args.patch,
            plans_name=args.name,
            processes=args.processes,
        )
        report(json.dumps(planned, indent=1))
    if args.json == "-":
        return 0
    number = planned["dataset"][7:10].lstrip("0")
    print(
        f"{Path(planned['file']).name} of {planned['dataset']}: {planned['model']} model, "
        f"{planned['parameters']:,} parameters, patch {planned['patch_size'][0]} x {planned['patch_size'][1]}, "
        f"batch {planned['batch_size']}, prompt {planned['prompt']}."
    )
    print(f"Next: nnUNetv2_preprocess -d {number} -plans_name {args.name} -c 2d")
    print(f"Then: nnUNetv2_train {number} 2d 0 -p {args.name} -tr nnSAMBoxTrainer")
    return 0


def _patch(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"expected HxW such as 224x288; found {text!r}")
    return int(parts[0]), int(parts[1])
