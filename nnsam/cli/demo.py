"""Train, predict, export and evaluate nnSAM on a small synthetic data set, offline; some minutes on two cores.

Makes 4 training and 4 test images of a heart phantom with 5 structures, and runs nnU-Net's own commands on them with
nnSAMTrainer. SAM's weights are used where `nnsam weights status` finds them; otherwise the SAM branch has random
weights, and the output says so.

Example:
  nnsam demo --out nnsam_demo
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--out", default="nnsam_demo", help="folder to make, absent or empty (%(default)s)")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to train (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=4, help="epochs of the training (%(default)s)")
    parser.add_argument("--iterations", type=int, default=60, help="training iterations per epoch (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs the demo and prints its table."""
    from rich.console import Console

    from nnsam.cli.evaluate import print_table
    from nnsam.demo import Demo, write_summary
    from nnsam.errors import InputError

    if args.epochs < 1 or args.iterations < 1:
        raise InputError(f"--epochs {args.epochs} --iterations {args.iterations}: expected at least 1 each")
    console = Console(highlight=False)
    with console.status("starting") as status:

        def report(line: str) -> None:
            console.print(f"- {line}")
            status.update(line)

        result = Demo(args.out, _device(args.device), args.epochs, args.iterations, report).run()
    summary = write_summary(result)
    print_table(result.evaluation)
    if result.random_weights:
        console.print("The SAM branch had RANDOM weights: these scores are not nnSAM's.")
    console.print(
        f"The exported model, run without PyTorch, predicts {result.exported_difference:.4%} of the pixels differently."
    )
    console.print(
        f"{sum(result.seconds.values()):.0f} s; overlays in {result.overlays[0].parent}, figures in {summary}"
    )
    return 0


def _device(choice: str) -> str:
    if choice != "auto":
        return choice
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
