"""Measures speed as ratios, side by side in one process on this machine, which should have nothing else to do.

box    box-prompt segmentation: time per box over image sizes, memory, accuracy on test sets
cpu    exported models: OpenVINO beside PyTorch, cold and warm
train  a training step of nnSAMTrainer beside one of stock nnU-Net

Example:
  nnsam bench train --rounds 20
  nnsam bench box --quick
  nnsam bench cpu --quick
"""

import argparse
import json
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nnsam.cli.common import add_json, bar, json_report
from nnsam.errors import InputError
from nnsam.support.device import DEVICES, choose_device, training_device


def print_box_tables(result: dict) -> None:
    """Prints what `bench_box` returns."""
    # Wide enough for the tables where the output is not a terminal but a file or a pipe.
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(_sizes(result["rows"]))
    load, machine = result["boxes_241"], result["machine"]
    memory = "" if load["peak_mb"] is None else f", peak memory {load['peak_mb']:.0f} MB"
    console.print(
        f"zoom, time per box over the sizes: {result['zoom_time_spread']:.1%} spread; "
        f"{result['passes_per_box']:.2f} network passes per box\n"
        f"{load['boxes']} boxes in {_by(load['size'])}: {load['seconds']:.1f} s{memory}; time per box "
        f"{load['linearity']:.2f} times that of {load['few']} boxes"
    )
    if result["accuracy"] is not None:
        _print_accuracy(console, result["accuracy"])
    console.print(
        f"{escape(result['model'])} in {result['precision']}, patch {_by(result['patch_size'])}, "
        f"on {result['device']}; {machine['processor']}, {machine['cores']} cores, {', '.join(machine['cpu_features'])}"
    )


def _by(size: list[int]) -> str:
    return " x ".join(map(str, size))


def _sizes(rows: list[dict]) -> Table:
    table = Table("image", title="one box, the middle 60 % of the image")
    for name in ("zoom (s)", "set image (s)", "passes zoom", "passes faithful", "by the published rule"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            _by(row["size"]),
            f"{row['zoom_seconds']:.3f}",
            f"{row['set_image_seconds']:.3f}",
            str(row["zoom_passes"]),
            str(row["faithful_passes"]),
            str(row["faithful_rule"]),
        )
    return table


def _print_accuracy(console: Console, accuracy: dict) -> None:
    modes = accuracy["modes"]
    table = Table("set", title="mean over cases of DSC | NSD (tolerance 2 mm or pixels)")
    for name in ("cases", "objects", "larger than patch", *modes):
        table.add_column(name, justify="right")
    for name, entry in accuracy["sets"].items():
        counts = (entry["cases"], entry["objects"], entry["larger_than_patch"])
        table.add_row(escape(name), *map(str, counts), *(_scores(entry["modes"][mode]) for mode in modes))
    table.add_section()
    larger = accuracy["larger_than_patch"]
    table.add_row("mean over sets", "", "", "", *(_scores(accuracy["mean"][mode]) for mode in modes))
    if larger["objects"]:
        scores = [_scores(larger["modes"][mode]) for mode in modes]
        table.add_row("objects larger than a patch", "", str(larger["objects"]), "", *scores)
    console.print(table)
    for mode, found in accuracy["above_ellipse"].items():
        if found["of"]:
            share = f"{found['sets']} of {found['of']}"
            console.print(f"{mode}: DSC above the ellipse's on {share} sets with more than 2 cases")
    below = accuracy["zoom_below_faithful"]
    if below is not None:
        where = "below" if below["DSC"] > 0 else "above"
        console.print(f"zoom at worst {100 * abs(below['DSC']):.1f} DSC points {where} faithful, on {below['set']}")
    for name, reason in accuracy["skipped"].items():
        console.print(f"left out: {name} ({reason})", markup=False)


def _scores(scores: dict) -> str:
    return " | ".join("-" if scores[name] is None else f"{scores[name]:.3f}" for name in ("DSC", "NSD"))


