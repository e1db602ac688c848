"""Measure speed as ratios, side by side in one process on this machine.

`train` compares one training step of nnSAMTrainer with one of stock nnU-Net on the same plans and the same images
(256 x 256 phantom, batch of 2, 7 stages), and the making of the level-set target with the step.

`box` measures box-prompt segmentation: time per box over image sizes from 256 x 256 to 3024 x 4032, network passes,
seconds and memory for 241 boxes in one image; with --data also the accuracy on test sets, beside the ellipse in the
box.
Without --model the published network (71.8 M parameters) is measured with random weights.

Example:
  nnsam bench train
  nnsam bench train --rounds 20 --json
  nnsam bench box --quick
  nnsam bench box --model nnUNet_results/Dataset201_Box/nnSAMBoxTrainer__nnSAMBoxPlans__2d --data test_sets --json
"""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("what", choices=["train", "box"], help="what to measure")
    parser.add_argument("--rounds", type=int, help="repetitions that count (train: 10, box: 7, or 3 with --quick)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    train = parser.add_argument_group("train")
    train.add_argument("--size", type=int, default=256, help="side of the images in pixels (%(default)s)")
    box = parser.add_argument_group("box")
    box.add_argument("--model", metavar="FOLDER", help="trained model (default: the full network, random weights)")
    box.add_argument("--data", metavar="FOLDER", help="test sets to score, <set>/test/*.npz below it")
    box.add_argument("--sets", nargs="+", metavar="SET", help="only these sets")
    box.add_argument("--max-cases", type=int, metavar="N", help="at most so many images per set")
    box.add_argument("--grabcut", action="store_true", help="score OpenCV's GrabCut too (slow)")
    box.add_argument("--quick", action="store_true", help="three image sizes, fewer rounds and boxes")


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark and prints its figures."""
    from nnsam.errors import InputError

    if args.rounds is not None and args.rounds < 1:
        raise InputError(f"--rounds is {args.rounds}; expected at least 1")
    result = _bench_training(args) if args.what == "train" else _bench_box(args)
    if args.json:
        print(json.dumps(result, indent=1))
    elif args.what == "train":
        _print_table(result)
    else:
        from nnsam.cli.bench_box_tables import print_box_tables

        print_box_tables(result)
    return 0


def _bench_training(args: argparse.Namespace) -> dict:
    from nnsam.bench.train import bench_training

    return bench_training(rounds=10 if args.rounds is None else args.rounds, size=args.size, device=args.device)


def _bench_box(args: argparse.Namespace) -> dict:
    from rich.console import Console
    from rich.progress import track

    from nnsam.bench.box import bench_box

    screen = Console(stderr=True)
    return bench_box(
        args.model,
        args.data,
        quick=args.quick,
        rounds=args.rounds,
        device=args.device,
        baselines=("ellipse", "grabcut") if args.grabcut else ("ellipse",),
        sets=args.sets,
        max_cases=args.max_cases,
        progress=lambda files: track(files, "Scoring", console=screen, transient=True, disable=not screen.is_terminal),
    )


def _print_table(result: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("training step", "seconds (median)", "ratio to stock nnU-Net", "spread of the ratio")
    for row in result["rows"]:
        spread = f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
        table.add_row(row["name"], f"{row['seconds']:.3f}", f"{row['ratio']:.2f}", spread)
    console.print(table)
    console.print(
        f"level-set target: {1000 * result['levelset_seconds']:.1f} ms per batch, "
        f"{result['levelset_share']:.1%} of a nnSAM step (1024)"
    )
    machine = result["machine"]
    console.print(f"{machine['processor']}, {machine['cores']} cores, {', '.join(machine['cpu_features'])}")
