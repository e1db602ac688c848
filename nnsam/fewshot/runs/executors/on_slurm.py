"""Runs as one array of Slurm jobs, through submitit; all machines see the study's folder at the same place."""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnsam.errors import InputError, SetupError
from nnsam.fewshot.runs.options import StudyRunOptions
from nnsam.fewshot.runs.state import FAILED, RunKey
from nnsam.fewshot.runs.worker import RunEnding, run_worker
from nnsam.support.installation import how_to_install

FOLDER = "slurm"
_THREADS = 4
_TICK_SECONDS = 1.0


class SlurmExecutor:
    """Makes runs as Slurm jobs.

    Args:
        jobs: of the array, at the same time; 0 for no limit.
        parameters: of submitit, e.g. {"slurm_partition": "gpu", "timeout_min": "600"}; "cluster" other than "slurm"
            chooses another of submitit's ways, e.g. "local".
    """

    def __init__(self, jobs: int = 0, parameters: Mapping[str, str] | None = None):
        self.jobs, self.parameters = jobs, dict(parameters or {})

    def run(
        self, experiment: Path, keys: Sequence[RunKey], options: StudyRunOptions
    ) -> Generator[RunEnding | None, None, None]:
        """See :class:`nnsam.fewshot.runs.matrix.Executor`."""
        options = replace(options, threads=options.threads or _THREADS)
        executor = self._executor(experiment, options)
        with executor.batch():
            jobs = {key: executor.submit(SlurmRun(experiment.absolute(), key, options)) for key in keys}
        try:
            while jobs:
                for key in [key for key, job in jobs.items() if job.done()]:
                    yield _outcome(key, jobs.pop(key))
                yield None
                if jobs:
                    time.sleep(_TICK_SECONDS)
        finally:
            for job in jobs.values():
                job.cancel()

    def _executor(self, experiment: Path, options: StudyRunOptions) -> Any:
        try:
            import submitit
        except ImportError:
            raise SetupError(f"submitit is not installed; {how_to_install('fewshot')}") from None
        parameters = {name: int(value) if value.isdigit() else value for name, value in self.parameters.items()}
        cluster = str(parameters.pop("cluster", "slurm"))
        try:
            executor = submitit.AutoExecutor(folder=str(experiment.absolute() / FOLDER), cluster=cluster)
        except RuntimeError as error:
            raise SetupError(f"Slurm cannot be used here ({error}); call this on a machine that has sbatch") from None
        gpus = {"gpus_per_node": 1} if options.device == "cuda" else {}
        limit = {"slurm_array_parallelism": self.jobs} if self.jobs else {}
        defaults = {"name": "nnsam-fewshot", "cpus_per_task": options.threads, "tasks_per_node": 1, **gpus, **limit}
        try:
            executor.update_parameters(**{**defaults, **parameters})
        except (NameError, TypeError, ValueError) as error:
            raise InputError(f"submitit refuses the parameters of --slurm ({error}); see its documentation") from None
        return executor


@dataclass(frozen=True)
class SlurmRun:
    """What a job calls; Slurm may stop it and start it again, and it goes on where it was."""

    experiment: Path
    key: RunKey
    options: StudyRunOptions

    def __call__(self) -> tuple[str, str]:
        """Makes the run in a process of its own."""
        return run_worker(self.experiment, self.key, self.options)

    def checkpoint(self) -> Any:
        """Called by submitit before the job's time is up or another job takes its place: submits the same again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _outcome(key: RunKey, job: Any) -> RunEnding:
    try:
        return RunEnding(key, *job.result())
    except Exception as error:  # submitit's own, and whatever the job raised
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return RunEnding(key, FAILED, f"Slurm job {job.job_id} was lost ({lines[0]}); the next call goes on with it")