def print_cpu_tables(result: dict) -> None:
    """Prints what `bench_cpu` returns."""
    # Wide enough for the tables where the output is not a terminal but a file or a pipe.
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    if result["comparisons"]:
        console.print(_comparisons(result["comparisons"]))
    if result["rows"]:
        console.print(_rows(result["rows"]))
        if any(row["slices"] not in (None, row["shape"][0]) for row in result["rows"]):
            console.print("* seconds of that part of the volume; see the column per slice and object")
    for note in result["notes"]:
        console.print(f"note: {note}", markup=False)
    machine, versions = result["machine"], result["versions"]
    console.print(
        f"{escape(result['model'])}; {machine['processor']}, {result['threads']} threads, "
        f"{', '.join(machine['cpu_features'])}; "
        f"{', '.join(f'{name} {version}' for name, version in versions.items() if version)}"
    )


def _comparisons(comparisons: list[dict]) -> Table:
    table = Table("what", "candidate", title="side by side, in turn (median of the rounds)")
    for name in ("seconds", "quickest", "times as fast", "range", "by the quickest rounds"):
        table.add_column(name, justify="right")
    for entry in comparisons:
        for index, row in enumerate(sorted(entry["candidates"], key=lambda row: row["name"] != entry["reference"])):
            same = row["name"] == entry["reference"]
            table.add_row(
                "" if index else entry["name"],
                row["name"],
                f"{row['median_s']:.4f}",
                f"{row['min_s']:.4f}",
                "1" if same else f"{row['speedup']:.2f}",
                "" if same else f"{row['speedup_low']:.2f} to {row['speedup_high']:.2f}",
                "" if same else f"{row['speedup_of_minima']:.2f}",
            )
        table.add_section()
    return table


def _rows(rows: list[dict]) -> Table:
    table = Table("case", "size", title="shapes of Table 4 of Stock et al., zoom mode")
    for name in ("boxes", "precision", "warm (s)", "per slice, object", "cold (s)", "nothing cached", "peak (MB)"):
        table.add_column(name, justify="right")
    for row in rows:
        part = row["slices"] not in (None, row["shape"][0])
        size = " x ".join(map(str, row["shape"]))
        first = [row["name"], f"{size}, {row['slices']} slices*" if part else size, str(row["boxes"])]
        for precision, figures in row["precisions"].items():
            table.add_row(
                *first,
                "PyTorch f32" if precision == "pytorch" else precision,
                f"{figures['warm_s']:.3f}",
                _number(figures.get("s_per_slice_and_object"), 3),
                _number(figures.get("cold_s"), 2),
                _number(figures.get("cold_uncached_s"), 2),
                _number(figures.get("peak_mb"), 0),
            )
            first = ["", "", ""]
        table.add_section()
    return table


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


_BOX = """Measures box-prompt segmentation.

Time per box over image sizes from 256 x 256 to 3024 x 4032, network passes, seconds and memory for 241 boxes in one
image; with --data also the accuracy on test sets, beside the ellipse in the box. Model folders are computed in float32,
bundles in the precision that they prefer. Without --model the published network (71.8 M parameters) is measured with
random weights.

Example:
  nnsam bench box --quick
  nnsam bench box --model box_bundle
  nnsam bench box --model nnUNet_results/Dataset201_Box/nnSAMBoxTrainer__nnSAMBoxPlans__2d --data test_sets --json
"""

_CPU = """Compares PyTorch float32 with OpenVINO (f32, bf16, int8) on the CPU, for box models.

Box network, SAM encoder, a zoomed box of either model; and the 14 shapes of Table 4 of Stock et al. on synthetic
images, warm, and cold as `nnsam segment` in a fresh process, with its peak memory. Volumes are cut to 16 slices unless
--slices-limit says otherwise. Without --model the published network (71.8 M parameters) is measured with random
weights. Bundles of automatic models are not taken; `nnsam predict --json` states the seconds of each case. It takes an
hour, with --quick some minutes.

Example:
  nnsam bench cpu --quick
  nnsam bench cpu --out figures
  nnsam bench cpu --model box_bundle --rows us fundus --precisions f32 --json
"""

