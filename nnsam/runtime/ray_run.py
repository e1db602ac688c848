"""Predicts a folder of cases on a Ray cluster.

All machines must see the same files: the model, the images and the output folder lie on a file system that is mounted
at the same place everywhere. Only names and digests travel through Ray. Each worker opens the model once. The record
of the run is written by the calling process alone, which makes an interrupted run one that can be continued, with or
without Ray.
"""

import platform
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from nnsam.errors import InputError
from nnsam.runtime.bundle import Bundle, is_bundle
from nnsam.runtime.case_dispatch import Outcome, spread
from nnsam.runtime.case_files import Case
from nnsam.runtime.case_run import CaseOutcome, RunOptions, output_files, predict_one
from nnsam.runtime.folder_run import FolderReport, FolderRun
from nnsam.runtime.ray_cluster import RayCluster, connected

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
    retries: int = 2,
    resume: bool = False,
    on_case: Callable[[CaseOutcome], None] = lambda outcome: None,
    note: Callable[[str], None] = lambda sentence: None,
) -> FolderReport:
    """Segments all cases into a folder, as `nnsam.runtime.folder_run.predict_folder` does, on many workers.

    A case that fails for any reason but its images is tried again on another worker. Ctrl-C ends the workers and keeps
    what is finished.

    Args:
        bundle: the model, or its folder.
        cases: see `nnsam.runtime.case_files.find_cases`.
        output: folder.
        options: of the run.
        address: "local", "auto", host:port, or None, see `nnsam.runtime.ray_cluster.connected`.
        workers: cases at the same time; None for one per 8 processors, at least one on each machine.
        threads: of each worker; 0 for an equal share of the processors.
        retries: how often a failed case is tried again.
        resume: skip cases that an earlier run with the same model and options has finished.
        on_case: called when a case has ended, and at the start with the skipped ones.
        note: called with sentences that the user should see.

    Raises:
        InputError: see `FolderRun`; or a machine that does not see the files.
        SetupError: Ray is absent, there is no such cluster, or its workers cannot start.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, "automatic")
    run = FolderRun(bundle, cases, output, options, resume)
    for skipped in run.report.outcomes:
        on_case(skipped)
    if not run.pending:
        return run.report
    tasks = [_task(run, case) for case in run.pending]
    opener = _OpenModel(bundle.folder.absolute(), bundle.digest, Path(output).absolute(), options, threads)
    try:
        with connected(address, workers) as (count, processors):
            cluster = RayCluster(opener, processors, note)
            with closing(spread(tasks, cluster, count, retries)) as outcomes:
                for outcome in outcomes:
                    result = _ended(run, outcome)
                    run.add(result)
                    on_case(result)
    finally:
        run.close()
        _remove_drafts(Path(output), tasks, options, bundle.manifest["input"]["file_ending"])
    return run.report


def _task(run: FolderRun, case: Case) -> _Task:
    """Workers have another current folder: what they are told are absolute paths."""
    files = tuple(Path(file).absolute() for file in case.files)
    return replace(case, files=files), run.output(case).absolute()


def _ended(run: FolderRun, outcome: Outcome[_Task]) -> CaseOutcome:
    case, _ = outcome.case
    output = run.output(case)  # as the user named it
    if outcome.error:
        known = case.name in outcome.error
        return CaseOutcome(case.name, output, error=outcome.error if known else f"{case.name}: {outcome.error}")
    return replace(outcome.result, output=output)


def _remove_drafts(output: Path, tasks: Iterable[_Task], options: RunOptions, ending: str) -> None:
    """Removes what workers were writing when they were killed; see `nnsam.data.atomic.atomic_file`."""
    names = {path.name for _, label_map in tasks for path in output_files(label_map, ending, options)}
    for path in output.iterdir():
        draft = re.fullmatch(r"\.\d+\.(.+)", path.name)
        if draft and draft[1] in names:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _OpenModel:
    """Opens the model in a worker; see `nnsam.runtime.ray_cluster.Opener`."""

    folder: Path
    digest: str
    output: Path
    options: RunOptions
    threads: int

    def __call__(self, processors: int) -> Callable[[_Task], CaseOutcome]:
        from nnsam.runtime.predictor import Predictor

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
        options, threads = self.options, self.threads or processors
        predictor = Predictor.open(self.folder, options.precision, threads=threads, folds=options.folds)
        if predictor.bundle.digest != self.digest:
            raise InputError(f"the worker on {node} finds another model at {self.folder}; copy it again")
        return lambda task: predict_one(predictor, *task, options)
