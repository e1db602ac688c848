"""One run's scores file, read into arrays and compared with the study's cases."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.fewshot.run_state import REMOVE

METRICS = ("dice", "asd", "nsd", "hd95")
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
        content = json.loads(path.read_text(encoding="utf-8"))
        rules = Rules(str(content["profile"]), str(content["unit"]), str(content["policy"]), _tolerance(content))
        values, empty = _read_cases(path, content["cases"], cases, structures)
    except FileNotFoundError:
        raise InputError(f"{path} is missing, and the run is said to be finished; restore it, or {REMOVE}") from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({error!r}); restore it, or {REMOVE}") from None
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
