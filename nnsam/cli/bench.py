"""Measure speed as ratios, side by side in one process on this machine.

`train` compares one training step of nnSAMTrainer with one of stock nnU-Net on the same plans and the same images
(256 x 256 phantom, batch of 2, 7 stages), and the making of the level-set target with the step.

`box` measures box-prompt segmentation: time per box over image sizes from 256 x 256 to 3024 x 4032, network passes,
seconds and memory for 241 boxes in one image; with --data also the accuracy on test sets, beside the ellipse in the
box.
Without --model the published network (71.8 M parameters) is measured with random weights.

`cpu` compares PyTorch float32 with OpenVINO (f32, bf16, int8): box network, SAM encoder, a zoomed box of either model;
and times the 14 shapes of Table 4 of Stock et al. on synthetic images, warm, and cold as `nnsam segment` in a fresh
process, with its peak memory. Volumes are cut to 16 slices unless --slices-limit says otherwise. --model takes a bundle
of `nnsam export`. It takes an hour, with --quick some minutes; the machine should have nothing else to do.

Example:
  nnsam bench train
  nnsam bench train --rounds 20 --json
  nnsam bench box --quick
  nnsam bench box --model nnUNet_results/Dataset201_Box/nnSAMBoxTrainer__nnSAMBoxPlans__2d --data test_sets --json
  nnsam bench cpu --quick
  nnsam bench cpu --out figures
  nnsam bench cpu --model bundle --rows us fundus --precisions bf16 --json
"""

import argparse
import json
import warnings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("what", choices=["train", "box", "cpu"], help="what to measure")
    parser.add_argument("--rounds", type=int, help="repetitions that count (train: 10, box: 7, cpu: 9; 3 with --quick)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    train = parser.add_argument_group("train")
    train.add_argument("--size", type=int, default=256, help="side of the images in pixels (%(default)s)")
    both = parser.add_argument_group("box and cpu")
    both.add_argument(
        "--model",
        metavar="FOLDER",
        help="trained model for box, bundle for cpu (default: the full network, random weights)",
    )
    both.add_argument("--quick", action="store_true", help="three images, fewer rounds and boxes")
    box = parser.add_argument_group("box")
    box.add_argument("--data", metavar="FOLDER", help="test sets to score, <set>/test/*.npz below it")
    box.add_argument("--sets", nargs="+", metavar="SET", help="only these sets")
    box.add_argument("--max-cases", type=int, metavar="N", help="at most so many images per set")
    box.add_argument("--grabcut", action="store_true", help="score OpenCV's GrabCut too (slow)")
    _add_cpu_arguments(parser)


def _add_cpu_arguments(parser: argparse.ArgumentParser) -> None:
    cpu = parser.add_argument_group("cpu")
    cpu.add_argument("--out", metavar="FOLDER", help="write cpu.json and cpu.png there")
    cpu.add_argument("--rows", nargs="+", metavar="NAME", help="only rows whose names begin so, such as ct or us_0525")
    cpu.add_argument(
        "--precisions", nargs="+", choices=["f32", "bf16", "int8"], help="only these (default: all that there are)"
    )
    cpu.add_argument(
        "--slices-limit", type=int, default=16, metavar="N", help="slices of a volume, 0: all (default: %(default)s)"
    )
    cpu.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads, 0: all (default: %(default)s)")
    cpu.add_argument("--no-ratios", action="store_true", help="leave out the comparison with PyTorch")
    cpu.add_argument("--no-cold", action="store_true", help="leave out the fresh processes")


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark and prints its figures."""
    from nnsam.errors import InputError

    if args.rounds is not None and args.rounds < 1:
        raise InputError(f"--rounds is {args.rounds}; expected at least 1")
    result = {"train": _bench_training, "box": _bench_box, "cpu": _bench_cpu}[args.what](args)
    if args.json:
        print(json.dumps(result, indent=1))
    elif args.what == "train":
        _print_table(result)
    elif args.what == "box":
        from nnsam.cli.bench_box_tables import print_box_tables

        print_box_tables(result)
    else:
        from nnsam.cli.bench_cpu_tables import print_cpu_tables

        print_cpu_tables(result)
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


def _bench_cpu(args: argparse.Namespace) -> dict:
    from rich.console import Console

    from nnsam.bench.cpu import bench_cpu
    from nnsam.bench.cpu_output import check_folder, write_results
    from nnsam.errors import InputError

    for name, value in (("--slices-limit", args.slices_limit), ("--threads", args.threads)):
        if value < 0:
            raise InputError(f"{name} is {value}; expected 0 or more")
    if args.device != "cpu":
        raise InputError(f"--device is {args.device}; `nnsam bench cpu` measures the CPU")
    if args.out is not None:
        check_folder(args.out)  # before minutes of measuring
    screen = Console(stderr=True)
    with screen.status("Measuring") as status, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's about other packages, on import
        result = bench_cpu(
            args.model,
            rounds=args.rounds,
            rows=args.rows,
            precisions=args.precisions,
            quick=args.quick,
            slices_limit=args.slices_limit or None,
            threads=args.threads,
            ratios=not args.no_ratios,
            cold=not args.no_cold,
            progress=lambda what: status.update(f"Measuring: {what}"),
        )
    if args.out is not None:
        write_results(result, args.out)
    return result


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
