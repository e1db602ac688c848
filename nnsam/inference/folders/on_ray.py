"""Predicts a folder of cases on a Ray cluster.

All machines must see the same files: the model, the images and the output folder lie on a file system that is mounted
at the same place everywhere. Only names and digests travel through Ray. The record of the run is written by the
calling process alone, which makes an interrupted run one that can be continued, with or without Ray.
"""

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from nnsam.errors import InputError, NnsamError
from nnsam.inference.bundle import Bundle, is_bundle
from nnsam.inference.folders.predict import CaseOutcome, FolderReport, FolderRun, RunOptions, output_files, predict_one
from nnsam.io.finding import Case
from nnsam.io.limits import allowing_voxels, max_voxels
from nnsam.support.drafts import destination_name
from nnsam.support.ray_cluster import RETRIES, WorkerLost, connected, free_processors, spread

if TYPE_CHECKING:
    from nnsam.inference.automatic.predictor import Predictor

_TICK_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0

# A case and its label map.
_Task: TypeAlias = tuple[Case, Path]


def predict_on_ray(
    bundle: Bundle | str | Path,
    cases: Sequence[Case],
    output: str | Path,
    options: RunOptions,
    *,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    on_case: Callable[[CaseOutcome], None] = lambda outcome: None,
    note: Callable[[str], None] = lambda sentence: None,
) -> FolderReport:
    """Segments all cases into a folder, as `nnsam.inference.folders.predict.predict_folder` does, on many workers.

    A case that fails for any reason but its images is tried again, up to two times. Ctrl-C ends the workers and keeps
    what is finished.

    Args:
        bundle: the model, or its folder.
        cases: see `nnsam.io.finding.find_cases`.
        output: folder.
        options: of the run.
        address: "local", "auto", host:port, or None, see `nnsam.support.ray_cluster.connected`.
        workers: cases at the same time; None for one per 8 processors, at least one on each machine.
        threads: of each worker; 0 for an equal share of the processors.
        resume: skip cases that an earlier run with the same model and options has finished.
        overwrite: replace files that no run has written as they are.
        on_case: called when a case has ended, and at the start with the skipped ones.
        note: called with sentences that the user should see.

    Raises:
        InputError: see `FolderRun`; or a machine that does not see the files.
        SetupError: Ray is absent, there is no such cluster, or its workers cannot start.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, "automatic")
    options = replace(options, threads=threads)
    run = FolderRun(bundle, cases, output, options, resume, overwrite)
    for skipped in run.report.outcomes:
        on_case(skipped)
    if not run.pending:
        run.close()
        return run.report
    run.expect()
    tasks = [_task(run, case) for case in run.pending]
    try:
        with connected(address, workers) as (count, processors):
            place = bundle.folder.absolute(), bundle.digest, Path(output).absolute()
            worker = _Worker(*place, options, threads or processors, max_voxels())
            with closing(spread(worker, tasks, count, tick=_TICK_SECONDS, num_cpus=processors)) as endings:
                start, waits = time.monotonic(), True
                for ending in endings:
                    if ending is not None:
                        waits = False
                        outcome = _outcome(run, *ending)
                        run.add(outcome)
                        on_case(outcome)
                    elif waits and time.monotonic() - start > _PATIENCE_SECONDS:
                        waits = False
                        if free_processors() < processors:
                            note(f"waiting; the Ray cluster may have no {processors} free processors for a worker")
    finally:
        run.close()
        _remove_drafts(Path(output), tasks, options, bundle.manifest["input"]["file_ending"])
    return run.report


def _task(run: FolderRun, case: Case) -> _Task:
    """Workers have another current folder: what they are told are absolute paths."""
    files = tuple(Path(file).absolute() for file in case.files)
    return replace(case, files=files), run.output(case).absolute()


@dataclass
class _Worker:
    """What a worker does; it opens the model once, for its first case."""

    folder: Path
    digest: str
    output: Path
    options: RunOptions
    threads: int
    voxels: int
    predictor: "Predictor | None" = field(default=None, init=False)

    def __call__(self, task: _Task) -> CaseOutcome | NnsamError:
        """Predicts a case; returns the error where no case can be predicted here."""
        try:
            self.predictor = self.predictor or self._open()
        except NnsamError as error:
            return error
        try:
            with allowing_voxels(self.voxels):
                return predict_one(self.predictor, *task, self.options)
        except NnsamError as error:  # the same on every worker
            return CaseOutcome(task[0].name, task[1], error=str(error))

    def _open(self) -> "Predictor":
        from nnsam.inference.automatic.predictor import Predictor

        node = platform.node()
        for what, path, found in (
            ("model", self.folder, is_bundle(self.folder)),
            ("output folder", self.output, self.output.is_dir()),
        ):
            if not found:
                raise InputError(
                    f"the worker on {node} does not find the {what} {path}; all machines of a Ray cluster "
                    "need the same file system at the same place"
                )
        predictor = Predictor.open(self.folder, self.options.precision, threads=self.threads, folds=self.options.folds)
        if predictor.digest != self.digest:
            raise InputError(f"the worker on {node} finds another model at {self.folder}; copy it again")
        return predictor


def _outcome(
    run: FolderRun, task: _Task, result: CaseOutcome | NnsamError | None, error: Exception | None
) -> CaseOutcome:
    case, output = task[0], run.output(task[0])  # as the user named it
    if isinstance(result, NnsamError):
        raise result
    if result is not None:
        known = not result.error or case.name in result.error
        return replace(result, output=output, error=result.error if known else f"{case.name}: {result.error}")
    if isinstance(error, WorkerLost):
        reason = "its worker was lost (killed, out of memory, or its machine is gone)"
    else:
        reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    return CaseOutcome(case.name, output, error=f"{case.name}: failed {1 + RETRIES} times; the last time: {reason}")


def _remove_drafts(output: Path, tasks: Iterable[_Task], options: RunOptions, ending: str) -> None:
    """Removes what workers were writing when they were killed; see `nnsam.support.drafts`."""
    names = {path.name for _, label_map in tasks for path in output_files(label_map, ending, options)}
    for path in output.iterdir():
        if destination_name(path) in names:
            path.unlink(missing_ok=True)