_TRAIN = """Compares one training step of nnSAMTrainer with one of stock nnU-Net.

Both on the same plans and the same images (256 x 256 phantom, batch of 2, 7 stages); and the making of the level-set
target with the step.

Example:
  nnsam bench train
  nnsam bench train --rounds 20 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one subcommand per benchmark."""
    benchmarks = parser.add_subparsers(dest="what", metavar="BENCHMARK", required=True)
    box = benchmarks.add_parser("box", help="time per box, memory, accuracy", description=_BOX)
    _add_box_arguments(box)
    cpu = benchmarks.add_parser("cpu", help="OpenVINO beside PyTorch on the CPU", description=_CPU)
    _add_cpu_arguments(cpu)
    train = benchmarks.add_parser("train", help="a training step beside stock nnU-Net's", description=_TRAIN)
    train.add_argument("--size", type=int, default=256, help="side of the images in pixels (%(default)s)")
    _add_common_arguments(train, "10")
    box.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="where to compute; auto is cuda, else mps, else cpu (default: %(default)s)",
    )
    train.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="where to train; auto is cuda, else cpu (default: %(default)s)",
    )


def _add_common_arguments(parser: argparse.ArgumentParser, rounds: str) -> None:
    parser.add_argument("--rounds", type=int, metavar="N", help=f"repetitions that count (default: {rounds})")
    add_json(parser)


def _add_box_arguments(box: argparse.ArgumentParser) -> None:
    box.add_argument(
        "--model",
        metavar="FOLDER",
        help="model folder of a box trainer, or a bundle of one (default: the full network, random weights)",
    )
    box.add_argument("--quick", action="store_true", help="three images, fewer rounds and boxes")
    box.add_argument("--data", metavar="FOLDER", help="test sets to score, <set>/test/*.npz below it")
    box.add_argument("--sets", nargs="+", metavar="SET", help="only these sets")
    box.add_argument("--max-cases", type=int, metavar="N", help="at most so many images per set")
    box.add_argument(
        "--overlap",
        action="store_true",
        help="score objects as they are in label maps, too, by either rule for overlaps",
    )
    box.add_argument("--grabcut", action="store_true", help="score OpenCV's GrabCut too (slow)")
    _add_common_arguments(box, "7, with --quick 3")


def _add_cpu_arguments(cpu: argparse.ArgumentParser) -> None:
    cpu.add_argument(
        "--model",
        metavar="FOLDER",
        help="bundle of a box model by `nnsam export` (default: the full network, random weights)",
    )
    cpu.add_argument("--quick", action="store_true", help="three images, fewer rounds")
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
    cpu.add_argument("--device", choices=["cpu"], help=argparse.SUPPRESS)  # earlier versions took it
    _add_common_arguments(cpu, "9, with --quick 3")


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark and prints its figures."""
    if args.rounds is not None and args.rounds < 1:
        raise InputError(f"--rounds is {args.rounds}; expected at least 1")
    with json_report(args.json) as report:
        result = {"train": _bench_training, "box": _bench_box, "cpu": _bench_cpu}[args.what](args)
        report(json.dumps(result, indent=1))
    if args.json == "-":
        return 0
    if args.what == "train":
        _print_table(result)
    elif args.what == "box":
        print_box_tables(result)
    else:
        print_cpu_tables(result)
    return 0


def _bench_training(args: argparse.Namespace) -> dict:
    from nnsam.bench.train import bench_training

    rounds = 10 if args.rounds is None else args.rounds
    return bench_training(rounds=rounds, size=args.size, device=training_device(args.device))


def _bench_box(args: argparse.Namespace) -> dict:
    from nnsam.bench.box.speed import bench_box
    from nnsam.inference.bundle import is_bundle

    return bench_box(
        args.model,
        args.data,
        quick=args.quick,
        rounds=args.rounds,
        device=args.device if args.model is not None and is_bundle(args.model) else choose_device(args.device).type,
        baselines=("ellipse", "grabcut") if args.grabcut else ("ellipse",),
        sets=args.sets,
        max_cases=args.max_cases,
        overlap=args.overlap,
        progress=lambda files: bar(files, "Scoring"),
    )


def _bench_cpu(args: argparse.Namespace) -> dict:
    from nnsam.bench.cpu.output import check_folder, write_results
    from nnsam.bench.cpu.run import bench_cpu

    for name, value in (("--slices-limit", args.slices_limit), ("--threads", args.threads)):
        if value < 0:
            raise InputError(f"{name} is {value}; expected 0 or more")
    if args.out is not None:
        check_folder(args.out)  # before minutes of measuring
    screen = Console(stderr=True)
    with screen.status("Measuring") as status:
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
