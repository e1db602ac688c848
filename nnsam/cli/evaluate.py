"""Scores predicted label maps against reference label maps, per case and class.

DSC   Dice similarity coefficient, 0..1
ASD   average symmetric surface distance, pooled over both surfaces
HD95  95 % Hausdorff distance
NSD   surface Dice at --tolerance, 0..1

Reads PNG, BMP, TIFF, NIfTI, NRRD, MHA, and the challenge's npz; cases are matched by file name. Distances are in mm
where files hold a spacing or --spacing gives it, else in pixels. The classes come from nnU-Net's dataset.json, regions
and ignore label included. In npz files every object counts for itself: value i + 1 of a prediction's `segs` is the
object of box i of the reference.

--profile challenge reproduces the scores (DSC, NSD) of the challenge "Segment Anything in Medical Images on Laptop"
(CVPR 2024) with all its quirks, for comparison with published figures: labels 1 to the highest of the reference,
tolerance 2 (mm in volumes, pixels in pictures), the spacing's axes in the file's order although arrays have them
reversed, NSD 0 unless the case's mean DSC is above 0.2, case scores rounded to 4 digits. --profile legacy reproduces
those (DSC, ASD) that nnSAM's authors published code for: ASD in one direction and in pixels, 0 for what was missed
altogether. The standard profile is the correct one.

Example:
  nnsam evaluate -p predictions -r nnUNet_raw/Dataset101_Hearts/labelsTs --json scores.json --csv scores.csv
  nnsam evaluate -p segmented_npz -r test_npz --profile challenge
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from nnsam.cli.common import add_json, add_voxel_limit, bar
from nnsam.errors import InputError

if TYPE_CHECKING:
    from nnsam.metrics.evaluation import Evaluation
    from nnsam.metrics.summary import Statistic, Summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options."""
    parser.add_argument("-p", "--predictions", required=True, metavar="PRED", help="folder of label maps, or one file")
    parser.add_argument("-r", "--references", required=True, metavar="REF", help="folder of label maps, or one file")
    parser.add_argument(
        "--labels",
        metavar="dataset.json",
        help="names and values of the classes (default: looked for in PRED, in REF and beside REF)",
    )
    parser.add_argument(
        "--profile",
        choices=("standard", "challenge", "legacy"),
        default="standard",
        help="scoring rules, see above (default: %(default)s)",
    )
    parser.add_argument(
        "--reference-key",
        choices=("auto", "inst", "gts"),
        default="auto",
        help="which array of npz references counts: inst, single objects; gts, the classes; or auto, inst where "
        "present, else gts renumbered by box_labels where present (default: %(default)s)",
    )
    parser.add_argument(
        "--spacing",
        type=_numbers,
        metavar="y,x",
        help="pixel size in mm of the files that hold none, such as pictures (z,y,x for TIFF stacks); without it "
        "distances are in pixels",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=2.0,
        metavar="MM",
        help="NSD counts surfaces closer than this as equal; in mm, or pixels where there is no spacing (%(default)s)",
    )
    parser.add_argument(
        "--empty",
        choices=("nan", "worst"),
        default="nan",
        help="distances of a class that only one side has: nan, left out of the means and counted, or worst, the "
        "image's diagonal (default: %(default)s)",
    )
    add_json(parser, "all scores")
    parser.add_argument(
        "--csv",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print one line per case and class, and nothing else on standard output; with FILE, write it there",
    )
    add_voxel_limit(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="let --json and --csv replace files that this command has not written"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints the table and writes the files."""
    from nnsam.metrics.evaluation import evaluate
    from nnsam.metrics.profiles import ScoringOptions
    from nnsam.metrics.summary import to_json, write_csv
    from nnsam.support.files import atomic_file

    if args.json == args.csv == "-":
        raise InputError("--json and --csv would both be printed; give one of them a file")
    _check_paths(args)
    with ExitStack() as files:
        # Opened first, so that a long evaluation does not end at a path that cannot be written to.
        json_file = files.enter_context(atomic_file(args.json)) if args.json not in (None, "-") else None
        csv_file = files.enter_context(atomic_file(args.csv)) if args.csv not in (None, "-") else None
        result = evaluate(
            args.predictions,
            args.references,
            dataset_json=args.labels,
            spacing=args.spacing,
            profile=args.profile,
            options=ScoringOptions(args.tolerance, args.empty),
            reference_key=args.reference_key,
            keep_going=True,
            progress=lambda cases: bar(cases, "Evaluating"),
        )
        if json_file is not None:
            json_file.write_text(to_json(result), encoding="utf-8")
        if csv_file is not None:
            write_csv(result, csv_file)
    if args.json == "-":
        sys.stdout.write(to_json(result))
    elif args.csv == "-":
        write_csv(result, sys.stdout)
    else:
        print_table(result)
    if not result.failures:
        return 0
    total = len(result.cases) + len(result.failures)
    print(
        f"nnsam evaluate: {len(result.failures)} of {total} cases failed, and are not in the scores:", file=sys.stderr
    )
    for sentence in result.failures.values():
        print(f"  {sentence}", file=sys.stderr)
    return 1


def _check_paths(args: argparse.Namespace) -> None:
    """Says what a file would overwrite before the work."""
    from nnsam.io.formats import with_data_files
    from nnsam.support.outputs import check_outputs, is_report

    def is_own(path: Path) -> bool:
        return is_report(path, ("profile", "case_scores", "summary", "cases")) or _is_table(path)

    inputs = [Path(path) for path in (args.predictions, args.references, args.labels) if path is not None]
    beside = [file for folder in inputs if folder.is_dir() for file in folder.iterdir()]
    inputs = with_data_files(inputs)
    outputs = [("--json", args.json), ("--csv", args.csv)]
    check_outputs(
        outputs, [*inputs, *(file for file in beside if file.suffix not in (".json", ".csv") or not is_own(file))]
    )
    check_outputs(outputs, (), overwrite=args.overwrite, is_own=is_own)


def _is_table(path: Path) -> bool:
    """Whether a file begins as what this command writes for --csv."""
    start = b"case,class,reference_pixels,predicted_pixels"
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False


def _numbers(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"expected positive numbers; found {text!r}")
    return values


def print_table(result: "Evaluation") -> None:
    """Prints mean and standard deviation per class and overall."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from nnsam.metrics.summary import summarize

    summaries = summarize(result)
    unit = result.unit.replace("pixels", "px")
    table = Table(title=f"{result.profile} profile, mean ± standard deviation over cases")
    table.add_column("class" if result.classes.values else "")
    for name in ("cases", "missed", "false alarms", "absent"):
        table.add_column(name, justify="right")
    units = {"ASD": f" ({unit})", "HD95": f" ({unit})", "NSD": f" ({result.options.tolerance:g} {unit})"}
    for name in summaries[0].scores:
        table.add_column(name + units.get(name, ""), justify="right")
    for index, summary in enumerate(summaries):
        counts = (summary.cases, summary.missed, summary.false_alarms, summary.absent)
        cells = [_cell(statistic, 2 if name in ("ASD", "HD95") else 3) for name, statistic in summary.scores.items()]
        table.add_row(escape(summary.label), *map(str, counts), *cells, end_section=index == len(summaries) - 2)
    # Wide enough for the table where the output is not a terminal but a file or a pipe.
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(table)
    console.print(_notes(result, summaries[-1]), markup=False)


def _cell(statistic: "Statistic", digits: int) -> str:
    if statistic.count == 0:
        return "-"
    spread = f" ± {statistic.std:.{digits}f}" if statistic.count > 1 else ""
    return f"{statistic.mean:.{digits}f}{spread}"


def _notes(result: "Evaluation", overall: "Summary") -> str:
    from nnsam.metrics.profiles import LEGACY_RULES

    one_sided = overall.missed + overall.false_alarms
    if result.profile == "legacy":
        return (
            f"Empty on one side: {one_sided} (missed or false alarm); on both: {overall.absent}.\n"
            f"For comparison with the paper only: {LEGACY_RULES}.\nClasses are {result.classes_source}."
        )
    empty = f"Empty on one side: {one_sided} (missed or false alarm); they count as 0 in DSC and NSD"
    if "HD95" not in overall.scores:
        undefined = overall.cases - overall.scores["DSC"].count
        return (
            f"{empty}.\nCases without a DSC, since a label is on neither side: {undefined}; their NSD is 0.\n"
            f"Classes are {result.classes_source}."
        )
    policy = (
        "are left out of the means of ASD and HD95 (--empty nan)"
        if result.options.empty == "nan"
        else "count with the image's diagonal in ASD and HD95 (--empty worst)"
    )
    return (
        f"{empty}, and {policy}.\n"
        f"Absent on both sides: {overall.absent}; left out of every mean.\n"
        f"Classes {'from' if result.classes.values else 'are'} {result.classes_source}."
    )
