"""All scores of a study in arrays, checked: what the report's tables and figures are made of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.fewshot.runs.scoring import METRICS, check_results
from nnsam.fewshot.runs.state import DONE, FILE, REMOVE, RunState, find_runs
from nnsam.fewshot.study.protocol import Protocol
from nnsam.support.files import load_json
from nnsam.support.text import clipped

# Shares, from 0 to 1 in the file; the others are distances.
SHARES = ("dice", "nsd")
STANDARD, LEGACY = PROFILES = ("standard", "legacy")


class Rules(NamedTuple):
    """How a file was scored.

    Attributes:
        profile: name of the rules.
        unit: of distances, "mm" or "px".
        policy: what empty masks score, in words; may be empty.
        tolerance: of NSD, in `unit`; nan where it was not recorded.
    """

    profile: str
    unit: str
    policy: str
    tolerance: float


@dataclass(frozen=True)
class RunScores:
    """Scores of one run, N cases, C structures, K metrics.

    Attributes:
        rules: how it was scored.
        values: (N, C, K) in the order of `METRICS`, as in the file; nan for null.
        empty: (N, C, 2): is the reference empty, is the prediction.
    """

    rules: Rules
    values: NDArray[np.float64]
    empty: NDArray[np.bool_]


def read_run_scores(path: Path, profile: str, cases: Sequence[str], structures: Sequence[str]) -> RunScores:
    """Reads and checks a run's scores.

    Args:
        path: the file of scores.
        profile: `STANDARD` or `LEGACY`.
        cases: that must be there, and no others.
        structures: likewise, of every case.

    Raises:
        InputError: no such file, a damaged one, other cases or structures, or values that no score has.
    """
    try:
        content = load_json(path)
        rules = Rules(str(content["profile"]), str(content["unit"]), str(content["policy"]), _tolerance(content))
        values, empty = _read_cases(path, content["cases"], cases, structures)
    except FileNotFoundError:
        raise InputError(f"{path} is missing, and the run is said to be finished; restore it, or {REMOVE}") from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({clipped(repr(error))}); restore it, or {REMOVE}") from None
    if rules.profile != profile:
        raise InputError(f"{path} holds scores of the profile {rules.profile}; expected {profile}")
    _check_values(path, values, empty, cases, profile)
    return RunScores(rules, values, empty)


def _tolerance(content: Mapping[str, Any]) -> float:
    value = content.get("nsd_tolerance")
    return float("nan") if value is None else float(value)


def _read_cases(
    path: Path, entries: Mapping[str, Any], cases: Sequence[str], structures: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    _check_names(path, "cases", entries, cases)
    values = np.empty((len(cases), len(structures), len(METRICS)))
    empty = np.empty((len(cases), len(structures), 2), bool)
    for row, case in enumerate(cases):
        _check_names(path, f"structures of case {case}", entries[case], structures)
        for column, structure in enumerate(structures):
            entry = entries[case][structure]
            scores = (entry.get(name) for name in METRICS)
            values[row, column] = [np.nan if score is None else score for score in scores]
            empty[row, column] = entry["empty_reference"], entry["empty_prediction"]
    return values, empty


def _check_names(path: Path, what: str, found: Mapping[str, Any], expected: Sequence[str]) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise InputError(f"{path} lacks {len(missing)} of the {len(expected)} {what} ({missing[0]}); {_REPEAT}")
    if len(found) > len(expected):
        further = next(name for name in found if name not in set(expected))
        raise InputError(f"{path} holds {further} among the {what}, which the study does not have; {_REPEAT}")


_REPEAT = f"restore it, or {REMOVE}"


def _check_values(
    path: Path, values: NDArray[np.float64], empty: NDArray[np.bool_], cases: Sequence[str], profile: str
) -> None:
    upper = np.array([1.0 if name in SHARES else np.inf for name in METRICS])
    wrong = (values < 0) | (values > upper * (1 + 1e-9)) | np.isinf(values)
    if profile == STANDARD:
        # Dice has a value unless both masks are empty, and is 0 where one is.
        both, one = empty.all(axis=-1), empty[..., 0] ^ empty[..., 1]
        dice = values[..., METRICS.index("dice")]
        wrong |= ((np.isnan(dice) != both) | (one & (dice != 0)))[..., None]
    if wrong.any():
        row = int(np.flatnonzero(wrong.any(axis=(1, 2)))[0])
        raise InputError(f"{path} holds scores of case {cases[row]} that cannot be; {_REPEAT}")


# Packages whose version decides what a training computes.
_PACKAGES = ("nnsam", "nnunetv2", "torch")


def checked_runs(experiment: Path, protocol: Protocol) -> list[RunState]:
    """The records of all runs of a study, by method, size and seed.

    Raises:
        InputError: no runs, a damaged or edited record, a folder that is no subset of the study, a run of another
            study, or a finished run whose scores or label maps were edited.
    """
    runs = list(find_runs(experiment, protocol).values())
    for run in runs:
        folder = run.key.folder(experiment)
        if run.protocol_digest != protocol.digest:
            raise InputError(
                f"{folder / FILE} was made for a study with the protocol digest {run.protocol_digest[:12]}, and the "
                f"protocol of {experiment} has {protocol.digest[:12]}; report each study by itself, or make the run "
                "again"
            )
        if run.state == DONE:
            check_results(folder, run.results)
    if not runs:
        raise InputError(f"{experiment} holds no runs; start them with `nnsam fewshot run {experiment} --methods ...`")
    return runs


def check_alike(runs: Sequence[RunState], *, allow_mixed_versions: bool = False) -> None:
    """Checks that finished runs can be compared.

    Trainers that decide on their budget themselves are let pass here; the report names them.

    Raises:
        InputError: runs differ in budget or prediction, or in the versions of nnsam, nnU-Net or PyTorch.
    """
    fixed = [run for run in runs if has_budget(run)]
    _check_one(fixed, "budget", lambda run: in_words(run.budget), "make the runs of the other budget again")
    _check_one(runs, "prediction", lambda run: in_words(run.prediction), "make the runs of the other kind again")
    for package in () if allow_mixed_versions else _PACKAGES:
        _check_one(
            runs,
            f"version of {package}",
            lambda run, package=package: str(run.versions.get(package, "not recorded")),  # type: ignore[misc]
            "make the older runs again, or accept it with --allow-mixed-versions",
        )


def _check_one(runs: Iterable[RunState], what: str, value: Callable[[RunState], str], mend: str) -> None:
    first: dict[str, RunState] = {}
    for run in runs:
        first.setdefault(value(run), run)
    if len(first) > 1:
        found = ", ".join(f"{text} ({run.key})" for text, run in first.items())
        raise InputError(f"the runs differ in their {what}: {found}; expected one for a fair comparison: {mend}")


def has_budget(run: RunState) -> bool:
    """Whether the run's budget was set, and not left to a trainer of somebody else's."""
    return None not in run.budget.values()


def has_random_sam(run: RunState) -> bool:
    """Whether the run's SAM encoder had random weights."""
    return isinstance(run.sam_weights, Mapping) and run.sam_weights.get("kind") == "random"


def in_words(values: Mapping[str, Any]) -> str:
    """A mapping in words, e.g. "epochs 4, iterations 40"."""
    words = {True: "on", False: "off"}
    parts = (f"{key} {words[value] if isinstance(value, bool) else value}" for key, value in sorted(values.items()))
    return ", ".join(parts) or "not recorded"


# nnU-Net itself, by its own name or as the trainer that takes a budget by its name.
STOCK_METHODS = ("nnUNetTrainer", "nnSAMBaselineTrainer")
# The paper's metrics.
LEGACY_METRICS = ("dice", "asd")
# (test or validation, profile) -> file of scores, see nnsam.fewshot.runs.scoring.
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


def random_runs(results: Results, method: str) -> list[str]:
    """Names of the method's runs that used random SAM weights."""
    return [str(run.key) for run in results.runs if run.key.method == method and has_random_sam(run)]


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
    runs = checked_runs(experiment, protocol)
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
