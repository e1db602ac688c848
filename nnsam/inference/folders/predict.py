"""Predicts a folder of cases: reading, inference and writing overlap, and an interrupted run can be continued."""

import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsam.errors import InputError, NnsamError
from nnsam.inference.bundle import Bundle
from nnsam.inference.folders.pipeline import RunCancelled, run_jobs
from nnsam.inference.folders.record import RECORD, RunRecord, describe_file, describe_inputs, has_record, output_name
from nnsam.inference.tiles import LEAST_STEP
from nnsam.io.formats import beside, with_data_files
from nnsam.io.writing import write_class_probabilities
from nnsam.support.concurrency import pass_on_ending
from nnsam.support.files import before_replacing, load_json, write_json
from nnsam.support.outputs import check_outputs

if TYPE_CHECKING:
    from nnsam.inference.automatic.predictor import Predictor
    from nnsam.io.finding import Case


@dataclass(frozen=True)
class RunOptions:
    """What the results of a run depend on, besides model and images.

    Attributes:
        precision: the one that is computed in, never "auto".
        folds: names of the folds that are averaged.
        mirror: average over the mirrored images that the model was trained with.
        step: distance of neighbouring tiles as a share of their size, 0.01 to 1.
        save_probabilities: write the probabilities too.
        threads: of the CPU; 0 for all. Sums are rounded otherwise with another number.
    """

    precision: str
    folds: tuple[str, ...]
    mirror: bool = True
    step: float = 0.5
    save_probabilities: bool = False
    threads: int = 0

    def __post_init__(self) -> None:
        if not LEAST_STEP <= self.step <= 1:
            raise InputError(f"the step between tiles must be from {LEAST_STEP} to 1; found {self.step}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "folds": list(self.folds)}


@dataclass
class CaseOutcome:
    """How a case ended.

    Attributes:
        case: its name.
        output: label map.
        seconds: "read", "infer" and "write"; reading includes the preprocessing, writing the restoration.
        inputs: see `nnsam.inference.folders.record.describe_inputs`.
        outputs: see `nnsam.inference.folders.record.RunRecord.add`; empty unless it was done.
        error: one sentence; empty where it was done.
        trace: stack trace of an error that is not the user's to mend, else empty.
        skipped: an earlier run had done it.
    """

    case: str
    output: Path
    seconds: dict[str, float] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    trace: str = ""
    skipped: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "case": self.case,
            "output": str(self.output),
            "skipped": self.skipped,
            "error": self.error or None,
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
        }


class CaseJob:
    """A case on its way; see `nnsam.inference.folders.pipeline.Job`.

    Args:
        predictor: the model.
        case: name and files.
        output: label map; the probabilities go beside it, to the same name with .npz.
        options: those of the run.
        on_tile: called during the inference with the case's name, tiles done and all tiles; what it raises ends the
            stage.
        note: told of every file just before it appears, see `nnsam.inference.folders.record.RunRecord.note`.
    """

    def __init__(
        self,
        predictor: "Predictor",
        case: "Case",
        output: Path,
        options: RunOptions,
        on_tile: Callable[[str, int, int], None] | None = None,
        note: Callable[[str, dict[str, Any]], object] = lambda name, entry: None,
    ) -> None:
        self.predictor, self.case, self.options = predictor, case, options
        self.outcome = CaseOutcome(case.name, output)
        self.exception: Exception | None = None
        self._on_tile, self._note = on_tile, note
        self._prepared: Any = None
        self._logits: Any = None

    def read(self) -> None:
        """Reads and preprocesses the images."""
        with self._stage("read") as runs:
            if runs:
                self.outcome.inputs = describe_inputs(self.case.files)
                self._prepared = self.predictor.prepare_case(self.case)

    def infer(self) -> None:
        """Runs the network."""
        with self._stage("infer") as runs:
            if runs:
                on_tile, name = self._on_tile, self.case.name
                self._logits = self.predictor.infer(
                    self._prepared,
                    mirror=self.options.mirror,
                    step=self.options.step,
                    on_tile=on_tile and (lambda done, total: on_tile(name, done, total)),
                )
                self._prepared = self._prepared.without_pixels()

    def write(self) -> None:
        """Brings the result into the image's shape and writes it; then the case's arrays are given up."""
        with self._stage("write") as runs:
            if runs:
                self._write()
        self._prepared = self._logits = None

    def run(self) -> CaseOutcome:
        """Does all stages, one after the other."""
        self.read()
        self.infer()
        self.write()
        return self.outcome

    def _write(self) -> None:
        prediction = self.predictor.restore(self._logits, self._prepared)
        paths = output_files(self.outcome.output, self.predictor.file_ending, self.options)
        absolute = [path.absolute() for path in paths]

        def note(destination: Path, complete: Path) -> None:
            if destination not in absolute:
                return  # something in a cache
            name = output_name(destination, self.outcome.output.parent)
            self.outcome.outputs[name] = describe_file(complete)
            self._note(name, self.outcome.outputs[name])

        with before_replacing(note):
            if self.options.save_probabilities:
                write_class_probabilities(paths[1], prediction.probabilities())
            self.predictor.write(prediction, paths[0])

    @contextmanager
    def _stage(self, name: str):
        start = time.perf_counter()
        try:
            yield self.exception is None
        except RunCancelled:
            raise
        except Exception as error:
            pass_on_ending()
            self._fail(error)
        finally:
            self.outcome.seconds[name] = time.perf_counter() - start

    def _fail(self, error: Exception) -> None:
        self.exception = error
        reason = str(error).strip() or type(error).__name__
        self._prepared = self._logits = None
        if isinstance(error, NnsamError):
            self.outcome.error = reason
        elif isinstance(error, OSError):
            self.outcome.error = f"{self.case.name}: {reason}"
        elif isinstance(error, MemoryError):
            self.outcome.error = f"{self.case.name} needs more memory than there is ({reason})"
        else:
            self.outcome.error = f"{self.case.name}: {type(error).__name__}: {reason}"
            self.outcome.trace = "".join(traceback.format_exception(error))


