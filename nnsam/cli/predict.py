"""Segments images with an exported model, on CPUs, without PyTorch and nnU-Net.

The result is that of nnUNetv2_predict with the model that was exported. Images are named as nnU-Net names them: one
file per channel, case_0000.nii.gz, case_0001.nii.gz, ...; the label map is OUT/case.nii.gz. Beside the label maps lie
dataset.json, for `nnsam evaluate` and nnU-Net's tools, and nnsam_predict.json, the record that --continue needs.

Reading, inference and writing of different cases overlap. Files appear complete or not at all. Ctrl-C keeps what is
finished, and --continue goes on with the rest: a case is skipped if its label map is the one that was written, made
from the same images with the same model and options; everything else is predicted again. Files that no run has written
as they are, such as reference labels or masks corrected by hand, are replaced with --overwrite only.

Example:
  nnsam predict heart_bundle -i imagesTs -o predictions
  nnsam predict heart_bundle -i imagesTs -o predictions --continue --json seconds.json
  nnsam predict heart_bundle -i heart_0000.nii.gz -o heart_mask.nii.gz
  nnsam predict brain_bundle -i brain_0000.nii.gz brain_0001.nii.gz -o brain_mask.nii.gz
  nnsam predict heart_bundle -i imagesTs -o predictions --disable-tta                         (quick)
  nnsam predict heart_bundle -i /shared/imagesTs -o /shared/predictions --ray 10.0.0.5:6379   (on a Ray cluster)
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsam.cli.common import add_folds, add_json, add_voxel_limit
from nnsam.support.openvino import SPELLINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnsam.inference.bundle import Bundle
    from nnsam.inference.folders.predict import CaseOutcome, FolderReport, RunOptions
    from nnsam.io.finding import Case


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder made by `nnsam export`")
    parser.add_argument(
        "-i", "--input", required=True, nargs="+", metavar="IN", help="a folder, or the file or files of one case"
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="a folder; or a file, for one case")
    _add_model_arguments(parser)
    _add_run_arguments(parser)


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=SPELLINGS,
        default="auto",
        help="auto: the fastest that was found accurate enough at export; float32 is f32, bfloat16 is bf16 (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--threads", type=_whole(0), default=0, metavar="N", help="CPU threads of the network (default: all)"
    )
    add_folds(parser, "folds to average (default: all in the bundle)")
    parser.add_argument(
        "--step-size",
        "-step_size",
        type=_step,
        default=None,
        metavar="S",
        help="distance of neighbouring tiles as a share of their size, 0.01 to 1; larger is quicker and "
        "less accurate (default: the model's, usually 0.5)",
    )
    parser.add_argument(
        "--disable-tta",
        "--disable_tta",
        action="store_true",
        help="do not average over mirrored images: quicker and less accurate",
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--save-probabilities",
        "--save_probabilities",
        action="store_true",
        help="write the probabilities too, as case.npz beside the label map",
    )
    parser.add_argument(
        "--continue",
        "--continue_prediction",
        dest="resume",
        action="store_true",
        help="skip the cases that an earlier run has finished",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing files that this command has not written, or that were changed since",
    )
    parser.add_argument(
        "--cases-in-memory",
        type=_whole(1),
        default=3,
        metavar="N",
        help="cases that are read, computed and written at the same time; 1 needs the least memory (default: "
        "%(default)s)",
    )
    add_json(parser, "seconds per case, precision and machine")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_voxel_limit(parser)
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="spread the cases over a Ray cluster that sees the same files: host:port, or auto for the one that this "
        "machine belongs to, or local for workers on this machine (default: $RAY_ADDRESS, else local)",
    )
    parser.add_argument(
        "--ray-workers",
        type=_whole(1),
        metavar="N",
        help="with --ray: cases at the same time (default: one for every 8 processors)",
    )


def _whole(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}; found {text!r}")
        return int(text)

    return whole


def _step(text: str) -> float:
    from nnsam.inference.tiles import LEAST_STEP

    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LEAST_STEP <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from {LEAST_STEP} to 1; found {text!r}")
    return value


class Screen:
    """Lines on standard output, and bars on standard error where that is a terminal; may be called from threads.

    Args:
        total: number of cases.
        quiet: show nothing.
    """

    def __init__(self, total: int, quiet: bool) -> None:
        self.done = 0
        self._total, self._quiet = total, quiet
        self._files = ExitStack()
        self._lock = threading.Lock()
        self._progress: Any = None
        self._tiles: Any = None

    def __enter__(self) -> "Screen":
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        if console.is_terminal and not self._quiet:
            # Lines go above the bars if they share the terminal, and to standard output untouched if not.
            bars = Progress(console=console, transient=True, redirect_stdout=sys.stdout.isatty())
            self._progress = self._files.enter_context(bars)
            self._cases = self._progress.add_task("Cases", total=self._total)
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def started(self, bundle: "Bundle", options: "RunOptions", reason: str) -> None:
        """Says which model is used, and in which precision."""
        model = bundle.manifest["model"]
        folds = f"fold{'s' if len(options.folds) > 1 else ''} {', '.join(options.folds)}"
        self._say(
            f"nnsam predict: {model['trainer']}, {model['configuration']}, {model['dataset']}, {folds}; precision "
            f"{options.precision}{f' ({reason})' if reason else ''}",
            sys.stderr,
        )

    def case_done(self, outcome: "CaseOutcome") -> None:
        """Prints a case's line; failures are told at the end."""
        self.done += not outcome.error
        if outcome.skipped:
            self._say(f"{outcome.case} -> {outcome.output}: was done before")
        elif not outcome.error:
            self._say(f"{outcome.case} -> {outcome.output}: {sum(outcome.seconds.values()):.1f} s")
        if self._progress is not None:
            self._progress.advance(self._cases)

    def tile_done(self, case: str, done: int, total: int) -> None:
        """Moves the bar of the current case."""
        if self._progress is not None:
            if self._tiles is None:
                self._tiles = self._progress.add_task(case, total=total)
            self._progress.update(self._tiles, description=case, completed=done, total=total)

    def note(self, sentence: str) -> None:
        """Prints a sentence that the user should see."""
        self._say(f"nnsam predict: {sentence}", sys.stderr)

    def interrupted(self) -> None:
        """Says what is there after Ctrl-C."""
        self.note(f"{self.done} of {self._total} cases are done; --continue goes on with the rest")

    def _say(self, line: str, stream: Any = None) -> None:
        if not self._quiet:
            with self._lock:
                print(line, file=stream or sys.stdout, flush=True)


