"""All scores of a study in arrays, checked: what the report's tables and figures are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.fewshot.protocol import Protocol
from nnsam.fewshot.report_runs import check_alike, read_runs
from nnsam.fewshot.report_scores import LEGACY, METRICS, SHARES, STANDARD, Rules, RunScores, read_run_scores
from nnsam.fewshot.run_state import DONE, RunState

# nnU-Net itself, by its own name or as the trainer that takes a budget by its name.
STOCK_METHODS = ("nnUNetTrainer", "nnSAMBaselineTrainer")
# The paper's metrics.
LEGACY_METRICS = ("dice", "asd")
# (test or validation, profile) -> file of scores, see nnsam.fewshot.scoring.
_FILES = {
    ("test", STANDARD): "scores.json",
    ("test", LEGACY): "scores_legacy.json",
    ("validation", STANDARD): "scores_validation.json",
}


@dataclass(frozen=True)
class Results:
    """Scores of M methods, Z sizes, S seeds, N cases, C structures, K metrics.

    Attributes:
        folder: of the study.
        protocol: the study.
        part: "test" or "validation": which cases were scored.
        rules: how they were scored.
        methods: names, M.
        cases: names, N.
        patients: of the cases, N.
        structures: class names, C.
        scores: (M, Z, S, N, C, K), sizes and seeds as in the protocol, metrics as in `METRICS`; per cent (`SHARES`) or
            the rules' unit; nan where undefined or the run is missing.
        empty_reference: (N, C).
        empty_prediction: (M, Z, S, N, C); False where the run is missing.
        done: (M, Z, S), whether the run is in `scores`.
        runs: records of all runs, finished or not.
    """

    folder: Path
    protocol: Protocol
    part: str
    rules: Rules
    methods: tuple[str, ...]
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    structures: tuple[str, ...]
    scores: NDArray[np.float64]
    empty_reference: NDArray[np.bool_]
    empty_prediction: NDArray[np.bool_]
    done: NDArray[np.bool_]
    runs: tuple[RunState, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of training cases, Z."""
        return self.protocol.sizes

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, S."""
        return self.protocol.seeds

    def of(self, method: str, size: int, metric: str) -> NDArray[np.float64]:
        """Scores (S, N, C) of a method at a size."""
        return self.scores[self.methods.index(method), self.sizes.index(size), ..., METRICS.index(metric)]

    def finished(self, method: str, size: int) -> NDArray[np.bool_]:
        """Which of the S trainings of a method at a size are there."""
        return self.done[self.methods.index(method), self.sizes.index(size)]

    def metric_unit(self, metric: str) -> str:
        """Returns "%", or the unit of distances."""
        return "%" if metric in SHARES else self.rules.unit


def over_structures(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis of what is not nan; nan where nothing is."""
    known = np.isfinite(scores)
    count = known.sum(axis=-1)
    total = np.where(known, scores, 0).sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def read_results(experiment: str | Path, *, validation: bool = False, allow_mixed_versions: bool = False) -> Results:
    """Reads the scores of all finished runs of a study, by the profile "standard".

    Args:
        experiment: the study's folder.
        validation: the validation cases' scores instead of the test cases'.
        allow_mixed_versions: accept runs of different versions of nnsam, nnU-Net and PyTorch.

    Raises:
        InputError: no study, no finished run, runs of different budgets, versions or scoring rules, or scores that do
            not fit the study's cases or the predictions beside them.
    """
    experiment = Path(experiment)
    protocol = Protocol.read(experiment)
    runs = read_runs(experiment, protocol)
    finished = [run for run in runs if run.state == DONE]
    if not finished:
        states = ", ".join(f"{run.key}: {run.state}" for run in runs[:5])
        raise InputError(f"none of the {len(runs)} runs of {experiment} is finished ({states}); run them first")
    check_alike(finished, allow_mixed_versions=allow_mixed_versions)
    if validation:
        how = " if it is given --score-validation; or leave out --validation"
        _check_scored(experiment, finished, _FILES["validation", STANDARD], "scores of the validation cases", how)
    return _assemble(experiment, protocol, runs, "validation" if validation else "test", STANDARD)


