"""Predicts a folder of cases: reading, inference and writing overlap, and an interrupted run can be continued."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nnsam.data.atomic import atomic_file
from nnsam.errors import InputError
from nnsam.runtime.bundle import Bundle
from nnsam.runtime.case_run import CaseJob, CaseOutcome, RunOptions, output_files, predict_one
from nnsam.runtime.pipeline import RunCancelled, run_jobs
from nnsam.runtime.run_record import RECORD, RunRecord, has_record

if TYPE_CHECKING:
    from nnsam.runtime.case_files import Case
    from nnsam.runtime.predictor import Predictor

__all__ = [
    "CaseOutcome",
    "FolderReport",
    "FolderRun",
    "RunOptions",
    "check_outputs",
    "predict_folder",
    "predict_one",
    "run_folder",
]

DATASET_JSON = "dataset.json"


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
        self, bundle: Bundle, cases: Sequence["Case"], out: str | Path, options: RunOptions, resume: bool = False
    ) -> None:
        """Checks the folder, makes it, and decides what is left to do.

        Args:
            bundle: the model.
            cases: what to predict.
            out: output folder.
            options: see `RunOptions`.
            resume: skip cases that an earlier run with the same model and options has finished; else all are
                predicted, and existing files replaced.

        Raises:
            InputError: `out` is a file, an input would be overwritten, the folder holds another data set's
                dataset.json, or it cannot be continued.
        """
        self.options = options
        self.report = FolderReport()
        self.pending: list[Case] = []
        self._folder = Path(out)
        self._ending = bundle.manifest["input"]["file_ending"]
        if self._folder.exists() and not self._folder.is_dir():
            raise InputError(f"{self._folder} is a file; several cases need a folder for their label maps.")
        written = [path for case in cases for path in self._outputs(case)]
        check_outputs([*written, self._folder / DATASET_JSON, self._folder / RECORD], cases)
        self._record = RunRecord(self._folder, bundle.digest, options.as_dict())
        if resume:
            self._record.resume()
        self._write_dataset_json(bundle)
        self._sort_out(cases)
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

    def close(self) -> None:
        """Writes the record, where that is still to be done."""
        self._record.flush()

    def _outputs(self, case: "Case") -> list[Path]:
        return output_files(self.output(case), self._ending, self.options)

    def _sort_out(self, cases: Iterable["Case"]) -> None:
        for case in cases:
            if self._record.is_done(case.name, self._outputs(case), case.files):
                self.report.outcomes.append(CaseOutcome(case.name, self.output(case), skipped=True))
            else:
                self.pending.append(case)

    def _write_dataset_json(self, bundle: Bundle) -> None:
        """Names and values of the classes, for `nnsam evaluate` and nnU-Net's tools."""
        path, content = self._folder / DATASET_JSON, bundle.manifest["dataset_json"]
        try:
            existing = json.loads(path.read_text(encoding="utf-8")) if path.exists() else content
        except (OSError, ValueError):
            existing = None
        if existing != content and not has_record(self._folder):
            raise InputError(
                f"{path} belongs to something else, perhaps to a data set, and would be overwritten; choose another "
                "output folder."
            )
        with atomic_file(path) as draft:
            draft.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def check_outputs(outputs: Iterable[Path], cases: Iterable["Case"]) -> None:
    """Checks that no image would be overwritten.

    Raises:
        InputError: one would.
    """
    images = {Path(file).resolve() for case in cases for file in case.files}
    for path in outputs:
        if path.resolve() in images:
            raise InputError(f"{path} is an image to be segmented and would be overwritten; choose another output.")


def predict_folder(
    predictor: "Predictor",
    cases: Sequence["Case"],
    out: str | Path,
    *,
    save_probabilities: bool = False,
    mirror: bool = True,
    step: float = 0.5,
    resume: bool = False,
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
        cases: see `nnsam.runtime.case_files.find_cases`.
        out: output folder.
        save_probabilities: write them too.
        mirror: average over mirrored images, where the model was trained so.
        step: distance of neighbouring tiles as a share of their size, above 0 and at most 1.
        resume: skip cases that an earlier run with the same model and options has finished.
        cases_in_memory: that are being read, computed, written or waiting, all together.
        on_case: called, in a thread, when a case has ended, and at the start with the skipped ones.
        on_tile: called during the inference with the case's name, tiles done and all tiles.
        cancelled: asked after every tile; True ends the run.

    Returns:
        What was done.

    Raises:
        InputError: see `FolderRun`; the errors of single cases are in the report.
    """
    options = RunOptions(predictor.precision, tuple(predictor.folds), mirror, step, save_probabilities)
    run = FolderRun(predictor.bundle, cases, out, options, resume)
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

    jobs = (CaseJob(predictor, case, run.output(case), run.options, tile_done) for case in run.pending)
    try:
        run.report.cancelled = not run_jobs(jobs, case_done, at_once=cases_in_memory, cancelled=cancelled)
    finally:
        run.close()
    return run.report
