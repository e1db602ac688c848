"""Makes one run, from wherever an earlier attempt was stopped: prepare, train, predict, score.

What is finished shows in files that appear complete or not at all: the planned subset, nnU-Net's final checkpoint, the
folder of label maps, the scores. run.json tells the rest.
"""

import os
import shutil
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from nnsam.errors import NnsamError
from nnsam.fewshot.runs.methods import Method, find_method, recorded_budget, trainer_name
from nnsam.fewshot.runs.nnunet_model import NnunetModel
from nnsam.fewshot.runs.options import StudyRunOptions
from nnsam.fewshot.runs.scoring import PARTS, check_results, hash_results, score
from nnsam.fewshot.runs.state import DONE, FAILED, PREDICTING, PREPARING, SCORING, TRAINING, RunKey, RunState
from nnsam.fewshot.study import layout
from nnsam.fewshot.study.cases import read_cases, write_cases
from nnsam.fewshot.study.planning import PlanOptions, plan_subset
from nnsam.fewshot.study.protocol import Protocol
from nnsam.support.concurrency import pass_on_ending
from nnsam.support.drafts import to_disk
from nnsam.support.machine import describe_briefly, versions

BUSY = "busy"
LOG = "log.txt"
TEST, VALIDATION = PARTS
_RECORD_SECONDS = 10.0
# What a run depends on.
_PACKAGES = ("nnsam", "nnunetv2", "torch", "numpy", "timm", "monai")


def new_state(protocol: Protocol, key: RunKey, method: Method, options: StudyRunOptions) -> RunState:
    """The record of a run that was not started yet."""
    return RunState(
        key,
        protocol.digest,
        recorded_budget(method, options.budget),
        {"tta": options.tta},
        trainer=trainer_name(method, options.budget, key.seed),
        note=method.note,
    )


def is_complete(folder: Path, state: RunState, options: StudyRunOptions) -> bool:
    """Whether a run is done, with all that the options ask for."""
    wanted = [TEST, *PARTS[TEST], *([VALIDATION, *PARTS[VALIDATION]] if options.score_validation else [])]
    return state.state == DONE and all((folder / name).exists() for name in wanted)


def execute_run(experiment: Path, key: RunKey, options: StudyRunOptions) -> str:
    """Makes a run, or what is missing of it; what goes wrong in it ends in run.json and log.txt.

    Args:
        experiment: the study's folder.
        key: which run.
        options: how.

    Returns:
        "done", "failed", or "busy": another process is at it.

    Raises:
        InputError: the study or the run's record is damaged or edited, or the run was made with other options.
    """
    experiment = experiment.absolute()
    lock = key.lock(experiment)
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Not 0: `is_running` takes the lock for a moment, too.
        with FileLock(str(lock), timeout=1):
            return _Run(experiment, key, options).execute()
    except Timeout:
        return BUSY


def is_running(experiment: Path, key: RunKey) -> bool:
    """Whether a process is at work on a run, on this machine or one with the same file system."""
    lock = key.lock(experiment)
    if not lock.exists():
        return False
    try:
        with FileLock(str(lock), timeout=0):
            return False
    except Timeout:
        return True


