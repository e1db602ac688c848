"""Segments images with an exported model, on CPUs, without PyTorch and nnU-Net.

The result is that of nnUNetv2_predict with the model that was exported. Images are named as nnU-Net names them: one
file per channel, case_0000.nii.gz, case_0001.nii.gz, ...; the label map is OUT/case.nii.gz. Beside the label maps lie
dataset.json, for `nnsam evaluate` and nnU-Net's tools, and nnsam_predict.json, the record that --continue needs.

Reading, inference and writing of different cases overlap. Files appear complete or not at all. Ctrl-C keeps what is
finished, and --continue goes on with the rest: a case is skipped if its label map is the one that was written, made
from the same images with the same model and options; everything else is predicted again.

Example:
  nnsam predict heart_bundle -i imagesTs -o predictions
  nnsam predict heart_bundle -i imagesTs -o predictions --continue --json seconds.json
  nnsam predict heart_bundle -i heart_0000.nii.gz -o heart_mask.nii.gz
  nnsam predict brain_bundle -i brain_0000.nii.gz brain_0001.nii.gz -o brain_mask.nii.gz
  nnsam predict heart_bundle -i imagesTs -o predictions --disable-tta --precision bf16        (quick)
  nnsam predict heart_bundle -i /shared/imagesTs -o /shared/predictions --ray 10.0.0.5:6379   (on a Ray cluster)
"""

import argparse
import sys
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnsam.cli.predict_arguments import add_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnsam.cli.predict_screen import Screen
    from nnsam.runtime.bundle import Bundle
    from nnsam.runtime.case_files import Case
    from nnsam.runtime.case_run import RunOptions
    from nnsam.runtime.folder_run import FolderReport

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Segments, writes the files and prints one line per case."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(args)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Prints a warning as a sentence, without the place in this package that it came from."""
    print(f"nnsam predict: {message}", file=sys.stderr)


def _run(args: argparse.Namespace) -> int:
    from nnsam.cli.predict_screen import Screen, to_json
    from nnsam.data.atomic import atomic_file

    start = time.perf_counter()
    task = _plan(args)
    with ExitStack() as files:
        # Opened first, so that long work does not end at a path that cannot be written to.
        json_file = files.enter_context(atomic_file(args.json)) if args.json not in (None, "-") else None
        screen = files.enter_context(Screen(len(task.cases), args.quiet or args.json == "-"))
        try:
            report = _predict(args, task, screen)
        except KeyboardInterrupt:
            if task.file is None:
                screen.interrupted()
            raise
        if args.json is not None:
            text = to_json(task.bundle, task.options, task.reason, report, time.perf_counter() - start)
            if json_file is not None:
                json_file.write_text(text, encoding="utf-8")
            else:
                sys.stdout.write(text)
    return _print_failures(report)


@dataclass(frozen=True)
class _Task:
    """What is to be done; `reason` is that of the precision, `file` the output where it is no folder."""

    bundle: "Bundle"
    cases: "Sequence[Case]"
    options: "RunOptions"
    reason: str
    file: Path | None


def _plan(args: argparse.Namespace) -> _Task:
    """Says what is wrong with files and options before networks are loaded."""
    from nnsam.runtime.bundle import Bundle
    from nnsam.runtime.case_files import find_cases
    from nnsam.runtime.case_run import RunOptions, output_files
    from nnsam.runtime.folder_run import check_outputs
    from nnsam.runtime.precision import choose_precision

    bundle = Bundle.open(args.bundle, "automatic")
    manifest = bundle.manifest
    ending = manifest["input"]["file_ending"]
    cases = find_cases(args.input, ending, manifest["input"]["channels"])
    precision, note = choose_precision(bundle, args.precision)
    chosen = manifest["precision"].get("reason", "") if args.precision == "auto" else "as asked"
    options = RunOptions(
        precision,
        _folds(args, bundle),
        not args.disable_tta,
        args.step_size or manifest["tiling"]["step"],
        args.save_probabilities,
    )
    file = _output_file(args, ending)
    if file is not None:
        check_outputs(output_files(file, ending, options), cases)
    return _Task(bundle, cases, options, note or chosen, file)


def _folds(args: argparse.Namespace, bundle: "Bundle") -> tuple[str, ...]:
    from nnsam.errors import InputError

    available = [str(fold["fold"]) for fold in bundle.manifest["networks"]["folds"]]
    wanted = tuple(dict.fromkeys(args.folds or available))
    missing = [fold for fold in wanted if fold not in available]
    if missing:
        raise InputError(f"{bundle.folder} has no fold {', '.join(missing)}; it has {', '.join(available)}")
    return wanted


def _output_file(args: argparse.Namespace, ending: str) -> Path | None:
    """Returns the output where it is a file."""
    from nnsam.errors import InputError

    output = Path(args.output)
    if (len(args.input) == 1 and Path(args.input[0]).is_dir()) or output.is_dir() or not output.suffix:
        return None
    if not output.name.endswith(ending) or output.name == ending:
        raise InputError(f"{output} cannot hold the label map; expected a name ending with {ending}, or a folder.")
    for option, given in (("--continue", args.resume), ("--ray", args.ray is not None)):
        if given:
            raise InputError(f"{option} needs a folder for the output; found the file {output}.")
    return output


def _predict(args: argparse.Namespace, task: _Task, screen: "Screen") -> "FolderReport":
    if args.ray is not None:
        return _predict_on_ray(args, task, screen)
    from nnsam.runtime.case_run import CaseJob
    from nnsam.runtime.folder_run import FolderReport, FolderRun, run_folder
    from nnsam.runtime.predictor import Predictor

    options, run = task.options, None
    if task.file is None:  # before the networks are loaded, since the folder may not do
        run = FolderRun(task.bundle, task.cases, args.output, options, args.resume)
    screen.started(task.bundle, options, task.reason)
    predictor = Predictor.load(task.bundle, options.precision, args.threads, options.folds)
    if task.file is not None:
        outcome = CaseJob(predictor, task.cases[0], task.file, options, screen.tile_done).run()
        screen.case_done(outcome)
        return FolderReport([outcome])
    assert run is not None
    return run_folder(
        predictor, run, cases_in_memory=args.cases_in_memory, on_case=screen.case_done, on_tile=screen.tile_done
    )


def _predict_on_ray(args: argparse.Namespace, task: _Task, screen: "Screen") -> "FolderReport":
    from nnsam.runtime.ray_run import predict_on_ray

    screen.started(task.bundle, task.options, task.reason)
    return predict_on_ray(
        task.bundle,
        task.cases,
        args.output,
        task.options,
        address=args.ray or None,
        workers=args.ray_workers,
        threads=args.threads,
        resume=args.resume,
        on_case=screen.case_done,
        note=screen.note,
    )


def _print_failures(report: "FolderReport") -> int:
    """Prints what failed and returns the exit code."""
    failures = report.failures
    if not failures:
        return 0
    print(f"nnsam predict: {len(failures)} of {len(report.outcomes)} cases failed:", file=sys.stderr)
    for outcome in failures:
        print(f"  {outcome.error}", file=sys.stderr)
        if outcome.trace:
            print(outcome.trace, file=sys.stderr)
    return 1