def output_files(output: Path, file_ending: str, options: RunOptions) -> list[Path]:
    """Returns the label map and, where they are wanted, the probabilities of a case, named as nnU-Net names them."""
    if not options.save_probabilities:
        return [output]
    return [output, beside(output, file_ending, ".npz")]


def predict_one(predictor: "Predictor", case: "Case", output: Path, options: RunOptions) -> CaseOutcome:
    """Predicts a single case and writes its files, each complete or not at all.

    Raises:
        InputError: unreadable or unfitting images, or a place that cannot be written to.
        Exception: anything else that goes wrong.
    """
    job = CaseJob(predictor, case, output, options)
    job.run()
    if job.exception is not None:
        raise job.exception
    return job.outcome


__all__ = [
    "CaseOutcome",
    "FolderReport",
    "FolderRun",
    "RunOptions",
    "predict_folder",
    "predict_one",
    "run_folder",
]

DATASET_JSON = "dataset.json"
# What the inputs are, where one would be overwritten.
IMAGES = "an image to be segmented"


@dataclass
class FolderReport:
    """How a run ended.

    Attributes:
        outcomes: of the cases that were done, skipped or failed, in the order in which they ended.
        cancelled: the run was ended before all cases were done.
    """

    outcomes: list[CaseOutcome] = field(default_factory=list)
    cancelled: bool = False

    @property
    def failures(self) -> list[CaseOutcome]:
        """Cases that failed."""
        return [outcome for outcome in self.outcomes if outcome.error]