class _Run:
    """A run that this process has for itself."""

    def __init__(self, experiment: Path, key: RunKey, options: StudyRunOptions):
        self.experiment, self.key, self.options = experiment, key, options
        self.folder, self.log = key.folder(experiment), key.folder(experiment) / LOG
        self.protocol = Protocol.read(experiment)
        self.method = find_method(key.method)
        found, wanted = RunState.read(experiment, key), new_state(self.protocol, key, self.method, options)
        self.is_new = found is None
        if found is not None:
            found.check_same(wanted, self.folder)
            check_results(self.folder, found.results)
        self.state = found or wanted

    def execute(self) -> str:
        if is_complete(self.folder, self.state, self.options):
            return DONE
        if self.state.state == FAILED and not self.options.retry_failed:
            return FAILED
        model = self._model()
        if self.is_new:
            model.check_new()
        try:
            self._start()
            self._steps(model)
        except NnsamError as error:
            pass_on_ending()
            self._fail(str(error))
        except Exception as error:  # recorded, so that the other runs go on
            pass_on_ending()
            with open(self.log, "a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
            self._fail(f"{type(error).__name__}: {error}; see {LOG}")
        else:
            self.state.enter(DONE, self.experiment)
        return self.state.state

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob(".*"):  # what a killed process was writing
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        self.state.attempts += 1
        self.state.started = self.state.started or datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.state.versions, self.state.machine = versions(_PACKAGES), describe_briefly(self.options.device)
        self.state.machine["threads"] = self.options.threads or os.cpu_count()

    def _steps(self, model: NnunetModel) -> None:
        if not model.is_trained:
            self.state.enter(PREPARING, self.experiment)
            with self._timed("prepare"):
                plan_subset(self.experiment, self.key.size, self.key.seed, self.options.threads or 1)
            self.state.enter(TRAINING, self.experiment)
            with self._timed("train"):
                model.train(self.options)
        self.state.sam_weights = model.sam_weights
        if model.warning and model.warning not in self.state.note:
            self.state.note = "; ".join(filter(None, (self.state.note, f"WARNING: {model.warning}")))
        for part in (TEST, *([VALIDATION] if self.options.score_validation else [])):
            if not (self.folder / part).is_dir():
                self.state.enter(PREDICTING, self.experiment)
                self._predict(model, part)
            missing = [name for name in PARTS[part] if not (self.folder / name).is_file()]
            if missing:
                self.state.enter(SCORING, self.experiment)
                self._score(part, missing)
        self.state.results = hash_results(self.folder)

    def _model(self) -> NnunetModel:
        record = self.state.commands.append
        configuration = PlanOptions.read(self.experiment, self.protocol.digest).configuration
        return NnunetModel(self.experiment, self._dataset, configuration, self.state.trainer, self.log, record)

    def _predict(self, model: NnunetModel, part: str) -> None:
        draft = self.folder / f".{part}"
        with self._cases(part) as cases, self._timed(f"predict{part.removeprefix(TEST)}"):
            model.predict(cases / "imagesTs", draft, self.options)
        to_disk(draft)
        os.replace(draft, self.folder / part)
        self.state.results = hash_results(self.folder)

    def _score(self, part: str, names: list[str]) -> None:
        dataset_json = layout.raw_folder(self.experiment) / self._dataset / "dataset.json"
        with self._cases(part) as cases, self._timed(f"score{part.removeprefix(TEST)}"):
            for name in names:
                score(self.folder, part, name, cases / "labelsTs", dataset_json)
        self.state.results = hash_results(self.folder)

    @contextmanager
    def _cases(self, part: str) -> Iterator[Path]:
        """A folder with imagesTs and labelsTs of a part's cases, which are still those that the study was made with."""
        ending, hashes = self.protocol.file_ending, self.protocol.hashes
        if part == TEST:
            read_cases(layout.test_folder(self.experiment), "Ts", self.protocol.test, ending, hashes)
            yield layout.test_folder(self.experiment)
            return
        # Of the raw data set, which holds training cases too, links to the validation cases.
        names = {*self.protocol.subsets[self.key.size, self.key.seed], *self.protocol.validation}
        cases = read_cases(layout.raw_folder(self.experiment) / self._dataset, "Tr", names, ending, hashes)
        links = self.folder / ".validation"
        shutil.rmtree(links, ignore_errors=True)
        try:
            write_cases(links, "Ts", [cases[name] for name in self.protocol.validation], ending)
            yield links
        finally:
            shutil.rmtree(links, ignore_errors=True)

    @property
    def _dataset(self) -> str:
        return layout.dataset_name(self.protocol, self.key.size, self.key.seed)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        """Adds the time to the step's; it is recorded meanwhile, so that a kill loses seconds only."""
        before, start, ended = self.state.seconds.get(step, 0.0), time.monotonic(), threading.Event()

        def note() -> None:
            self.state.seconds[step] = round(before + time.monotonic() - start, 2)

        def record() -> None:
            while not ended.wait(_RECORD_SECONDS):
                note()
                self.state.write(self.experiment)

        thread = threading.Thread(target=record, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            note()

    def _fail(self, error: str) -> None:
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{error}\n")
        self.state.enter(FAILED, self.experiment, error)
