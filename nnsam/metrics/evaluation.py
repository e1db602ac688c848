"""Scores of a folder of predictions against a folder of references."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnsam.errors import InputError
from nnsam.metrics.classes import Classes, classes_from_values, read_classes
from nnsam.metrics.label_files import LabelMap, find_label_files, read_label_map
from nnsam.metrics.profiles import PROFILES, ScoringOptions

Pairs = dict[str, tuple[Path, Path]]


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class in one case.

    Attributes:
        case: name of the case.
        label: name of the class.
        reference_pixels: size of the class in the reference.
        predicted_pixels: size of the class in the prediction.
        scores: score name -> value, nan where undefined.
    """

    case: str
    label: str
    reference_pixels: int
    predicted_pixels: int
    scores: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """All scores and how they came about.

    Attributes:
        rows: one per case and class, by case.
        classes: what was scored.
        classes_source: where the classes came from, for the reader.
        profile: name of the rules.
        options: options of the rules.
        unit: of distances, "mm" or "pixels".
    """

    rows: list[ClassScore]
    classes: Classes
    classes_source: str
    profile: str
    options: ScoringOptions
    unit: str = field(default="mm")


def evaluate(
    predictions: str | Path,
    references: str | Path,
    *,
    dataset_json: str | Path | None = None,
    spacing: Sequence[float] | None = None,
    profile: str = "standard",
    options: ScoringOptions | None = None,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> Evaluation:
    """Scores every case and class.

    Args:
        predictions: folder of label maps, or one label map.
        references: likewise; cases are matched by file name without ending.
        dataset_json: nnU-Net's file with the labels, which may be regions and an ignore label. By default it is
            looked for in `predictions`, in `references` and beside the latter; if there is none, every value found
            is a class.
        spacing: pixel size in array order, for pictures (PNG, TIFF), which hold none; without it: pixels.
        profile: one of `PROFILES`.
        options: options of the profile.
        progress: wraps the list of cases, for a progress bar.

    Returns:
        The scores. Pixels that the reference marks as "ignore" count as background in both label maps, so that a
        contour cut by an ignored area is measured along the cut in both.

    Raises:
        InputError: cases without partner, unreadable files, different geometry, values that no class has.
    """
    if profile not in PROFILES:
        raise InputError(f"Unknown profile {profile!r}; known: {', '.join(PROFILES)}.")
    pairs = _match_cases(Path(predictions), Path(references))
    classes, source = _find_classes(Path(predictions), Path(references), dataset_json, pairs)
    options = options or ScoringOptions()
    rows: list[ClassScore] = []
    units: dict[str, str] = {}
    for case in progress(list(pairs)):
        prediction, reference = (read_label_map(path) for path in pairs[case])
        _check_geometry(case, prediction, reference)
        case_spacing, unit = _case_spacing(pairs[case][1], reference, spacing)
        units.setdefault(unit, case)
        if len(units) > 1:
            raise InputError(f"Distances would be in mm and in pixels ({', '.join(units.values())}); give --spacing.")
        rows += _score_case(case, prediction, reference, classes, case_spacing, profile, options)
    return Evaluation(rows, classes, source, profile, options, next(iter(units)))


def _match_cases(predictions: Path, references: Path) -> Pairs:
    predicted, expected = find_label_files(predictions), find_label_files(references)
    if predictions.is_file() and references.is_file():  # two files are a pair whatever their names
        return {next(iter(expected)): (predictions, references)}
    missing, extra = sorted(expected.keys() - predicted.keys()), sorted(predicted.keys() - expected.keys())
    if missing:
        raise InputError(f"{predictions} lacks {len(missing)} of {len(expected)} predictions: {_some(missing)}.")
    if extra:
        raise InputError(f"{references} lacks the references of {len(extra)} predictions: {_some(extra)}.")
    return {case: (predicted[case], expected[case]) for case in expected}


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _find_classes(
    predictions: Path, references: Path, dataset_json: str | Path | None, pairs: Pairs
) -> tuple[Classes, str]:
    if dataset_json is not None:
        return read_classes(dataset_json), str(dataset_json)
    for folder in (predictions, references, references.absolute().parent):
        if (folder / "dataset.json").is_file():
            return read_classes(folder / "dataset.json"), str(folder / "dataset.json")
    found: set[int] = set()
    for pair in pairs.values():
        for path in pair:
            found.update(np.unique(read_label_map(path).values).tolist())
    classes = classes_from_values(found)
    if not classes.values:
        raise InputError("All label maps are empty and no dataset.json names the classes; give --labels.")
    return classes, "the values found (no dataset.json)"


def _check_geometry(case: str, prediction: LabelMap, reference: LabelMap) -> None:
    if prediction.values.shape != reference.values.shape:
        shapes = f"{prediction.values.shape} and {reference.values.shape}"
        raise InputError(f"Case {case}: prediction and reference differ in shape, {shapes}.")
    for name in prediction.geometry.keys() & reference.geometry.keys():
        ours, theirs = prediction.geometry[name], reference.geometry[name]
        # A hundredth of a millimetre: NIfTI stores single precision, and converters round.
        if len(ours) != len(theirs) or not np.allclose(ours, theirs, rtol=1e-3, atol=1e-2):
            raise InputError(f"Case {case}: prediction and reference differ in {name}, {ours} and {theirs}.")


def _case_spacing(path: Path, reference: LabelMap, given: Sequence[float] | None) -> tuple[tuple[float, ...], str]:
    ndim = reference.values.ndim
    if reference.spacing is not None:
        if given is not None:
            raise InputError(f"{path} holds its own spacing {reference.spacing}; leave out --spacing.")
        return reference.spacing, "mm"
    if given is None:
        if ndim == 3:
            raise InputError(f"{path} is a volume without spacing; give --spacing z,y,x.")
        return (1.0, 1.0), "pixels"
    if len(given) != ndim:
        raise InputError(f"{path} has {ndim} dimensions, but --spacing holds {len(given)} values.")
    return tuple(given), "mm"


def _score_case(
    case: str,
    prediction: LabelMap,
    reference: LabelMap,
    classes: Classes,
    spacing: tuple[float, ...],
    profile: str,
    options: ScoringOptions,
) -> list[ClassScore]:
    classes.check_values(prediction.values, f"The prediction of {case}", with_ignore=False)
    classes.check_values(reference.values, f"The reference of {case}", with_ignore=True)
    scored = np.ones(reference.values.shape, bool) if classes.ignore is None else reference.values != classes.ignore
    rows = []
    for label, values in classes.values.items():
        predicted = np.isin(prediction.values, values) & scored
        expected = np.isin(reference.values, values) & scored
        scores = PROFILES[profile](predicted, expected, spacing, options)
        counts = int(np.count_nonzero(expected)), int(np.count_nonzero(predicted))
        rows.append(ClassScore(case, label, *counts, scores))
    return rows