_REPORT_KEYS = ("model", "options", "precision", "machine", "seconds", "cases")


def to_json(bundle: "Bundle", options: "RunOptions", reason: str, report: "FolderReport", seconds: float) -> str:
    """The JSON text of a run.

    Args:
        bundle: the model.
        options: those of the run.
        reason: why in this precision.
        report: of the run.
        seconds: from start to end, loading included.
    """
    from nnsam.support.machine import describe_machine

    content = {
        "model": {**bundle.manifest["model"], "digest": bundle.digest},
        "options": options.as_dict(),
        "precision": {"used": options.precision, "reason": reason},
        "machine": describe_machine(gpu=False),
        "seconds": round(seconds, 3),
        "cases": [outcome.as_dict() for outcome in report.outcomes],
    }
    return json.dumps(content, indent=2) + "\n"


__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Segments, writes the files and prints one line per case."""
    from nnsam.support.files import atomic_file

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
    from nnsam.inference.bundle import Bundle, choose_precision
    from nnsam.inference.folders.predict import DATASET_JSON, IMAGES, RunOptions, output_files
    from nnsam.inference.folders.record import RECORD
    from nnsam.io.finding import find_cases
    from nnsam.io.formats import with_data_files
    from nnsam.support.outputs import check_outputs, is_report

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
        args.threads,
    )
    file, report = _output_file(args, ending), ("--json", args.json)
    inputs = with_data_files(image for case in cases for image in case.files)
    maps = [(case.files[0], file or Path(args.output, case.name + ending)) for case in cases]
    written = [(image, path) for image, label_map in maps for path in output_files(label_map, ending, options)]
    folder = Path(args.output)
    own = [] if file is not None else [(folder, folder / name) for name in (DATASET_JSON, RECORD)]
    check_outputs([*written, *own, report], inputs, IMAGES, models=[bundle.folder])
    alone = [*(written if file is not None else ()), report]  # a folder's record knows what was written there
    check_outputs(alone, (), overwrite=args.overwrite, is_own=lambda path: is_report(path, _REPORT_KEYS))
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
    is_folder = len(args.input) == 1 and Path(args.input[0]).is_dir()
    if is_folder and output.name.endswith(ending) and not output.exists():
        raise InputError(
            f"the label maps of a folder of images go into a folder; found {output}, a name ending with {ending}: give "
            "a folder's name."
        )
    if is_folder or output.is_dir() or not output.suffix:
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
    from nnsam.inference.automatic.predictor import Predictor
    from nnsam.inference.folders.predict import CaseJob, FolderReport, FolderRun, run_folder

    options, run = task.options, None
    if task.file is None:  # before the networks are loaded, since the folder may not do
        run = FolderRun(task.bundle, task.cases, args.output, options, args.resume, args.overwrite)
    screen.started(task.bundle, options, task.reason)
    predictor = Predictor.open(task.bundle, options.precision, args.threads, options.folds)
    if task.file is not None:
        outcome = CaseJob(predictor, task.cases[0], task.file, options, screen.tile_done).run()
        screen.case_done(outcome)
        return FolderReport([outcome])
    assert run is not None
    return run_folder(
        predictor, run, cases_in_memory=args.cases_in_memory, on_case=screen.case_done, on_tile=screen.tile_done
    )


def _predict_on_ray(args: argparse.Namespace, task: _Task, screen: "Screen") -> "FolderReport":
    from nnsam.inference.folders.on_ray import predict_on_ray
    from nnsam.inference.openvino_backend import warn_of_random_weights

    warn_of_random_weights(task.bundle)  # the workers' own warnings stay on their machines
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
        overwrite=args.overwrite,
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
        if outcome.trace and os.environ.get("NNSAM_TRACEBACK"):
            print(outcome.trace, file=sys.stderr)
    return 1