def legacy_results(results: Results) -> Results:
    """The same runs by the profile "legacy", the paper's published metric code, for comparison only.

    Raises:
        InputError: validation cases, which are scored by the standard profile alone; or a run lacks these scores.
    """
    if (results.part, LEGACY) not in _FILES:
        raise InputError(f"the {results.part} cases have no scores of the legacy profile; only the test cases have")
    finished = [run for run in results.runs if run.state == DONE]
    _check_scored(results.folder, finished, _FILES[results.part, LEGACY], "legacy scores", "")
    return _assemble(results.folder, results.protocol, results.runs, results.part, LEGACY)


def _check_scored(experiment: Path, finished: Sequence[RunState], name: str, what: str, how: str) -> None:
    without = [run for run in finished if not (run.key.folder(experiment) / name).is_file()]
    if without:
        raise InputError(
            f"{len(without)} of {len(finished)} finished runs have no {what} ({without[0].key}); call `nnsam fewshot "
            f"run` again, which makes them{how}"
        )


def _assemble(experiment: Path, protocol: Protocol, runs: Sequence[RunState], part: str, profile: str) -> Results:
    cases = tuple(sorted(protocol.validation if part == "validation" else protocol.test))
    structures = tuple(name for name in protocol.labels if name not in ("background", "ignore"))
    methods = tuple(sorted({run.key.method for run in runs}, key=_order))
    finished = [run for run in runs if run.state == DONE]
    read = [
        read_run_scores(run.key.folder(experiment) / _FILES[part, profile], profile, cases, structures)
        for run in finished
    ]
    shape = len(methods), len(protocol.sizes), len(protocol.seeds)
    values = np.full((*shape, *read[0].values.shape), np.nan)
    empty_prediction = np.zeros((*shape, len(cases), len(structures)), bool)
    done = np.zeros(shape, bool)
    for run, scores in zip(finished, read, strict=True):
        key = run.key
        place = methods.index(key.method), protocol.sizes.index(key.size), protocol.seeds.index(key.seed)
        values[place], empty_prediction[place], done[place] = scores.values, scores.empty[..., 1], True
    values[..., [METRICS.index(name) for name in SHARES]] *= 100
    patients = tuple(protocol.patients[case] for case in cases)
    rules, references = _common_rules(finished, read), _common_references(finished, read)
    return Results(
        experiment, protocol, part, rules, methods, cases, patients, structures,
        values, references, empty_prediction, done, tuple(runs),
    )  # fmt: skip


def _order(method: str) -> tuple[bool, bool, str]:
    """Sorts nnU-Net first, then what is made of it, then the others."""
    return method not in STOCK_METHODS, not method.startswith("nnSAM"), method.lower()


def _common_rules(runs: Sequence[RunState], read: Sequence[RunScores]) -> Rules:
    first: dict[str, str] = {}
    for run, found in zip(runs, read, strict=True):
        first.setdefault(" / ".join(map(str, found.rules)), str(run.key))
    if len(first) > 1:
        named = ", ".join(f"{rules} ({name})" for rules, name in first.items())
        raise InputError(
            f"the runs were scored by different rules (profile / unit / policy / tolerance): {named}; make the runs of "
            "one kind again"
        )
    return read[0].rules


def _common_references(runs: Sequence[RunState], read: Sequence[RunScores]) -> NDArray[np.bool_]:
    for run, found in zip(runs, read, strict=True):
        if (found.empty[..., 0] != read[0].empty[..., 0]).any():
            raise InputError(
                f"{run.key} and {runs[0].key} were scored against different references (a structure is empty in one of "
                "them only); make one of them again"
            )
    return read[0].empty[..., 0]
