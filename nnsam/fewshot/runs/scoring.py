"""Scores of a run's label maps, per case and class, with the hashes of what was scored."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsam.errors import InputError
from nnsam.io.finding import find_labels
from nnsam.metrics.profiles import LEGACY_RULES
from nnsam.support.files import read_json, sha256_of_file, write_json

if TYPE_CHECKING:
    from nnsam.metrics.evaluation import Evaluation


METRICS = ("dice", "asd", "nsd", "hd95")
# Folder of label maps -> files of their scores -> profile of nnsam.metrics.
PARTS = {
    "predictions": {"scores.json": "standard", "scores_legacy.json": "legacy"},
    "predictions_validation": {"scores_validation.json": "standard"},
}
_NAMES = {"DSC": "dice"}
_POLICIES = {
    ("standard", "nan"): "a class that is empty on one side scores Dice 0 and NSD 0 and has no ASD and HD95; one that "
    "is empty on both sides has no score",
    ("legacy", "nan"): LEGACY_RULES,
}
_REMOVE = "restore it, or remove it and run `nnsam fewshot run` again, which makes it again"


def score(folder: Path, predictions: str, name: str, references: Path, dataset_json: Path) -> None:
    """Scores a folder of label maps.

    The file holds {"cases": {case: {class: {"dice", "asd", "nsd", "hd95" (null where undefined), "empty_reference",
    "empty_prediction"}}}, "unit" ("mm" or "px"), "policy" (for empty masks), "profile", "nsd_tolerance",
    "predictions": {case: SHA-256}}.

    Args:
        folder: the run's.
        predictions: name of the folder of label maps in it.
        name: of the file of scores, see `PARTS`.
        references: label maps of the same cases.
        dataset_json: with the classes.

    Raises:
        InputError: cases without partner, or unreadable files.
    """
    from nnsam.metrics.evaluation import evaluate

    hashes = hash_predictions(folder / predictions)
    profile = PARTS[predictions][name]
    content = _content(evaluate(folder / predictions, references, dataset_json=dataset_json, profile=profile))
    content["predictions"] = hashes
    write_json(folder / name, content, allow_nan=False)


def hash_predictions(folder: Path) -> dict[str, str]:
    """Case -> SHA-256 of its label map, sorted."""
    return {case: sha256_of_file(path) for case, path in find_labels(folder).items()}


def hash_results(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of scores and each folder of label maps that a run's folder has, by their names."""
    found = {}
    for predictions, scores in PARTS.items():
        if (folder / predictions).is_dir():
            found[predictions] = hash_of_hashes(hash_predictions(folder / predictions))
        found |= {name: sha256_of_file(folder / name) for name in scores if (folder / name).is_file()}
    return found


def hash_of_hashes(hashes: Mapping[str, str]) -> str:
    """One SHA-256 of many, by name."""
    return hashlib.sha256(json.dumps(dict(sorted(hashes.items()))).encode()).hexdigest()


def check_results(folder: Path, recorded: Mapping[str, str]) -> None:
    """Checks that scores and label maps are the ones that the run made; missing ones are no error.

    Args:
        folder: the run's.
        recorded: what :func:`hash_results` gave when they were made.

    Raises:
        InputError: one was edited, or a label map added or removed.
    """
    found = hash_results(folder)
    # Scores first: they name the label maps' hashes.
    for name in sorted(found.keys() & recorded.keys(), key=lambda name: name in PARTS):
        if found[name] == recorded[name]:
            continue
        if name not in PARTS:
            raise InputError(f"{folder / name} was edited after the run; {_REMOVE}")
        case = _edited_case(folder, name)
        raise InputError(f"{folder / name} was edited after the run{case and f' (case {case})'}; {_REMOVE}")


def _edited_case(folder: Path, predictions: str) -> str:
    """Name of a case whose label map is not the scored one, empty where that is not known."""
    found = hash_predictions(folder / predictions)
    for name in PARTS[predictions]:
        if (folder / name).is_file():
            expected = read_json(folder / name, _REMOVE)["predictions"]
            return next((c for c in sorted(expected.keys() | found.keys()) if expected.get(c) != found.get(c)), "")
    return ""


def _content(result: "Evaluation") -> dict[str, Any]:
    cases: dict[str, dict[str, Any]] = {case: {} for case in result.cases}
    for row in result.rows:
        scores: dict[str, float | None] = dict.fromkeys(METRICS)
        scores |= {_NAMES.get(name, name.lower()): _number(value) for name, value in row.scores.items()}
        empty = {"empty_reference": not row.reference_pixels, "empty_prediction": not row.predicted_pixels}
        cases[row.case][row.label] = {**scores, **empty}
    return {
        "cases": cases,
        "unit": "px" if result.unit == "pixels" else result.unit,
        "policy": _POLICIES.get((result.profile, result.options.empty), f"that of the profile {result.profile}"),
        "profile": result.profile,
        "nsd_tolerance": result.options.tolerance,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
