"""Writes what a study found: tables as in nnSAM's paper with intervals and paired tests, learning curves, pictures.

EXP/report holds report.md, report.tex, report.csv (every number), report.html (one file, no links to the outside) and
figures. Runs that are missing or failed are listed, and their cells marked; an earlier report is replaced.

A mean is over cases, each averaged over trainings; intervals are bootstrapped over patients and trainings; tests are
paired with the reference method and adjusted by Holm's method for all tests of a table.

Example:
  nnsam fewshot report study
  nnsam fewshot report study --metrics dice asd --reference nnUNetTrainer -o paper_tables
  nnsam fewshot report study --validation
"""

import argparse
import json
from typing import TYPE_CHECKING

from nnsam.cli.common import add_json, json_report

if TYPE_CHECKING:
    from nnsam.fewshot.report.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this sub-command's options."""
    parser.add_argument("experiment", metavar="EXP", help="the study's folder")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder to write (EXP/report)")
    parser.add_argument(
        "--reference", metavar="METHOD", help="method that the others are compared with (nnUNetTrainer if it has runs)"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=("dice", "asd", "nsd", "hd95"),
        default=("dice", "asd", "nsd", "hd95"),
        help="(all)",
    )
    parser.add_argument(
        "--profile",
        choices=("standard", "legacy"),
        default="standard",
        help="legacy: the rules of the paper's published code, on test cases, for comparison only (%(default)s)",
    )
    parser.add_argument("--validation", action="store_true", help="the validation cases, to make choices by")
    parser.add_argument(
        "--overlays", type=int, default=3, metavar="N", help="cases in the pictures, 0 for none (%(default)s)"
    )
    parser.add_argument(
        "--allow-mixed-versions", action="store_true", help="runs of different versions of nnsam, nnU-Net or PyTorch"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the report and prints its first table."""
    from nnsam.fewshot.report.report import ReportOptions, write_report

    options = ReportOptions(
        tuple(args.metrics),
        args.profile,
        args.reference,
        args.validation,
        args.overlays,
        args.allow_mixed_versions,
    )
    report = write_report(args.experiment, args.output, options)
    with json_report(args.json) as write:
        write(json.dumps(_summary(report), indent=1, allow_nan=False))
    if args.json != "-":
        _print(report)
    return 0


def _summary(report: "Report") -> dict:
    from nnsam.fewshot.report.numbers import ESTIMATE
    from nnsam.fewshot.report.provenance import missing_runs

    estimates = report.overall[(report.overall["kind"] == ESTIMATE) & report.overall["mean"].notna()]
    names = ["method", "size", "metric", "unit", "mean", "low", "high", "cases", "trainings"]
    return {
        "folder": str(report.folder),
        "part": report.results.part,
        "reference": report.reference,
        "runs": int(report.results.done.sum()),
        "missing_runs": missing_runs(report.results),
        "overall": estimates[names].astype(object).to_dict("records"),
    }


def _print(report: "Report") -> None:
    from rich.markup import escape
    from rich.table import Table

    from nnsam.cli.fewshot.screen import wide_console
    from nnsam.fewshot.report.provenance import missing_runs
    from nnsam.fewshot.report.tables import Bold, overall_tables, random_note

    results = report.results
    content = overall_tables(results, report.overall)[0]
    table = Table(title=escape(f"{results.part} cases, mean ± standard deviation over cases"))
    for index, column in enumerate(content.columns):
        table.add_column(escape(column), justify="left" if index < content.labels else "right")
    for row in content.rows:
        table.add_row(*(f"[bold]{escape(cell)}[/bold]" if isinstance(cell, Bold) else escape(cell) for cell in row))
    console = wide_console(160)
    console.print(table)
    missing = missing_runs(results)
    more = ", ..." if len(missing) > 1 else ""
    lines = [f"{len(missing)} of {results.done.size} runs are missing: {missing[0]}{more}"] if missing else []
    lines += [random_note(results)] * bool(random_note(results))
    console.print("\n".join([*lines, f"Report: {report.folder / 'report.html'}"]), markup=False, soft_wrap=True)
