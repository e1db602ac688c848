"""Measure speed as ratios, side by side in one process on this machine.

`train` compares one training step of nnSAMTrainer with one of stock nnU-Net on the same plans and the same images
(256 x 256 phantom, batch of 2, 7 stages), and the making of the level-set target with the step.

Example:
  nnsam bench train
  nnsam bench train --rounds 20 --json
"""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("what", choices=["train"], help="what to measure")
    parser.add_argument("--rounds", type=int, default=10, help="steps of each kind that count (%(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to train (%(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark and prints its figures."""
    from nnsam.bench.train import bench_training
    from nnsam.errors import InputError

    if args.rounds < 1:
        raise InputError(f"--rounds is {args.rounds}; expected at least 1")
    result = bench_training(rounds=args.rounds, size=args.size, device=args.device)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        _print_table(result)
    return 0


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