class FolderRun:
    """An output folder that is being filled; it does not matter by whom.

    Attributes:
        options: those of the run.
        pending: cases that are to be predicted.
        report: what has been done so far; skipped cases from the start.
    """

    def __init__(
        self,
        model: "Bundle | Predictor",
        cases: Sequence["Case"],
        out: str | Path,
        options: RunOptions,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Checks the folder, makes it, and decides what is left to do.

        Args:
            model: its description and digest count.
            cases: what to predict.
            out: output folder.
            options: see `RunOptions`.
            resume: skip cases that an earlier run with the same model and options has finished; else all are
                predicted, and what earlier runs have written is replaced.
            overwrite: replace other files, too.

        Raises:
            InputError: `out` is a file or holds the images, an input or a file that no run has written as it is would
                be overwritten, the folder holds another data set's dataset.json, or it cannot be continued.
        """
        self.options = options
        self.report = FolderReport()
        self.pending: list[Case] = []
        self._folder = Path(out)
        self._ending = model.manifest["input"]["file_ending"]
        if self._folder.exists() and not self._folder.is_dir():
            raise InputError(f"{self._folder} is a file; several cases need a folder for their label maps.")
        self._record = RunRecord(self._folder, model.digest, options.as_dict())
        if resume:
            self._record.resume()
        self._sort_out(cases)
        self._check(cases, overwrite)
        self._write_dataset_json(model.manifest)
        self._record.flush()

    def output(self, case: "Case") -> Path:
        """Returns the label map of a case."""
        return self._folder / f"{case.name}{self._ending}"

    def add(self, outcome: CaseOutcome) -> None:
        """Notes a case that ended.

        Raises:
            InputError: the record of the run cannot be written.
        """
        self.report.outcomes.append(outcome)
        if not outcome.error:
            self._record.add(outcome.case, outcome.outputs, outcome.inputs)
        paths = output_files(outcome.output, self._ending, self.options)
        self._record.forget(output_name(path, self._folder) for path in paths)

    def note(self, name: str, entry: Mapping[str, Any]) -> None:
        """Notes a file that is going to appear; see `nnsam.inference.folders.record.RunRecord.note`."""
        self._record.note(name, entry)

    def expect(self) -> None:
        """Notes that others write what is pending; see `nnsam.inference.folders.record.RunRecord.expect`."""
        self._record.expect(path for case in self.pending for path in self._outputs(case))

    def close(self) -> None:
        """Writes the record, where that is still to be done."""
        self._record.close()

    def _outputs(self, case: "Case") -> list[Path]:
        return output_files(self.output(case), self._ending, self.options)

    def _check(self, cases: Iterable["Case"], overwrite: bool) -> None:
        done = {outcome.case for outcome in self.report.outcomes}
        inputs = with_data_files(file for case in cases for file in case.files)
        written = [(case.files[0], path) for case in cases for path in self._outputs(case)]
        own = [(self._folder, self._folder / name) for name in (DATASET_JSON, RECORD)]
        check_outputs([*written, *own], inputs, IMAGES)
        pending = [(case.files[0], path) for case in cases if case.name not in done for path in self._outputs(case)]
        check_outputs(pending, (), overwrite=overwrite, is_own=self._record.has_written, has_record=True)
        if self._folder.is_dir() and any(self._folder.samefile(file.absolute().parent) for file in inputs):
            raise InputError(f"{self._folder} holds the images; choose another folder for the label maps.")

    def _sort_out(self, cases: Iterable["Case"]) -> None:
        for case in cases:
            if self._record.is_done(case.name, self._outputs(case), case.files):
                self.report.outcomes.append(CaseOutcome(case.name, self.output(case), skipped=True))
            else:
                self.pending.append(case)

    def _write_dataset_json(self, manifest: Mapping[str, Any]) -> None:
        """Names and values of the classes, for `nnsam evaluate` and nnU-Net's tools."""
        path, content = self._folder / DATASET_JSON, manifest["dataset_json"]
        try:
            existing = load_json(path) if path.exists() else content
        except (OSError, ValueError):
            existing = None
        if existing != content and not has_record(self._folder):
            raise InputError(
                f"{path} belongs to something else, perhaps to a data set, and would be overwritten; choose another "
                "output folder."
            )
        write_json(path, content, indent=4)


def predict_folder(
    predictor: "Predictor",
    cases: Sequence["Case"],
    out: str | Path,
    *,
    save_probabilities: bool = False,
    mirror: bool = True,
    step: float = 0.5,
    resume: bool = False,
    overwrite: bool = False,
    cases_in_memory: int = 3,
    on_case: Callable[[CaseOutcome], None] = lambda outcome: None,
    on_tile: Callable[[str, int, int], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> FolderReport:
    """Segments all cases into a folder; one that fails is noted, and the others are done.

    Label maps are named as nnU-Net names them, {case}{file ending}, and probabilities {case}.npz (key
    `probabilities`, float32, (outputs, z, y, x)); beside them lie dataset.json and the record of the run. Every file
    appears complete or not at all. Ctrl-C leaves what is finished, and no thread.

    Args:
        predictor: the model.
        cases: see `nnsam.io.finding.find_cases`.
        out: output folder.
        save_probabilities: write them too.
        mirror: average over mirrored images, where the model was trained so.
        step: distance of neighbouring tiles as a share of their size, 0.01 to 1.
        resume: skip cases that an earlier run with the same model and options has finished.
        overwrite: replace files that no run has written as they are.
        cases_in_memory: that are being read, computed, written or waiting, all together.
        on_case: called, in a thread, when a case has ended, and at the start with the skipped ones.
        on_tile: called during the inference with the case's name, tiles done and all tiles.
        cancelled: asked after every tile; True ends the run.

    Returns:
        What was done.

    Raises:
        InputError: see `FolderRun`; a box model, or no room for a case in memory. The errors of single cases are in
            the report.

    Example:
        >>> from nnsam.io import find_cases
        >>> predictor = nnsam.load("heart_bundle")  # doctest: +SKIP
        >>> cases = find_cases("imagesTs", predictor.file_ending, channels=1)  # doctest: +SKIP
        >>> nnsam.predict_folder(predictor, cases, "predictions")  # doctest: +SKIP
    """
    if predictor.backend.manifest["kind"] != "automatic":
        raise InputError("this is a box model; use nnsam.segment_files, and give it boxes")
    if cases_in_memory < 1:
        raise InputError(f"the number of cases in memory is {cases_in_memory}; expected at least 1")
    options = RunOptions(
        predictor.precision, tuple(predictor.folds), mirror, step, save_probabilities, predictor.threads
    )
    run = FolderRun(predictor, cases, out, options, resume, overwrite)
    return run_folder(
        predictor, run, cases_in_memory=cases_in_memory, on_case=on_case, on_tile=on_tile, cancelled=cancelled
    )


def run_folder(
    predictor: "Predictor",
    run: FolderRun,
    *,
    cases_in_memory: int = 3,
    on_case: Callable[[CaseOutcome], None] = lambda outcome: None,
    on_tile: Callable[[str, int, int], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> FolderReport:
    """Predicts what is pending in a folder; see `predict_folder`."""
    for outcome in run.report.outcomes:
        on_case(outcome)

    def tile_done(name: str, done: int, total: int) -> None:
        if cancelled():
            raise RunCancelled
        if on_tile is not None:
            on_tile(name, done, total)

    def case_done(job: CaseJob) -> None:
        run.add(job.outcome)
        on_case(job.outcome)

    jobs = (CaseJob(predictor, case, run.output(case), run.options, tile_done, run.note) for case in run.pending)
    try:
        run.report.cancelled = not run_jobs(jobs, case_done, at_once=cases_in_memory, cancelled=cancelled)
    finally:
        run.close()
    return run.report
