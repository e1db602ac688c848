"""Exports a trained model to a bundle that runs on CPUs without PyTorch and nnU-Net.

The model is one of nnsam's trainers or of nnU-Net's own, in 2d, 3d_fullres or 3d_lowres. The bundle holds OpenVINO
networks of all chosen folds and bundle.json: pre- and post-processing, labels, versions, hashes. Its logits are
compared with PyTorch's, and nothing is written unless they are equal within 0.001 in float32 (times their root mean
square, where that is above 1). Lower precisions are compared with float32 by the Dice of their masks and timed; the
fastest one with a Dice of at least 0.995 becomes the bundle's default.

Example:
  nnsam export nnUNet_results/Dataset001_Heart/nnUNetTrainer__nnUNetPlans__2d -o heart_bundle
  nnsam export MODEL_FOLDER -o BUNDLE --folds 0 1 --images imagesTs
  nnsam predict BUNDLE -i imagesTs -o predictions
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnsam.cli.common import add_folds, add_json, add_voxel_limit, json_report
from nnsam.support.openvino import SPELLINGS

if TYPE_CHECKING:
    from nnsam.inference.bundle import Bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options."""
    parser.add_argument("model", metavar="MODEL_FOLDER", help="holds plans.json, dataset.json and fold_*")
    parser.add_argument("-o", "--output", required=True, metavar="BUNDLE", help="folder to make")
    add_folds(
        parser, "numbers, or all for fold_all (default: all numbered folds, else fold_all; of box models one fold)"
    )
    parser.add_argument(
        "--checkpoint", default="checkpoint_final.pth", metavar="NAME", help="file in the folds (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=SPELLINGS,
        default="auto",
        help="the bundle's default; auto: the fastest whose masks agree with float32's; float32 is f32, bfloat16 is "
        "bf16 (default: %(default)s)",
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="images to compare precisions on and to calibrate int8 (default: the training data in nnUNet_preprocessed "
        "if it is there, else noise)",
    )
    parser.add_argument(
        "--calibration", type=int, metavar="N", help="number of patches of these images (default: 32 in 2D, 8 in 3D)"
    )
    parser.add_argument(
        "--no-int8",
        dest="int8",
        action="store_false",
        help="do not look for an int8 network, which with --images takes longer than all the rest",
    )
    parser.add_argument("--onnx", action="store_true", help="write ONNX files of the networks, too")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an older bundle, once the new one is complete"
    )
    add_json(parser, "precision and parity")
    add_voxel_limit(parser)


def run(args: argparse.Namespace) -> int:
    """Exports and prints the report."""
    from nnsam.errors import InputError
    from nnsam.exporting.export_model import export_model

    if args.json not in (None, "-") and Path(args.output).absolute() in Path(args.json).absolute().parents:
        raise InputError(
            f"{args.json} lies in the bundle {args.output}, which holds its own files; choose another place."
        )
    with json_report(args.json) as report:
        bundle = export_model(
            args.model,
            args.output,
            folds=args.folds,
            checkpoint=args.checkpoint,
            precision=args.precision,
            images=args.images,
            calibration=args.calibration,
            onnx=args.onnx,
            int8=args.int8,
            overwrite=args.overwrite,
            tell=lambda sentence: print(f"nnsam export: {sentence}", file=sys.stderr),
        )
        report(json.dumps({name: bundle.manifest[name] for name in ("precision", "parity")}, indent=1))
    if args.json != "-":
        _print_report(bundle)
    return 0


def _print_report(bundle: "Bundle") -> None:
    from rich.console import Console
    from rich.table import Table

    parity, precision = bundle.manifest["parity"], bundle.manifest["precision"]
    table = Table()
    for title in ("precision", "max / mean difference", "Dice with f32", "ms/patch", "used"):
        table.add_column(title, justify="left" if title == "precision" else "right")
    table.add_row("PyTorch f32", "", "", f"{1000 * parity['pytorch_seconds']:.1f}", "")
    for name, found in precision["candidates"].items():
        difference = f"{found['max_difference']:.1e} / {found['mean_difference']:.1e}"
        dice = "-" if found["dice"] is None else f"{found['dice']:.4f}"
        used = "default" if name == precision["auto"] else ""
        table.add_row(f"OpenVINO {name}", difference, dice, f"{1000 * found['seconds']:.1f}", used)
    Console().print(table)
    print(f"differences of logits: OpenVINO f32 to PyTorch, others to OpenVINO f32; on {parity['source']}")
    if not parity["from_images"]:
        print("noise tells little about real images: compare on some of yours with --images")
    print(f"default precision {precision['auto']}: {precision['reason']}")
    print(f"written to {bundle.folder}")
